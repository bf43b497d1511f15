// Which accesses of a grid nothing orders: races between threads, and data that TMA or wgmma may
// read before it is there. The grid runner's inside (exec/core.h).
//
// make RACES=1 compiles what has kernels in it with g++'s -fsanitize=thread and links none of its
// library: every load and store of unmodified kernel code calls access_hooks.cpp instead, as the
// Linux kernel does it (kernel/kcsan/core.c). What the operations of ptx/ touch is reported by
// their emulation.
//
// Happens-before as in FastTrack (Flanagan and Freund, PLDI 2009). Agents are the threads of a
// block or cluster, and slots that asynchronous operations take in turn. Each has a clock, and each
// thread knows of all agents up to which clock their accesses lie before its own: barriers,
// __syncwarp, mbarriers and waits for groups spread that. For every two bytes of memory there are
// the last write and one of the last reads (of concurrent ones a random one: that a thread has
// overtaken some reader shows at one of a tile's many elements). Two accesses of which one writes,
// and of which the later one's thread does not know the earlier, are a race.
//
// The asynchronous proxy: what ordinary stores have written is TMA's and wgmma's to read only
// behind a fence.proxy.async (PTX 8.7). So each thread also knows up to which clock a fence has
// come, and operations are held against that.
//
// Global memory: two blocks of a grid are never ordered, so an access of one to what another has
// written is a race, but between atomics. Of reads where the grid has not written yet one in four
// is remembered. TMA's accesses are looked at too, but whether a fence.proxy.async lies between an
// ordinary store to global memory and them is not: no block reads by TMA what its grid writes.
// Grids do not see each other: what streams owe is tried by seeds.
//
// A kernel that was launched to start early (griddepcontrol) may not touch global memory before its
// thread has waited. And none may touch what is outside its block's shared memory and the
// allocations that its device may use, or read shared memory that nobody in the block or cluster
// has written (to two bytes; of global memory VGPU_CHECK=1 shows that, which fills it with NaN).
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <unordered_map>
#include <vector>

#include "host/vgpu/runtime/arena.h"
#include "host/vgpu/include/vgpu/sync.h"

namespace vgpu {

struct Core;
struct Block;
struct Fiber;

class Races {
public:
    // Whether the kernels of this program were compiled to tell of their accesses.
    static bool wanted();

    explicit Races(Core&);
    ~Races();
    Races(const Races&) = delete;
    Races& operator=(const Races&) = delete;

    void begin_grid();
    void begin_block();  // or cluster
    void end_block();    // of a cluster each; may find something

    // ---- accesses -------------------------------------------------------------------------------
    enum class Kind : uint8_t { read, write, atomic };
    // Tells whether the address may be in shared memory or a device's: what is in neither is the
    // thread's own.
    bool looks_at(const volatile void* p) const {
        const uint64_t address = reinterpret_cast<uint64_t>(p);
        return address - kFirstAddress < kMaxDevices * kRange ||
               address - shared_from_ < shared_bytes_;
    }
    // The running thread accesses memory.
    void access(const void* p, uint32_t bytes, Kind, uint32_t place);
    // These number the places in the program: a call's return address, and a source line.
    static uint32_t place(const void* returns_to);
    uint32_t place(Site);

    // ---- asynchronous operations ----------------------------------------------------------------
    struct Operation {
        uint32_t slot = 0, clock = 0;
    };
    // The running thread starts one.
    Operation start();
    // The operation reads or writes a block's shared memory, at the earliest now.
    void access(const Operation&, const Block&, uint32_t offset, uint32_t bytes, Kind,
                uint32_t place);
    // The running thread has waited for the operation's end.
    void acquire(const Operation&);
    // The operation reads or writes global memory.
    void access(const Operation&, const char* global, uint32_t bytes, Kind, uint32_t place);

    // ---- what orders them -----------------------------------------------------------------------
    // What an arrival orders of what its thread has accessed and knows of: everything; or reads
    // and asynchronous operations, not threads' writes (a barrier's arrival that is relaxed, or
    // released at the block's scope where the barrier is another block's).
    enum class Hands : uint8_t { all, reads };
    // The vector clock of what orders threads (a barrier, an mbarrier): a thread that arrives
    // releases its own into it, and one that goes on acquires it.
    struct SyncClock {
        uint64_t generation = 0;
        std::vector<uint32_t> clock, proxy_clock, write_clock;  // by agent
    };
    void sync_block(const Block&);  // all its threads, at __syncthreads
    void sync_warp(unsigned warp, unsigned lanes);
    void arrive(unsigned barrier);  // the running thread, at a named barrier of its block
    // and all who wait in it go on
    void complete(unsigned barrier, const Fiber* waiting, bool me);
    void arrive(const Block&, uint32_t mbarrier, Hands = Hands::all);
    void arrive(const Block&, uint32_t mbarrier, const Operation&);
    void complete(const Block&, uint32_t mbarrier);  // its phase
    void waited(const Block&, uint32_t mbarrier);
    void arrive_cluster(Hands);
    void complete_cluster();
    void waited_cluster();
    void fence_proxy();
    void griddep_waited();

    // What was found, in a sentence, once the grid is abandoned; empty: nothing.
    std::string describe();

private:
    static constexpr unsigned kSlots = 128;

