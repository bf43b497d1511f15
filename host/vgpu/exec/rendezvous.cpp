// Where threads wait for each other: block barriers, named barriers, warp operations.
#include <bit>
#include <cstring>

#include "host/vgpu/exec/core.h"

namespace vgpu {
namespace {

// Not by address: each translation unit has its own copy of a header's name.
bool same_place(Site a, Site b) {
    return a.line == b.line && (a.file == b.file || std::strcmp(a.file, b.file) == 0);
}

unsigned existing_lanes(const Core& core, unsigned warp) {
    const unsigned n = core.threads - warp * 32;
    return n >= 32 ? 0xffffffffu : (1u << n) - 1;
}

std::string hex(unsigned v) {
    char s[16];
    std::snprintf(s, sizeof s, "0x%08x", v);
    return s;
}

}  // namespace

int block_barrier(BlockOp op, int predicate, Site site) {
    Core& core = *context.core;
    Barrier& b = core.barriers[0];
    if (b.arrived == 0) {
        b.expected = core.threads;
        b.site = site;
    } else if (!same_place(b.site, site)) [[unlikely]] {
        note_failure(
            core, 719,
            "divergent barriers: this thread is in __syncthreads at " + describe_site(site) +
                " while others of its block wait in __syncthreads at " + describe_site(b.site));
        abandon(core);
    } else if (b.expected != core.threads) [[unlikely]] {
        note_failure(core, 719,
                     "__syncthreads at " + describe_site(site) + " while bar.sync 0 for " +
                         std::to_string(b.expected) + " threads is under way at " +
                         describe_site(b.site));
        abandon(core);
    }
    b.sum += predicate != 0;
    if (++b.arrived < core.threads) {
        wait_in(core, b.waiting, {Wait::block, 0, core.threads, site});
    } else {
        if (core.races) core.races->sync_block(*core.block);
        b.result = b.sum;
        b.sum = 0;
        b.arrived = 0;
        release(core, b.waiting);
    }
    // Nobody can complete the next barrier before this thread has read its result.
    switch (op) {
        case BlockOp::count: return b.result;
        case BlockOp::all: return b.result == static_cast<int>(core.threads);
        case BlockOp::any: return b.result != 0;
        default: return 0;
    }
}

// Counts this thread in; true when it completes the barrier.
static bool arrive(Core& core, Barrier& b, unsigned id, unsigned threads, Site site,
                   const char* what, bool waits) {
    if (id >= kNamedBarriers || threads == 0 || threads % 32 ||
        threads > (core.threads + 31) / 32 * 32) [[unlikely]] {
        note_failure(core, 719,
                     std::string(what) + ' ' + std::to_string(id) + ", " + std::to_string(threads) +
                         " at " + describe_site(site) +
                         ": ids are 0 to 15, threads a multiple of 32 within the block");
        abandon(core);
    }
    if (b.arrived == 0) {
        b.expected = threads;
        b.site = site;
    } else if (b.expected != threads) [[unlikely]] {
        note_failure(core, 719,
                     std::string(what) + ' ' + std::to_string(id) + ", " + std::to_string(threads) +
                         " at " + describe_site(site) + ", but the barrier under way (" +
                         describe_site(b.site) + ") is for " + std::to_string(b.expected) +
                         " threads");
        abandon(core);
    }
    if (core.races) core.races->arrive(id);
    if (++b.arrived < threads) return false;
    b.arrived = 0;
    if (core.races) core.races->complete(id, b.waiting.head, waits);
    release(core, b.waiting);
    return true;
}

void bar_sync(unsigned id, unsigned threads, Site site) {
    Core& core = *context.core;
    Barrier& b = core.barriers[id % kNamedBarriers];
    if (!arrive(core, b, id, threads, site, "bar.sync", true))
        wait_in(core, b.waiting, {Wait::named, static_cast<uint8_t>(id), threads, site});
}

void bar_arrive(unsigned id, unsigned threads, Site site) {
    Core& core = *context.core;
    core.block->stale |=
        !arrive(core, core.barriers[id % kNamedBarriers], id, threads, site, "bar.arrive", false);
}

// ---- warps ----------------------------------------------------------------------------------

namespace {

uint64_t start_value(WarpOp op) {
    switch (op) {
        case WarpOp::min: return ~uint64_t{0};
        case WarpOp::min_signed: return static_cast<uint64_t>(INT64_MAX);
        case WarpOp::max_signed: return static_cast<uint64_t>(INT64_MIN);
        case WarpOp::bit_and: return ~uint64_t{0};
        default: return 0;
    }
}

uint64_t combine(WarpOp op, uint64_t a, uint64_t b, unsigned lane) {
    switch (op) {
        case WarpOp::ballot: return a | b << lane;
        case WarpOp::add: return a + b;
        case WarpOp::min: return b < a ? b : a;
        case WarpOp::max: return b > a ? b : a;
        case WarpOp::min_signed: return static_cast<int64_t>(b) < static_cast<int64_t>(a) ? b : a;
        case WarpOp::max_signed: return static_cast<int64_t>(b) > static_cast<int64_t>(a) ? b : a;
        case WarpOp::bit_and: return a & b;
        case WarpOp::bit_or: return a | b;
        case WarpOp::bit_xor: return a ^ b;
        default: return 0;
    }
}

const char* name_of(WarpOp op) {
    switch (op) {
        case WarpOp::sync: return "__syncwarp";
        case WarpOp::shuffle: return "a shuffle";
        case WarpOp::together: return "a warp operation";
        default: return "a vote or reduction";
    }
}

// Brings this lane to its rendezvous. The last lane calls finish(slot) and lets the others go on.
template <class Finish>
inline void meet(Core& core, Warp& warp, unsigned lane, unsigned warp_index, WarpOp op,
                 unsigned mask, Site site, Finish finish, WarpWork work = nullptr) {
    if (!(mask >> lane & 1)) [[unlikely]] {
        note_failure(core, 719,
                     std::string(name_of(op)) + " at " + describe_site(site) + ": its mask " +
                         hex(mask) + " lacks the calling lane " + std::to_string(lane));
        abandon(core);
    }
    const unsigned lanes = mask & existing_lanes(core, warp_index);
    WarpSlot& slot = warp.slot[std::countr_zero(lanes)];
    if (slot.arrived == 0) {
        slot.expected = lanes;
        slot.op = op;
        slot.work = work;
        slot.what = nullptr;
    } else if (slot.expected != lanes || slot.op != op ||
               (op == WarpOp::together && slot.work != work)) [[unlikely]] {
        note_failure(core, 719,
                     std::string(name_of(op)) + " with mask " + hex(lanes) + " at " +
                         describe_site(site) + " while other lanes of the warp wait in " +
                         name_of(slot.op) + " with mask " + hex(slot.expected));
        abandon(core);
    }
    slot.arrived |= 1u << lane;
    if (slot.arrived != lanes) {
        wait_in(core, slot.waiting, {Wait::warp, static_cast<uint8_t>(op), lanes, site});
    } else {
        slot.arrived = 0;
        finish(lanes);
        release(core, slot.waiting);
    }
}

}  // namespace

uint64_t warp_op(WarpOp op, unsigned mask, uint64_t value, unsigned source, Site site) {
    Core& core = *context.core;
    const unsigned thread = linear_thread(), lane = thread % 32;
    Warp& warp = core.warps[thread / 32];
    warp.in[lane] = value;
    warp.source[lane] = static_cast<uint8_t>(source);
    // out[lane] stays this lane's until it comes again.
    meet(core, warp, lane, thread / 32, op, mask, site, [&](unsigned lanes) {
        if (op == WarpOp::sync) {
            if (core.races) core.races->sync_warp(thread / 32, lanes);
            return;
        }
        if (op == WarpOp::shuffle) {
            for (unsigned l = 0; l < 32; ++l) {
                const unsigned from = warp.source[l] % 32;
                if (lanes >> l & 1) warp.out[l] = lanes >> from & 1 ? warp.in[from] : ~uint64_t{0};
            }
            return;
        }
        uint64_t sum = start_value(op);
        for (unsigned l = 0; l < 32; ++l)
            if (lanes >> l & 1) sum = combine(op, sum, warp.in[l], l);
        for (unsigned l = 0; l < 32; ++l)
            if (lanes >> l & 1) warp.out[l] = sum;
    });
    return warp.out[lane];
}

void warp_together(unsigned mask, void* mine, void (*work)(void* const* lanes, unsigned mask),
                   Site site) {
    Core& core = *context.core;
    const unsigned thread = linear_thread(), lane = thread % 32;
    Warp& warp = core.warps[thread / 32];
    warp.pointer[lane] = mine;
    meet(
        core, warp, lane, thread / 32, WarpOp::together, mask, site,
        [&](unsigned lanes) {
            void* pointers[32];
            for (unsigned l = 0; l < 32; ++l)
                pointers[l] = lanes >> l & 1 ? warp.pointer[l] : nullptr;
            work(pointers, lanes);
        },
        work);
}

// Out of whole_warp's way: the strings would cost every call a frame and six saved registers.
[[noreturn, gnu::noinline, gnu::cold]] static void refuse_warp(Core& core, const WarpSlot& slot,
                                                               const char* what, Site site) {
    const auto here = [&] { return std::string(what) + " at " + describe_site(site); };
    if (slot.arrived == 0)
        note_failure(core, 719,
                     here() + " needs all 32 lanes, and the block's last warp has " +
                         std::to_string(core.threads % 32));
    else
        note_failure(
            core, 719,
            here() + " while other lanes of the warp are in " +
                (slot.what ? slot.what + (" at " + describe_site(slot.site)) : name_of(slot.op)));
    abandon(core);
}

void whole_warp(void* mine, WarpWork work, const char* what, Site site) {
    Core& core = *context.core;
    const unsigned thread = linear_thread(), lane = thread % 32;
    Warp& warp = core.warps[thread / 32];
    WarpSlot& slot = warp.slot[0];
    if (slot.arrived == 0) {
        if (existing_lanes(core, thread / 32) != ~0u) [[unlikely]]
            refuse_warp(core, slot, what, site);
        slot.expected = ~0u;
        slot.op = WarpOp::together;
        slot.work = work;
        slot.site = site;
        slot.what = what;
    } else if (slot.work != work || slot.what != what || !same_place(slot.site, site))
        [[unlikely]] {
        refuse_warp(core, slot, what, site);
    }
    warp.pointer[lane] = mine;
    slot.arrived |= 1u << lane;
    if (slot.arrived != ~0u) {
        wait_in(core, slot.waiting,
                {Wait::warp, static_cast<uint8_t>(WarpOp::together), ~0u, site, what});
    } else {
        slot.arrived = 0;
        work(warp.pointer, ~0u);
        release(core, slot.waiting);
    }
}

void reset_barriers(Block& block) {
    for (Barrier& b : block.barriers) b = {};
    block.stale = false;
}

void reset_warps(Block& block) {
    for (Warp& warp : block.warps)
        for (WarpSlot& s : warp.slot) s = {};
}

}  // namespace vgpu
