// Philox4x32-10: a counter-based random number generator (Salmon, Moraes, Dror, Shaw: "Parallel
// random numbers: as easy as 1, 2, 3", SC 2011). Four output words are a pure function of a 128-bit
// counter and a 64-bit key, so a draw belongs to a place (seed, step, row, column), not to a thread
// or to an order of calls.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace wt {

struct PhiloxCounter {
    uint32_t w[4];
};
struct PhiloxKey {
    uint32_t w[2];
};

inline constexpr uint32_t kPhiloxMultiplier0 = 0xD2511F53u, kPhiloxMultiplier1 = 0xCD9E8D57u;
// added to the key each round
inline constexpr uint32_t kPhiloxWeyl0 = 0x9E3779B9u, kPhiloxWeyl1 = 0xBB67AE85u;

__host__ __device__ inline PhiloxCounter philox4x32_10(PhiloxCounter c, PhiloxKey k) {
    for (int round = 0; round < 10; ++round) {
        const uint64_t p0 = uint64_t(kPhiloxMultiplier0) * c.w[0];
        const uint64_t p1 = uint64_t(kPhiloxMultiplier1) * c.w[2];
        c = {{uint32_t(p1 >> 32) ^ c.w[1] ^ k.w[0], uint32_t(p1),
              uint32_t(p0 >> 32) ^ c.w[3] ^ k.w[1], uint32_t(p0)}};
        k.w[0] += kPhiloxWeyl0;
        k.w[1] += kPhiloxWeyl1;
    }
    return c;
}

}  // namespace wt
