// Addresses in a block's shared window.
#include "host/vgpu/exec/core.h"
#include "vgpu/ptx.h"

namespace vgpu {

uint32_t shared_address(const void* shared) {
    Worker& w = *context.worker;
    const auto offset = reinterpret_cast<uintptr_t>(shared) - reinterpret_cast<uintptr_t>(context.shared);
    if (offset > w.grid->shared) [[unlikely]] {  // its end is an address too
        char text[128];
        std::snprintf(text, sizeof text, "%p is not in the block's shared memory (%zu bytes at %p)", shared, w.grid->shared, context.shared);
        note_failure(w, 700, text);
        abandon(w);
    }
    return static_cast<uint32_t>(offset);
}

}  // namespace vgpu
