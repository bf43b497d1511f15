// Dropout with one Philox call per 8 columns, all of whose half words are used.
//   vec8    a thread takes one group of 8 columns
//   vec128  a thread takes 16 neighbouring groups and runs their 16 Philox calls side by side: SIMD
//           on a virtual GPU
// Groups lie on multiples of 8 columns of the whole layer, so a shard that begins between two of
// them has a part of a group at its ends.
#include "kernels/common/dropout_draw.h"
#include "kernels/common/pack.h"
#include "kernels/common/stream.h"
#include "kernels/dropout/problem.h"
#include "kernels/ptx/griddep.h"

namespace wt::dropout_vec {
namespace {

// Bit i of mask[k]: keep column i of group `first + k`.
template <int kCalls>
__device__ __forceinline__ void draw_masks(int64_t first, int64_t row, uint64_t step, PhiloxKey key,
                                           uint32_t threshold, uint32_t (&mask)[kCalls]) {
    // philox4x32_10 of all the calls, word by word: the loop over the calls is innermost.
    uint32_t w0[kCalls], w1[kCalls], w2[kCalls], w3[kCalls];
    const PhiloxCounter c = dropout_counter(first, row, step);
    WT_LANES
    for (int k = 0; k < kCalls; ++k)
        w0[k] = c.w[0] + k, w1[k] = c.w[1], w2[k] = c.w[2], w3[k] = c.w[3];
    for (int round = 0; round < 10; ++round) {
        WT_LANES
        for (int k = 0; k < kCalls; ++k) {
            const uint64_t p0 = uint64_t(kPhiloxMultiplier0) * w0[k],
                           p1 = uint64_t(kPhiloxMultiplier1) * w2[k];
            w0[k] = uint32_t(p1 >> 32) ^ w1[k] ^ key.w[0];
            w1[k] = uint32_t(p1);
            w2[k] = uint32_t(p0 >> 32) ^ w3[k] ^ key.w[1];
            w3[k] = uint32_t(p0);
        }
        key.w[0] += kPhiloxWeyl0;
        key.w[1] += kPhiloxWeyl1;
    }
    // of a half word where it stands, in the upper half of its word
    const uint32_t high = threshold << 16;
    WT_LANES
    for (int k = 0; k < kCalls; ++k)
        mask[k] =
            uint32_t((w0[k] << 16) >= high) | uint32_t((w0[k] & 0xFFFF0000u) >= high) << 1 |
            uint32_t((w1[k] << 16) >= high) << 2 | uint32_t((w1[k] & 0xFFFF0000u) >= high) << 3 |
            uint32_t((w2[k] << 16) >= high) << 4 | uint32_t((w2[k] & 0xFFFF0000u) >= high) << 5 |
            uint32_t((w3[k] << 16) >= high) << 6 | uint32_t((w3[k] & 0xFFFF0000u) >= high) << 7;
}

// `shift`: columns of the first group that lie before the matrix.
template <class T, int kCalls>
__global__ void dropout_vec_kernel(RowPieces s, int64_t ld_x, int64_t ld_y, bool aligned,
                                   const T* x, T* y, const StepState* state, uint32_t layer,
                                   int64_t row0, int64_t group0, int shift, uint32_t threshold,
                                   float scale) {
    ptx::griddep_wait();
    ptx::griddep_launch_dependents();
    const uint64_t step = state->step;
    row0 += state->row0;
    const PhiloxKey key = dropout_key(state->seed, layer);
    const int64_t first = blockIdx.x * s.piece, end = min(first + s.piece, s.groups);
    for (int64_t row = blockIdx.y; row < s.rows; row += gridDim.y)
        for (int64_t g = first + threadIdx.x; g < end; g += blockDim.x) {
            uint32_t mask[kCalls];
            draw_masks<kCalls>(group0 + g * kCalls, row0 + row, step, key, threshold, mask);
            for (int k = 0; k < kCalls; ++k) {
                const int64_t col = (g * kCalls + k) * kDropoutGroup - shift,
                              left = s.cols - shift - col;
                const T* from = x + row * ld_x + col;
                T* to = y + row * ld_y + col;
                if (col >= 0 && left >= kDropoutGroup) {
                    float a[kDropoutGroup];
                    load_pack(from, kDropoutGroup, aligned, a);
                    WT_LANES
                    for (int i = 0; i < kDropoutGroup; ++i)
                        a[i] = mask[k] >> i & 1 ? a[i] * scale : 0.f;
                    store_pack(to, kDropoutGroup, aligned, a);
                } else {
                    for (int i = 0; i < kDropoutGroup; ++i)
                        if (col + i >= 0 && i < left)
                            to[i] =
                                from_float<T>(mask[k] >> i & 1 ? to_float(from[i]) * scale : 0.f);
                }
            }
        }
}

template <int kCalls>
void run(const DropoutProblem& p, const DropoutArgs& a) {
    if (!p.count()) return;
    const uint32_t threshold = dropout_threshold(p.p);
    if (threshold > 0xFFFF) {  // p rounds to 1: nothing is kept
        WT_CUDA(cudaMemset2DAsync(a.y, p.ld_y * size_of(p.dtype), 0, p.cols * size_of(p.dtype),
                                  p.rows, a.stream));
        return;
    }
    const int shift = static_cast<int>(a.col0 % kDropoutGroup);
    const RowPieces s =
        row_pieces(p.rows, p.cols + shift, true, kDropoutGroup * kCalls, 1024 / kCalls);
    const size_t size = size_of(p.dtype);
    const bool aligned =
        packs_aligned(static_cast<const char*>(a.x) - shift * size, p.ld_x, size) &&
        packs_aligned(static_cast<char*>(a.y) - shift * size, p.ld_y, size);
    by_dtype(p.dtype, [&]<class T>() {
        launch("dropout_vec", stream_shape(s, a.stream).with_pdl(), dropout_vec_kernel<T, kCalls>,
               s, p.ld_x, p.ld_y, aligned, static_cast<const T*>(a.x), static_cast<T*>(a.y),
               a.state, a.layer, a.row0, a.col0 / kDropoutGroup, shift, threshold, 1 / (1 - p.p));
    });
}

}  // namespace

extern const Dropout vec8, vec128;
const Dropout vec8{
    .name = "vec8", .refuses = dropout_refuses, .workspace = nullptr, .launch = run<1>};
const Dropout vec128{
    .name = "vec128", .refuses = dropout_refuses, .workspace = nullptr, .launch = run<16>};

}  // namespace wt::dropout_vec
