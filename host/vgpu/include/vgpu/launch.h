// How a kernel's parameter types reach the grid runner: a Signature per parameter list.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <type_traits>
#include <utility>

#include "driver_types.h"
#include "vgpu/device.h"  // next_thread

namespace vgpu {

struct Parameter {
    uint32_t offset, size;  // bytes, within the block of arguments
    bool pointer;           // to data: then it must be null or memory that kernels can use
};

struct Signature {
    void (*loop)(const void* kernel, const void* args);  // Grid::loop
    const Parameter* parameters;
    uint32_t count;
    uint32_t bytes, align;  // of the block of arguments
};

namespace detail {

template <class... P>
struct Layout {
    static_assert((std::is_trivially_copyable_v<P> && ...),
                  "kernel parameters are copied as bytes");
    std::array<Parameter, sizeof...(P) + 1> at{};
    uint32_t bytes = 0, align = 8;
    constexpr Layout() {
        constexpr uint32_t size[] = {uint32_t(sizeof(P))..., 0},
                           aligned[] = {uint32_t(alignof(P))..., 1};
        constexpr bool pointer[] = {
            (std::is_pointer_v<P> && !std::is_function_v<std::remove_pointer_t<P>>)..., false};
        for (size_t i = 0; i < sizeof...(P); ++i) {
            bytes = (bytes + aligned[i] - 1) / aligned[i] * aligned[i];
            at[i] = {bytes, size[i], pointer[i]};
            bytes += size[i];
            align = aligned[i] > align ? aligned[i] : align;
        }
    }
};
template <class... P>
inline constexpr Layout<P...> layout{};

template <class... P>
void loop(const void* kernel, const void* args) {
    const auto f = reinterpret_cast<void (*)(P...)>(const_cast<void*>(kernel));
    const auto bytes = static_cast<const std::byte*>(args);
    [&]<size_t... I>(std::index_sequence<I...>) {
        while (next_thread())
            f(*reinterpret_cast<const std::remove_cv_t<P>*>(
                bytes + layout<std::remove_cv_t<P>...>.at[I].offset)...);
    }
    (std::index_sequence_for<P...>());
}

}  // namespace detail

template <class... P>
inline constexpr Signature signature{
    &detail::loop<P...>, detail::layout<std::remove_cv_t<P>...>.at.data(), sizeof...(P),
    detail::layout<std::remove_cv_t<P>...>.bytes, detail::layout<std::remove_cv_t<P>...>.align};

// Checks the launch and queues it; `args` points to one converted argument per parameter.
cudaError_t launch(const cudaLaunchConfig_t& config, const void* kernel, const Signature& signature,
                   const void* const* args);

// Remembers a kernel's parameter types for cudaLaunchKernelExC.
void know(const void* kernel, const Signature& signature);

}  // namespace vgpu
