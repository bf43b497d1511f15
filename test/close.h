// How tests compare numbers. A NaN or an infinity never passes.
#pragma once

#include <cmath>
#include <cstdio>
#include <span>
#include <string>

namespace wt::test {

// The worst element of `got` against `want` (fp64), each error measured against
// `atol + rtol * |want|`. ok() is false for a NaN, an infinity or a difference in size.
struct Closeness {
    double worst = 0;  // error / allowance of the worst element; at most 1 passes
    long at = -1;
    double got = 0, want = 0;
    bool same_size = true;
    bool ok() const { return same_size && worst <= 1.0; }
    std::string text() const {
        if (!same_size) return "sizes differ";
        char s[160];
        std::snprintf(s, sizeof s, "worst at %ld: got %.9g, want %.9g, %.3g times the allowance",
                      at, got, want, worst);
        return s;
    }
};

template <class Got>
Closeness close(std::span<const Got> got, std::span<const double> want, double rtol, double atol) {
    Closeness c;
    c.same_size = got.size() == want.size();
    if (!c.same_size) return c;
    for (size_t i = 0; i < got.size(); ++i) {
        const double g = static_cast<double>(got[i]), w = want[i];
        double e = std::abs(g - w) / (atol + rtol * std::abs(w));
        if (!(e <= 1e300)) e = 1e300;  // NaN and infinity fail
        if (e > c.worst || c.at < 0)
            c.worst = e, c.at = static_cast<long>(i), c.got = g, c.want = w;
    }
    return c;
}

}  // namespace wt::test
