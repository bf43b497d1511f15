// LRN forward, 8 channels a lane, the window's ends from the neighbouring lanes by shuffle: each
// element is loaded and squared once, with no shared memory. A lane works on kUnits items, whose
// loads are in flight together.
//
// Moves x and y once, the floor: 4 bytes an element at bf16, where 4.3 TB/s on 132 SMs leave 27
// instructions for it.
#include <climits>

#include "kernels/common/pack.h"
#include "kernels/common/vec.h"
#include "kernels/launch.h"
#include "kernels/lrn/by_window.h"
#include "kernels/lrn/lanes.h"
#include "kernels/lrn/power.h"
#include "kernels/lrn/problem.h"

namespace wt {

namespace lrn_forward_shuffle {
namespace {

using lrn::kGroup;
constexpr int kWarps = 8, kUnits = 4;

template <class T, int kHalf, bool kThreeQuarters>
__global__ void __launch_bounds__(32 * kWarps)
    lrn_forward_shuffle_kernel(LrnProblem p, int lanes, int items, const T* __restrict__ x,
                               T* __restrict__ y) {
    const int groups = p.c / kGroup, stride = kWarps * lanes;
    const int place = static_cast<int>(lrn::item_of_lane(blockIdx.x * kUnits * stride, lanes));
    int item[kUnits], g = (place + groups) % groups;
    PackedFragment<T, kGroup> raw[kUnits];
#pragma unroll
    for (int u = 0; u < kUnits; ++u) {
        item[u] = min(max(place + u * stride, 0), items - 1);  // beyond the ends: lends to nobody
        raw[u] = PackedFragment<T, kGroup>::load(x + int64_t(item[u]) * kGroup);
    }
#pragma unroll
    for (int u = 0; u < kUnits; ++u, g = (g + stride) % groups) {
        const Vec<kGroup> v = unpack(raw[u]);
        float own[kGroup], all[kGroup + 2 * kHalf], sum[kGroup];
#pragma unroll
        for (int e = 0; e < kGroup; ++e) own[e] = v[e];
        lrn::with_neighbours<kHalf>(own, g == 0, g == groups - 1, all);
        lrn::window_sums<kHalf, true>(all, sum);
#pragma unroll
        for (int e = 0; e < kGroup; ++e)
            own[e] *= lrn_powers<kThreeQuarters>(p.k + p.alpha * sum[e], p.beta).y;
        if (item[u] == place + u * stride && lrn::owns(lanes))
            store_pack(y + int64_t(item[u]) * kGroup, own);
    }
}

std::string refuses(const LrnProblem& p) {
    if (std::string why = lrn::refuses_window(p); !why.empty()) return why;
    if (p.c < kGroup || p.c % kGroup) return "channels must be a multiple of 8";
    if (p.count() / kGroup > INT_MAX / 2) return "more than 2^33 elements";
    if (!p.aligned) return "the tensors must start on 16 bytes";
    return {};
}

void run(const LrnProblem& p, const LrnForwardArgs& a) {
    if (!p.count()) return;
    for (const void* pointer : {a.x, static_cast<const void*>(a.y)})
        require_aligned("lrn_forward shuffle", pointer);
    const int items = static_cast<int>(p.count() / kGroup);
    const int lanes = lrn::lanes_used(p.c / kGroup);
    const LaunchShape shape{dim3(static_cast<unsigned>(ceil_div(items, kUnits * kWarps * lanes))),
                            dim3(32 * kWarps), a.stream};
    lrn::by_window(p, [&]<class T, int kHalf, bool kThreeQuarters>() {
        launch("lrn_forward_shuffle", shape, lrn_forward_shuffle_kernel<T, kHalf, kThreeQuarters>,
               p, lanes, items, static_cast<const T*>(a.x), static_cast<T*>(a.y));
    });
}

}  // namespace

extern const LrnForward variant;
const LrnForward variant{
    .name = "shuffle", .refuses = refuses, .workspace = nullptr, .launch = run};

}  // namespace lrn_forward_shuffle
}  // namespace wt
