// When the asynchronous operations that a seed put off happen, and what is checked when a block has ended.
#include "host/vgpu/ptx/async.h"

#include "host/vgpu/exec/core.h"

namespace vgpu {
namespace {

// From here on failures are that thread's.
void act_for(const Deferred& d) {
    context.thread = d.by;
    context.block = d.from->index;
}

void complete_at(Worker& w, size_t i) {
    const Deferred d = w.deferred[i];
    w.deferred[i] = w.deferred.back();
    w.deferred.pop_back();
    const Context before = context;
    act_for(d);
    complete(w, d);
    context.thread = before.thread;
    context.block = before.block;
}

bool give_up(Worker& w, Block& b) {
    for (Barriers::Live& l : b.async.barriers) {
        bool anew = false;
        for (const Fiber* f = l.waiting.head; f; f = f->next) anew |= f->gave_up != w.progress;
        if (!anew) continue;
        for (Fiber* f = l.waiting.head; f; f = f->next) f->gave_up = w.progress, f->give_up = true;
        *reinterpret_cast<uint64_t*>(b.shared + l.offset) &= ~kWaited;
        release(w, l.waiting);
        return true;
    }
    return false;
}

}  // namespace

Groups& my_groups(Worker& w) {
    Async& a = w.block->async;
    const unsigned thread = linear_thread();
    if (a.threads.size() < w.threads) a.threads.resize(w.threads);
    Groups& g = a.threads[thread];
    if (!g.active) {
        g.active = true;
        g.thread = context.thread;
        a.active.push_back(thread);
    }
    return g;
}

bool unblock(Worker& w) {
    // Of what was put off, only what a thread waits for: the rest may come later still.
    size_t wanted = 0, chosen = 0;
    for (size_t i = 0; i < w.deferred.size();) {
        const Deferred& d = w.deferred[i];
        if (d.kind == Deferred::copies && d.to->async.threads[d.thread].copied >= d.upto) {  // the thread has waited for them
            w.deferred[i] = w.deferred.back();
            w.deferred.pop_back();
            continue;
        }
        if ((*d.bar & kWaited) && draw(w) % ++wanted == 0) chosen = i;
        ++i;
    }
    if (wanted) {
        complete_at(w, chosen);
        return true;
    }
    for (unsigned r = 0; r < w.cluster; ++r)
        if (give_up(w, *w.blocks[r])) return true;
    return false;
}

bool complete_any(Worker& w) {
    if (w.deferred.empty()) return false;
    complete_at(w, draw(w) % w.deferred.size());
    return true;
}

void end_async(Worker& w, Block& b) {
    Async& a = b.async;
    for (size_t i = 0; i < w.deferred.size();) {
        const Deferred& d = w.deferred[i];
        if (d.to != &b) {
            ++i;
        } else if (d.kind == Deferred::copies) {
            w.deferred[i] = w.deferred.back();
            w.deferred.pop_back();
        } else {
            act_for(d);
            note_failure(w, 719, "a copy into shared memory, started at " + describe_site(d.site) + ", that nobody waited for was under way when a block ended");
            abandon(w);
        }
    }
    for (const unsigned thread : a.active) {
        Groups& g = a.threads[thread];
        if (g.stored > g.read) {
            context.thread = g.thread;
            note_failure(w, 719, "the store at " + describe_site(g.stored_at) + " may still read shared memory when its block has ended (bulk_wait_read)");
            abandon(w);
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
