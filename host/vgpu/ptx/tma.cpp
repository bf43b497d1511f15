// TMA: loads complete on an mbarrier, stores in groups of their thread (PTX 9.7.9.27). Everything
// that can be wrong with an operation is found when it starts, in the thread that starts it; the
// copy itself (tensor_map.cpp) happens then too, or is put off: a load until a thread waits for its
// barrier and nothing else can run, a store's reading until its group is waited for, its writing
// until that wait is not just for the reading, both at the latest when the block ends.
#include <cuda.h>

#include <bit>
#include <cstring>

#include "host/vgpu/exec/core.h"
#include "host/vgpu/runtime/runtime.h"
#include "vgpu/ptx.h"

namespace vgpu {
namespace {

[[noreturn, gnu::cold, gnu::noinline]] void refuse(Core& core, int code, const char* what,
                                                   std::string why, Site site) {
    note_failure(core, code, std::string(what) + " at " + describe_site(site) + ": " + why);
    std::string().swap(why);  // nothing is destroyed after this
    abandon(core);
}

// A tensor map that fits the instruction.
void take(Core& core, const CUtensorMap_st& map, TensorMap& m, bool im2col, int dims,
          const char* what, Site site) {
    if (reinterpret_cast<uintptr_t>(&map) % 64)
        refuse(core, 716, what, "a tensor map must be aligned to 64 bytes", site);
    if (!decode(map, m)) refuse(core, 719, what, "that is no tensor map", site);
    if (m.im2col != im2col || m.rank != dims)
        refuse(core, 719, what,
               "the tensor map is for " + std::string(m.im2col ? "im2col" : "tiles") + " of " +
                   std::to_string(m.rank) + " dimensions, the instruction for " +
                   (im2col ? "im2col" : "tiles") + " of " + std::to_string(dims),
               site);
    expect_reachable(core, m.base, m.extent, what, site);
}

// The offset of `bytes` bytes of the block's shared memory.
uint32_t place(Core& core, const void* shared, uint32_t bytes, uint32_t alignment, const char* what,
               Site site) {
    const auto offset = static_cast<size_t>(static_cast<const char*>(shared) - core.block->shared);
    if (offset > core.grid->shared || core.grid->shared - offset < bytes) [[unlikely]]
        refuse(core, 700, what,
               std::to_string(bytes) + " bytes at offset " +
                   std::to_string(static_cast<int64_t>(offset)) + " are not inside the block's " +
                   std::to_string(core.grid->shared) + " bytes of shared memory",
               site);
    if (offset % alignment) [[unlikely]]
        refuse(core, 716, what,
               "offset " + std::to_string(offset) + " of shared memory is not aligned to " +
                   std::to_string(alignment) + " bytes",
               site);
    return static_cast<uint32_t>(offset);
}

// Who waits for its barrier then knows of the load.
void tell_end(Core& core, const Deferred& d) {
    if (core.races)
        core.races->arrive(
            *d.to, static_cast<uint32_t>(reinterpret_cast<const char*>(d.bar) - d.to->shared),
            d.race);
}

// That it reads global memory.
void tell_read(Core& core, Deferred& d) {
    d.race = core.races->start();
    const uint32_t place = core.races->place(d.site);
    const auto run = [&](const char* from, uint32_t bytes) {
        core.races->access(d.race, from, bytes, Races::Kind::read, place);
    };
    switch (d.kind) {
        case Deferred::tiled: return each_run(d.map, d.at, run);
        case Deferred::im2col: return each_run(d.map, d.place, run);
        default: return run(d.global, d.bytes);
    }
}

// A store reads shared memory, and writes global memory, which may take longer.
void tell_store(Core& core, Groups& g, const PutOffStore& s, Site site) {
    const uint32_t place = core.races->place(site);
    const Races::Operation reads = core.races->start(), writes = core.races->start();
    core.races->access(reads, *core.block, s.address, s.bytes, Races::Kind::read, place);
    const auto run = [&](const char* to, uint32_t bytes) {
        core.races->access(writes, to, bytes, Races::Kind::write, place);
    };
    if (s.global)
        run(s.global, s.bytes);
    else
        each_run(s.map, s.at, run);
    g.reading.push_back({s.group, reads});
    g.writing.push_back({s.group, writes});
}

// Starts a load to the same place of every block of the mask; each completes on its own.
void start(Core& core, Deferred& d, const void* bar, uint32_t blocks, const char* what, Site site) {
    const auto bar_offset = static_cast<const char*>(bar) - core.block->shared;
    if (blocks == 0) [[unlikely]]
        refuse(core, 719, what, "to no block", site);
    d.from = core.block;
    d.by = context.thread;
    d.site = site;
    if (core.races) tell_read(core, d);
    const char* image = nullptr;  // of a block that has it already
    for (; blocks; blocks &= blocks - 1) {
        d.to = &block_of_cluster(core, static_cast<unsigned>(std::countr_zero(blocks)), what, site);
        d.bar = reinterpret_cast<uint64_t*>(d.to->shared + bar_offset);
        expect_barrier(core, *d.to, d.bar, what, site);
        char* to = d.to->shared + d.address;
        if (core.races)
            core.races->access(d.race, *d.to, d.address, d.bytes, Races::Kind::write,
                               core.races->place(site));
        if (puts_off(core)) {
            std::memset(to, 0xff, d.bytes);
            core.deferred.push_back(d);
        } else if (image) {
            std::memcpy(to, image, d.bytes);
            tell_end(core, d);
            complete_bytes(core, *d.to, d.bar, d.bytes, site);
        } else {
            complete(core, d);
            image = to;
        }
    }
}

void store(Core& core, PutOffStore& s, Site site) {
    Groups& g = my_groups(core);
    g.stored = g.stores + 1;
    g.stored_at = site;
    s.group = g.stores;
    if (core.races) tell_store(core, g, s, site);
    if (puts_off(core)) {
        if (draw(core) % 2) {
            s.image.reset(new char[s.bytes]);
            std::memcpy(s.image.get(), s.shared, s.bytes);
        }
        g.stores_put_off.push_back(std::move(s));
    } else if (s.global) {
        std::memcpy(s.global, s.shared, s.bytes);
    } else {
        write_box(s.map, s.at, s.shared, s.address);
    }
}

}  // namespace

std::string why_unreachable(Core& core, uint64_t from, uint64_t bytes) {
    Reachable& r = core.reachable;
    for (unsigned i = 0; i < r.count; ++i)
        if (from >= r.ranges[i].from && from + bytes <= r.ranges[i].to) return {};
    const void* p = reinterpret_cast<const void*>(from);
    const int owner = owner_of(p);
    // the host's: page-locked, as the launch has checked; it faults where it is not there
    if (owner < 0) return {};
    Runtime& rt = runtime();
    const Lock lock(rt.mutex);
    if (std::string why = check_range(rt, p, bytes, bytes, 1); !why.empty()) return why;
    if (owner != core.grid->device && !rt.devices[core.grid->device]->peer[owner])
        return "memory of device " + std::to_string(owner) +
               ", and peer access is not enabled (cudaDeviceEnablePeerAccess)";
    const auto [at, size] = rt.devices[owner]->arena.find(p);
    r.ranges[r.count < 8 ? r.count++ : from / 256 % 8] = {at, at + size};
    return {};
}

void expect_reachable(Core& core, uint64_t from, uint64_t bytes, const char* what, Site site) {
    if (std::string why = why_unreachable(core, from, bytes); !why.empty())
        refuse(core, 700, what, "of its tensor, " + std::move(why), site);
}

void tma_load(void* shared, const CUtensorMap_st& map, uint64_t* bar, uint32_t blocks,
              const int32_t* at, int dims, Site site) {
    Core& core = *context.core;
    Deferred d;
    take(core, map, d.map, false, dims, "tma_load", site);
    d.address = place(core, shared, d.map.bytes, 128, "tma_load", site);
    d.bytes = d.map.bytes;
    std::copy_n(at, dims, d.at);
    start(core, d, bar, blocks, "tma_load", site);
}

void tma_load_im2col(void* shared, const CUtensorMap_st& map, uint64_t* bar, uint32_t blocks,
                     int32_t c, int32_t wide, int32_t h, int32_t n, uint16_t offset_w,
                     uint16_t offset_h, Site site) {
    Core& core = *context.core;
    const char* what = "tma_load_im2col";
    Deferred d;
    d.kind = Deferred::im2col;
    TensorMap& m = d.map;
    take(core, map, m, true, 4, what, site);
    d.address = place(core, shared, m.bytes, 128, what, site);
    d.bytes = m.bytes;
    d.place = {c, wide, h, n, offset_w, offset_h};
    if (offset_w > 255 || offset_h > 255) refuse(core, 719, what, "offsets are 0 to 255", site);
    const int64_t last_w = int64_t{m.last[1]} + m.upper[0],
                  last_h = int64_t{m.last[2]} + m.upper[1];
    if (wide < m.lower[0] || wide > last_w || h < m.lower[1] || h > last_h)
        refuse(core, 719, what,
               "(w, h) = (" + std::to_string(wide) + ", " + std::to_string(h) +
                   ") lies outside the map's bounding box, (" + std::to_string(m.lower[0]) + ", " +
                   std::to_string(m.lower[1]) + ") to (" + std::to_string(last_w) + ", " +
                   std::to_string(last_h) + ")",
               site);
    start(core, d, bar, blocks, what, site);
}

void bulk_load(void* shared, const void* global, uint32_t bytes, uint64_t* bar, Site site) {
    Core& core = *context.core;
    const char* what = "bulk_load";
    Deferred d;
    d.kind = Deferred::bulk;
    if (bytes % 16 || reinterpret_cast<uintptr_t>(global) % 16)
        refuse(core, 716, what, "source and size must be multiples of 16 bytes", site);
    expect_reachable(core, reinterpret_cast<uint64_t>(global), bytes, what, site);
    d.address = place(core, shared, bytes, 16, what, site);
    d.bytes = bytes;
    d.global = static_cast<const char*>(global);
    start(core, d, bar, 1u << cluster_rank(), what, site);
}

void tma_store(const CUtensorMap_st& map, const void* shared, const int32_t* at, int dims,
               Site site) {
    Core& core = *context.core;
    PutOffStore s{};
    take(core, map, s.map, false, dims, "tma_store", site);
    s.address = place(core, shared, s.map.bytes, 128, "tma_store", site);
    s.bytes = s.map.bytes;
    s.shared = static_cast<const char*>(shared);
    for (int d = 0; d < dims; ++d) {
        if (at[d] < 0)
            refuse(core, 719, "tma_store",
                   "coordinate " + std::to_string(d) + " is " + std::to_string(at[d]) +
                       "; stores start inside the tensor",
                   site);
        s.at[d] = at[d];
    }
    store(core, s, site);
}

void bulk_store(void* global, const void* shared, uint32_t bytes, Site site) {
    Core& core = *context.core;
    PutOffStore s{};
    if (bytes % 16 || reinterpret_cast<uintptr_t>(global) % 16)
        refuse(core, 716, "bulk_store", "destination and size must be multiples of 16 bytes", site);
    expect_reachable(core, reinterpret_cast<uint64_t>(global), bytes, "bulk_store", site);
    s.address = place(core, shared, bytes, 16, "bulk_store", site);
    s.bytes = bytes;
    s.shared = static_cast<const char*>(shared);
    s.global = static_cast<char*>(global);
    store(core, s, site);
}

void bulk_commit() { ++my_groups(*context.core).stores; }

void bulk_wait(int newest, bool read_only) {
    Core& core = *context.core;
    Groups& g = my_groups(core);
    const uint32_t upto =
        g.stores > static_cast<uint32_t>(newest) ? g.stores - static_cast<uint32_t>(newest) : 0;
    if (upto > g.read) g.read = upto;
    const auto over = [&](const auto& o) {
        if (o.first >= upto) return false;
        core.races->acquire(o.second);
        return true;
    };
    std::erase_if(g.reading, over);
    if (!read_only) std::erase_if(g.writing, over);
    run_stores(g, upto, read_only);
}

void run_stores(Groups& g, uint32_t upto, bool read_only) {
    size_t n = 0;
    for (PutOffStore& s : g.stores_put_off) {
        if (s.group >= upto) break;
        ++n;
        if (read_only && !s.image) {
            s.image.reset(new char[s.bytes]);
            std::memcpy(s.image.get(), s.shared, s.bytes);
        } else if (!read_only) {
            const char* image = s.image ? s.image.get() : s.shared;
            if (s.global)
                std::memcpy(s.global, image, s.bytes);
            else
                write_box(s.map, s.at, image, s.address);
        }
    }
    if (!read_only)
        g.stores_put_off.erase(g.stores_put_off.begin(),
                               g.stores_put_off.begin() + static_cast<std::ptrdiff_t>(n));
}

void complete(Core& core, const Deferred& d) {
    char* to = d.to->shared + d.address;
    switch (d.kind) {
        case Deferred::tiled: read_box(d.map, d.at, to, d.address); break;
        case Deferred::im2col: read_columns(d.map, d.place, to, d.address); break;
        case Deferred::bulk: std::memcpy(to, d.global, d.bytes); break;
        case Deferred::copies:
            return run_copies(core, *d.to, d.to->async.threads[d.thread], d.upto);
    }
    tell_end(core, d);
    complete_bytes(core, *d.to, d.bar, d.bytes, d.site);
}

// Generic and asynchronous accesses see the same memory here: that it is missing is found where
// races are looked for.
void fence_proxy_async() {
    Core& core = *context.core;
    if (core.races) core.races->fence_proxy();
}

}  // namespace vgpu
