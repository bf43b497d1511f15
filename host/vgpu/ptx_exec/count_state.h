// What is kept while kernels count (counted.h): for each core of the host, for the blocks that it
// runs, and of each kernel what the blocks that have ended came to.
#pragma once

#include <memory>
#include <unordered_map>
#include <vector>

#include "host/vgpu/exec/grid.h"
#include "host/vgpu/ptx_exec/counted.h"

namespace vgpu::ptx_exec {

// A block of instructions as a warp has come through it.
struct Entries {
    std::vector<uint64_t> iterations;              // in which any lane came
    std::unordered_map<uint64_t, uint32_t> index;  // of them; empty while all lanes go in step
    uint64_t executed = 0;                         // by lanes
    uint32_t find(uint64_t iteration);             // adds it where it is not there
};

// A warp's accesses at one place: for each entry of its block of instructions, who accessed what.
struct Chunk {
    static constexpr size_t kAccesses = 64;
    uint32_t mask[kAccesses];
    uint64_t address[kAccesses][32];
};
struct CoreCounts;
struct Records {
    std::vector<std::unique_ptr<Chunk>> chunks;
    void put(CoreCounts& core, uint32_t instance, unsigned lane, uint64_t address);
};

struct WarpCounts {
    std::vector<Entries> blocks;
    std::vector<Records> sites;
    unsigned lanes = 0, ended = 0;
};

// Different sectors of a block.
class SectorSet {
public:
    void insert(uint64_t sector);
    uint64_t size() const { return size_; }
    void clear();

private:
    void grow();
    std::vector<uint64_t> slots_;  // sector + 1; 0: free
    uint64_t size_ = 0;
};

struct KernelTotals {
    const CountedKernel* kernel = nullptr;
    const void* host_kernel = nullptr;
    dim3 grid, block, cluster;
    uint64_t order = 0;  // of its first block, among all kernels
    uint64_t blocks = 0, warps = 0;
    std::vector<uint64_t> issued, executed;  // of each block of instructions, by warps and lanes
    std::vector<AccessCounters> sites;
    uint64_t block_sectors = 0;
};

struct BlockCounts {
    explicit BlockCounts(CoreCounts& c) : core(c) {}
    void begin(KernelTotals& of);
    void end(WarpCounts& warp);
    void end();

    CoreCounts& core;
    KernelTotals* totals = nullptr;  // null: no block is running
    unsigned threads = 0, ended = 0;
    std::vector<WarpCounts> warps;
    std::vector<uint32_t> positions;  // of each thread, for each block of instructions
    SectorSet sectors;
};

struct CoreCounts {
    uint64_t era = 0;                                  // of start_counting
    std::vector<std::unique_ptr<BlockCounts>> blocks;  // by rank in the cluster
    std::vector<std::unique_ptr<Chunk>> free;
    size_t made = 0;  // chunks
    std::unordered_map<const CountedKernel*, std::unique_ptr<KernelTotals>> kernels;

    KernelTotals& totals_of(const CountedKernel& kernel, const Grid& grid);
    void forget();  // what another era, or a grid that failed, has left
};

// Changes with each start_counting.
uint64_t counting_era();
// Lives as long as the program; stop_counting adds all of them up.
CoreCounts& new_core_counts();

}  // namespace vgpu::ptx_exec
