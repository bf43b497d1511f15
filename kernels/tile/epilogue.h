// What happens to a matrix product's sums on their way to C, for every kernel that has them in
// registers: ordinary threads, mma.sync, wgmma, and the kernel that adds up partial sums
// (split_k.h). A caller hands over runs of 2, 4 or 8 adjacent columns of a row, on a multiple of
// their number. Which epilogue is a template argument: none pays for another's.
//
//   plain    bias of the column, then ReLU (either may be absent)
//   dropout  the same, then dropout: kernels/dropout/problem.h. Runs of 8 waste nothing: a call of
//            Philox is for 8 columns
//   drelu    0 where the mask is not above 0, else times mask_scale
//   sgd      C are the weights, updated with the sums as their gradient (kernels/sgd/problem.h),
//            and so is the momentum
#pragma once

#include "kernels/common/step_state.h"
#include "kernels/common/vec.h"

namespace wt {

enum class EpilogueOp : uint8_t { plain, dropout, drelu, sgd };

// C and everything its epilogue reads, by value in a kernel's parameters.
template <class Out>
struct Epilogue {
    Out* c = nullptr;  // element (row, column) at c[row * ld + column]
    int64_t ld = 0;
    int cols = 0;
    bool vectorizable = false;  // runs may be accessed as vectors: see with_alignment()

    const float* bias = nullptr;  // cols; null: none
    bool relu = false;

    const StepState* state = nullptr;  // dropout, sgd
    uint32_t layer = 0, threshold = 0;
    float keep_scale = 1;  // 1 / (1 - p)
    int64_t row0 = 0, col0 = 0;

    const Out* mask = nullptr;
    int64_t ld_mask = 0;
    float mask_scale = 1;

    float* momentum = nullptr;  // as C
    bf16* w_bf16 = nullptr;     // as C; null: none
    float weight_decay = 0, lr_scale = 1;

    // The same with `vectorizable` set where every row that is accessed starts on 16 bytes; call it
    // once everything else is set. Any multiple of `offset` may be added to C and the mask
    // (groups).
    Epilogue with_alignment(int64_t offset = 0) const {
        auto fits = [&](const auto* p, int64_t step) {
            return reinterpret_cast<uintptr_t>(p) % 16 == 0 && step * sizeof(*p) % 16 == 0 &&
                   offset * sizeof(*p) % 16 == 0;
        };
        Epilogue e = *this;
        e.vectorizable = fits(c, ld) && (!mask || fits(mask, ld_mask)) &&
                         (!momentum || fits(momentum, ld)) && (!w_bf16 || fits(w_bf16, ld));
        return e;
    }
    // The epilogue of a group whose columns start `offset` elements further on; its biases lie
    // behind those of the groups before it.
    __device__ __forceinline__ Epilogue of_group(int group, int64_t offset) const {
        Epilogue e = *this;
        e.c += group * offset;
        if (e.bias) e.bias += static_cast<int64_t>(group) * cols;
        if (e.mask) e.mask += group * offset;
        return e;
    }
};

// Moves N elements of which `count` exist (more than N counts as N); the rest reads as 0 and is not
// written.
template <int N, class T>
__device__ __forceinline__ Vec<N> load_run(const T* p, int count, bool vectorizable) {
    if (vectorizable && count >= N) return load<N>(p);
    Vec<N> v;
    unroll<N>([&](auto j) { v.set(j, j < count ? to_float(p[j]) : 0.0f); });
    return v;
}

template <int N, class T>
__device__ __forceinline__ void store_run(T* p, int count, bool vectorizable, const Vec<N>& v) {
    if (vectorizable && count >= N) return store(p, v);
    unroll<N>([&](auto j) {
        if (j < count) p[j] = from_float<T>(v[j]);
    });
}

// Bit j says whether dropout keeps column col + j of `row`. Only kernels that can drop out include
// its definition, kernels/gemm/epilogue_of.h.
template <int N, class Out>
__device__ uint32_t keep_bits(const Epilogue<Out>& e, int row, int col);

// Returns the sums v of columns col ... as they are to be stored. EpilogueOp::sgd stores something
// else.
template <EpilogueOp F, int N, class Out>
__device__ __forceinline__ Vec<N> apply_epilogue(const Epilogue<Out>& e, int row, int col,
                                                 Vec<N> v) {
    static_assert(F != EpilogueOp::sgd);
    if constexpr (F == EpilogueOp::plain || F == EpilogueOp::dropout)
        unroll<N>([&](auto j) {
            float f = v[j];
            if (e.bias && col + j < e.cols) f += e.bias[col + j];
            if (e.relu && f < 0) f = 0;
            v.set(j, f);
        });
    if constexpr (F == EpilogueOp::dropout) {
        const uint32_t keep = keep_bits<N>(e, row, col);
        unroll<N>([&](auto j) { v.set(j, keep >> j & 1 ? v[j] * e.keep_scale : 0.0f); });
    }
    if constexpr (F == EpilogueOp::drelu) {
        const Vec<N> mask =
            load_run<N>(e.mask + row * e.ld_mask + col, e.cols - col, e.vectorizable);
        unroll<N>([&](auto j) { v.set(j, mask[j] > 0 ? v[j] * e.mask_scale : 0.0f); });
    }
    return v;
}

// Applies the epilogue to the sums v of columns col ... col + N - 1 of a row, and stores those of
// them that exist.
template <EpilogueOp F, int N, class Out>
__device__ __forceinline__ void store_epilogue(const Epilogue<Out>& e, int row, int col,
                                               const Vec<N>& v) {
    const int count = e.cols - col;
    const int64_t at = row * e.ld + col;
    if constexpr (F == EpilogueOp::sgd) {
        const float lr = e.state->lr * e.lr_scale, momentum = e.state->momentum,
                    decay = e.weight_decay * lr;
        Vec<N> w = load_run<N>(e.c + at, count, e.vectorizable),
               m = load_run<N>(e.momentum + at, count, e.vectorizable);
        unroll<N>([&](auto j) {
            m.set(j, momentum * m[j] - decay * w[j] - lr * v[j]);
            w.set(j, w[j] + m[j]);
        });
        store_run(e.momentum + at, count, e.vectorizable, m);
        store_run(e.c + at, count, e.vectorizable, w);
        if (e.w_bf16) store_run(e.w_bf16 + at, count, e.vectorizable, w);
    } else {
        store_run(e.c + at, count, e.vectorizable, apply_epilogue<F>(e, row, col, v));
    }
}

}  // namespace wt
