// Vector clocks and shadow memory. See races.h.
#include "host/vgpu/diagnosis/races.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <utility>

#include "host/vgpu/runtime/arena.h"
#include "host/vgpu/exec/core.h"

extern "C" const char __executable_start;  // of the linker

namespace vgpu {
namespace {

constexpr uint32_t kClocks = 1u << 25, kClocksLeft = 1u << 20;  // that a block may need
constexpr uint64_t kPage = 1 << 16;   // of global memory: shadow is made for so much at a time
constexpr size_t kMostPages = 4096;   // 2 GiB of shadow; then it starts anew
constexpr uint32_t kSite = 1u << 23;  // a place that is a Site

void* map_zeros(size_t bytes) {
    void* p = mmap(nullptr, bytes, PROT_READ | PROT_WRITE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    return p;
}

inline void join(uint32_t* __restrict to, const uint32_t* __restrict by, uint32_t n) {
    for (uint32_t i = 0; i < n; ++i) to[i] = std::max(to[i], by[i]);
}

}  // namespace

Races::Races(Core& core) : core_(core) {
    std::fill(std::begin(cached_page_), std::end(cached_page_), ~uint64_t{0});
}

Races::~Races() {
    for (Cell* c : shared_)
        if (c) munmap(static_cast<void*>(c), kSharedMax / 2 * sizeof(Cell));
    for (auto& [number, page] : pages_)
        munmap(static_cast<void*>(page.cells), kPage / 2 * sizeof(Cell));
}

// ---- grids and blocks ---------------------------------------------------------------------------

void Races::begin_grid() {
    threads_ = core_.threads * core_.cluster;
    columns_ = threads_ + kSlots;
    on_ = columns_ <= 1u << Epoch::kAgentBits;
    if (!on_) {
        static bool said = false;
        if (!std::exchange(said, true))
            std::fprintf(stderr, "vgpu: no races looked for in clusters of more than %u threads\n",
                         (1u << Epoch::kAgentBits) - kSlots);
        return;
    }
    early_ = core_.grid->dependent;
    uint64_t low = ~uint64_t{0}, high = 0;
    for (unsigned r = 0; r < core_.cluster; ++r) {
        const uint64_t at = reinterpret_cast<uint64_t>(core_.blocks[r]->shared);
        low = std::min(low, at), high = std::max(high, at + kSharedMax);
    }
    shared_from_ = low, shared_bytes_ = high - low;
    found_ = {};
    if (max_clock_ > kClocks / 2 || pages_.size() > kMostPages) forget_all();
    grid_start_ = max_clock_;
    own_clock_.resize(threads_);
    own_proxy_clock_.resize(threads_);
    materialized_.assign(threads_, 0);
    griddep_.assign(threads_, 0);
    vector_clocks_.resize(size_t{threads_} * 3 * columns_);
    named_.resize(size_t{core_.cluster} * kNamedBarriers);
    shared_.resize(std::max<size_t>(shared_.size(), core_.cluster));
}

void Races::begin_block() {
    if (!on_) return;
    if (max_clock_ > kClocks - kClocksLeft) forget_all(), grid_start_ = 0;
    common_clock_ = block_start_ = max_clock_++;
    block_generation_ = ++generation_;
    std::fill(own_clock_.begin(), own_clock_.end(), max_clock_);
    std::fill(own_proxy_clock_.begin(), own_proxy_clock_.end(), common_clock_);
    std::fill(std::begin(slot_clock_), std::end(slot_clock_), common_clock_);
    proxy_ = false;
    unwritten_ = {};
    mbarriers_.clear();
}

// Only now: where a barrier is missing, the writer may just come later, and the race says more.
void Races::end_block() {
    if (!on_ || unwritten_.what == Found::nothing) return;
    context.thread = unwritten_by_;
    report(unwritten_);
}

// Drops all epochs of accesses, and begins the clocks anew.
void Races::forget_all() {
    for (Cell* c : shared_)
        if (c) madvise(static_cast<void*>(c), kSharedMax / 2 * sizeof(Cell), MADV_DONTNEED);
    for (auto& [number, page] : pages_)
        munmap(static_cast<void*>(page.cells), kPage / 2 * sizeof(Cell));
    pages_.clear();
    std::fill(std::begin(cached_page_), std::end(cached_page_), ~uint64_t{0});
    max_clock_ = 0;
}

// ---- vector clocks ------------------------------------------------------------------------------

inline uint32_t Races::current_agent() const {
    return core_.block->rank * core_.threads + linear_thread();
}

uint32_t Races::agent_of(const Fiber& f) const {
    const dim3& d = context.block_dim;
    return f.block->rank * core_.threads + f.thread.x + d.x * (f.thread.y + d.y * f.thread.z);
}

// Writes out the vector clock that thread t has had so far without a row of its own.
void Races::materialize(uint32_t t) {
    if (materialized_[t] == generation_) return;
    materialized_[t] = generation_;
    std::fill_n(vector_clock(t), threads_, common_clock_);
    std::fill_n(proxy_clock(t), threads_, block_start_);
    std::fill_n(write_clock(t), threads_, common_clock_);
    std::fill_n(vector_clock(t) + threads_, kSlots, block_start_);
    std::fill_n(proxy_clock(t) + threads_, kSlots, block_start_);
}

// Accesses from here on are later than what others hear of the thread now.
inline void Races::increment(uint32_t t) { max_clock_ = std::max(max_clock_, ++own_clock_[t]); }

void Races::reset_if_old(SyncClock& c) const {
    if (c.generation == generation_ && c.clock.size() == columns_) return;
    c.generation = generation_;
    c.clock.assign(columns_, common_clock_);
    c.proxy_clock.assign(columns_, block_start_);
    c.write_clock.assign(columns_, common_clock_);
    std::fill_n(c.clock.begin() + threads_, kSlots, block_start_);
}

void Races::release(uint32_t t, SyncClock& c, Hands hands) {
    reset_if_old(c);
    if (materialized_[t] == generation_) {
        join(c.clock.data(), vector_clock(t), columns_);
        join(c.proxy_clock.data(), proxy_clock(t), threads_);
        if (hands == Hands::all) join(c.write_clock.data(), write_clock(t), threads_);
    }
    c.clock[t] = std::max(c.clock[t], own_clock_[t]);
    if (hands == Hands::all) c.write_clock[t] = std::max(c.write_clock[t], own_clock_[t]);
    c.proxy_clock[t] = std::max(c.proxy_clock[t], own_proxy_clock_[t]);
    increment(t);
}

void Races::acquire(uint32_t t, const SyncClock& c) {
    if (c.generation != generation_) return;  // older than what every thread has acquired
    materialize(t);
    join(vector_clock(t), c.clock.data(), columns_);
    join(proxy_clock(t), c.proxy_clock.data(), threads_);
    join(write_clock(t), c.write_clock.data(), threads_);
}

void Races::sync_block(const Block& b) {
    if (!on_) return;
    if (core_.cluster == 1 &&
        !proxy_) {  // every thread acquires all others: their vector clocks stay the same
        common_clock_ = max_clock_++;
        ++generation_;
        std::fill(own_clock_.begin(), own_clock_.end(), max_clock_);
        return;
    }
    const uint32_t first = b.rank * core_.threads;
    barrier_clock_.generation = 0;
    for (uint32_t t = 0; t < core_.threads; ++t) release(first + t, barrier_clock_);
    for (uint32_t t = 0; t < core_.threads; ++t) acquire(first + t, barrier_clock_);
}

void Races::sync_warp(unsigned warp, unsigned lanes) {
    if (!on_) return;
    const uint32_t first = core_.block->rank * core_.threads + warp * 32;
    barrier_clock_.generation = 0;
    for (uint32_t l = 0; l < 32; ++l)
        if (lanes >> l & 1) release(first + l, barrier_clock_);
    for (uint32_t l = 0; l < 32; ++l)
        if (lanes >> l & 1) acquire(first + l, barrier_clock_);
}

void Races::arrive(unsigned barrier) {
    if (on_) release(current_agent(), named_[core_.block->rank * kNamedBarriers + barrier]);
}

void Races::complete(unsigned barrier, const Fiber* waiting, bool mine) {
    if (!on_) return;
    SyncClock& c = named_[core_.block->rank * kNamedBarriers + barrier];
    for (; waiting; waiting = waiting->next) acquire(agent_of(*waiting), c);
    if (mine) acquire(current_agent(), c);
    c.generation = 0;
}

inline uint32_t key_of(const Block& b, uint32_t mbarrier) { return b.rank << 18 | mbarrier; }

void Races::arrive(const Block& b, uint32_t mbarrier, Hands hands) {
    if (on_) release(current_agent(), mbarriers_[key_of(b, mbarrier)].pending, hands);
}

void Races::arrive(const Block& b, uint32_t mbarrier, const Operation& o) {
    if (!on_) return;
    SyncClock& c = mbarriers_[key_of(b, mbarrier)].pending;
    reset_if_old(c);
    c.clock[threads_ + o.slot] = std::max(c.clock[threads_ + o.slot], o.clock);
}

static void end_phase(auto& phases) {
    std::swap(phases.done, phases.pending);
    phases.pending.generation = 0;
}

void Races::complete(const Block& b, uint32_t mbarrier) {
    if (on_) end_phase(mbarriers_[key_of(b, mbarrier)]);
}

void Races::waited(const Block& b, uint32_t mbarrier) {
    if (on_) acquire(current_agent(), mbarriers_[key_of(b, mbarrier)].done);
}

void Races::arrive_cluster(Hands hands) {
    if (on_) release(current_agent(), cluster_.pending, hands);
}
void Races::complete_cluster() {
    if (on_) end_phase(cluster_);
}
void Races::waited_cluster() {
    if (on_) acquire(current_agent(), cluster_.done);
}

void Races::fence_proxy() {
    if (!on_) return;
    const uint32_t t = current_agent();
    proxy_ = true;
    materialize(t);
    join(proxy_clock(t), vector_clock(t), threads_);
    own_proxy_clock_[t] = own_clock_[t];
    increment(t);
}

void Races::griddep_waited() {
    if (on_) griddep_[current_agent()] = block_generation_;
}

// ---- asynchronous operations --------------------------------------------------------------------

Races::Operation Races::start() {
    if (!on_) return {};
    proxy_ = true;
    const unsigned s = next_slot_++ % kSlots;
    max_clock_ = std::max(max_clock_, ++slot_clock_[s]);
    return {s, slot_clock_[s]};
}

void Races::acquire(const Operation& o) {
    if (!on_ || !o.clock) return;
    const uint32_t t = current_agent();
    materialize(t);
    uint32_t& k = vector_clock(t)[threads_ + o.slot];
    k = std::max(k, o.clock);
}

void Races::expect_waited(uint32_t place) {
    if (!on_ || !early_ || griddep_[current_agent()] == block_generation_) return;
    Found f;
    f.what = Found::early;
    f.place = place;
    report(f);
}

// ---- accesses -----------------------------------------------------------------------------------

inline bool Races::happens_before(Epoch s, bool wrote, const Accessor& a) {
    const uint32_t by = s.agent();
    if (by == a.agent || by == a.thread) return true;
    if (materialized_[a.thread] == generation_)
        return s.clock() <=
               (wrote && by < threads_ ? write_clock(a.thread) : vector_clock(a.thread))[by];
    return s.clock() <= (by < threads_ ? common_clock_ : block_start_);
}

inline bool Races::fence_happens_before(Epoch s, const Accessor& a) {
    const uint32_t by = s.agent();
    if (by >= threads_) return true;
    if (by == a.thread) return s.clock() <= own_proxy_clock_[by];
    return materialized_[a.thread] == generation_ ? s.clock() <= proxy_clock(a.thread)[by]
                                                  : s.clock() <= block_start_;
}

template <bool kGlobal>
inline void Races::expect_ordered(Epoch before, bool before_wrote, const Accessor& a, Kind kind,
                                  uint32_t mask, uint32_t place, uint64_t address,
                                  const Block* shared) {
    if (before.clock() <= (kGlobal ? grid_start_ : block_start_) || !(before.mask() & mask)) return;
    if (before.atomic() && kind == Kind::atomic) return;
    const bool other_block = kGlobal && before.clock() <= block_start_;
    const Found f{Found::race,      before,      before_wrote, kind,   place,
                  a.asynchronous(), other_block, shared,       address};
    if (other_block || !happens_before(before, before_wrote, a)) [[unlikely]]
        report(f);
    if (!kGlobal && a.asynchronous() && before_wrote && !fence_happens_before(before, a))
        [[unlikely]] {
        Found unfenced = f;
        unfenced.what = Found::unfenced;
        report(unfenced);
    }
}

template <bool kGlobal>
inline void Races::record(Cell* cell, uint32_t first, uint32_t bytes, uint64_t address,
                          const Block* shared, const Accessor& a, Kind kind, uint32_t place) {
    const uint32_t end = first + bytes;
    cell += first / 2;
    for (uint32_t at = first / 2 * 2; at < end; at += 2, ++cell) {
        const uint32_t mask = (at >= first ? 1u : 0u) | (at + 1 < end ? 2u : 0u);
        const Epoch mine = Epoch::of(a.clock, a.agent, place, mask, kind == Kind::atomic);
        const uint64_t here = address + (at - first / 2 * 2);
        expect_ordered<kGlobal>(cell->write, true, a, kind, mask, place, here, shared);
        if (!kGlobal && kind != Kind::write && cell->write.clock() <= block_start_ &&
            unwritten_.what == Found::nothing) [[unlikely]] {
            unwritten_ = {Found::unwritten, {},    false,  kind, place,
                          a.asynchronous(), false, shared, here};
            unwritten_by_ = context.thread;
        }
        if (kind == Kind::read) {
            const Epoch r = cell->read;
            if (r.same_epoch(mine)) {
                cell->read.bits |= uint64_t{mask} << 1;
                continue;
            }
            const bool concurrent =
                r.clock() > (kGlobal ? grid_start_ : block_start_) &&
                ((kGlobal && r.clock() <= block_start_) || !happens_before(r, false, a));
            if (!concurrent || next_random(coin_) & 1 << 20) cell->read = mine;
            continue;
        }
        expect_ordered<kGlobal>(cell->read, false, a, kind, mask, place, here, shared);
        const bool again = cell->write.same_epoch(mine) && cell->write.atomic() == mine.atomic();
        cell->write = again ? Epoch{mine.bits | uint64_t{cell->write.mask()} << 1} : mine;
        if (!(cell->read.mask() & ~mask)) cell->read = {};
    }
}

Races::Cell* Races::cells_of(const Block& b) {
    Cell*& c = shared_[b.rank];
    if (!c) c = static_cast<Cell*>(map_zeros(kSharedMax / 2 * sizeof(Cell)));
    return c;
}

Races::Page& Races::page_of(uint64_t page) {
    const unsigned line = page % 64;
    if (cached_page_[line] == page) [[likely]]
        return *cached_[line];
    Page& p = pages_[page];
    if (!p.cells) p.cells = static_cast<Cell*>(map_zeros(kPage / 2 * sizeof(Cell)));
    cached_page_[line] = page;
    return *(cached_[line] = &p);
}

void Races::record_global(uint64_t address, uint32_t bytes, const Accessor& a, Kind kind,
                          uint32_t place) {
    if (early_) expect_waited(place);
    for (uint64_t at = address, end = address + bytes; at < end;) {  // page by page
        const uint32_t n = static_cast<uint32_t>(std::min(end, (at / kPage + 1) * kPage) - at);
        Page& page = page_of(at / kPage);
        if (kind != Kind::read) page.written = a.clock;
        // Most reads are of what no grid writes while it reads it; their cells would be a cache
        // miss each.
        if (page.written > grid_start_ || (next_random(coin_) & 3 << 20) == 0)
            record<true>(page.cells, static_cast<uint32_t>(at % kPage), n, at, nullptr, a, kind,
                         place);
        at += n;
    }
}

void Races::access(const void* p, uint32_t bytes, Kind kind, uint32_t place) {
    if (!on_) return;
    const size_t size = core_.grid->shared;
    const uint64_t address = reinterpret_cast<uint64_t>(p);
    const Block* b = core_.block;
    size_t offset = address - reinterpret_cast<uint64_t>(b->shared);
    if (offset >= size) {
        if (address - kFirstAddress < kMaxDevices * kRange) {
            if (why_outside_ = why_unreachable(core_, address, bytes); !why_outside_.empty())
                [[unlikely]]
                report_outside(kind, place);
            const uint32_t t = current_agent();
            record_global(address, bytes, {t, t, own_clock_[t]}, kind, place);
            return;
        }
        for (unsigned r = 0; r < core_.cluster && offset >= kSharedMax; ++r) {
            b = core_.blocks[r].get();
            offset = address - reinterpret_cast<uint64_t>(b->shared);
        }
        if (offset >= kSharedMax) return;  // the thread's own
    }
    if (offset + bytes > size) [[unlikely]] {
        why_outside_ = std::to_string(bytes) + " bytes at offset " + std::to_string(offset) +
                       " of the block's " + std::to_string(size) + " of shared memory";
        report_outside(kind, place);
    }
    const uint32_t t = current_agent();
    record<false>(cells_of(*b), static_cast<uint32_t>(offset), bytes, offset, b,
                  {t, t, own_clock_[t]}, kind, place);
}

void Races::access(const Operation& o, const Block& b, uint32_t offset, uint32_t bytes, Kind kind,
                   uint32_t place) {
    if (on_)
        record<false>(cells_of(b), offset, bytes, offset, &b,
                      {current_agent(), threads_ + o.slot, o.clock}, kind, place);
}

void Races::access(const Operation& o, const char* global, uint32_t bytes, Kind kind,
                   uint32_t place) {
    const uint64_t address = reinterpret_cast<uint64_t>(global);
    if (on_ && address - kFirstAddress < kMaxDevices * kRange)
        record_global(address, bytes, {current_agent(), threads_ + o.slot, o.clock}, kind, place);
}

// ---- places, and what is said -------------------------------------------------------------------

uint32_t Races::place(const void* returns_to) {
    // The call itself, to 4 bytes: it is 5 long.
    return static_cast<uint32_t>((static_cast<const char*>(returns_to) - 1 - &__executable_start) >>
                                 2) &
           (kSite - 1);
}

uint32_t Races::place(Site s) {
    const uint64_t key = reinterpret_cast<uint64_t>(s.file) * 0x9e3779b97f4a7c15u + s.line;
    const auto [at, fresh] = sites_.try_emplace(key, kSite | static_cast<uint32_t>(site_.size()));
    if (fresh) site_.push_back(s);
    return at->second;
}

void Races::report_outside(Kind kind, uint32_t place) {
    Found f;
    f.what = Found::outside;
    f.kind = kind;
    f.place = place;
    report(f);
}

void Races::report(const Found& f) {
    found_ = f;
    note_failure(core_, f.what == Found::outside ? 700 : 719, {});
    abandon(core_);
}

namespace {

// "kernels/conv/fprop_tiled.cu:52" of the code there, by addr2line of the compiler's tools; its
// offset where that is not.
std::string source_line(uint32_t place) {
    char command[128];
    std::snprintf(command, sizeof command, "addr2line -ie /proc/%d/exe 0x%x 2>/dev/null",
                  static_cast<int>(getpid()), place << 2);
    std::string first;
    if (FILE* lines = popen(command, "r")) {
        char line[1024];
        while (std::fgets(line, sizeof line, lines)) {
            line[std::strcspn(line, " \n")] = 0;
            // The innermost line of our own that is not the virtual GPU's or the library's.
            const char* at = nullptr;
            for (const char* folder : {"/kernels/", "/test/"})
                if (const char* found = std::strstr(line, folder)) at = found + 1;
            if (at && first.empty()) first = at;
        }
        pclose(lines);
    }
    if (!first.empty()) return first;
    std::snprintf(command, sizeof command, "code at 0x%x of the program", place << 2);
    return command;
}

const char* verb(bool wrote, bool atomic) {
    return atomic ? "updates atomically" : wrote ? "writes" : "reads";
}

}  // namespace

std::string Races::text(Epoch s) const {
    const uint32_t p = s.place();
    return p & kSite ? describe_site(site_[p & (kSite - 1)]) : source_line(p);
}

std::string Races::describe() {
    if (found_.what == Found::nothing) return {};
    const Found f = std::exchange(found_, {});
    const std::string here = text(Epoch::of(0, 0, f.place, 0, false));
    if (f.what == Found::early)
        return "this kernel was launched to start before the one ahead of it is over, and the thread uses global memory at " +
               here + " before griddep_wait";
    if (f.what == Found::outside)
        return "out of bounds: this thread " +
               std::string(verb(f.kind != Kind::read, f.kind == Kind::atomic)) + " at " + here +
               ": " + std::exchange(why_outside_, {});
    char where[64];
    if (f.shared)
        std::snprintf(where, sizeof where, "shared memory, offset 0x%llx",
                      static_cast<unsigned long long>(f.address));
    else
        std::snprintf(where, sizeof where, "global memory, %p", reinterpret_cast<void*>(f.address));
    std::string who;
    if (const uint32_t a = f.before.agent(); f.other_block)
        who = "a thread of another block";
    else if (a >= threads_)
        who = "an asynchronous operation";
    else
        who = "thread " + std::to_string(a % core_.threads) +
              (core_.cluster > 1
                   ? " of block " + std::to_string(a / core_.threads) + " of the cluster"
                   : "");
    const bool wrote = f.kind != Kind::read, atomic = f.kind == Kind::atomic;
    const std::string mine =
        std::string(f.asynchronous ? "an asynchronous operation of this thread " : "this thread ") +
        verb(wrote, atomic) + " at " + here;
    if (f.what == Found::unwritten)
        return "uninitialised (" + std::string(where) + "): " + mine +
               " what no thread has written in this block";
    const std::string both = mine + " what " + who + ' ' + verb(f.before_wrote, f.before.atomic()) +
                             " at " + text(f.before);
    if (f.what == Found::unfenced)
        return "no fence.proxy.async (" + std::string(where) + "): " + both +
               ", and ordinary stores are seen there only behind one";
    return "race (" + std::string(where) + "): " + both +
           (f.other_block ? ", and blocks of a grid are not ordered"
                          : ", and nothing orders the two");
}

}  // namespace vgpu
