#include "kernels/tile/tensor_map.h"

#include <cuda_runtime.h>

#include <string>

#include "host/cuda/check.h"

namespace wt {
namespace {

#ifdef VGPU
constexpr auto encode_tiled = cuTensorMapEncodeTiled;
constexpr auto encode_im2col = cuTensorMapEncodeIm2col;
#else
// The driver's function of this name, as CUDA 12.0 has it.
void* driver_function(const char* name) {
    void* f = nullptr;
    cudaDriverEntryPointQueryResult found{};
#if CUDART_VERSION >= 12050
    WT_CUDA(cudaGetDriverEntryPointByVersion(name, &f, 12000, cudaEnableDefault, &found));
#else
    WT_CUDA(cudaGetDriverEntryPoint(name, &f, cudaEnableDefault, &found));
#endif
    if (found != cudaDriverEntryPointSuccess || !f)
        throw Error(std::string("the GPU's driver has no ") + name +
                    "; it must be of CUDA 12.0 or later");
    return f;
}
template <class... A>
CUresult encode_tiled(A... a) {
    static const auto f = reinterpret_cast<decltype(&cuTensorMapEncodeTiled)>(
        driver_function("cuTensorMapEncodeTiled"));
    return f(a...);
}
template <class... A>
CUresult encode_im2col(A... a) {
    static const auto f = reinterpret_cast<decltype(&cuTensorMapEncodeIm2col)>(
        driver_function("cuTensorMapEncodeIm2col"));
    return f(a...);
}
#endif

CUtensorMapDataType type_of(DType t) {
    return t == DType::f32 ? CU_TENSOR_MAP_DATA_TYPE_FLOAT32 : CU_TENSOR_MAP_DATA_TYPE_BFLOAT16;
}

CUtensorMapSwizzle swizzle_of(int bytes) {
    switch (bytes) {
        case 0: return CU_TENSOR_MAP_SWIZZLE_NONE;
        case 32: return CU_TENSOR_MAP_SWIZZLE_32B;
        case 64: return CU_TENSOR_MAP_SWIZZLE_64B;
        case 128: return CU_TENSOR_MAP_SWIZZLE_128B;
        default:
            throw Error("a tensor map's swizzle is of 0, 32, 64 or 128 bytes, not " +
                        std::to_string(bytes));
    }
}

template <class T>
std::string list(const std::vector<T>& v) {
    std::string s;
    for (const T& x : v) s += (s.empty() ? "" : " x ") + std::to_string(x);
    return s;
}

// Results of driver calls have the runtime's numbers, and so its names and texts.
void check(CUresult r, const std::string& what) {
    if (r == CUDA_SUCCESS) return;
    const auto e = static_cast<cudaError_t>(r);
    throw Error(what + ": " + cudaGetErrorName(e) + " (" + cudaGetErrorString(e) + ")");
}

void expect_filled(int swizzle, size_t inner, const std::string& what) {
    if (swizzle && inner != static_cast<size_t>(swizzle))
        throw Error(what + ": its rows have " + std::to_string(inner) +
                    " bytes, which must be the swizzle's " + std::to_string(swizzle));
}

}  // namespace

CUtensorMap tiled_map(DType t, const void* base, const std::vector<uint64_t>& dims,
                      const std::vector<uint64_t>& strides, const std::vector<uint32_t>& box,
                      int swizzle) {
    const std::string what =
        "tensor map of " + list(dims) + " " + name_of(t) + ", box " + list(box);
    if (dims.empty() || dims.size() > 5 || box.size() != dims.size() ||
        strides.size() != dims.size() - 1)
        throw Error(what + ": needs 1 to 5 extents, as many of the box, and one stride less");
    expect_filled(swizzle, box[0] * size_of(t), what);
    const cuuint32_t steps[] = {1, 1, 1, 1, 1};
    // not the result itself: g++ 12 does not align a result that the caller drops
    CUtensorMap map;
    check(encode_tiled(&map, type_of(t), static_cast<cuuint32_t>(dims.size()),
                       const_cast<void*>(base), reinterpret_cast<const cuuint64_t*>(dims.data()),
                       reinterpret_cast<const cuuint64_t*>(strides.data()), box.data(), steps,
                       CU_TENSOR_MAP_INTERLEAVE_NONE, swizzle_of(swizzle),
                       CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
          what + ", strides " + list(strides) + " bytes");
    return CUtensorMap(map);
}

CUtensorMap im2col_map(DType t, const void* base, const Im2col& p) {
    const std::string what =
        "im2col map of " + list<int64_t>({p.n, p.h, p.w, p.c}) + " " + name_of(t) + " (pitch " +
        std::to_string(p.pitch) + "), corners " + list<int>({p.lower_h, p.lower_w}) + " and " +
        list<int>({p.upper_h, p.upper_w}) + ", strides " + list<int>({p.stride_h, p.stride_w}) +
        ", " + std::to_string(p.pixels) + " pixels of " + std::to_string(p.channels);
    if (p.n < 1 || p.h < 1 || p.w < 1 || p.c < 1 || p.pitch < p.c || p.channels < 1 ||
        p.pixels < 1 || p.stride_h < 1 || p.stride_w < 1)
        throw Error(what + ": extents must be positive, the pitch at least the channels");
    expect_filled(p.swizzle, p.channels * size_of(t), what);
    const auto u64 = [](int64_t v) { return static_cast<cuuint64_t>(v); };
    const auto u32 = [](int v) { return static_cast<cuuint32_t>(v); };
    const cuuint64_t pixel = u64(p.pitch) * size_of(t);
    const cuuint64_t dims[] = {u64(p.c), u64(p.w), u64(p.h), u64(p.n)},
                     strides[] = {pixel, pixel * dims[1], pixel * dims[1] * dims[2]};
    const int lower[] = {p.lower_w, p.lower_h}, upper[] = {p.upper_w, p.upper_h};
    const cuuint32_t steps[] = {1, u32(p.stride_w), u32(p.stride_h), 1};
    CUtensorMap map;
    check(encode_im2col(&map, type_of(t), 4u, const_cast<void*>(base), dims, strides, lower, upper,
                        u32(p.channels), u32(p.pixels), steps, CU_TENSOR_MAP_INTERLEAVE_NONE,
                        swizzle_of(p.swizzle), CU_TENSOR_MAP_L2_PROMOTION_L2_256B,
                        CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE),
          what);
    return CUtensorMap(map);
}

}  // namespace wt
