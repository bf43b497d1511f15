// The transforms of the convolutions by Winograd (winograd_plan.h) as kernels: a thread has one
// tile (or filter) of one channel or several (by_vector), in registers.
//
//   to_planes    from images or filters to planes: tile or filter `item` of group g, channel c, is
//                element [plane, g, item, c] of the result
//   from_planes  back, with sums over the splits of k on the way, to a sink that knows the epilogue
//
// On a GPU a thread has one channel: its neighbours' loads and stores are its neighbours in memory,
// and 64 planes of two channels would not fit the registers. On a virtual GPU it has 8, one SIMD
// register.
#pragma once

#include "kernels/conv/winograd_apply.h"
#include "kernels/conv/winograd_plan.h"
#include "kernels/tile/epilogue.h"
#ifdef VGPU
#include "host/vgpu/ptx_exec/kernels.h"
#endif

namespace wt::conv_winograd {

// Calls f.operator()<V>() with the channels of a thread, for groups of so many: one on a GPU, 8 on
// a virtual one, whose thread then is a CPU's vector.
template <class F>
void by_vector(int channels, F&& f) {
#ifdef VGPU  // what nvcc compiled has a GPU's form alone
    if (channels % 8 == 0 && !vgpu::ptx_exec::present()) return f.template operator()<8>();
#else
    (void)channels;
#endif
    f.template operator()<1>();
}

// Which item of which group, and which channel of it, a thread's i-th piece of work is.
struct Items {
    unsigned items, vectors, total;  // of a group; of an item; of all groups

    struct At {
        int group, item, channel;
    };
    template <int V>
    __device__ __forceinline__ At at(unsigned i) const {
        const unsigned rest = i / vectors, group = rest / items;
        return {static_cast<int>(group), static_cast<int>(rest - group * items),
                static_cast<int>(i - rest * vectors) * V};
    }
};

template <int V>
Items items_of(int groups, int64_t items, int64_t channels) {
    const int64_t vectors = channels / V, total = groups * items * vectors;
    return {static_cast<unsigned>(items), static_cast<unsigned>(vectors),
            static_cast<unsigned>(total)};
}

constexpr unsigned kPiece = 256;  // a block's
// 85 registers hold a tile of 6 x 6 and what it is made of, 128 one of 8 x 8; left to itself ptxas
// takes half as many again to load all at once.
template <int kEdge>
inline constexpr int kBlocksPerSM = kEdge > 6 ? 2 : 3;

inline LaunchShape items_shape(const Items& w, cudaStream_t stream) {
    return {dim3(static_cast<unsigned>(ceil_div(w.total, kPiece))),
            dim3(static_cast<unsigned>(std::min<int>(plan_overrides.stream_threads, kPiece))),
            stream};
}

template <class F>
__device__ __forceinline__ void for_each_item(const Items& w, F&& f) {
    const unsigned first = blockIdx.x * kPiece, end = min(first + kPiece, w.total);
    for (unsigned i = first + threadIdx.x; i < end; i += blockDim.x) f(i);
}

// Tiles of an image stack, every kOut pixels from (row0, col0) on, which may lie in the padding.
struct Tiles {
    const float* images;
    int h, w, pitch, channels;    // pitch: of a pixel; channels: of a group
    int tiles_h, tiles_w, first;  // first: tile
    int row0, col0;

    // An image has fewer than 2^30 elements: offsets in it take one register.
    struct Place {
        const float* image;  // from the channel on
        int row, col;
        int corner;   // of the tile, in the image or outside
        bool exists;  // the channel
    };
    __device__ __forceinline__ Place place(const Items::At& at) const {
        const int tile = first + at.item, line = tile / tiles_w, image = line / tiles_h,
                  row = (line - image * tiles_h) * kOut + row0,
                  col = (tile - line * tiles_w) * kOut + col0;
        return {images + (static_cast<int64_t>(image) * h * w * pitch + at.group * channels +
                          at.channel),
                row, col, (row * w + col) * pitch, at.channel < channels};
    }
    template <int V>
    __device__ __forceinline__ Vec<V> load(const Place& at, int a, int b) const {
        if (!at.exists || static_cast<unsigned>(at.row + a) >= static_cast<unsigned>(h) ||
            static_cast<unsigned>(at.col + b) >= static_cast<unsigned>(w))
            return splat<V>(0);
        return wt::load<V>(at.image + (at.corner + (a * w + b) * pitch));
    }
};

// Filters of R x R taps; Turned: by 180 degrees.
template <int R, bool Turned>
struct Filters {
    const float* w;
    int filters, channels;  // of a group

