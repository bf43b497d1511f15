#include "host/train/health.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <functional>

namespace wt {
namespace {

bool finite(const std::vector<float>& values) {
    return std::all_of(values.begin(), values.end(), [](float v) { return std::isfinite(v); });
}

// Everybody's numbers, one worker after the other; in a job on rank 0 alone.
std::vector<float> of_all(Group& group, const std::function<std::vector<float>(Worker&)>& own) {
    std::vector<std::vector<float>> parts(static_cast<size_t>(group.workers()));
    const int first = group.worker(0).layout().config.rank;
    group.run(
        [&](Worker& w) { parts[static_cast<size_t>(w.layout().config.rank - first)] = own(w); });
    std::vector<float> all;
    for (const auto& p : parts) all.insert(all.end(), p.begin(), p.end());
    return group.team() ? group.team()->gather(all) : all;
}

// The least number that a worker finds, and the first worker that does, as `text` puts it; "" where
// nobody finds any. Negative: nothing was found.
std::string first_of(Group& group, const std::function<int(Worker&)>& find,
                     const std::function<std::string(int number, int worker)>& text) {
    const std::vector<float> found =
        of_all(group, [&](Worker& w) { return std::vector<float>{static_cast<float>(find(w))}; });
    std::string s;
    int least = -1;
    for (size_t w = 0; w < found.size(); ++w) {
        const int n = static_cast<int>(found[w]);
        if (n < 0 || (least >= 0 && n >= least)) continue;
        least = n;
        s = text(n, static_cast<int>(w));
    }
    return group.team() ? group.team()->broadcast(s) : s;
}

}  // namespace

std::string first_bad_weight(Group& group) {
    const Layout& layout = group.worker(0).layout();
    const auto find = [](Worker& w) {
        const int params = static_cast<int>(w.layout().params.size());
        for (int i = 0; i < params; ++i) {
            if (!finite(w.get_param(i))) return 2 * i;
            if (!w.layout().frozen(i) && !finite(w.get_momentum(i))) return 2 * i + 1;
        }
        return -1;
    };
    return first_of(group, find, [&](int number, int worker) {
        return layout.params[static_cast<size_t>(number / 2)].name +
               (number % 2 ? "'s momentum" : "") + " of worker " + std::to_string(worker);
    });
}

std::string first_bad_output(Group& group) {
    const std::vector<Layer>& layers = group.worker(0).layout().config.net.layers;
    const auto find = [&](Worker& w) {
        for (size_t i = 0; i < layers.size(); ++i) {
            const bool stored =
                layers[i].kind == LayerKind::conv || layers[i].kind == LayerKind::lrn ||
                layers[i].kind == LayerKind::pool || layers[i].kind == LayerKind::fc;
            if (stored && !finite(w.get_output(layers[i].name))) return static_cast<int>(i);
        }
        return -1;
    };
    return first_of(group, find, [&](int number, int worker) {
        return "the output of " + layers[static_cast<size_t>(number)].name + " on worker " +
               std::to_string(worker);
    });
}

std::string text_of(const NotFinite& n) {
    char rate[32];
    std::snprintf(rate, sizeof rate, " (rate %g): ", n.rate);
    std::string s = n.what + rate;
    const int64_t behind = n.step - n.saved;
    if (!n.first.empty())
        s += n.first + " is the first value that is not; ";
    else if (n.saved >= 0 && behind > 1)  // then the way back from there is short
        s += "--resume " + n.folder + " --save-every " +
             std::to_string(std::max<int64_t>(1, behind / 100)) + " tells the layer; ";
    s += std::string("lower --lr") + (n.paper ? ", or try --init he; " : "; ");
    return s + (n.saved >= 0 ? "the last checkpoint in " + n.folder + ", of step " +
                                   std::to_string(n.saved) + ", is kept"
                             : "no checkpoint was written");
}

Watch::Watch(Group& group) : group_(group), before_(static_cast<size_t>(group.workers())) {
    const int first = group.worker(0).layout().config.rank;
    group.run([&](Worker& w) {
        auto& mine = before_[static_cast<size_t>(w.layout().config.rank - first)];
        for (size_t i = 0; i < w.layout().params.size(); ++i)
            mine.push_back(w.get_param(static_cast<int>(i)));
    });
}

std::vector<WatchedParam> Watch::after() {
    const Layout& layout = group_.worker(0).layout();
    const int first = layout.config.rank;
    // A sum as two floats, the second of what the first leaves over: a team gathers floats.
    const auto add = [](double sum, std::vector<float>& to) {
        to.push_back(static_cast<float>(sum));
        to.push_back(static_cast<float>(sum - static_cast<double>(to.back())));
    };
    const std::vector<float> all = of_all(group_, [&](Worker& w) {
        const auto& before = before_[static_cast<size_t>(w.layout().config.rank - first)];
        std::vector<float> sums;
        for (size_t i = 0; i < before.size(); ++i) {
            const std::vector<float> now = w.get_param(static_cast<int>(i));
            double weight = 0, update = 0;
            for (size_t j = 0; j < now.size(); ++j) {
                weight += std::abs(static_cast<double>(now[j]));
                update += std::abs(static_cast<double>(now[j]) - before[i][j]);
            }
            add(weight, sums);
            add(update, sums);
        }
        return sums;
    });
    std::vector<WatchedParam> params;
    if (!group_.first()) return params;
    const size_t each = 4 * layout.params.size();
    for (size_t i = 0; i < layout.params.size(); ++i) {
        WatchedParam p{.name = layout.params[i].name};
        for (size_t at = 4 * i; at < all.size(); at += each) {
            p.weight += static_cast<double>(all[at]) + static_cast<double>(all[at + 1]);
            p.update += static_cast<double>(all[at + 2]) + static_cast<double>(all[at + 3]);
        }
        const double count = static_cast<double>(layout.params[i].count());
        p.weight /= count;
        p.update /= count;
        params.push_back(p);
    }
    return params;
}

std::string text_of(const std::vector<WatchedParam>& params) {
    size_t wide = 0;
    for (const WatchedParam& p : params) wide = std::max(wide, p.name.size());
    std::string s;
    for (const WatchedParam& p : params) {
        char line[160];
        std::snprintf(line, sizeof line, "  %-*s  %.3e  %.3e  %.3e\n", static_cast<int>(wide),
                      p.name.c_str(), p.weight, p.update, p.ratio());
        s += line;
    }
    return s;
}

}  // namespace wt
