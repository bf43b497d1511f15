// Seeds of the virtual GPU (VGPU_SEED), and its search for races, for tests that also run on real
// GPUs, where neither is there.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <vector>

#ifdef VGPU
#include "host/vgpu/diagnosis/races.h"
#endif

namespace wt::test {

// 0, 1, ... n; on a real GPU once is enough.
inline std::vector<uint64_t> seeds([[maybe_unused]] uint64_t n) {
    std::vector<uint64_t> s{0};
#ifdef VGPU
    for (uint64_t i = 1; i <= n; ++i) s.push_back(i);
#endif
    return s;
}

// Whether every access of the kernels is looked at (make RACES=1), which costs a factor of ten.
inline bool races_wanted() {
#ifdef VGPU
    return vgpu::Races::wanted();
#else
    return false;
#endif
}

// Sets the seed, and puts back the one before.
class SeedGuard {
public:
#ifdef VGPU
    explicit SeedGuard(uint64_t seed) : before_(vgpu::seed()) { vgpu::set_seed(seed); }
    ~SeedGuard() { vgpu::set_seed(before_); }

private:
    uint64_t before_;
#else
    explicit SeedGuard(uint64_t) {}
    ~SeedGuard() {}
#endif
    SeedGuard(const SeedGuard&) = delete;
    SeedGuard& operator=(const SeedGuard&) = delete;
};

}  // namespace wt::test
