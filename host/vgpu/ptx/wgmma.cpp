// wgmma and setmaxnreg: what a warpgroup's 128 threads do in common, in the order of the program.
//
// Each thread's call only notes that it came (about 5 ns, no switch): the first thread appends the
// instruction, or all of a call for several, the others must bring the same, and only at wgmma_wait
// do they meet. Products run for all 128 threads at once, in order:
//   seed 0       when the last thread commits their group: operands are read then, chains along k
//                are one product;
//   other seeds  each group, as drawn, either product by product when the last thread issues it
//                (the earliest legal time) or at the wait (the latest); then the accumulators are
//                NaN in between.
// A tile of accumulators stays in floats of its own until a wait leaves none of its products under
// way: results reach d only there, so a kernel without the wait is wrong under every seed.
#include <algorithm>
#include <cstring>

#include "host/vgpu/exec/core.h"
#include "host/vgpu/ptx/wgmma.h"

namespace vgpu {
namespace {

using Op = WarpgroupOp;

// the NaN that fills accumulators which a seed puts off
constexpr uint32_t kInFlight = 0x7ffff1f0;
constexpr unsigned kRegisters = 65536;  // of a multiprocessor
constexpr size_t kMostFlying = 64;      // accumulators of n = 8 in a thread's 255 registers

struct Self {
    Core& core;
    Warpgroup& g;
    unsigned thread;     // in the warpgroup
    unsigned warpgroup;  // in the block
};

std::string describe(const Op& op) {
    std::string s;
    switch (op.kind()) {
        case Op::fence: s = "wgmma.fence"; break;
        case Op::commit: s = "wgmma.commit_group"; break;
        case Op::wait: s = "wgmma.wait_group " + std::to_string(op.n()); break;
        case Op::registers_less: s = "setmaxnreg.dec " + std::to_string(op.n()); break;
        case Op::registers_more: s = "setmaxnreg.inc " + std::to_string(op.n()); break;
        case Op::product:
            s = "wgmma m64n" + std::to_string(op.n()) +
                (op.type() == WgmmaType::bf16 ? "k16 bf16" : "k8 tf32");
            break;
    }
    return s + " at " + describe_site(op.site());
}

// `text` makes the message: nothing of it may be alive when the fiber is left for good.
template <class Text>
[[noreturn, gnu::noinline, gnu::cold]] void fail_with(Core& core, Text text) {
    note_failure(core, 719, text());
    abandon(core);
}

[[noreturn, gnu::noinline, gnu::cold]] void diverge(Core& core, uint64_t key, Site site,
                                                    const Op& theirs) {
    Op mine;
    mine.key = key;
    mine.file = site.file;
    if (mine.kind() == theirs.kind() && mine.n() == theirs.n() &&
        mine.site().line == theirs.site().line)
        fail_with(core, [&] {
            return describe(mine) +
                   ": this thread's descriptors, transpositions or accumulate are not those of the other threads of its warpgroup";
        });
    fail_with(core, [&] {
        return describe(mine) + " while the other threads of the warpgroup do " + describe(theirs) +
               ": all 128 must do the same in the same order";
    });
}

[[gnu::noinline, gnu::cold]] Warpgroup& first_use(Core& core, unsigned warpgroup, const char* what,
                                                  Site site) {
    if (core.threads - warpgroup * kWarpgroup < kWarpgroup)
        fail_with(core, [&] {
            return std::string(what) + " at " + describe_site(site) +
                   " needs a warpgroup, 128 threads from a multiple of 128 on, and the block has " +
                   std::to_string(core.threads) + " threads";
        });
    Warpgroups& all = core.block->warpgroups;
    all.used = true;
    auto& g = all.of[warpgroup];
    if (!g) g.reset(new Warpgroup);
    return *g;
}

inline Self self(const char* what, Site site) {
    Core& core = *context.core;
    const unsigned thread = linear_thread(), warpgroup = thread / kWarpgroup;
    Warpgroups& all = core.block->warpgroups;
    Warpgroup* g = all.of[warpgroup].get();
    if (!g || !all.used || core.threads - warpgroup * kWarpgroup < kWarpgroup) [[unlikely]]
        g = &first_use(core, warpgroup, what, site);
    return {core, *g, thread % kWarpgroup, warpgroup};
}

// This thread comes to its next instruction.
inline Op& arrive(const Self& me, uint64_t key, Site site, uint64_t a = 0, uint64_t b = 0) {
    Warpgroup& g = me.g;
    const uint32_t at = g.at[me.thread]++;
    if (at == g.ops.size()) {
        Op mine;
        mine.key = key;
        mine.a = a;
        mine.b = b;
        mine.issued = 1;
        mine.file = site.file;
        g.ops.push_back(mine);
        return g.ops.back();
    }
    Op& op = g.ops[at];
    if (op.key != key || op.a != a || op.b != b) [[unlikely]]
        diverge(me.core, key, site, op);
    ++op.issued;
    return op;
}

bool careful(const Core& core) { return core.seed != 0 || checking(); }

uint64_t hash(const float* d, int n) {
    uint64_t h = 0;
    for (int i = 0; i < n / 2; i += 2) {
        uint64_t two;
        std::memcpy(&two, d + i, 8);
        h = (h ^ two) * 0x9e3779b97f4a7c15u;
        h ^= h >> 29;
    }
    return h;
}

// ---- accumulators ----------------------------------------------------------------------------

Accumulators take_spare(Warpgroup& g, int n) {
    Accumulators s;
    if (!g.spare.empty()) {
        s = std::move(g.spare.back());
        g.spare.pop_back();
    }
    std::fill_n(s.d, kWarpgroup, nullptr);
    if (!s.tile || s.n < n)
        s.tile.reset(new (std::align_val_t(
            64)) float[static_cast<size_t>((n + kPanel - 1) / kPanel * kPanel * kTileRows)]);
    s.n = n;
    s.loaded = s.put_off = false;
    return s;
}

// The accumulators that this first thread's product goes to: those in flight, or new ones.
uint16_t find_accumulators(const Self& me, const float* d, const Op& op) {
    Warpgroup& g = me.g;
    for (size_t i = 0; i < g.flying.size(); ++i) {
        const Accumulators& s = g.flying[i];
        const float* theirs = s.d[me.thread];
        if (theirs == d && s.n == op.n()) return static_cast<uint16_t>(i);
        if (theirs && theirs < d + op.n() / 2 && d < theirs + s.n / 2)
            fail_with(me.core, [&] {
                return describe(op) +
                       ": some of its accumulators are in flight in a product of n = " +
                       std::to_string(s.n) + ", which has not been waited for";
            });
    }
    if (g.flying.size() == kMostFlying)
        fail_with(me.core, [&] {
            return describe(op) + ": more accumulators are in flight than a thread has registers";
        });
    g.flying.push_back(take_spare(g, op.n()));
    g.flying.back().put_off = op.put_off;
    return static_cast<uint16_t>(g.flying.size() - 1);
}

// A thread's accumulators go into flight.
void take_off(const Self& me, Accumulators& s, float* d, const Op& op) {
    if (s.d[me.thread])
        fail_with(me.core, [&] {
            return describe(op) +
                   ": this thread's accumulators are not those that the other threads' would make them: they are in another order";
        });
    s.d[me.thread] = d;
    if (careful(me.core))
        for (const Accumulators& l : me.g.landed)
            if (l.d[me.thread] == d && l.n == s.n && hash(d, s.n) != l.hash[me.thread])
                fail_with(me.core, [&] {
                    return describe(op) +
                           ": this thread has written its accumulators since the last wgmma_wait, and no wgmma_fence lies between";
                });
    if (!s.put_off) return;
    if (op.accumulate()) gather_thread(s.tile.get(), s.n, d, me.thread);
    s.loaded = op.accumulate();
    for (int i = 0; i < s.n / 2; ++i) std::memcpy(d + i, &kInFlight, sizeof kInFlight);
}

// Accumulators that a seed put off must still be what filled them.
void expect_untouched(Core& core, const Accumulators& s) {
    for (unsigned t = 0; s.put_off && t < kWarpgroup; ++t)
        for (int i = 0; i < s.n / 2; ++i)
            if (std::memcmp(s.d[t] + i, &kInFlight, sizeof kInFlight) != 0) {
                context.thread = {};
                fail_with(core, [&] {
                    return "accumulators of a warpgroup (its thread " + std::to_string(t) +
                           ", element " + std::to_string(i) +
                           ") were written while a wgmma was under way";
                });
            }
}

void land(Core& core, Warpgroup& g, Accumulators& s) {
    scatter(s.tile.get(), s.n, s.d);
    if (careful(core)) {
        for (unsigned t = 0; t < kWarpgroup; ++t) s.hash[t] = hash(s.d[t], s.n);
        g.landed.push_back(std::move(s));
    } else {
        g.spare.push_back(std::move(s));
    }
}

// ---- products --------------------------------------------------------------------------------

// From now on the product may read its operands.
void tell_reads(Core& core, const Op& op) {
    const uint32_t place = core.races->place(op.site());
    const auto operand = [&](uint64_t descriptor, bool mn_major, int mn) {
        for (const uint32_t chunk : chunks_of(decode(descriptor, mn_major), mn, op.type()))
            core.races->access(op.race, *core.block, chunk, 16, Races::Kind::read, place);
    };
    operand(op.a, op.transpose_a(), kTileRows);
    operand(op.b, op.transpose_b(), op.n());
}

// What the first thread finds out for all. Not inline: it would cost the other threads a frame.
[[gnu::noinline]] void expect_operands(const Self& me, const Op& op) {
    Core& core = me.core;
    if (const char* wrong = refuse(op.a, op.transpose_a(), kTileRows, op.type(), core.grid->shared))
        fail_with(core, [&] { return describe(op) + ": A's descriptor: " + wrong; });
    if (const char* wrong = refuse(op.b, op.transpose_b(), op.n(), op.type(), core.grid->shared))
        fail_with(core, [&] { return describe(op) + ": B's descriptor: " + wrong; });
    if (core.races) tell_reads(core, op);
}
[[gnu::noinline]] void begin_product(const Self& me, Op& op, const float* d) {
    Core& core = me.core;
    Warpgroup& g = me.g;
    if (!g.fenced)
        fail_with(core, [&] {
            return describe(op) +
                   " without a wgmma_fence before it: a warpgroup's first wgmma needs one";
        });
    if (core.races) op.race = core.races->start();
    expect_operands(me, op);
    if (!g.group_open) g.group_put_off = puts_off(core), g.group_open = true;
    op.put_off = g.group_put_off;
    op.group = g.groups;
    op.accumulators = find_accumulators(me, d, op);
}

// Does the products of ops[0 .. end) that are not done: chains at once, those to other accumulators
// between them afterwards. Two chains with the same B, one below the other, unpack it once.
void run(Warpgroup& g, size_t end) {
    Product chain[kMostProducts], before[kMostProducts];
    int count_before = 0;
    for (size_t at = 0; at < end; ++at) {
        Op& first = g.ops[at];
        if (first.kind() != Op::product || first.done) continue;
        Accumulators& s = g.flying[first.accumulators];
        int count = 0;
        for (size_t i = at; i < end && count < most_products(first.type()); ++i) {
            Op& op = g.ops[i];
            if (op.kind() != Op::product || op.done || op.accumulators != first.accumulators)
                continue;
            if (op.type() != first.type() || (count && !op.accumulate())) break;
            chain[count++] = {decode(op.a, op.transpose_a()), decode(op.b, op.transpose_b()),
                              op.type(), op.n()};
            op.done = true;
        }
        if (first.accumulate() && !s.loaded) gather(s.tile.get(), s.n, s.d);
        s.loaded = true;
        const bool same_b =
            count == count_before &&
            std::equal(chain, chain + count, before,
                       [](const Product& p, const Product& q) { return p.same_b(q); });
        multiply(s.tile.get(), s.n, first.accumulate(), chain, count,
                 static_cast<const char*>(context.shared), same_b);
        std::copy_n(chain, count_before = count, before);
    }
}

// All threads have come to the wait: what it waits for is done, and accumulators with nothing left
// under way land.
void finish_wait(const Self& me) {
    Warpgroup& g = me.g;
    const uint32_t newest = static_cast<uint32_t>(g.ops.back().n()),
                   upto = g.groups > newest ? g.groups - newest : 0;
    size_t end = 0;
    for (size_t i = 0; i < g.ops.size(); ++i)
        if (g.ops[i].kind() == Op::product && g.ops[i].group < upto) end = i + 1;
    run(g, end);

    // Landed accumulators that have flown since are not what their hash says any more.
    for (size_t l = 0; l < g.landed.size();) {
        const auto again = [&](const Accumulators& s) { return s.d[0] == g.landed[l].d[0]; };
        if (std::none_of(g.flying.begin(), g.flying.end(), again)) {
            ++l;
            continue;
        }
        g.spare.push_back(std::move(g.landed[l]));
        g.landed.erase(g.landed.begin() + static_cast<ptrdiff_t>(l));
    }
    // A product that ran early, but has not been waited for, is under way still.
    const auto under_way = [&](size_t accumulators) {
        return std::any_of(g.ops.begin(), g.ops.end(), [&](const Op& o) {
            return o.kind() == Op::product && o.accumulators == accumulators && o.group >= upto;
        });
    };
    for (size_t s = 0; s < g.flying.size(); ++s)
        if (!under_way(s)) expect_untouched(me.core, g.flying[s]);
    uint16_t place[kMostFlying];
    std::vector<Accumulators> flying;
    for (size_t s = 0; s < g.flying.size(); ++s) {
        place[s] = static_cast<uint16_t>(flying.size());
        if (under_way(s))
            flying.push_back(std::move(g.flying[s]));
        else
            land(me.core, g, g.flying[s]);
    }
    g.flying = std::move(flying);
    std::erase_if(g.ops, [&](const Op& o) { return o.kind() != Op::product || o.group < upto; });
    for (Op& o : g.ops) o.accumulators = place[o.accumulators];
}

// The last thread lets the others go on.
void meet_again(const Self& me) {
    Warpgroup& g = me.g;
    std::fill_n(g.at, kWarpgroup, static_cast<uint32_t>(g.ops.size()));
    release(me.core, g.waiting);
}

}  // namespace

void wgmma(float* d, int n, WgmmaType type, uint64_t a, uint64_t b, bool accumulate,
           bool transpose_a, bool transpose_b, Site site) {
    const Self me = self("wgmma", site);
    Op& op =
        arrive(me, Op::key_of(Op::product, n, site, type, transpose_a, transpose_b, accumulate),
               site, a, b);
    Warpgroup& g = me.g;
    if (op.issued == 1) begin_product(me, op, d);
    Accumulators& s = g.flying[op.accumulators];
    if (s.d[me.thread] != d) [[unlikely]]
        take_off(me, s, d, op);
    if (op.issued == kWarpgroup && me.core.seed && !op.put_off)
        run(g, static_cast<size_t>(&op - g.ops.data()) + 1);
}

void wgmma_tile(float* d, int n, uint64_t a, uint64_t b, bool accumulate, bool transpose_a,
                bool transpose_b, const uint32_t* steps, int height, int count, Site site) {
    const Self me = self("wgmma", site);
    Warpgroup& g = me.g;
    const size_t at = g.at[me.thread], all = static_cast<size_t>(height * count);
    const bool first = at == g.ops.size();
    Op& op = arrive(
        me, Op::key_of(Op::product, n, site, WgmmaType::bf16, transpose_a, transpose_b, accumulate),
        site, a + steps[0], b + steps[height]);
    if (first)
        op.together = static_cast<uint16_t>(all), op.steps = steps;
    else if (op.steps != steps || op.together != all) [[unlikely]]
        diverge(me.core, op.key, site, op);
    for (int h = 0; h < height; ++h, d += n / 2) {
        if (first) {
            if (h > 0) g.ops.push_back(g.ops[at]);
            Op& mine = g.ops[at + h];
            mine.a = a + steps[h];
            begin_product(me, mine, d);
        }
        const Op& mine = g.ops[at + h];
        Accumulators& s = g.flying[mine.accumulators];
        if (s.d[me.thread] != d) [[unlikely]]
            take_off(me, s, d, mine);
    }
    if (first)
        for (size_t i = height; i < all; ++i) {
            const uint32_t* of = steps + i / height * (height + 1);
            Op next = g.ops[at + i % height];
            next.key =
                Op::key_of(Op::product, n, site, WgmmaType::bf16, transpose_a, transpose_b, true);
            next.a = a + of[i % height], next.b = b + of[height];
            expect_operands(me, next);
            g.ops.push_back(next);
        }
    g.at[me.thread] = static_cast<uint32_t>(at + all);
    if (g.ops[at].issued < kWarpgroup) return;
    for (size_t i = 1; i < all; ++i) g.ops[at + i].issued = kWarpgroup;
    if (me.core.seed && !g.ops[at].put_off) run(g, at + all);
}

void wgmma_fence(Site site) {
    const Self me = self("wgmma.fence", site);
    arrive(me, Op::key_of(Op::fence, 0, site), site);
    me.g.fenced = true;
    if (careful(me.core))
        for (Accumulators& l : me.g.landed)
            if (l.d[me.thread]) l.hash[me.thread] = hash(l.d[me.thread], l.n);
}

void wgmma_commit(Site site) {
    const Self me = self("wgmma.commit_group", site);
    Op& op = arrive(me, Op::key_of(Op::commit, 0, site), site);
    if (op.issued == 1) ++me.g.groups, me.g.group_open = false;
    if (op.issued == kWarpgroup && !me.core.seed)
        run(me.g, static_cast<size_t>(&op - me.g.ops.data()) + 1);
}

void wgmma_wait(int newest, Site site) {
    const Self me = self("wgmma.wait_group", site);
    if (me.core.races)
        for (const Op& op : me.g.ops)
            if (op.kind() == Op::product && op.group + static_cast<uint32_t>(newest) < me.g.groups)
                me.core.races->acquire(op.race);
    if (arrive(me, Op::key_of(Op::wait, newest, site), site).issued < kWarpgroup) {
        wait_in(me.core, me.g.waiting,
                {Wait::warp, 0, 0, site, "wgmma.wait_group (all 128 threads of the warpgroup)"});
        return;
    }
    finish_wait(me);
    meet_again(me);
}

void set_max_registers(int n, bool increase, Site site) {
    const Self me = self("setmaxnreg", site);
    Core& core = me.core;
    Warpgroups& all = core.block->warpgroups;
    // What ptxas gives the kernel is not known here: as much as one block to a multiprocessor may
    // have.
    const unsigned at_launch = std::min(kRegisters / core.threads / 8 * 8, 255u);
    if (!all.registers[0])
        for (unsigned& r : all.registers) r = at_launch;
    const Op& op =
        arrive(me, Op::key_of(increase ? Op::registers_more : Op::registers_less, n, site), site);
    if (op.issued < kWarpgroup) {
        wait_in(core, me.g.waiting,
                {Wait::warp, 0, 0, site, "setmaxnreg (all 128 threads of the warpgroup)"});
        return;
    }
    unsigned& mine_now = all.registers[me.warpgroup];
    const unsigned wanted = static_cast<unsigned>(n);
    if (increase ? wanted < mine_now : wanted > mine_now)
        fail_with(core, [&] {
            return describe(op) + ": the warpgroup has " + std::to_string(mine_now) +
                   " registers a thread" +
                   (mine_now == at_launch
                        ? " (65536 / " + std::to_string(core.threads) + " threads of the block)"
                        : "");
        });
    const auto fits = [&] {
        unsigned sum = 0;
        for (unsigned i = 0; i * kWarpgroup < core.threads; ++i)
            sum += (i == me.warpgroup ? wanted : all.registers[i]) * kWarpgroup;
        return sum <= kRegisters;
    };
    while (increase && !fits())
        wait_in(core, all.short_of_registers,
                {Wait::warp, 0, 0, site,
                 "setmaxnreg.inc (until other warpgroups have given registers back)"});
    mine_now = wanted;
    if (!increase) release(core, all.short_of_registers);
    std::erase_if(me.g.ops, [](const Op& o) { return o.kind() != Op::product; });
    meet_again(me);
}

void end_warpgroups(Core& core, Block& b) {
    for (unsigned i = 0; i * kWarpgroup < core.threads; ++i) {
        if (!b.warpgroups.of[i]) continue;
        Warpgroup& g = *b.warpgroups.of[i];
        for (const Op& op : g.ops) {
            const bool product = op.kind() == Op::product;
            if (op.issued == kWarpgroup && !product) continue;
            context.thread = {};
            fail_with(core, [&] {
                return describe(op) +
                       (op.issued < kWarpgroup
                            ? ": only " + std::to_string(op.issued) +
                                  " of the warpgroup's 128 threads came to it"
                            : " has not been waited for (wgmma_commit, wgmma_wait), and its block has ended");
            });
        }
        g.ops.clear();
        std::fill_n(g.at, kWarpgroup, 0);
        g.groups = 0;
        g.fenced = g.group_open = false;
        for (Accumulators& s : g.landed) g.spare.push_back(std::move(s));
        g.landed.clear();
    }
    std::fill(std::begin(b.warpgroups.registers), std::end(b.warpgroups.registers), 0u);
    b.warpgroups.used = false;
}

void forget_warpgroups(Block& b) { b.warpgroups = {}; }

}  // namespace vgpu
