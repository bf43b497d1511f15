// When the asynchronous operations that a seed put off happen, and what is checked when a block has
// ended.
#include "host/vgpu/ptx/async.h"

#include "host/vgpu/exec/core.h"

namespace vgpu {
namespace {

// From here on failures are that thread's.
void act_for(const Deferred& d) {
    context.thread = d.by;
    context.block = d.from->index;
}

void complete_at(Core& core, size_t i) {
    const Deferred d = core.deferred[i];
    core.deferred[i] = core.deferred.back();
    core.deferred.pop_back();
    const Context before = context;
    act_for(d);
    complete(core, d);
    context.thread = before.thread;
    context.block = before.block;
}

bool give_up(Core& core, Block& b) {
    for (Barriers::Live& l : b.async.barriers) {
        bool anew = false;
        for (const Fiber* f = l.waiting.head; f; f = f->next) anew |= f->gave_up != core.progress;
        if (!anew) continue;
        for (Fiber* f = l.waiting.head; f; f = f->next)
            f->gave_up = core.progress, f->give_up = true;
        *reinterpret_cast<uint64_t*>(b.shared + l.offset) &= ~kWaited;
        release(core, l.waiting);
        return true;
    }
    return false;
}

}  // namespace

Groups& my_groups(Core& core) {
    Async& a = core.block->async;
    const unsigned thread = linear_thread();
    if (a.threads.size() < core.threads) a.threads.resize(core.threads);
    Groups& g = a.threads[thread];
    if (!g.active) {
        g.active = true;
        g.thread = context.thread;
        a.active.push_back(thread);
    }
    return g;
}

bool unblock(Core& core) {
    // Of what was put off, only what a thread waits for: the rest may come later still.
    size_t wanted = 0, chosen = 0;
    for (size_t i = 0; i < core.deferred.size();) {
        const Deferred& d = core.deferred[i];
        if (d.kind == Deferred::copies &&
            d.to->async.threads[d.thread].copied >= d.upto) {  // the thread has waited for them
            core.deferred[i] = core.deferred.back();
            core.deferred.pop_back();
            continue;
        }
        if ((*d.bar & kWaited) && draw(core) % ++wanted == 0) chosen = i;
        ++i;
    }
    if (wanted) {
        complete_at(core, chosen);
        return true;
    }
    for (unsigned r = 0; r < core.cluster; ++r)
        if (give_up(core, *core.blocks[r])) return true;
    return false;
}

bool complete_any(Core& core) {
    if (core.deferred.empty()) return false;
    complete_at(core, draw(core) % core.deferred.size());
    return true;
}

void end_async(Core& core, Block& b) {
    Async& a = b.async;
    for (size_t i = 0; i < core.deferred.size();) {
        const Deferred& d = core.deferred[i];
        if (d.to != &b) {
            ++i;
        } else if (d.kind == Deferred::copies) {
            core.deferred[i] = core.deferred.back();
            core.deferred.pop_back();
        } else {
            act_for(d);
            note_failure(core, 719,
                         "a copy into shared memory, started at " + describe_site(d.site) +
                             ", that nobody waited for was under way when a block ended");
            abandon(core);
        }
    }
    for (const unsigned thread : a.active) {
        Groups& g = a.threads[thread];
        if (g.stored > g.read) {
            context.thread = g.thread;
            note_failure(
                core, 719,
                "the store at " + describe_site(g.stored_at) +
                    " may still read shared memory when its block has ended (bulk_wait_read)");
            abandon(core);
        }
        run_stores(g, ~0u, false);
        g = {};
    }
    a.active.clear();
    a.barriers.clear(b.shared);
}

void forget_async(Block& b) {
    b.async.active.clear();
    b.async.threads.clear();
    b.async.barriers.clear(b.shared);
}

}  // namespace vgpu