    // An access: its epoch, which is FastTrack's clock@agent, then its place, which of the two
    // bytes, and whether it was atomic. 0 happens before everything.
    struct Epoch {
        static constexpr unsigned kClockBits = 25, kAgentBits = 12, kPlaceBits = 24;
        uint64_t bits = 0;
        static Epoch of(uint32_t clock, uint32_t agent, uint32_t place, uint32_t mask,
                        bool atomic) {
            return {uint64_t{clock} << 39 | uint64_t{agent} << 27 | uint64_t{place} << 3 |
                    mask << 1 | (atomic ? 1u : 0u)};
        }
        uint32_t clock() const { return static_cast<uint32_t>(bits >> 39); }
        uint32_t agent() const {
            return static_cast<uint32_t>(bits >> 27) & ((1u << kAgentBits) - 1);
        }
        uint32_t place() const {
            return static_cast<uint32_t>(bits >> 3) & ((1u << kPlaceBits) - 1);
        }
        uint32_t mask() const { return static_cast<uint32_t>(bits >> 1) & 3; }
        bool atomic() const { return bits & 1; }
        bool same_epoch(Epoch o) const { return bits >> 27 == o.bits >> 27; }
    };
    struct Cell {
        Epoch write, read;
    };
    struct Page {  // of global memory
        Cell* cells = nullptr;
        uint32_t written = 0;  // no write to it is later
    };
    // Who accesses: a thread, or an operation that it has started.
    struct Accessor {
        uint32_t thread, agent, clock;
        bool asynchronous() const { return agent != thread; }
    };
    struct Phases {
        SyncClock pending, done;
    };
    struct Found {
        enum What : uint8_t { nothing, race, unfenced, unwritten, early, outside } what = nothing;
        Epoch before;
        bool before_wrote = false;
        Kind kind = Kind::read;
        uint32_t place = 0;
        bool asynchronous = false, other_block = false;
        const Block* shared = nullptr;  // null: global memory
        uint64_t address = 0;           // or offset
    };

    uint32_t current_agent() const;
    uint32_t agent_of(const Fiber&) const;
    // Of thread t: the clock of each agent up to which that agent's accesses happen before what t
    // does next; up to which they do so for the asynchronous proxy; and up to which a thread's
    // writes do so, if that is earlier than its reads (Hands::reads). Only while materialized_[t]
    // is generation_: see common_clock_.
    uint32_t* vector_clock(uint32_t t) { return vector_clocks_.data() + size_t{t} * 3 * columns_; }
    uint32_t* proxy_clock(uint32_t t) { return vector_clock(t) + columns_; }
    uint32_t* write_clock(uint32_t t) { return vector_clock(t) + 2 * columns_; }
    void materialize(uint32_t t);
    // Whether the access of that epoch happens before this accessor's next one; and for an ordinary
    // store and an accessor of the asynchronous proxy, whether a fence of the proxy lies between
    // the two.
    bool happens_before(Epoch, bool wrote, const Accessor&);
    bool fence_happens_before(Epoch, const Accessor&);
    void forget_all();
    void increment(uint32_t t);  // its own clock: a new epoch of thread t begins
    void reset_if_old(SyncClock&) const;
    void release(uint32_t t, SyncClock&, Hands = Hands::all);
    void acquire(uint32_t t, const SyncClock&);
    Cell* cells_of(const Block&);
    Page& page_of(uint64_t page);
    // the running thread, in a grid that may have started early
    void expect_waited(uint32_t place);
    void record_global(uint64_t address, uint32_t bytes, const Accessor&, Kind, uint32_t place);
    template <bool kGlobal>
    void record(Cell*, uint32_t first, uint32_t bytes, uint64_t address, const Block*,
                const Accessor&, Kind, uint32_t place);
    template <bool kGlobal>
    void expect_ordered(Epoch before, bool before_wrote, const Accessor&, Kind, uint32_t mask,
                        uint32_t place, uint64_t address, const Block*);
    [[noreturn, gnu::noinline, gnu::cold]] void report(const Found&);
    // why_outside_ says why
    [[noreturn, gnu::noinline, gnu::cold]] void report_outside(Kind, uint32_t place);
    std::string text(Epoch) const;

    Core& core_;
    bool on_ = false;       // this grid has no more agents than epochs can name
    bool early_ = false;    // this grid may have started before the one before it was over
    bool proxy_ = false;    // this block has come to a fence or an asynchronous operation
    uint32_t threads_ = 0;  // of the block or cluster
    uint32_t columns_ = 0;  // agents: its threads, then the slots
    // Counts blocks, and barriers behind which every thread's vector clock is the same.
    uint64_t generation_ = 0, block_generation_ = 0;
    uint32_t max_clock_ = 0;                     // no agent's clock is higher
    uint32_t grid_start_ = 0, block_start_ = 0;  // max_clock_ before this grid and this block
    // what vector clocks that are not written out hold for every thread
    uint32_t common_clock_ = 0;
    // by thread: its clock; its clock at its last fence
    std::vector<uint32_t> own_clock_, own_proxy_clock_;
    // by thread: the generation in which its vector clock was last written out
    std::vector<uint64_t> materialized_;
    std::vector<uint32_t> vector_clocks_;
    std::vector<uint64_t> griddep_;  // by thread: block_generation_, once it has waited
    // the blocks' shared memory, and what lies between
    uint64_t shared_from_ = 0, shared_bytes_ = 0;
    uint32_t slot_clock_[kSlots] = {};
    unsigned next_slot_ = 0;
    uint64_t coin_ = 0x9e3779b97f4a7c15u;

    std::vector<SyncClock> named_;                    // by rank and barrier
    std::unordered_map<uint32_t, Phases> mbarriers_;  // by rank and offset
    Phases cluster_;
    SyncClock barrier_clock_;

    std::vector<Cell*> shared_;  // by rank
    std::unordered_map<uint64_t, Page> pages_;
    uint64_t cached_page_[64];
    Page* cached_[64];
    std::unordered_map<uint64_t, uint32_t> sites_;
    std::vector<Site> site_;
    Found found_;
    Found unwritten_;  // the first read of a block of what nobody had written
    uint3 unwritten_by_{};
    std::string why_outside_;
};

}  // namespace vgpu
