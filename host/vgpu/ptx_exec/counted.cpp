#include "host/vgpu/ptx_exec/counted.h"

#include <algorithm>
#include <bit>
#include <memory>

#include "host/vgpu/exec/core.h"
#include "host/vgpu/ptx/tensor_map.h"
#include "host/vgpu/ptx_exec/count_state.h"

namespace vgpu::ptx_exec {

namespace {

// The accesses of a warp that a core keeps until its threads have all returned. Beyond that a grid
// fails: counting is for small problems.
constexpr size_t kMostBytes = size_t(3) << 29;

CoreCounts& this_core() {
    static thread_local CoreCounts* mine = nullptr;
    if (!mine) mine = &new_core_counts();
    return *mine;
}

// The counts of the running thread's block: new ones where it is the block's first thread.
BlockCounts& this_block(const CountedKernel& kernel) {
    CoreCounts& core = this_core();
    if (core.era != counting_era()) core.forget();
    const unsigned rank = context.core->block->rank;
    while (core.blocks.size() <= rank) core.blocks.push_back(std::make_unique<BlockCounts>(core));
    BlockCounts& block = *core.blocks[rank];
    if (!block.totals) block.begin(core.totals_of(kernel, *context.core->grid));
    return block;
}

}  // namespace

Counted::Counted(const CountedKernel& kernel)
    : of_(this_block(kernel)),
      warp_(of_.warps[linear_thread() / 32]),
      positions_(&of_.positions[size_t(linear_thread()) * kernel.blocks]),
      lane_(lane_id()) {}

Counted::~Counted() {
    if (++warp_.ended == warp_.lanes) of_.end(warp_);
    if (++of_.ended == of_.threads) of_.end();
}

void Counted::enter(unsigned block, uint64_t iteration) {
    Entries& e = warp_.blocks[block];
    uint32_t& at = positions_[block];
    ++e.executed;
    if (at < e.iterations.size() && e.iterations[at] == iteration) [[likely]] {
        instance_ = at++;
    } else if (at == e.iterations.size() && e.index.empty()) {
        e.iterations.push_back(iteration);
        instance_ = at++;
    } else {
        instance_ = e.find(iteration);
        at = instance_ + 1;
    }
}

uint32_t Entries::find(uint64_t iteration) {
    if (index.empty())
        for (uint32_t i = 0; i < iterations.size(); ++i) index.emplace(iterations[i], i);
    const auto [it, fresh] = index.try_emplace(iteration, static_cast<uint32_t>(iterations.size()));
    if (fresh) iterations.push_back(iteration);
    return it->second;
}

void Records::put(CoreCounts& core, uint32_t instance, unsigned lane, uint64_t address) {
    const size_t chunk = instance / Chunk::kAccesses, in = instance % Chunk::kAccesses;
    if (chunk >= chunks.size()) chunks.resize(chunk + 1);
    if (!chunks[chunk]) {
        if (core.free.empty()) {
            if ((core.made + 1) * sizeof(Chunk) > kMostBytes) [[unlikely]]
                fail(2,
                     "counting keeps every access of a warp until it ends, here more than 1.5 GB: "
                     "count a smaller problem");
            ++core.made;
            core.free.push_back(std::make_unique<Chunk>());
        }
        chunks[chunk] = std::move(core.free.back());
        core.free.pop_back();
        std::fill_n(chunks[chunk]->mask, Chunk::kAccesses, 0u);
    }
    Chunk& c = *chunks[chunk];
    c.mask[in] |= 1u << lane;
    c.address[in][lane] = address;
}

void Counted::global(unsigned site, uint64_t address) {
    warp_.sites[site].put(of_.core, instance_, lane_, address);
}

void Counted::shared(unsigned site, uint64_t address) {
    warp_.sites[site].put(of_.core, instance_, lane_, address);
}

void Counted::generic(unsigned site, uint64_t address) {
    // Another block's shared memory, or its own: nothing of L2.
    for (const auto& block : context.core->blocks) {
        const auto base = reinterpret_cast<uint64_t>(block->shared);
        if (address >= base && address - base < kSharedMax) return;
    }
    global(site, address);
}

void Counted::matrix_rows(unsigned site, unsigned matrices, uint64_t address) {
    if (lane_ < 8 * matrices) shared(site, address);
}

namespace {

// Sectors of the runs of memory that a copy touches.
template <class Place>
uint64_t sectors_of(const TensorMap& m, const Place& place) {
    uint64_t sectors = 0;
    each_run(m, place, [&](const char* from, uint32_t bytes) {
        const auto a = reinterpret_cast<uint64_t>(from);
        if (bytes) sectors += (a + bytes - 1) / 32 - a / 32 + 1;
    });
    return sectors;
}

// A copy of a map's box to so many blocks, or of a run of bytes.
void add_copy(AccessCounters& c, uint64_t bytes, uint64_t row_bytes, uint64_t sectors,
              uint64_t blocks) {
    c.add({.requests = 1,
           .lanes = 1,
           .units = sectors,
           .least = std::min(sectors, (bytes + 31) / 32),
           .bytes = bytes * blocks,
           .rows = bytes / row_bytes});
}
uint64_t row_bytes(const TensorMap& m) { return uint64_t{m.box[0]} * m.element; }

}  // namespace

// A map that is none is refused by the copy that follows.
void Counted::tma(unsigned site, const CUtensorMap_st& map, unsigned blocks, const int32_t* at) {
    TensorMap m;
    if (!decode(map, m) || m.im2col) return;
    add_copy(of_.totals->sites[site], m.bytes, row_bytes(m), sectors_of(m, at),
             static_cast<unsigned>(std::popcount(blocks)));
}

void Counted::tma_im2col(unsigned site, const CUtensorMap_st& map, int32_t c, int32_t w, int32_t h,
                         int32_t n, uint16_t offset_w, uint16_t offset_h) {
    TensorMap m;
    if (!decode(map, m) || !m.im2col) return;
    const Im2colPlace place{c, w, h, n, offset_w, offset_h};
    add_copy(of_.totals->sites[site], m.bytes, row_bytes(m), sectors_of(m, place), 1);
}

void Counted::bulk(unsigned site, uint64_t address, uint32_t bytes) {
    if (!bytes) return;
    const uint64_t sectors = (address + bytes - 1) / 32 - address / 32 + 1;
    add_copy(of_.totals->sites[site], bytes, bytes, sectors, 1);
}

}  // namespace vgpu::ptx_exec
