// Tensor maps: the driver's two calls with its checks, and the copies that TMA makes of them (PTX
// 5.5).
//
// A copy goes row by row, a row being the box's elements along dimension 0: some 5 ns for 128 bytes
// in the cache.
#include "host/vgpu/ptx/tensor_map.h"

#include <cuda.h>

#include <algorithm>
#include <cstring>
#include <string>

#include "host/vgpu/runtime/runtime.h"

namespace vgpu {
namespace {

constexpr uint32_t kRowMax = 256 * 8;  // bytes of a box along dimension 0
constexpr uint64_t kPage = 4096;
constexpr uint32_t kLine = 64;  // of the CPU's cache

// A row's bytes into (or out of) its place in a shared image, whose address the swizzle looks at.
// The usual sizes for themselves: a loop that is not unrolled costs more than the copy, and so does
// a call of memcpy.
template <uint32_t kBytes>
inline void move_row(char* to, const char* from, uint32_t flip_to, uint32_t flip_from) {
#pragma GCC unroll 8
    for (uint32_t c = 0; c < kBytes; c += 16)
        std::memcpy(to + (c ^ flip_to), from + (c ^ flip_from), 16);
}
inline void move_row(char* to, const char* from, uint32_t bytes, uint32_t flip_to,
                     uint32_t flip_from) {
    if (bytes == 128) return move_row<128>(to, from, flip_to, flip_from);
    if (bytes == 64) return move_row<64>(to, from, flip_to, flip_from);
    if (bytes == 32) return move_row<32>(to, from, flip_to, flip_from);
    if (bytes == 16) return move_row<16>(to, from, flip_to, flip_from);
    if (!flip_to && !flip_from) return static_cast<void>(std::memcpy(to, from, bytes));
    for (uint32_t c = 0; c < bytes; c += 16)
        std::memcpy(to + (c ^ flip_to), from + (c ^ flip_from), 16);
}
inline uint32_t flip(uint32_t address, unsigned swizzle) { return (address >> 7 & swizzle) << 4; }

// Which elements of [first, first + count) exist: [low, high) of 0 .. count.
struct Span {
    uint32_t low, high;
};
inline Span existing(int64_t first, uint32_t count, uint32_t last) {
    const int64_t low = std::clamp<int64_t>(-first, 0, count),
                  high = std::clamp<int64_t>(int64_t{last} + 1 - first, low, count);
    return {static_cast<uint32_t>(low), static_cast<uint32_t>(high)};
}

// Calls row(index, address or null) for every row of a box: null where the row lies outside the
// tensor.
template <class Row>
inline void each_row(const TensorMap& m, const int32_t* at, Row row) {
    int64_t x[5] = {};
    uint32_t count[5] = {1, 1, 1, 1, 1}, i[5] = {};
    for (int d = 1; d < m.rank; ++d) {
        x[d] = at[d];
        count[d] = (m.box[d] + m.step[d] - 1u) / m.step[d];
    }
    for (uint32_t r = 0;; ++r) {
        bool in = true;
        uint64_t p = m.base;
        for (int d = 1; d < m.rank; ++d) {
            in &= x[d] >= 0 && x[d] <= int64_t{m.last[d]};
            p += static_cast<uint64_t>(x[d]) * m.stride[d - 1];
        }
        row(r, in ? reinterpret_cast<char*>(p) : nullptr);
        int d = 1;
        for (; d < m.rank; ++d) {
            x[d] += m.step[d];
            if (++i[d] < count[d]) break;
            i[d] = 0;
            x[d] = at[d];
        }
        if (d >= m.rank) return;
    }
}

// Calls row(index, address or null) for every pixel of a column.
template <class Row>
inline void each_pixel(const TensorMap& m, const Im2colPlace& p, Row row) {
    const int64_t last_w = int64_t{m.last[1]} + m.upper[0],
                  last_h = int64_t{m.last[2]} + m.upper[1];
    int64_t w = p.w, h = p.h, n = p.n;
    for (uint32_t pixel = 0; pixel < m.box[1]; ++pixel) {
        const int64_t x = w + p.offset_w, y = h + p.offset_h;
        const bool exists = x >= 0 && x <= int64_t{m.last[1]} && y >= 0 &&
                            y <= int64_t{m.last[2]} && n >= 0 && n <= int64_t{m.last[3]};
        row(pixel,
            exists
                ? reinterpret_cast<const char*>(m.base) + x * static_cast<int64_t>(m.stride[0]) +
                      y * static_cast<int64_t>(m.stride[1]) + n * static_cast<int64_t>(m.stride[2])
                : nullptr);
        if ((w += m.step[1]) <= last_w) continue;
        w = m.lower[0];
        if ((h += m.step[2]) <= last_h) continue;
        h = m.lower[1];
        ++n;
    }
}

// The shared row of `count` elements from x on of a tensor's row (null: one outside the tensor).
inline void read_row(const TensorMap& m, const char* from, int64_t x, uint32_t count, Span in,
                     char* to, uint32_t address) {
    const uint32_t bytes = count * m.element;
    if (from && in.high - in.low == count)
        return move_row(to, from + x * m.element, bytes, flip(address, m.swizzle), 0);
    alignas(16) char row[kRowMax];
    std::memset(row, m.fill, bytes);
    if (from && in.high > in.low)
        std::memcpy(row + in.low * m.element, from + (x + in.low) * m.element,
                    (in.high - in.low) * m.element);
    move_row(to, row, bytes, flip(address, m.swizzle), 0);
}

}  // namespace

bool decode(const CUtensorMap_st& map, TensorMap& m) {
    std::memcpy(static_cast<void*>(&m), &map, sizeof m);
    return m.magic == TensorMap::kMagic;
}

void read_box(const TensorMap& m, const int32_t* at, char* image, uint32_t address) {
    const uint32_t count = m.box[0], bytes = count * m.element;
    const Span in = existing(at[0], count, m.last[0]);
    // The box to the right is often the next one, and where rows lie pages apart no prefetcher of
    // the CPU sees it coming.
    const uint32_t ahead = m.rank > 1 && m.stride[0] >= kPage ? bytes : 0;
    each_row(m, at, [&](uint32_t r, const char* from) {
        if (from)
            for (uint32_t line = 0; line < ahead; line += kLine)
                __builtin_prefetch(from + (int64_t{at[0]} * m.element + bytes + line), 0, 2);
        read_row(m, from, at[0], count, in, image + r * bytes, address + r * bytes);
    });
}

void write_box(const TensorMap& m, const int32_t* at, const char* image, uint32_t address) {
    const uint32_t count = m.box[0], bytes = count * m.element;
    const Span in = existing(at[0], count, m.last[0]);
    if (in.low == in.high) return;
    alignas(16) char row[kRowMax];
    each_row(m, at, [&](uint32_t r, char* to) {
        if (!to) return;
        const char* from = image + r * bytes;
        const uint32_t swizzled = flip(address + r * bytes, m.swizzle);
        if (in.high - in.low == count)
            return move_row(to + int64_t{at[0]} * m.element, from, bytes, 0, swizzled);
        move_row(row, from, bytes, 0, swizzled);
        std::memcpy(to + (int64_t{at[0]} + in.low) * m.element, row + in.low * m.element,
                    (in.high - in.low) * m.element);
    });
}

void read_columns(const TensorMap& m, const Im2colPlace& p, char* image, uint32_t address) {
    const uint32_t count = m.box[0], bytes = count * m.element;
    const Span in = existing(p.c, count, m.last[0]);
    each_pixel(m, p, [&](uint32_t r, const char* from) {
        read_row(m, from, p.c, count, in, image + r * bytes, address + r * bytes);
    });
}

void each_run(const TensorMap& m, const int32_t* at, const Run& run) {
    const Span in = existing(at[0], m.box[0], m.last[0]);
    if (in.low == in.high) return;
    each_row(m, at, [&](uint32_t, const char* from) {
        if (from) run(from + (int64_t{at[0]} + in.low) * m.element, (in.high - in.low) * m.element);
    });
}

void each_run(const TensorMap& m, const Im2colPlace& p, const Run& run) {
    const Span in = existing(p.c, m.box[0], m.last[0]);
    if (in.low == in.high) return;
    each_pixel(m, p, [&](uint32_t, const char* from) {
        if (from) run(from + (int64_t{p.c} + in.low) * m.element, (in.high - in.low) * m.element);
    });
}

// ---- what the driver checks ---------------------------------------------------------------------

namespace {

constexpr int kElementBytes[] = {1, 2, 4, 4, 8, 8, 2, 4, 8, 2, 4, 4, 4};
constexpr bool kFloat[] = {false, false, false, false, false, false, true,
                           true,  true,  true,  true,  true,  true};

struct Description {
    CUtensorMapDataType type;
    cuuint32_t rank;
    void* address;
    const cuuint64_t* dims;
    const cuuint64_t* strides;
    const cuuint32_t* element_strides;
    CUtensorMapInterleave interleave;
    CUtensorMapSwizzle swizzle;
    CUtensorMapL2promotion promotion;
    CUtensorMapFloatOOBfill fill;
};

std::string no(const char* name, uint64_t i, uint64_t value, const char* rule) {
    return std::string(name) + '[' + std::to_string(i) + "] = " + std::to_string(value) + ": " +
           rule;
}

// Fills what both kinds share. `inner`: elements of the box along dimension 0. Empty when nothing
// is wrong.
std::string describe(const Description& d, uint32_t inner, TensorMap& m) {
    if (d.type < 0 || d.type > CU_TENSOR_MAP_DATA_TYPE_TFLOAT32_FTZ) return "unknown data type";
    if (!d.address || reinterpret_cast<uint64_t>(d.address) % 16)
        return "the tensor's address must be a multiple of 16";
    if (!d.dims || !d.element_strides || (d.rank > 1 && !d.strides)) return "null array";
    if (d.interleave != CU_TENSOR_MAP_INTERLEAVE_NONE)
        return "virtual GPUs have no interleaved tensors";
    if (d.swizzle < 0 || d.swizzle > CU_TENSOR_MAP_SWIZZLE_128B) return "unknown swizzle";
    if (d.promotion < 0 || d.promotion > CU_TENSOR_MAP_L2_PROMOTION_L2_256B)
        return "unknown L2 promotion";
    if (d.fill < 0 || d.fill > CU_TENSOR_MAP_FLOAT_OOB_FILL_NAN_REQUEST_ZERO_FMA)
        return "unknown fill";
    if (d.fill && !kFloat[d.type])
        return "NaNs outside of a tensor that is not of floating-point numbers";
    m = {};
    m.magic = TensorMap::kMagic;
    m.base = reinterpret_cast<uint64_t>(d.address);
    m.rank = static_cast<uint8_t>(d.rank);
    m.element = static_cast<uint8_t>(kElementBytes[d.type]);
    m.fill = d.fill ? 0xff : 0;
    for (uint32_t i = 0; i < d.rank; ++i) {
        if (d.dims[i] == 0 || d.dims[i] > uint64_t{1} << 32)
            return no("globalDim", i, d.dims[i], "must be 1 to 2^32");
        if (d.element_strides[i] == 0 || d.element_strides[i] > 8)
            return no("elementStrides", i, d.element_strides[i], "must be 1 to 8");
        m.last[i] = static_cast<uint32_t>(d.dims[i] - 1);
        m.step[i] = static_cast<uint8_t>(i ? d.element_strides[i] : 1);
        if (i == 0) continue;
        const uint64_t stride = d.strides[i - 1];
        if (stride % 16 || stride >= uint64_t{1} << 40)
            return no("globalStrides", i - 1, stride, "must be a multiple of 16 below 2^40");
        m.stride[i - 1] = stride;
        m.extent += (d.dims[i] - 1) * stride;
    }
    m.extent += d.dims[0] * m.element;
    const uint32_t bytes = inner * m.element;
    if (bytes % 16)
        return "the box has " + std::to_string(bytes) +
               " bytes along dimension 0: must be a multiple of 16";
    if (d.swizzle) {
        const uint32_t span = 16u << d.swizzle;
        m.swizzle = static_cast<uint8_t>((1u << d.swizzle) - 1);
        if (bytes > span)
            return "the box has " + std::to_string(bytes) +
                   " bytes along dimension 0, more than the swizzle's " + std::to_string(span);
        if (bytes < span)
            return "the box has " + std::to_string(bytes) +
                   " bytes along dimension 0, the swizzle " + std::to_string(span) +
                   ": where such rows lie is not documented, so virtual GPUs refuse them";
    }
    return {};
}

CUresult answer(CUtensorMap* map, const char* call, const TensorMap& m, const std::string& why) {
    if (!why.empty()) {
        explain(cudaErrorInvalidValue, std::string(call) + ": " + why);
        return CUDA_ERROR_INVALID_VALUE;
    }
    *map = {};
    std::memcpy(static_cast<void*>(map), &m, sizeof m);
    return CUDA_SUCCESS;
}

std::string tiled(const Description& d, const cuuint32_t* box, TensorMap& m) {
    if (d.rank < 1 || d.rank > 5) return "tensors have 1 to 5 dimensions";
    if (!box) return "null array";
    for (uint32_t i = 0; i < d.rank; ++i)
        if (box[i] == 0 || box[i] > 256) return no("boxDim", i, box[i], "must be 1 to 256");
    if (std::string why = describe(d, box[0], m); !why.empty()) return why;
    uint64_t bytes = m.element;
    for (uint32_t i = 0; i < d.rank; ++i) {
        m.box[i] = static_cast<uint16_t>(box[i]);
        bytes *= (box[i] + m.step[i] - 1) / m.step[i];
    }
    // more than any block has: found when it is used
    m.bytes = static_cast<uint32_t>(std::min<uint64_t>(bytes, ~0u));
    return {};
}

std::string im2col(const Description& d, const int* lower, const int* upper, cuuint32_t channels,
                   cuuint32_t pixels, TensorMap& m) {
    if (d.rank != 4)
        return d.rank < 3 || d.rank > 5 ? "im2col needs tensors of 3 to 5 dimensions"
                                        : "virtual GPUs have im2col of 4 dimensions only";
    if (!lower || !upper) return "null array";
    if (channels == 0 || channels > 256) return "channelsPerPixel must be 1 to 256";
    if (pixels == 0 || pixels > 1024) return "pixelsPerColumn must be 1 to 1024";
    if (std::string why = describe(d, channels, m); !why.empty()) return why;
    for (int i = 0; i < 2; ++i) {
        if (std::min(lower[i], upper[i]) < -128 || std::max(lower[i], upper[i]) > 127)
            return "the box's corners must be -128 to 127";
        if (lower[i] > int64_t{m.last[i + 1]} + upper[i]) return "the bounding box is empty";
        m.lower[i] = static_cast<int8_t>(lower[i]);
        m.upper[i] = static_cast<int8_t>(upper[i]);
    }
    m.im2col = true;
    m.box[0] = static_cast<uint16_t>(channels);
    m.box[1] = static_cast<uint16_t>(pixels);
    m.bytes = channels * pixels * m.element;
    return {};
}

}  // namespace
}  // namespace vgpu

