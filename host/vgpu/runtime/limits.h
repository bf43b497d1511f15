// What a virtual GPU can do: a GPU of compute capability 9.0, with a core of the host as a
// multiprocessor.
#pragma once

#include <cstddef>

namespace vgpu {

// bytes of shared memory a block gets without asking
inline constexpr size_t kSharedDefault = 48 << 10;
// with cudaFuncAttributeMaxDynamicSharedMemorySize
inline constexpr size_t kSharedMax = 227 << 10;
inline constexpr size_t kSharedPerSm = 228 << 10, kSharedReserved = 1 << 10;
inline constexpr int kBlockThreads = 1024, kBlockZ = 64, kGridYz = 65535;
inline constexpr int kSmThreads = 2048, kSmBlocks = 32;
inline constexpr int kL2 = 32 << 20;
inline constexpr unsigned kClusterBlocks = 8, kClusterBlocksNonPortable = 16;
// What is answered of clusters that run at once: those of an H100, whose 132 SMs come in pairs and
// lie in parts (GPCs) of up to 18. A cluster stays within a part.
inline constexpr int kClusterSms = 132, kPartSms = 18;

}  // namespace vgpu
