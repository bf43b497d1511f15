// cp.async (PTX 9.7.9.25): a plain copy at once, or put off until the thread waits for its group,
// an mbarrier it was to arrive at is waited for, or the block ends.
#include <cstring>

#include "host/vgpu/exec/core.h"
#include "vgpu/ptx.h"

namespace vgpu {
namespace {

inline void copy(char* to, const char* from, int bytes, int source_bytes) {
    if (source_bytes == bytes) {
        switch (bytes) {
            case 4: std::memcpy(to, from, 4); return;
            case 8: std::memcpy(to, from, 8); return;
            default: std::memcpy(to, from, 16); return;
        }
    }
    std::memset(to, 0, static_cast<size_t>(bytes));
    if (source_bytes) std::memcpy(to, from, static_cast<size_t>(source_bytes));
}

[[noreturn, gnu::cold, gnu::noinline]] void refuse(Core& core, int code, const void* shared,
                                                   const void* global, int bytes, int source_bytes,
                                                   const char* why, Site site) {
    char text[160];
    std::snprintf(text, sizeof text,
                  "cp_async of %d (%d) bytes from %p to offset %lld of shared memory at ", bytes,
                  source_bytes, global,
                  static_cast<long long>(static_cast<const char*>(shared) - core.block->shared));
    note_failure(core, code, text + describe_site(site) + ": " + why);
    abandon(core);
}

}  // namespace

void cp_async(void* shared, const void* global, int bytes, int source_bytes, Site site) {
    Core& core = *context.core;
    const auto offset = static_cast<size_t>(static_cast<const char*>(shared) - core.block->shared);
    const size_t room = core.grid->shared;
    if (source_bytes < 0 || source_bytes > bytes) [[unlikely]]
        refuse(core, 719, shared, global, bytes, source_bytes,
               "the source has more bytes than the copy, or less than none", site);
    if (room < static_cast<size_t>(bytes) || offset > room - static_cast<size_t>(bytes))
        [[unlikely]]
        refuse(core, 700, shared, global, bytes, source_bytes, "outside the block's shared memory",
               site);
    const auto unaligned = (offset | (source_bytes ? reinterpret_cast<uintptr_t>(global) : 0)) &
                           static_cast<size_t>(bytes - 1);
    if (unaligned) [[unlikely]]
        refuse(core, 716, shared, global, bytes, source_bytes,
               "both ends must be aligned to the size", site);
    if (core.races) {
        const uint32_t place = core.races->place(site);
        core.races->access(shared, static_cast<uint32_t>(bytes), Races::Kind::write, place);
        if (source_bytes)
            core.races->access(global, static_cast<uint32_t>(source_bytes), Races::Kind::read,
                               place);
    }
    char* to = static_cast<char*>(shared);
    const char* from = static_cast<const char*>(global);
    if (!puts_off(core)) return copy(to, from, bytes, source_bytes);
    // a bad address strikes in this thread
    if (source_bytes) (void)*static_cast<const volatile char*>(from);
    std::memset(to, 0xff, static_cast<size_t>(bytes));
    Groups& g = my_groups(core);
    g.put_off.push_back({to, from, nullptr, g.copies, static_cast<uint8_t>(bytes),
                         static_cast<uint8_t>(source_bytes), site});
}

void cp_async_commit() {
    Core& core = *context.core;
    if (core.random) ++my_groups(core).copies;
}

void cp_async_wait(int newest) {
    Core& core = *context.core;
    if (!core.random) return;
    Groups& g = my_groups(core);
    size_t n = g.done;
    while (n < g.put_off.size() && int64_t{g.put_off[n].group} + newest < int64_t{g.copies}) ++n;
    run_copies(core, *core.block, g, g.copied + (n - g.done));
}

void cp_async_mbarrier_arrive_noinc(uint64_t* bar, Site site) {
    Core& core = *context.core;
    const char* what = "cp_async_mbarrier_arrive_noinc";
    if (core.races)
        core.races->arrive(*core.block, static_cast<uint32_t>(reinterpret_cast<const char*>(bar) -
                                                              core.block->shared));
    if (core.random) {
        if (Groups& g = my_groups(core); g.done < g.put_off.size()) {
            expect_barrier(core, *core.block, bar, what, site);
            g.put_off.push_back({nullptr, nullptr, bar, g.copies, 0, 0, site});
            Deferred d;
            d.kind = Deferred::copies;
            d.to = d.from = core.block;
            d.bar = bar;
            d.thread = linear_thread();
            d.upto = g.copied + (g.put_off.size() - g.done);
            d.by = context.thread;
            d.site = site;
            core.deferred.push_back(d);
            return;
        }
    }
    arrive_on(core, *core.block, bar, what, site);
}

void run_copies(Core& core, Block& b, Groups& g, uint64_t upto) {
    while (g.copied < upto && g.done < g.put_off.size()) {
        const PutOffCopy c = g.put_off[g.done++];
        ++g.copied;
        if (c.bar)
            arrive_on(core, b, c.bar, "cp_async_mbarrier_arrive_noinc", c.site);
        else
            copy(c.to, c.from, c.bytes, c.source_bytes);
    }
    if (g.done == g.put_off.size()) g.put_off.clear(), g.done = 0;
}

}  // namespace vgpu
