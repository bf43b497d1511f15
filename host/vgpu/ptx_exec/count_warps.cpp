// What the accesses of a warp take: sectors of global memory, wavefronts of shared memory.
#include <algorithm>
#include <bit>

#include "host/vgpu/exec/core.h"
#include "host/vgpu/ptx_exec/count_state.h"

namespace vgpu::ptx_exec {

namespace {

// Up to 32 different numbers.
class Different {
public:
    bool insert(uint64_t v) {                                  // false: it was there
        if (count_ && values_[count_ - 1] == v) return false;  // neighbours mostly share one
        for (unsigned at = static_cast<unsigned>(v * 0x9e3779b97f4a7c15u >> 58);;
             at = (at + 1) % 64) {
            if (!slot_[at]) {
                values_[count_++] = v;
                slot_[at] = static_cast<uint8_t>(count_);
                return true;
            }
            if (values_[slot_[at] - 1] == v) return false;
        }
    }
    unsigned size() const { return count_; }
    const uint64_t* begin() const { return values_; }
    const uint64_t* end() const { return values_ + count_; }

private:
    uint64_t values_[32];
    uint8_t slot_[64] = {};  // index + 1
    unsigned count_ = 0;
};

// An access of `bytes` bytes by each lane of the mask, all within one sector.
AccessCounters sectors_of(uint32_t mask, const uint64_t* address, uint32_t bytes,
                          SectorSet* of_block) {
    Different sectors, places;
    for (uint32_t left = mask; left; left &= left - 1) {
        const uint64_t a = address[std::countr_zero(left)];
        sectors.insert(a / 32);
        places.insert(a);
    }
    if (of_block)
        for (const uint64_t s : sectors) of_block->insert(s);
    const auto lanes = static_cast<uint64_t>(std::popcount(mask));
    return {.requests = 1,
            .lanes = lanes,
            .units = sectors.size(),
            .least = (uint64_t{places.size()} * bytes + 31) / 32,
            .bytes = lanes * bytes};
}

// 32 banks of 4 bytes: a wavefront gives each bank's word to all lanes that want it. Lanes of 8
// bytes go by halves of the warp, lanes of 16 by quarters.
AccessCounters wavefronts_of(uint32_t mask, const uint64_t* address, uint32_t bytes) {
    const unsigned together = bytes <= 4 ? 32 : 128 / bytes, words = std::max(1u, bytes / 4);
    const auto lanes = static_cast<uint64_t>(std::popcount(mask));
    AccessCounters c{.requests = 1, .lanes = lanes, .bytes = lanes * bytes};
    for (unsigned first = 0; first < 32; first += together) {
        uint32_t left = mask >> first << first;
        if (first + together < 32) left &= (1u << (first + together)) - 1;
        if (!left) continue;
        uint32_t in_bank[32][32];
        uint8_t count[32] = {};
        uint8_t most = 1;
        for (; left; left &= left - 1) {
            const auto word = static_cast<uint32_t>(address[std::countr_zero(left)] / 4);
            for (uint32_t w = word; w < word + words; ++w) {
                uint32_t* const there = in_bank[w % 32];
                uint8_t& n = count[w % 32];
                if (std::find(there, there + n, w) != there + n) continue;
                there[n++] = w;
                most = std::max(most, n);
            }
        }
        c.units += most;
        c.least += 1;
    }
    return c;
}

}  // namespace

void SectorSet::insert(uint64_t sector) {
    if (2 * (size_ + 1) > slots_.size()) grow();
    const size_t last = slots_.size() - 1;
    for (size_t at = sector * 0x9e3779b97f4a7c15u >> 20 & last;; at = (at + 1) & last) {
        if (slots_[at] == sector + 1) return;
        if (!slots_[at]) {
            slots_[at] = sector + 1;
            ++size_;
            return;
        }
    }
}

void SectorSet::grow() {
    std::vector<uint64_t> old(std::max<size_t>(256, 2 * slots_.size()));
    old.swap(slots_);
    size_ = 0;
    for (const uint64_t s : old)
        if (s) insert(s - 1);
}

void SectorSet::clear() {
    if (size_) std::fill(slots_.begin(), slots_.end(), 0);
    size_ = 0;
}

void BlockCounts::begin(KernelTotals& of) {
    totals = &of;
    const CountedKernel& k = *of.kernel;
    threads = context.core->threads;
    ended = 0;
    warps.resize((threads + 31) / 32);
    for (size_t w = 0; w < warps.size(); ++w) {
        warps[w].blocks.resize(k.blocks);
        warps[w].sites.resize(k.site_count);
        warps[w].lanes = std::min(32u, threads - 32 * static_cast<unsigned>(w));
        warps[w].ended = 0;
    }
    positions.assign(size_t{threads} * k.blocks, 0);
}

// All lanes of the warp have returned.
void BlockCounts::end(WarpCounts& warp) {
    const CountedKernel& k = *totals->kernel;
    for (uint32_t b = 0; b < k.blocks; ++b) {
        Entries& e = warp.blocks[b];
        totals->issued[b] += e.iterations.size();
        totals->executed[b] += e.executed;
        e.iterations.clear();
        if (!e.index.empty()) e.index.clear();
        e.executed = 0;
    }
    for (uint32_t s = 0; s < k.site_count; ++s) {
        const CountedSite& site = k.sites[s];
        SectorSet* const of_block = site.access == Access::load_global ? &sectors : nullptr;
        for (auto& chunk : warp.sites[s].chunks) {
            if (!chunk) continue;
            for (size_t i = 0; i < Chunk::kAccesses; ++i)
                if (const uint32_t mask = chunk->mask[i])
                    totals->sites[s].add(
                        in_shared(site.access)
                            ? wavefronts_of(mask, chunk->address[i], site.bytes)
                            : sectors_of(mask, chunk->address[i], site.bytes, of_block));
            core.free.push_back(std::move(chunk));
        }
        warp.sites[s].chunks.clear();
    }
}

// All its threads have returned.
void BlockCounts::end() {
    ++totals->blocks;
    totals->warps += warps.size();
    totals->block_sectors += sectors.size();
    sectors.clear();
    totals = nullptr;
}

}  // namespace vgpu::ptx_exec
