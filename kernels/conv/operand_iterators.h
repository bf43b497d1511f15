// Iterators over tensors as operands of the tiled products of kernels/tile/simt.h and mma_sm80.h.
// Each class is one of the matrices of kernels/conv/gemm_map.h, read V channels (or filters) at a
// time: all exist or, in the padding, none does. A thread divides a matrix coordinate into tensor
// indices once; then cursors step by additions.
#pragma once

#include "kernels/common/vec.h"
#include "kernels/conv/gemm_map.h"
#include "kernels/tile/matrix_iterators.h"

namespace wt {

// A row or column so far outside that any tap of it is outside too: reads zeros. Images, filters
// and padding are below 2^13 (conv_tiled::refuses), so that 16 bits hold a position.
constexpr short kOutside = -(1 << 14);

// fprop's A: rows are output pixels, k are taps (r, s, channel). Contiguous along channels.
template <class T_, int V_>
struct InputPatches {
    using T = T_;
    static constexpr int V = V_;
    const T* x;  // of the group
    const ConvShape& v;
    int pixels;
    TapCursor tap{0, 1, 1};

    // The pixel's patch: where tap (0, 0) lies, maybe in the padding. Two registers.
    struct Row {
        int corner;  // pixels from x; may be negative
        short h, w;
    };
    __device__ __forceinline__ Row row(int m) const {
        if (m >= pixels) return {0, kOutside, 0};
        const Pixel o = pixel_at(m, v.p, v.q);
        const int h = input_row(v, o.row, 0), w = input_col(v, o.col, 0);
        return {(o.n * v.h + h) * v.w + w, static_cast<short>(h), static_cast<short>(w)};
    }
    __device__ __forceinline__ void seek(int k) { tap = TapCursor(k, v.s, v.cg); }
    __device__ __forceinline__ Span<T> span(const Row& row) const {
        const bool inside = static_cast<unsigned>(row.h + tap.at.r) < static_cast<unsigned>(v.h) &&
                            static_cast<unsigned>(row.w + tap.at.s) < static_cast<unsigned>(v.w) &&
                            tap.at.r < v.r;
        if (!inside) return {x, 0};
        return {x + (static_cast<int64_t>(row.corner + tap.at.r * v.w + tap.at.s) * v.c + tap.at.c),
                V};
    }
    __device__ __forceinline__ PackedFragment<T, V> read(const Row& row) const {
        return load_fragment<T, V>(span(row));
    }
    __device__ __forceinline__ void advance(int step) { tap.advance(step); }
};

// dgrad's A: rows are input pixels, k are taps (r, s, filter): the output pixel that reads this
// input through this tap, or zero. With stride above 1 most are zero: the work is stride_h x
// stride_w times what is needed (AlexNet's only strided layer is the first, whose input has no
// gradient). Strided: whether either stride may be above 1; the divisions take registers.
template <class T_, int V_, bool Strided>
struct OutputPatches {
    using T = T_;
    static constexpr int V = V_;
    const T* dy;  // of the group
    const ConvShape& v;
    int pixels;
    TapCursor tap{0, 1, 1};

    struct Row {
        // stride 1: the output pixel of tap (0, 0), maybe outside; strided: the image's first
        // output row
        int base;
        short h, w;  // input pixel + pad
    };
    __device__ __forceinline__ Row row(int m) const {
        if (m >= pixels) return {0, kOutside, 0};
        const Pixel i = pixel_at(m, v.h, v.w);
        const int h = i.row + v.pad_h, w = i.col + v.pad_w;
        return {Strided ? i.n * v.p : (i.n * v.p + h) * v.q + w, static_cast<short>(h),
                static_cast<short>(w)};
    }
    __device__ __forceinline__ void seek(int k) { tap = TapCursor(k, v.s, v.kg); }
    __device__ __forceinline__ Span<T> span(const Row& row) const {
        int p = row.h - tap.at.r, q = row.w - tap.at.s;
        bool inside = tap.at.r < v.r;
        if constexpr (Strided) {
            inside = inside && p >= 0 && q >= 0 && p % v.stride_h == 0 && q % v.stride_w == 0;
            p /= v.stride_h, q /= v.stride_w;
        }
        if (!inside || static_cast<unsigned>(p) >= static_cast<unsigned>(v.p) ||
            static_cast<unsigned>(q) >= static_cast<unsigned>(v.q))
            return {dy, 0};
        const int pixel =
            Strided ? (row.base + p) * v.q + q : row.base - (tap.at.r * v.q + tap.at.s);
        return {dy + (static_cast<int64_t>(pixel) * v.k + tap.at.c), V};
    }
    __device__ __forceinline__ PackedFragment<T, V> read(const Row& row) const {
        return load_fragment<T, V>(span(row));
    }
    __device__ __forceinline__ void advance(int step) { tap.advance(step); }
};

// dgrad's B: columns are channels, k are taps (r, s, filter). Contiguous along channels.
template <class T_, int V_>
struct FiltersByTap {
    using T = T_;
    static constexpr int V = V_;
    const T* w;  // of the group
    const ConvShape& v;
    int place = 0, filter = 0, channel = 0;  // place: r * S + s

    __device__ __forceinline__ void seek(int channel0, int k) {
        channel = channel0;
        place = k / v.kg, filter = k % v.kg;
    }
    __device__ __forceinline__ Span<T> span() const {
        if (channel >= v.cg || place >= v.r * v.s) return {w, 0};
        return {w + ((filter * v.r * v.s + place) * v.cg + channel), V};
    }
    __device__ __forceinline__ PackedFragment<T, V> read() const {
        return load_fragment<T, V>(span());
    }
    __device__ __forceinline__ void advance(int step) {
        for (filter += step; filter >= v.kg; filter -= v.kg) ++place;
    }
};

// wgrad's B: columns are taps (r, s, channel), k are output pixels. Contiguous along channels.
template <class T_, int V_>
struct InputByPixel {
    using T = T_;
    static constexpr int V = V_;
    const T* x;  // of the group
    const ConvShape& v;
    PixelCursor pixel{0, 1, 1};
    short h = 0, w = 0;  // of this column's tap: input row and column for output pixel (0, 0)
    int c = 0;           // and its channel

    __device__ __forceinline__ void seek(int column, int k) {
        const Tap tap = tap_at(column, v.s, v.cg);
        // beyond the last column
        h = tap.r < v.r ? static_cast<short>(input_row(v, 0, tap.r)) : short(2 * -kOutside - 1);
        w = static_cast<short>(input_col(v, 0, tap.s));
        c = tap.c;
        pixel = PixelCursor(k, v.p, v.q);
    }
    __device__ __forceinline__ Span<T> span() const {
        const int row = pixel.at.row * v.stride_h + h, col = pixel.at.col * v.stride_w + w;
        if (static_cast<unsigned>(row) >= static_cast<unsigned>(v.h) ||
            static_cast<unsigned>(col) >= static_cast<unsigned>(v.w) || pixel.at.n >= v.n)
            return {x, 0};
        return {x + (static_cast<int64_t>((pixel.at.n * v.h + row) * v.w + col) * v.c + c), V};
    }
    __device__ __forceinline__ PackedFragment<T, V> read() const {
        return load_fragment<T, V>(span());
    }
    __device__ __forceinline__ void advance(int step) { pixel.advance(step); }
};

}  // namespace wt