CUresult cuTensorMapEncodeTiled(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank,
                                void* address, const cuuint64_t* dims, const cuuint64_t* strides,
                                const cuuint32_t* box, const cuuint32_t* element_strides,
                                CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
    vgpu::TensorMap m;
    std::string why =
        !map || reinterpret_cast<uintptr_t>(map) % 64 ? "the map must be aligned to 64 bytes" : "";
    if (why.empty())
        why = vgpu::tiled({type, rank, address, dims, strides, element_strides, interleave, swizzle,
                           promotion, fill},
                          box, m);
    return vgpu::answer(map, "cuTensorMapEncodeTiled", m, why);
}

CUresult cuTensorMapEncodeIm2col(CUtensorMap* map, CUtensorMapDataType type, cuuint32_t rank,
                                 void* address, const cuuint64_t* dims, const cuuint64_t* strides,
                                 const int* lower, const int* upper, cuuint32_t channels,
                                 cuuint32_t pixels, const cuuint32_t* element_strides,
                                 CUtensorMapInterleave interleave, CUtensorMapSwizzle swizzle,
                                 CUtensorMapL2promotion promotion, CUtensorMapFloatOOBfill fill) {
    vgpu::TensorMap m;
    std::string why =
        !map || reinterpret_cast<uintptr_t>(map) % 64 ? "the map must be aligned to 64 bytes" : "";
    if (why.empty())
        why = vgpu::im2col({type, rank, address, dims, strides, element_strides, interleave,
                            swizzle, promotion, fill},
                           lower, upper, channels, pixels, m);
    return vgpu::answer(map, "cuTensorMapEncodeIm2col", m, why);
}
