// TMA: boxes and im2col columns of every swizzle against their definition, element by element; 1-D
// copies; groups.
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "host/cuda/buffer.h"
#include "host/cuda/device.h"
#include "host/cuda/stream.h"
#include "kernels/launch.h"
#include "kernels/ptx/tma.h"
#include "kernels/tile/tensor_map.h"
#include "test/seeds.h"

namespace {

using namespace wt;
using test::SeedGuard;
using test::seeds;

bool too_old() {
    if (const int sm = device_sm(0); sm && sm < 90) {
        MESSAGE("skip: TMA needs sm_90, this is sm_", sm);
        return true;
    }
    return false;
}

// ---- kernels: one copy into shared memory at `offset`, out again byte by byte -------------------

struct Place {
    int32_t c[4];
    uint32_t offset, bytes;  // of shared memory
};

struct Box {
    alignas(1024) unsigned char bytes[64 * 1024];
    ptx::Mbarrier bar;
};

template <int kDims>
__global__ void load_box(const __grid_constant__ CUtensorMap map, Place p, unsigned char* out) {
    Box& s = shared_storage<Box>();
    for (uint32_t i = threadIdx.x; i < sizeof s.bytes; i += blockDim.x) s.bytes[i] = 0xcd;
    if (threadIdx.x == 0) ptx::mbarrier_init(s.bar, 1);
    ptx::fence_proxy_async();
    __syncthreads();
    if (threadIdx.x == 0) {
        ptx::mbarrier_arrive_expect_tx(s.bar, p.bytes);
        if constexpr (kDims == 2) ptx::tma_load(s.bytes + p.offset, map, s.bar, p.c[0], p.c[1]);
        if constexpr (kDims == 3)
            ptx::tma_load(s.bytes + p.offset, map, s.bar, p.c[0], p.c[1], p.c[2]);
        if constexpr (kDims == 4)
            ptx::tma_load(s.bytes + p.offset, map, s.bar, p.c[0], p.c[1], p.c[2], p.c[3]);
    }
    ptx::mbarrier_wait(s.bar, 0);
    for (uint32_t i = threadIdx.x; i < sizeof s.bytes; i += blockDim.x) out[i] = s.bytes[i];
}

template <int kDims>
__global__ void store_box(const __grid_constant__ CUtensorMap map, Place p,
                          const unsigned char* in) {
    Box& s = shared_storage<Box>();
    for (uint32_t i = threadIdx.x; i < sizeof s.bytes; i += blockDim.x) s.bytes[i] = in[i];
    ptx::fence_proxy_async();
    __syncthreads();
    if (threadIdx.x == 0) {
        if constexpr (kDims == 2) ptx::tma_store(map, s.bytes + p.offset, p.c[0], p.c[1]);
        if constexpr (kDims == 3) ptx::tma_store(map, s.bytes + p.offset, p.c[0], p.c[1], p.c[2]);
        if constexpr (kDims == 4)
            ptx::tma_store(map, s.bytes + p.offset, p.c[0], p.c[1], p.c[2], p.c[3]);
        ptx::bulk_commit();
        ptx::bulk_wait<0>();
    }
}

struct Tap {
    int32_t c, w, h, n;
    uint16_t offset_w, offset_h;
    uint32_t offset, bytes;
};

__global__ void load_columns(const __grid_constant__ CUtensorMap map, Tap p, unsigned char* out) {
    Box& s = shared_storage<Box>();
    for (uint32_t i = threadIdx.x; i < sizeof s.bytes; i += blockDim.x) s.bytes[i] = 0xcd;
    if (threadIdx.x == 0) ptx::mbarrier_init(s.bar, 1);
    ptx::fence_proxy_async();
    __syncthreads();
    if (threadIdx.x == 0) {
        ptx::mbarrier_arrive_expect_tx(s.bar, p.bytes);
        ptx::tma_load_im2col(s.bytes + p.offset, map, s.bar, p.c, p.w, p.h, p.n, p.offset_w,
                             p.offset_h);
    }
    ptx::mbarrier_wait(s.bar, 0);
    for (uint32_t i = threadIdx.x; i < sizeof s.bytes; i += blockDim.x) out[i] = s.bytes[i];
}

// ---- the definition -----------------------------------------------------------------------------

uint32_t swizzled(uint32_t address, int span) {
    const uint32_t bits = span == 128 ? 7 : span == 64 ? 3 : span == 32 ? 1 : 0;
    return address ^ (address >> 7 & bits) << 4;
}

struct Tensor {
    DType type;
    std::vector<uint64_t> dims, strides;
    std::vector<uint32_t> box;
    int swizzle;
    uint64_t bytes() const {
        uint64_t n = dims[0] * size_of(type);
        for (size_t d = 1; d < dims.size(); ++d) n += (dims[d] - 1) * strides[d - 1];
        return (n + 15) / 16 * 16;
    }
    uint32_t box_bytes() const {
        uint32_t n = static_cast<uint32_t>(size_of(type));
        for (uint32_t b : box) n *= b;
        return n;
    }
    // Calls f(place in shared memory, place in the tensor or -1) for every byte of the box.
    template <class F>
    void each_byte(const Place& p, F f) const {
        const size_t e = size_of(type);
        const uint32_t elements = box_bytes() / static_cast<uint32_t>(e);
        for (uint32_t i = 0; i < elements; ++i) {
            uint32_t rest = i;
            int64_t at = 0;
            bool in = true;
            for (size_t d = 0; d < dims.size(); ++d) {
                const int64_t x = p.c[d] + int64_t{rest % box[d]};
                rest /= box[d];
                in = in && x >= 0 && x < static_cast<int64_t>(dims[d]);
                at += x * static_cast<int64_t>(d ? strides[d - 1] : e);
            }
            for (uint32_t b = 0; b < e; ++b)
                f(swizzled(p.offset + i * static_cast<uint32_t>(e) + b, swizzle),
                  in ? at + b : int64_t{-1});
        }
    }
};

std::vector<unsigned char> some_bytes(size_t n, unsigned seed) {
    std::vector<unsigned char> v(n);
    unsigned x = seed * 2654435761u + 1;
    for (auto& b : v) {
        x = x * 1664525 + 1013904223;
        b = static_cast<unsigned char>(x >> 24);
    }
    return v;
}

template <class... A>
void run(const char* name, void (*kernel)(A...), const Stream& s, A... args) {
    launch(name, {1, 64, s.get(), sizeof(Box)}, kernel, args...);
}

// The byte at `swizzled(place)` holds what belongs to `place`.
void check_load(const Tensor& t, Place p) {
    p.bytes = t.box_bytes();
    const auto source = some_bytes(t.bytes(), 1);
    DeviceBuffer<unsigned char> global(0, source.size()), out(0, sizeof Box::bytes);
    global.upload(source);
    const CUtensorMap map = tiled_map(t.type, global.data(), t.dims, t.strides, t.box, t.swizzle);
    const Stream stream(0);
    const auto kernel = t.dims.size() == 2   ? load_box<2>
                        : t.dims.size() == 3 ? load_box<3>
                                             : load_box<4>;
    run("load_box", kernel, stream, map, p, out.data());
    stream.synchronize();
    std::vector<unsigned char> expected(sizeof Box::bytes, 0xcd);
    t.each_byte(p,
                [&](uint32_t shared, int64_t at) { expected[shared] = at < 0 ? 0 : source[at]; });
    CHECK(out.download() == expected);
}

void check_store(const Tensor& t, Place p) {
    p.bytes = t.box_bytes();
    const auto before = some_bytes(t.bytes(), 2), source = some_bytes(sizeof Box::bytes, 3);
    DeviceBuffer<unsigned char> global(0, before.size()), in(0, source.size());
    global.upload(before);
    in.upload(source);
    const CUtensorMap map = tiled_map(t.type, global.data(), t.dims, t.strides, t.box, t.swizzle);
    const Stream stream(0);
    const auto kernel = t.dims.size() == 2   ? store_box<2>
                        : t.dims.size() == 3 ? store_box<3>
                                             : store_box<4>;
    run("store_box", kernel, stream, map, p, static_cast<const unsigned char*>(in.data()));
    stream.synchronize();
    auto expected = before;
    t.each_byte(p, [&](uint32_t shared, int64_t at) {
        if (at >= 0) expected[at] = source[shared];
    });
    CHECK(global.download() == expected);
}

Tensor tensor(DType type, std::vector<uint64_t> dims, std::vector<uint32_t> box, int swizzle,
              uint64_t gap = 0) {
    Tensor t{type, dims, {}, box, swizzle};
    uint64_t stride = (dims[0] * size_of(type) + gap + 15) / 16 * 16;
    for (size_t d = 1; d < dims.size(); ++d) {
        t.strides.push_back(stride);
        stride *= dims[d];
        stride += gap;
    }
    return t;
}

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("ptx: tma: boxes are loaded as defined, zeros outside the tensor, every swizzle") {
    if (too_old()) return;
    for (const uint64_t seed : seeds(2)) {
        const SeedGuard guard(seed);
        CAPTURE(seed);
        for (const int swizzle : {0, 32, 64, 128}) {
            CAPTURE(swizzle);
            for (const DType type : {DType::bf16, DType::f32}) {
                const uint32_t inner =
                    static_cast<uint32_t>((swizzle ? swizzle : 48) / size_of(type));
                const Tensor flat = tensor(type, {50, 37}, {inner, 24}, swizzle, 32);
                for (const Place& p : {Place{{0, 0}, 0, 0},
                                       {{7, 5}, 1024, 0},
                                       {{-3, -2}, 2048 + 384, 0},
                                       {{45, 30}, 128, 0},
                                       {{60, -30}, 0, 0}})
                    check_load(flat, p);
                const Tensor solid = tensor(type, {33, 9, 7}, {inner, 5, 3}, swizzle);
                for (const Place& p :
                     {Place{{0, 0, 0}, 0, 0}, {{4, 6, 5}, 512, 0}, {{-1, -4, -1}, 896, 0}})
                    check_load(solid, p);
                const Tensor four = tensor(type, {40, 6, 5, 4}, {inner, 3, 4, 2}, swizzle, 16);
                for (const Place& p : {Place{{0, 0, 0, 0}, 0, 0},
                                       {{8, 2, 3, 3}, 256, 0},
                                       {{-5, -1, -3, -1}, 4096 + 640, 0}})
                    check_load(four, p);
            }
        }
    }
}

TEST_CASE("ptx: tma: boxes are stored as defined, nothing outside the tensor is touched") {
    if (too_old()) return;
    for (const uint64_t seed : seeds(3)) {
        const SeedGuard guard(seed);
        CAPTURE(seed);
        for (const int swizzle : {0, 32, 64, 128}) {
            CAPTURE(swizzle);
            const DType type = swizzle == 64 ? DType::f32 : DType::bf16;
            const uint32_t inner = static_cast<uint32_t>((swizzle ? swizzle : 48) / size_of(type));
            const Tensor flat = tensor(type, {50, 37}, {inner, 24}, swizzle, 32);
            for (const Place& p : {Place{{0, 0}, 0, 0}, {{45, 30}, 1024 + 128, 0}, {{50, 0}, 0, 0}})
                check_store(flat, p);
            const Tensor solid = tensor(type, {33, 9, 7}, {inner, 5, 3}, swizzle);
            for (const Place& p : {Place{{0, 0, 0}, 256, 0}, {{4, 6, 5}, 512, 0}})
                check_store(solid, p);
            const Tensor four = tensor(type, {40, 6, 5, 4}, {inner, 3, 4, 2}, swizzle, 16);
            for (const Place& p : {Place{{0, 0, 0, 0}, 0, 0}, {{8, 2, 3, 3}, 128, 0}})
                check_store(four, p);
        }
    }
}

namespace {

// A convolution's geometry, and every position of its output in order.
struct Convolution {
    int n, h, w, c, r, s, pad_top, pad_left, pad_bottom, pad_right, stride_h, stride_w;
    int p() const { return (h + pad_top + pad_bottom - r) / stride_h + 1; }
    int q() const { return (w + pad_left + pad_right - s) / stride_w + 1; }
};

void check_columns(const Convolution& g, int channels, int pixels, int first_channel, int pitch) {
    const int swizzle = channels * 2;
    const size_t pixels_in = static_cast<size_t>(g.n) * g.h * g.w;
    const auto source = some_bytes(pixels_in * pitch * 2, 5);
    DeviceBuffer<unsigned char> global(0, source.size()), out(0, sizeof Box::bytes);
    global.upload(source);
    Im2col m{};
    m.n = g.n, m.h = g.h, m.w = g.w, m.c = g.c, m.pitch = pitch;
    m.lower_h = -g.pad_top, m.lower_w = -g.pad_left;
    m.upper_h = g.pad_bottom - (g.r - 1), m.upper_w = g.pad_right - (g.s - 1);
    m.stride_h = g.stride_h, m.stride_w = g.stride_w;
    m.channels = channels, m.pixels = pixels, m.swizzle = swizzle;
    const CUtensorMap map = im2col_map(DType::bf16, global.data(), m);
    const Stream stream(0);
    const int positions = g.n * g.p() * g.q();
    int taps = 0;
    for (int first = 0; first < positions; first += pixels) {
        const int oq = first % g.q(), op = first / g.q() % g.p(), image = first / g.q() / g.p();
        for (int r = 0; r < g.r; ++r)
            for (int s = 0; s < g.s; ++s) {
                if ((r + s + first) % 3 && taps++ > 6) continue;  // some taps of every tile
                Tap t{first_channel,
                      oq * g.stride_w - g.pad_left,
                      op * g.stride_h - g.pad_top,
                      image,
                      static_cast<uint16_t>(s),
                      static_cast<uint16_t>(r),
                      1024,
                      static_cast<uint32_t>(channels * pixels * 2)};
                run("load_columns", load_columns, stream, map, t, out.data());
                stream.synchronize();
                std::vector<unsigned char> expected(sizeof Box::bytes, 0xcd);
                for (int i = 0; i < pixels; ++i) {
                    const int at = first + i, q = at % g.q(), p = at / g.q() % g.p(),
                              n = at / g.q() / g.p();
                    const int y = p * g.stride_h - g.pad_top + r,
                              x = q * g.stride_w - g.pad_left + s;
                    for (int c = 0; c < channels; ++c)
                        for (int b = 0; b < 2; ++b) {
                            const bool in = n < g.n && y >= 0 && y < g.h && x >= 0 && x < g.w &&
                                            first_channel + c < g.c;
                            const size_t from =
                                ((static_cast<size_t>(n) * g.h + y) * g.w + x) * pitch +
                                first_channel + c;
                            expected[swizzled(
                                t.offset + static_cast<uint32_t>((i * channels + c) * 2 + b),
                                swizzle)] = in ? source[from * 2 + b] : 0;
                        }
                }
                const bool equal = out.download() == expected;
                CHECK_MESSAGE(equal, "pixels from ", first, ", tap ", r, ",", s);
            }
    }
}

}  // namespace

TEST_CASE("ptx: tma: im2col's rows are the pixels under a filter's tap") {
    if (too_old()) return;
    for (const uint64_t seed : seeds(1)) {
        const SeedGuard guard(seed);
        CAPTURE(seed);
        check_columns({3, 7, 9, 64, 3, 3, 1, 1, 1, 1, 1, 1}, 64, 40, 0,
                      64);  // same padding, rows and images wrap
        check_columns({2, 6, 11, 32, 5, 3, 2, 0, 1, 2, 1, 1}, 32, 17, 0,
                      48);  // asymmetric; a group's slice of channels
        check_columns({2, 9, 8, 40, 3, 3, 1, 0, 0, 1, 2, 2}, 16, 13, 32,
                      40);  // stride 2, channels end inside the copy
        check_columns({3, 19, 15, 16, 11, 11, 2, 2, 2, 2, 4, 4}, 16, 9, 0,
                      16);  // as AlexNet's conv1
        check_columns({2, 5, 12, 64, 1, 1, 0, 0, 0, 0, 1, 2}, 64, 64, 0, 64);
        check_columns({4, 13, 13, 64, 3, 3, 1, 1, 1, 1, 1, 1}, 64, 128, 0, 64);
    }
}

TEST_SUITE_END();
