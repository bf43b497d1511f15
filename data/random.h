// Philox4x32-10 on the host: counter in, four random words out (Salmon et al., "Parallel random numbers: as easy
// as 1, 2, 3", 2011).
#pragma once

#include <array>
#include <cstdint>

namespace wt {

// What a stream of draws is for, so that no two purposes share counters.
enum class Draw : uint32_t { order = 1, crop = 2, colour = 3, synthetic = 4 };

inline std::array<uint32_t, 4> philox(std::array<uint32_t, 4> c, uint64_t key) {
    uint32_t k0 = uint32_t(key), k1 = uint32_t(key >> 32);
    for (int round = 0; round < 10; ++round) {
        const uint64_t a = uint64_t(0xD2511F53) * c[0], b = uint64_t(0xCD9E8D57) * c[2];
        c = {uint32_t(b >> 32) ^ c[1] ^ k0, uint32_t(b), uint32_t(a >> 32) ^ c[3] ^ k1, uint32_t(a)};
        k0 += 0x9E3779B9, k1 += 0xBB67AE85;
    }
    return c;
}

// 0 .. n - 1, each as likely as the next but for a bias of n / 2^32.
inline uint32_t below(uint32_t random, uint32_t n) { return uint32_t((uint64_t(random) * n) >> 32); }

}  // namespace wt
