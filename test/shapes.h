// Awkward shapes that every variant of an operation is tested on: channels below a tile, odd
// heights and widths, asymmetric stride and padding, groups, partial tiles, batch 1, sums long
// enough to be split.
#pragma once

#include <string>
#include <vector>

#include "host/net/problem_text.h"
#include "kernels/conv/problem.h"
#include "kernels/gemm/problem.h"
#include "test/seeds.h"

namespace wt::test {

// Sanitizers cost a factor of ten, and so does looking for races.
inline bool reduced_list() {
#ifdef __SANITIZE_ADDRESS__
    return true;
#else
    return races_wanted();
#endif
}

// The list of this build, or an ordinary build's.
inline std::vector<ConvProblem> conv_shapes(bool ordinary = !reduced_list()) {
    std::vector<ConvProblem> list = {
        {.n = 1, .h = 1, .w = 1, .c = 1, .k = 1, .r = 1, .s = 1},
        {.n = 2, .h = 7, .w = 9, .c = 8, .k = 16, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1},
        {.n = 3, .h = 5, .w = 6, .c = 7, .k = 5, .r = 1, .s = 1},  // odd channels
        {.n = 2,
         .h = 8,
         .w = 11,
         .c = 4,
         .k = 12,
         .r = 2,
         .s = 3,
         .stride_h = 2,
         .stride_w = 1,
         .pad_h = 0,
         .pad_w = 2},
        {.n = 1,
         .h = 9,
         .w = 7,
         .c = 16,
         .k = 24,
         .r = 3,
         .s = 5,
         .stride_h = 1,
         .stride_w = 3,
         .pad_h = 2,
         .pad_w = 1,
         .groups = 2},
        {.n = 2,
         .h = 6,
         .w = 6,
         .c = 6,
         .k = 12,
         .r = 3,
         .s = 3,
         .pad_h = 1,
         .pad_w = 1,
         .groups = 6},  // depthwise
        {.n = 2,
         .h = 12,
         .w = 12,
         .c = 8,
         .k = 8,
         .r = 3,
         .s = 3,
         .stride_h = 2,
         .stride_w = 2},  // last row unread
        {.n = 1,
         .h = 3,
         .w = 4,
         .c = 8,
         .k = 8,
         .r = 5,
         .s = 6,
         .pad_h = 2,
         .pad_w = 3},  // filter above image
        {.n = 2,
         .h = 35,
         .w = 39,
         .c = 3,
         .k = 10,
         .r = 11,
         .s = 11,
         .stride_h = 4,
         .stride_w = 4},  // first layers
        {.n = 1,
         .h = 30,
         .w = 30,
         .c = 3,
         .k = 40,
         .r = 11,
         .s = 11,
         .stride_h = 4,
         .stride_w = 4,
         .pad_h = 2,
         .pad_w = 2},
        {.n = 2, .h = 11, .w = 13, .c = 3, .k = 32, .r = 5, .s = 5, .pad_h = 2, .pad_w = 2},
        {.n = 1,
         .h = 9,
         .w = 70,
         .c = 1,
         .k = 6,
         .r = 3,
         .s = 4,
         .stride_h = 1,
         .stride_w = 1,
         .pad_h = 1,
         .pad_w = 0},
    };
    // dgrad by views: filters in 64s, zeros on one side only
    list.push_back(
        {.n = 2, .h = 9, .w = 11, .c = 24, .k = 64, .r = 3, .s = 4, .pad_h = 2, .pad_w = 1});
    if (!ordinary &&
        races_wanted()) {  // small first layers for the larger ones; two of several big tiles
        std::erase_if(list, [](const ConvProblem& p) { return p.r == 11; });
        list.insert(
            list.end(),
            {{.n = 1,
              .h = 19,
              .w = 23,
              .c = 3,
              .k = 10,
              .r = 11,
              .s = 11,
              .stride_h = 4,
              .stride_w = 4},
             {.n = 1,
              .h = 19,
              .w = 23,
              .c = 3,
              .k = 16,
              .r = 11,
              .s = 11,
              .stride_h = 4,
              .stride_w = 4},
             {.n = 2, .h = 13, .w = 13, .c = 16, .k = 136, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1},
             {.n = 1,
              .h = 13,
              .w = 13,
              .c = 96,
              .k = 144,
              .r = 3,
              .s = 3,
              .pad_h = 1,
              .pad_w = 1,
              .groups = 2}});
    }
    if (!ordinary) return list;
    // partial big tiles
    list.push_back(
        {.n = 2, .h = 13, .w = 13, .c = 72, .k = 136, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1});
    list.push_back({.n = 1,
                    .h = 13,
                    .w = 13,
                    .c = 96,
                    .k = 144,
                    .r = 5,
                    .s = 5,
                    .pad_h = 2,
                    .pad_w = 2,
                    .groups = 2});
    list.push_back({.n = 5,
                    .h = 13,
                    .w = 13,
                    .c = 20,
                    .k = 16,
                    .r = 3,
                    .s = 3,
                    .pad_h = 1,
                    .pad_w = 1});  // many pixels: split
    list.push_back({.n = 1,
                    .h = 67,
                    .w = 67,
                    .c = 3,
                    .k = 96,
                    .r = 11,
                    .s = 11,
                    .stride_h = 4,
                    .stride_w = 4});
    // Winograd: outputs that no tile of 4 divides, groups; a strided layer folded to it, in parts
    // of 3 images.
    list.push_back(
        {.n = 8, .h = 10, .w = 14, .c = 16, .k = 32, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1});
    list.push_back({.n = 4,
                    .h = 17,
                    .w = 15,
                    .c = 32,
                    .k = 64,
                    .r = 3,
                    .s = 3,
                    .pad_h = 0,
                    .pad_w = 1,
                    .groups = 2});
    list.push_back({.n = 3,
                    .h = 91,
                    .w = 81,
                    .c = 3,
                    .k = 16,
                    .r = 11,
                    .s = 9,
                    .stride_h = 4,
                    .stride_w = 4,
                    .pad_h = 2,
                    .pad_w = 1});
    // Winograd on a CPU: tiles at the seams of many small images; padding wider than half a filter
    list.push_back(
        {.n = 23, .h = 3, .w = 4, .c = 19, .k = 37, .r = 3, .s = 3, .pad_h = 1, .pad_w = 1});
    list.push_back(
        {.n = 3, .h = 8, .w = 6, .c = 17, .k = 40, .r = 5, .s = 5, .pad_h = 4, .pad_w = 0});
    return list;
}

// How operands are stored and may be rounded.
struct OperandType {
    DType dtype;
    bool tf32;
};
inline constexpr OperandType kOperandTypes[] = {
    {DType::f32, false}, {DType::bf16, false}, {DType::f32, true}};

// Variants that compute in fp32 do so whether tf32 is allowed or not: asking them once in a while
// is enough.
template <class Variant, class Problem>
bool same_without_tf32(const Variant& v, Problem p, size_t i) {
    if (!p.tf32 || i % 4 == 0) return false;
    p.tf32 = false;
    return v.refuses(p).empty();
}

// A row with a fixed tile (kFixedPlan) is the same kernels as the row whose plan it is, which sees
// all problems; it sees every seventh, each of these rows others. test_conv_wgmma.cu and
// test_gemm_wgmma.cu have problems for every tile.
template <class Variant>
bool out_of_turn(const Variant& v, size_t row, size_t i) {
    return v.preference.gpu < 0 && (i + row) % 7 != 0;
}

enum class ConvPass { fprop, dgrad, wgrad };

// The shapes in every precision. Bias, ReLU and its gradient vary over the list, so that each shape
// meets all of them in one precision or another; what can be folded comes both ways.
inline std::vector<ConvProblem> conv_problems(ConvPass pass, bool ordinary = !reduced_list()) {
    std::vector<ConvProblem> list;
    size_t i = 0;
    for (ConvProblem p : conv_shapes(ordinary)) {
        for (int t = 0; t < 3; ++t) {
            const size_t j = i + t;
            p.dtype = kOperandTypes[t].dtype, p.tf32 = kOperandTypes[t].tf32;
            p.bias = j % 2 == 0, p.relu = pass == ConvPass::fprop && j % 4 >= 2;
            p.drelu = pass == ConvPass::dgrad && j % 3 == 1;
            list.push_back(p);
            if (pass == ConvPass::dgrad || p.stride_h != p.stride_w || p.stride_h == 1) continue;
            p.fold = p.stride_h;
            list.push_back(p);
            if (p.dtype == DType::bf16 && p.fold * p.fold * p.c % 8 == 0) {
                p.planes = true;
                list.push_back(p);
            }
            p.fold = 1;
            p.planes = false;
        }
        ++i;
    }
    return list;
}

struct GemmShape {
    int m, n, k, pad;  // pad: elements behind each row of A, B and C
};

inline std::vector<GemmShape> gemm_shapes(bool ordinary = !reduced_list()) {
    std::vector<GemmShape> list = {
        {1, 1, 1, 0},    {5, 7, 3, 2},     {64, 64, 16, 0}, {65, 66, 33, 1},
        {1, 100, 40, 0}, {128, 10, 64, 0}, {3, 24, 528, 8},  // k is split
        {40, 4, 8, 4},
    };
    if (!ordinary && races_wanted()) list.push_back({136, 264, 72, 8});
    if (!ordinary) return list;
    for (GemmShape s :
         {GemmShape{128, 128, 64, 0}, {136, 264, 72, 8}, {130, 257, 50, 3}, {72, 200, 1040, 0}})
        list.push_back(s);
    return list;
}

inline GemmProblem gemm_problem(GemmLayout layout, const GemmShape& s, OperandType t, DType out,
                                size_t i) {
    GemmProblem p{.layout = layout,
                  .m = s.m,
                  .n = s.n,
                  .k = s.k,
                  .dtype = t.dtype,
                  .out = out,
                  .tf32 = t.tf32};
    p.lda = (layout == GemmLayout::tn ? s.m : s.k) + s.pad;
    p.ldb = (layout == GemmLayout::nt ? s.k : s.n) + s.pad;
    p.ldc = s.n + s.pad;
    p.bias = layout != GemmLayout::nn && i % 2 == 0;
    p.relu = layout == GemmLayout::nt && i % 4 >= 2;
    // One problem in three is for variants that know an epilogue.
    p.dropout = layout == GemmLayout::nt && i % 3 == 1 ? 0.4f : 0;
    p.drelu = layout == GemmLayout::nn && i % 3 == 1;
    p.sgd = layout == GemmLayout::tn && out == DType::f32 && i % 3 == 1;
    return p;
}

// In every layout and precision.
inline std::vector<GemmProblem> gemm_problems(bool ordinary = !reduced_list()) {
    std::vector<GemmProblem> list;
    size_t i = 0;
    for (const GemmShape& s : gemm_shapes(ordinary)) {
        for (GemmLayout layout : {GemmLayout::nt, GemmLayout::nn, GemmLayout::tn})
            for (size_t t = 0; t < 3; ++t)
                for (size_t out = 0; out < 2; ++out)
                    list.push_back(gemm_problem(layout, s, kOperandTypes[t],
                                                out ? DType::bf16 : DType::f32, i + t + out));
        ++i;
    }
    return list;
}

// What a build with a shorter list leaves out, said once for each operation; "" in an ordinary
// build.
inline std::string left_out(size_t tested, size_t ordinary) {
    if (!reduced_list()) return {};
    return "a short list in this build: " + std::to_string(tested) +
           " problems; an ordinary build tests " + std::to_string(ordinary);
}

}  // namespace wt::test
