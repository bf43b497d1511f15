// Softmax cross-entropy, one warp per row. Pieces of 1024 logits, 32 to a lane, lie in registers:
// eight 16-byte loads are under way together, and a row of up to 1024 classes is read once. Longer
// rows keep a running maximum and rescale the sum where a piece raises it (Milakov, Gimelshein:
// "Online normalizer calculation for softmax", 2018), and are read again for the gradient, from L1.
// Maximum, sum and rank go round the warp by shuffles: no barrier, no shared memory.
#include <cfloat>
#include <climits>
#include <cmath>

#include "kernels/common/pack.h"
#include "kernels/common/vec.h"
#include "kernels/launch.h"
#include "kernels/ptx/griddep.h"
#include "kernels/softmax/row_result.h"

namespace wt::softmax_vec {
namespace {

constexpr int kGroup = 4, kFragments = 8, kPiece = 32 * kGroup * kFragments;
constexpr int kWarps = 4;  // rows of a block

// Every lane gets the sum (or maximum) in the same order, so the same bits.
template <class V, class Op>
__device__ __forceinline__ V over_warp(V v, Op op) {
    for (int mask = 16; mask > 0; mask /= 2) v = op(v, __shfl_xor_sync(0xffffffffu, v, mask));
    return v;
}

// Group h of this lane's piece; what is behind the row's end is no larger than anything.
__device__ __forceinline__ void load_piece(const float* z, int first, int classes, bool aligned,
                                           float (&v)[kFragments][kGroup]) {
    unroll<kFragments>([&](auto h) {
        const int at = first + h * 32 * kGroup, left = classes - at;
        load_pack<kGroup>(z + at, left, aligned, v[h]);
        WT_LANES
        for (int e = 0; e < kGroup; ++e) v[h][e] = e < left ? v[h][e] : -INFINITY;
    });
}

template <class T>
__global__ void __launch_bounds__(32 * kWarps)
    softmax_vec_kernel(SoftmaxProblem p, bool aligned_z, bool aligned_dz, const float* logits,
                       const int* labels, T* dlogits, SoftmaxRow* results) {
    ptx::griddep_wait();
    ptx::griddep_launch_dependents();
    const int row = static_cast<int>(blockIdx.x * kWarps + threadIdx.x / 32),
              lane = threadIdx.x % 32;
    if (row >= p.rows) return;
    const float* z = logits + int64_t(row) * p.ld_logits;
    T* dz = dlogits ? dlogits + int64_t(row) * p.ld_dlogits : nullptr;
    const int label = labels[row], own = lane * kGroup;
    if (label == -1) {
        const float zeros[kGroup] = {};
        if (dz)
            for (int j = own; j < p.classes; j += 32 * kGroup)
                store_pack<kGroup>(dz + j, p.classes - j, aligned_dz, zeros);
        if (lane == 0) results[row] = {0, -1};
        return;
    }

    // A label that is no class makes the loss NaN, which stops the training that fed it.
    const float chosen = label >= 0 && label < p.classes ? z[label] : NAN;
    // apart: from the label's logit, all others; with smoothing alone
    float top = -INFINITY, sum = 0, apart = 0, v[kFragments][kGroup];
    int rank = 0;
    for (int first = 0; first < p.classes; first += kPiece) {
        load_piece(z, first + own, p.classes, aligned_z, v);
        float highest = top;
        unroll<kFragments>([&](auto h) {
#pragma unroll
            // skips NaNs; the sum meets them
            for (int e = 0; e < kGroup; ++e) highest = fmaxf(highest, v[h][e]);
        });
        highest = over_warp(highest, [](float a, float b) { return fmaxf(a, b); });
        // -inf - -inf is NaN, and the next piece may have a number
        if (highest == -INFINITY) highest = -FLT_MAX;
        sum *= __expf(top - highest);
        top = highest;
        unroll<kFragments>([&](auto h) {
#pragma unroll
            for (int e = 0; e < kGroup; ++e) {
                const int j = first + own + h * 32 * kGroup + e;
                sum += __expf(v[h][e] - top);
                rank += int(v[h][e] > chosen) | (int(v[h][e] == chosen) & int(j < label));
            }
        });
        if (p.smoothing > 0)
            unroll<kFragments>([&](auto h) {
                const int left = p.classes - (first + own + h * 32 * kGroup);
#pragma unroll
                for (int e = 0; e < kGroup; ++e) apart += e < left ? v[h][e] - chosen : 0.f;
            });
    }
    sum = over_warp(sum, [](float a, float b) { return a + b; });
    rank = over_warp(rank, [](int a, int b) { return a + b; });
    if (p.smoothing > 0) apart = over_warp(apart, [](float a, float b) { return a + b; });
    if (lane == 0) {
        float loss = logf(sum) - (chosen - top);
        if (p.smoothing > 0) loss -= p.everywhere() * apart;
        results[row] = {loss, loss == loss ? rank : INT_MAX};
    }

    if (!dz) return;
    const float factor = p.scale / sum, rest = p.scale * p.everywhere(),
                right = p.scale * (p.at_label() + p.everywhere());
    for (int first = 0; first < p.classes; first += kPiece) {
        if (p.classes > kPiece) load_piece(z, first + own, p.classes, aligned_z, v);
        unroll<kFragments>([&](auto h) {
            const int at = first + own + h * 32 * kGroup;
            float d[kGroup];
            WT_LANES
            for (int e = 0; e < kGroup; ++e)
                d[e] = factor * __expf(v[h][e] - top) - (at + e == label ? right : rest);
            store_pack<kGroup>(dz + at, p.classes - at, aligned_dz, d);
        });
    }
}

void run(const SoftmaxProblem& p, const SoftmaxArgs& a) {
    auto* results = static_cast<SoftmaxRow*>(a.workspace);
    const bool aligned_z = packs_aligned(a.logits, p.ld_logits, 4, kGroup);
    const bool aligned_dz = packs_aligned(a.dlogits, p.ld_dlogits, size_of(p.dtype), kGroup);
    if (p.rows)
        by_dtype(p.dtype, [&]<class T>() {
            launch(
                "softmax_vec",
                LaunchShape{dim3(ceil_div(p.rows, kWarps)), dim3(32 * kWarps), a.stream}.with_pdl(),
                softmax_vec_kernel<T>, p, aligned_z, aligned_dz, a.logits, a.labels,
                static_cast<T*>(a.dlogits), results);
        });
    launch_softmax_stats(p, results, a.stats, a.stream);
}

}  // namespace

extern const Softmax variant;
const Softmax variant{.name = "vec",
                      .refuses = fits_all<SoftmaxProblem>,
                      .workspace = softmax_rows_bytes,
                      .launch = run};

}  // namespace wt::softmax_vec
