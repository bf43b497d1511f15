// What the warpgroups of a block have under way: their wgmmas, and the registers that setmaxnreg
// has given them. The grid runner's inside (exec/core.h); wgmma.cpp keeps it, wgmma_tile.cpp does
// the products.
#pragma once

#include <cstdint>
#include <memory>
#include <new>
#include <vector>

#include "host/vgpu/exec/fiber.h"
#include "host/vgpu/runtime/limits.h"
#include "host/vgpu/diagnosis/races.h"
#include "vgpu/ptx.h"

namespace vgpu {

struct Core;
struct Block;

inline constexpr unsigned kWarpgroup = 128;
inline constexpr int kTileRows = 64, kPanel = 16;

// ---- the products (wgmma_tile.cpp) --------------------------------------------------------------

// An operand as its descriptor gives it: element (mn, k) lies at swizzle(start + offset(mn, k)) of
// shared memory.
struct Operand {
    uint32_t start, leading, stride;
    uint32_t span;  // bytes of a swizzled row: 16 (no swizzle), 32, 64, 128
    bool mn_major;
    bool operator==(const Operand&) const = default;
};
Operand decode(uint64_t descriptor, bool mn_major);
// Says what is wrong with a descriptor for `mn` rows or columns of this type in a block with so
// much shared memory. Null when nothing is.
const char* refuse(uint64_t descriptor, bool mn_major, int mn, WgmmaType, size_t shared);

// Returns the offsets of the operand's 16-byte chunks in shared memory.
std::vector<uint32_t> chunks_of(const Operand&, int mn, WgmmaType);

struct Product {
    Operand a, b;
    WgmmaType type;
    int n;
    bool same_b(const Product& o) const { return b == o.b && type == o.type && n == o.n; }
};
// Tile = (accumulate ? tile : 0) + sum of the products, all of the same type and n. The tile is in
// panels of 16 columns: [ceil(n / 16)][64][16]. same_b: their B's are those of this thread's call
// before, and so is what they hold.
void multiply(float* tile, int n, bool accumulate, const Product* products, int count,
              const char* shared, bool same_b);
// Most products that one call takes: 64 along k.
inline constexpr int kMostProducts = 8;
inline int most_products(WgmmaType t) { return t == WgmmaType::bf16 ? 4 : 8; }
// These copy the accumulators of the warpgroup's threads into a tile, and out of it.
void gather(float* tile, int n, float* const* d);
void scatter(const float* tile, int n, float* const* d);
// This copies those of one thread into the tile.
void gather_thread(float* tile, int n, const float* d, unsigned thread);

// ---- their order (wgmma.cpp) --------------------------------------------------------------------

// Accumulators in flight: every thread's d, and their values, which d gets back at the wait.
struct Accumulators {
    float* d[kWarpgroup];  // null: the thread has not come yet
    int n = 0;
    bool loaded = false;   // the tile has values
    bool put_off = false;  // d went into the tile at the issue, and is NaN until the wait
    struct Free {
        void operator()(float* p) const { ::operator delete[](p, std::align_val_t(64)); }
    };
    std::unique_ptr<float[], Free> tile;
    // of d since the last wait or fence; while not in flight, where that is checked
    uint64_t hash[kWarpgroup];
};

// One instruction of a warpgroup. The first of its threads to come appends it, the others must
// bring the same.
struct WarpgroupOp {
    enum Kind : uint8_t { fence, product, commit, wait, registers_less, registers_more };
    // What must be the same, in one word: kind, then n (columns; groups that may stay under way;
    // registers), type, transpositions, accumulate, and the line of the source.
    uint64_t key = 0;
    uint64_t a = 0, b = 0;
    unsigned issued = 0;              // threads
    uint16_t together = 1;            // products that came in one call; the others follow
    const uint32_t* steps = nullptr;  // of such a call
    uint32_t group = 0;               // commits before it
    uint16_t accumulators = 0;        // in Warpgroup::flying
    bool put_off = false;             // happens at the wait, not at the issue
    bool done = false;
    const char* file = nullptr;
    Races::Operation race;

    static uint64_t key_of(Kind kind, int n, Site site, WgmmaType type = {},
                           bool transpose_a = false, bool transpose_b = false,
                           bool accumulate = false) {
        return kind | static_cast<uint64_t>(n) << 8 | static_cast<uint64_t>(type) << 24 |
               uint64_t{transpose_a} << 25 | uint64_t{transpose_b} << 26 |
               uint64_t{accumulate} << 27 | uint64_t{site.line} << 32;
    }
    Kind kind() const { return static_cast<Kind>(key & 0xff); }
    int n() const { return static_cast<int>(key >> 8 & 0xffff); }
    WgmmaType type() const { return static_cast<WgmmaType>(key >> 24 & 1); }
    bool transpose_a() const { return key >> 25 & 1; }
    bool transpose_b() const { return key >> 26 & 1; }
    bool accumulate() const { return key >> 27 & 1; }
    Site site() const { return {file, static_cast<unsigned>(key >> 32)}; }
};

struct Warpgroup {
    std::vector<WarpgroupOp>
        ops;  // since the last wait of all; before them the products not done by then
    uint32_t at[kWarpgroup] = {};  // each thread's place in ops
    uint32_t groups = 0;           // committed so far
    bool fenced = false;           // ever
    bool group_put_off = false;    // the group that is being issued
    bool group_open = false;
    std::vector<Accumulators> flying, landed;  // landed: since the last wait, not used since
    std::vector<Accumulators> spare;           // their memory is used again
    FiberList waiting;
};

struct Warpgroups {
    bool used = false;
    std::unique_ptr<Warpgroup> of[kBlockThreads / kWarpgroup];
    // a thread; 0: setmaxnreg has not been used
    unsigned registers[kBlockThreads / kWarpgroup] = {};
    FiberList short_of_registers;
};

// Called when every thread of the block has returned: fails the grid when a product was not waited
// for.
void end_warpgroups(Core&, Block&);
// The same without checks, after a grid that was abandoned.
void forget_warpgroups(Block&);

}  // namespace vgpu
