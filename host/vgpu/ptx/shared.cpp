// Addresses in a block's shared window.
#include "host/vgpu/exec/core.h"
#include "vgpu/ptx.h"

namespace vgpu {

uint32_t shared_address(const void* shared) {
    Core& core = *context.core;
    const auto offset =
        reinterpret_cast<uintptr_t>(shared) - reinterpret_cast<uintptr_t>(context.shared);
    if (offset > core.grid->shared) [[unlikely]] {  // its end is an address too
        char text[128];
        std::snprintf(text, sizeof text, "%p is not in the block's shared memory (%zu bytes at %p)",
                      shared, core.grid->shared, context.shared);
        note_failure(core, 700, text);
        abandon(core);
    }
    return static_cast<uint32_t>(offset);
}

}  // namespace vgpu
