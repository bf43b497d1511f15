// Runs kernels on the virtual GPU's grid runner without the runtime above it, so that a test sees
// the GridFailure and chooses the seed. Pointers are host memory. In a program that runs compiled
// PTX it runs the kernel's PTX, and fails where there is none.
#pragma once

#include <optional>
#include <tuple>

#include "host/vgpu/exec/grid.h"
#include "host/vgpu/ptx_exec/kernels.h"
#include "host/vgpu/runtime/runtime.h"
#include "test/text.h"
#include "vgpu/device.h"
#include "vgpu/launch.h"

namespace wt::test {

struct Shape {
    dim3 grid, block;
    size_t shared = 0;
    uint64_t seed = 0;
    dim3 cluster{};
    bool dependent = false;  // it may start before the kernel ahead of it is over
};

template <class... Params, class... Args>
vgpu::GridFailure run(const Shape& shape, void (*kernel)(Params...), Args... args) {
    const std::tuple<Params...> values(args...);
    vgpu::Grid g;
    g.kernel = reinterpret_cast<const void*>(kernel);
    g.grid = shape.grid;
    g.block = shape.block;
    g.shared = shape.shared;
    g.cluster = shape.cluster;
    g.dependent = shape.dependent;
    g.args = &values;
    g.loop = [](const void* k, const void* a) {
        auto* f = reinterpret_cast<void (*)(Params...)>(const_cast<void*>(k));
        while (vgpu::next_thread()) std::apply(f, *static_cast<const std::tuple<Params...>*>(a));
    };
    std::optional<vgpu::ArgumentBlock> block;
    if (vgpu::ptx_exec::present()) {
        const auto found = vgpu::ptx_exec::find(g.kernel, vgpu::signature<Params...>);
        if (!found.signature) return {.code = 98, .message = found.why, .detail = {}};
        std::apply(
            [&](const Params&... v) {
                const void* const pointers[] = {&v..., nullptr};
                block.emplace(*found.signature, pointers);
            },
            values);
        g.args = block->data();
        g.loop = found.signature->loop;
    }
    return vgpu::run_grid(g, shape.seed);
}

}  // namespace wt::test
