// LRN backward, 8 channels a lane, s recomputed: the neighbours' x and then their terms come by
// shuffle, so each term is computed once, with no shared memory. A lane works on kUnits items,
// whose loads are in flight together.
//
// Moves x, dy and dx once, the floor: 6 bytes an element at bf16, where 4.3 TB/s on 132 SMs leave
// 41 instructions for it.
#include <climits>

#include "kernels/common/pack.h"
#include "kernels/common/vec.h"
#include "kernels/launch.h"
#include "kernels/lrn/by_window.h"
#include "kernels/lrn/lanes.h"
#include "kernels/lrn/power.h"
#include "kernels/lrn/problem.h"

namespace wt {

namespace lrn_backward_shuffle {
namespace {

using lrn::kGroup;
constexpr int kWarps = 8, kUnits = 2;

template <class T, int kHalf, bool kThreeQuarters>
__global__ void __launch_bounds__(32 * kWarps)
    lrn_backward_shuffle_kernel(LrnProblem p, int lanes, int items, const T* __restrict__ x,
                                const T* __restrict__ dy, T* __restrict__ dx) {
    const int groups = p.c / kGroup, stride = kWarps * lanes;
    const float factor = 2 * p.alpha * p.beta;
    const int place = static_cast<int>(lrn::item_of_lane(blockIdx.x * kUnits * stride, lanes));
    int item[kUnits], g = (place + groups) % groups;
    PackedFragment<T, kGroup> raw_x[kUnits], raw_dy[kUnits];
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
        item[u] = min(max(place + u * stride, 0), items - 1);  // beyond the ends: lends to nobody
        raw_x[u] = PackedFragment<T, kGroup>::load(x + int64_t(item[u]) * kGroup);
        raw_dy[u] = PackedFragment<T, kGroup>::load(dy + int64_t(item[u]) * kGroup);
    }
#pragma unroll
    for (int u = 0; u < kUnits; ++u, g = (g + stride) % groups) {
        const bool first = g == 0, last = g == groups - 1;
        const Vec<kGroup> v = unpack(raw_x[u]), d = unpack(raw_dy[u]);
        float own[kGroup], all[kGroup + 2 * kHalf], sum[kGroup], direct[kGroup], term[kGroup];
#pragma unroll
        for (int e = 0; e < kGroup; ++e) own[e] = v[e];
        lrn::with_neighbours<kHalf>(own, first, last, all);
        lrn::window_sums<kHalf, true>(all, sum);
#pragma unroll
        for (int e = 0; e < kGroup; ++e) {
            const LrnPowers s = lrn_powers<kThreeQuarters>(p.k + p.alpha * sum[e], p.beta);
            direct[e] = d[e] * s.y;
            term[e] = direct[e] * own[e] * s.inverse;
        }
        lrn::with_neighbours<kHalf>(term, first, last, all);
        lrn::window_sums<kHalf, false>(all, sum);
#pragma unroll
        for (int e = 0; e < kGroup; ++e) direct[e] -= factor * own[e] * sum[e];
        if (item[u] == place + u * stride && lrn::owns(lanes))
            store_pack(dx + int64_t(item[u]) * kGroup, direct);
    }
}

std::string refuses(const LrnProblem& p) {
    if (std::string why = lrn::refuses_window(p); !why.empty()) return why;
    if (p.c < kGroup || p.c % kGroup) return "channels must be a multiple of 8";
    if (p.count() / kGroup > INT_MAX / 2) return "more than 2^33 elements";
    if (!p.aligned) return "the tensors must start on 16 bytes";
    return {};
}

void run(const LrnProblem& p, const LrnBackwardArgs& a) {
    if (!p.count()) return;
    for (const void* pointer : {a.x, a.dy, static_cast<const void*>(a.dx)})
        require_aligned("lrn_backward shuffle", pointer);
    const int items = static_cast<int>(p.count() / kGroup);
    const int lanes = lrn::lanes_used(p.c / kGroup);
    const LaunchShape shape{dim3(static_cast<unsigned>(ceil_div(items, kUnits * kWarps * lanes))),
                            dim3(32 * kWarps), a.stream};
    lrn::by_window(p, [&]<class T, int kHalf, bool kThreeQuarters>() {
        launch("lrn_backward_shuffle", shape, lrn_backward_shuffle_kernel<T, kHalf, kThreeQuarters>,
               p, lanes, items, static_cast<const T*>(a.x), static_cast<const T*>(a.dy),
               static_cast<T*>(a.dx));
    });
}

}  // namespace

extern const LrnBackward variant;
const LrnBackward variant{
    .name = "shuffle", .refuses = refuses, .workspace = nullptr, .launch = run};

}  // namespace lrn_backward_shuffle
}  // namespace wt
