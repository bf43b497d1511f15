// Makes a matrix product's epilogue of its problem and arguments; and has what only matrix
// products' epilogues do, dropout.
#pragma once

#include "kernels/common/dropout_draw.h"
#include "kernels/gemm/problem.h"
#include "kernels/tile/epilogue.h"

namespace wt {

template <class Out>
Epilogue<Out> epilogue_of(const GemmProblem& p, const GemmArgs& g) {
    Epilogue<Out> e;
    e.c = static_cast<Out*>(g.c);
    e.ld = p.ldc;
    e.cols = p.n;
    e.bias = p.bias && p.layout == GemmLayout::nt ? g.bias : nullptr;
    e.relu = p.relu;
    e.state = g.state;
    if (p.dropout > 0) {
        e.layer = g.layer;
        e.threshold = dropout_threshold(p.dropout);
        e.keep_scale = 1 / (1 - p.dropout);
        e.row0 = g.row0;
        e.col0 = g.col0;
    }
    if (p.drelu) {
        e.mask = static_cast<const Out*>(g.mask);
        e.ld_mask = g.ld_mask;
        e.mask_scale = g.mask_scale;
    }
    if (p.sgd) {
        e.momentum = g.momentum;
        e.w_bf16 = g.w_bf16;
        e.weight_decay = g.weight_decay;
        e.lr_scale = g.lr_scale;
    }
    return e.with_alignment();
}

// Declared in kernels/tile/epilogue.h.
template <int N, class Out>
__device__ __forceinline__ uint32_t keep_bits(const Epilogue<Out>& e, int row, int col) {
    const int64_t first = e.col0 + col;
    const int shift = static_cast<int>(first % kDropoutGroup);
    uint32_t bits = 0;
    for (int part = 0; part == 0 || (part == 1 && shift + N > kDropoutGroup);
         ++part) {  // a shard may begin within a group
        const PhiloxCounter words =
            philox4x32_10(dropout_counter(first / kDropoutGroup + part,
                                          e.state->row0 + e.row0 + row, e.state->step),
                          dropout_key(e.state->seed, e.layer));
        unroll<kDropoutGroup>([&](auto i) {
            bits |= uint32_t(dropout_half_word(words, i) >= e.threshold)
                    << (part * kDropoutGroup + i);
        });
    }
    return bits >> shift;
}

// Calls f.operator()<F>() with the epilogue of a problem of layout L and results of type Out: those
// it may have.
template <GemmLayout L, class Out, class F>
decltype(auto) by_epilogue(const GemmProblem& p, F&& f) {
    if constexpr (L == GemmLayout::nt)
        if (p.dropout > 0) return f.template operator()<EpilogueOp::dropout>();
    if constexpr (L == GemmLayout::nn)
        if (p.drelu) return f.template operator()<EpilogueOp::drelu>();
    if constexpr (L == GemmLayout::tn && dtype_of<Out> == DType::f32)
        if (p.sgd) return f.template operator()<EpilogueOp::sgd>();
    return f.template operator()<EpilogueOp::plain>();
}

}  // namespace wt
