// What the kernels of a program did that counts (make PTX=1; host/vgpu/README.md, "Counters"), in a
// profiler's units:
//
//   start_counting();
//   ...launches, and a wait for them...
//   for (const KernelCounters& k : stop_counting()) ...
//
// Counted are PTX instructions, not those that ptxas makes of them.
#pragma once

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "vgpu/dim3.h"

namespace vgpu::ptx_exec {

// Of instructions; count.py says which is of which.
enum class Class : uint8_t {
    fp32,
    fp64,
    bf16,
    special,
    integer,
    compare,
    convert,
    move,
    param,
    control,
    global,
    shared,
    local,
    generic,
    atomic,
    copy,
    matrix,
    warp,
    barrier,
    mbarrier,
    cluster,
    fence,
    other
};
inline constexpr size_t kClasses = static_cast<size_t>(Class::other) + 1;
const char* name_of(Class);

enum class Access : uint8_t {
    load_global,           // through the first cache
    load_global_uncached,  // past it
    store_global,
    atomic_global,
    load_shared,
    store_shared,
    atomic_shared,
    tma_load,
    tma_store
};
inline constexpr size_t kAccesses = static_cast<size_t>(Access::tma_store) + 1;
const char* name_of(Access);
// Whether its unit is the wavefront, of 32 banks of 4 bytes; else the sector, of 32 bytes.
inline bool in_shared(Access a) { return a >= Access::load_shared && a <= Access::atomic_shared; }
inline bool by_tma(Access a) { return a >= Access::tma_load; }

struct AccessCounters {
    uint64_t requests = 0;  // instructions of warps with a lane that accesses memory; TMA: copies
    uint64_t lanes = 0;     // of all requests
    uint64_t units = 0;     // sectors or wavefronts
    uint64_t least = 0;     // of them: what the same bytes take where nothing is wasted
    uint64_t bytes = 0;     // that lanes ask for; TMA: that arrive in or leave shared memory
    uint64_t rows = 0;      // TMA: of its boxes

    void add(const AccessCounters& o);
};

struct MatrixCounters {
    std::string name;    // "wgmma 64x256x16 bf16"
    uint64_t warps = 0;  // instructions of warps
    double flops = 0;
    uint64_t shared_bytes = 0;  // that wgmma reads of both operands
};

struct LineCounters {
    std::string file;
    unsigned line = 0;
    Access access{};
    AccessCounters counters;
};

struct KernelCounters {
    std::string name;
    dim3 grid, block, cluster;  // of the first launch
    uint64_t blocks = 0, warps = 0;
    std::array<uint64_t, kClasses> instructions{};  // of warps
    uint64_t thread_instructions = 0;
    std::array<AccessCounters, kAccesses> access{};
    // Of load_global: sectors that differ within each block, what comes from L2 where the first
    // cache keeps everything of a block.
    uint64_t block_sectors = 0;
    std::vector<MatrixCounters> matrix;
    std::vector<LineCounters> lines;  // every line that accesses memory, most of `units` first

    uint64_t all_instructions() const;
    const AccessCounters& of(Access a) const { return access[static_cast<size_t>(a)]; }
};

// Whether this program has kernels that count.
bool can_count();
// Launches from now on run those, on all devices.
void start_counting();
// Ends that, and gives each kernel's counters in the order in which they were launched first. All
// launches must have been waited for.
std::vector<KernelCounters> stop_counting();

}  // namespace vgpu::ptx_exec
