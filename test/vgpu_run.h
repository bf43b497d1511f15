// Runs kernels on the virtual GPU's grid runner without the runtime above it, so that a test sees
// the GridFailure and chooses the seed. Pointers are host memory.
#pragma once

#include <tuple>

#include "host/vgpu/exec/grid.h"
#include "vgpu/device.h"

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
    return vgpu::run_grid(g, shape.seed);
}

inline bool has(const std::string& text, const char* part) {
    return text.find(part) != std::string::npos;
}

}  // namespace wt::test
