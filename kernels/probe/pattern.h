// A pattern in memory, written and looked at by kernels: what arrives where it should is told from
// what does not.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>

namespace wt::probe {

// Word i becomes a mix of i and `key`: other words elsewhere, and others under another key.
void write_pattern(uint32_t* words, int64_t count, uint32_t key, cudaStream_t stream);

// How many threads look, and so how many numbers count_wrong leaves.
constexpr int kPatternThreads = 4096;
// wrong[j] = how many of thread j's words are not the pattern's.
void count_wrong(const uint32_t* words, int64_t count, uint32_t key, int64_t* wrong,
                 cudaStream_t stream);

// The first one's kernel: to ask whether there is code of it for a device.
const void* pattern_kernel();

}  // namespace wt::probe
