// What the LRN kernels share that are compiled for a window's size: which sizes there are, and the
// choice among them.
#pragma once

#include <string>

#include "kernels/lrn/problem.h"

namespace wt::lrn {

inline std::string refuses_window(const LrnProblem& p) {
    return p.size == 3 || p.size == 5 || p.size == 7 || p.size == 9 ? ""
                                                                    : "size must be 3, 5, 7 or 9";
}

// Calls f.operator()<T, kHalf, kThreeQuarters>() for a problem of windows of 2 kHalf + 1 channels:
// with the storage type, and whether beta is 3/4.
template <class F>
void by_window(const LrnProblem& p, F&& f) {
    by_dtype(p.dtype, [&]<class T>() {
        const auto by_beta = [&]<int kHalf>() {
            if (p.beta == 0.75f) return f.template operator()<T, kHalf, true>();
            f.template operator()<T, kHalf, false>();
        };
        switch (p.size) {
            case 3: return by_beta.template operator()<1>();
            case 5: return by_beta.template operator()<2>();
            case 7: return by_beta.template operator()<3>();
            default: return by_beta.template operator()<4>();
        }
    });
}

}  // namespace wt::lrn