    struct Place {
        const float* first;
        bool exists;
    };
    __device__ __forceinline__ Place place(const Items::At& at) const {
        const int64_t filter = static_cast<int64_t>(at.group) * filters + at.item;
        return {w + filter * R * R * channels + at.channel, at.channel < channels};
    }
    template <int V>
    __device__ __forceinline__ Vec<V> load(const Place& at, int a, int b) const {
        if (!at.exists) return splat<V>(0);
        const int tap = a * R + b;
        return wt::load<V>(at.first + (Turned ? R * R - 1 - tap : tap) * channels);
    }
};

// T is B^T or G, of n rows.
template <class T, int V, class Source>
__global__ void __launch_bounds__(kPiece, kBlocksPerSM<T::matrix.kRows>)
    to_planes_kernel(Source source, Items work, int64_t plane, float* to) {
    constexpr int kIn = T::matrix.kCols, kEdge = T::matrix.kRows;
    for_each_item(
        work, [&](unsigned i) __attribute__((always_inline)) {
            const auto at = source.place(work.at<V>(i));
            Vec<V> half[kEdge][kIn];  // transformed along columns
            unroll<kIn>([&](auto b) {
                Vec<V> in[kIn], out[kEdge];
                unroll<kIn>([&](auto a) { in[a] = source.template load<V>(at, a, b); });
                winograd::transform<T>(in, out);
                unroll<kEdge>([&](auto a) { half[a][b] = out[a]; });
            });
            float* first = to + static_cast<int64_t>(i) * V;
            unroll<kEdge>([&](auto a) {
                Vec<V> out[kEdge];
                winograd::transform<T>(half[a], out);
                unroll<kEdge>([&](auto b) { store(first + (a * kEdge + b) * plane, out[b]); });
            });
        });
}

template <class T, int V, class Source>
void to_planes(const char* name, const Source& source, int groups, int64_t items, int64_t channels,
               float* to, cudaStream_t stream) {
    const Items work = items_of<V>(groups, items, channels);
    launch(name, items_shape(work, stream), to_planes_kernel<T, V, Source>, source, work,
           groups * items * channels, to);
}

// Planes that `splits` products have each written a part of: [plane, group, split, item, channel].
struct Planes {
    const float* values;
    int groups, splits;
    int64_t size;   // of one matrix: items x padded channels
    int64_t pitch;  // padded channels
};

// Column b of a tile of kEdge x kEdge, the sum over the splits: of one at a time all of the column,
// so that as many loads are under way.
template <int kEdge, int V>
__device__ __forceinline__ void load_column(const Planes& from, const float* first, int64_t plane,
                                            int b, Vec<V> (&column)[kEdge]) {
    unroll<kEdge>([&](auto a) { column[a] = load<V>(first + (a * kEdge + b) * plane); });
#pragma unroll 1
    for (int s = 1; s < from.splits; ++s) {
        first += from.size;
        unroll<kEdge>(
            [&](auto a) { column[a] = column[a] + load<V>(first + (a * kEdge + b) * plane); });
    }
}

// T is A^T.
template <class T, int V, class Sink>
__global__ void __launch_bounds__(kPiece, kBlocksPerSM<T::matrix.kCols>)
    from_planes_kernel(Planes from, Items work, Sink sink) {
    constexpr int kOutputs = T::matrix.kRows, kEdge = T::matrix.kCols;
    for_each_item(
        work, [&](unsigned i) __attribute__((always_inline)) {
            const Items::At at = work.at<V>(i);
            const int64_t matrix = from.splits * from.size, plane = from.groups * matrix;
            const float* first =
                from.values + (at.group * matrix + at.item * from.pitch + at.channel);
            Vec<V> half[kOutputs][kEdge];
            unroll<kEdge>([&](auto b) {
                Vec<V> in[kEdge], out[kOutputs];
                load_column(from, first, plane, b, in);
                winograd::transform_back<T>(in, out);
                unroll<kOutputs>([&](auto a) { half[a][b] = out[a]; });
            });
            const auto place = sink.place(at);
            unroll<kOutputs>([&](auto a) {
                Vec<V> out[kOutputs];
                winograd::transform_back<T>(half[a], out);
                unroll<kOutputs>([&](auto b) { sink.template put<V>(place, a, b, out[b]); });
            });
        });
}

template <class T, int V, class Sink>
void from_planes(const char* name, const Planes& from, int64_t items, int64_t channels,
                 const Sink& sink, cudaStream_t stream) {
    const Items work = items_of<V>(from.groups, items, channels);
    launch(name, items_shape(work, stream), from_planes_kernel<T, V, Sink>, from, work, sink);
}

}  // namespace wt::conv_winograd
