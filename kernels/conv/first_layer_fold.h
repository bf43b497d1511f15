// Folded input (kernels/conv/problem.h) makes a convolution of stride f one of stride 1 over blocks
// of f x f pixels; here is that other problem, and its filters: those of the first one in the order
// (r / f, s / f, r % f, s % f, channel), zeros where r or s is past the end.
#pragma once

#include "kernels/conv/problem.h"

namespace wt {

// The same sums, as a convolution over blocks: x as it is stored, filters folded.
inline ConvProblem over_blocks(const ConvProblem& p) {
    ConvProblem q = p;
    q.h = p.fold_h(), q.w = p.fold_w(), q.c = p.fold * p.fold * p.c;
    q.r = (p.r + p.fold - 1) / p.fold, q.s = (p.s + p.fold - 1) / p.fold;
    q.stride_h = q.stride_w = 1, q.pad_h = q.pad_w = 0, q.fold = 1;
    return q;
}

// w, k x r x s x c of p's type, to `folded`, k x r/f x s/f x f f c. One group.
void fold_weights(const ConvProblem& p, const void* w, void* folded, cudaStream_t stream);
// The same for kernels that read planes (kernels/common/planes.h), of a fold of 4 and 3 channels:
// [plane][filter][8], plane 6 t + i being channels 8 i to 8 i + 7 of tap t of blocks. As many
// filters as `width`: zeros behind the last. bf16, on 16 bytes. It starts while the kernel before
// it still runs (PDL).
// `pairs`: of every 16 filters the even ones come first, then the odd ones: where they are rows of
// wgmma's D, a thread's two rows are then neighbours.
void fold_weights_into_planes(const ConvProblem& p, const void* w, void* planes, int width,
                              cudaStream_t stream, bool pairs = false);
// The gradients of the folded filters to those of the filters.
void unfold_weight_gradients(const ConvProblem& p, const float* folded, float* dw,
                             cudaStream_t stream);

}  // namespace wt
