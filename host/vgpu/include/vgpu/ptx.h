// What the wrappers of kernels/ptx/ call on virtual GPUs: tensor cores, asynchronous copies, their
// barriers, clusters. Semantics as in the PTX ISA; the wrappers' headers state layouts. Implemented
// in host/vgpu/ptx.
//
// Asynchronous operations (cp.async, TMA, wgmma) complete at the earliest or at the latest legal
// point, chosen for each by the seed (VGPU_SEED; 0: the earliest): a kernel that lacks a wait gives
// other results under some seed.
#pragma once

#include <cstdint>

#include "vgpu/sync.h"

struct CUtensorMap_st;

namespace vgpu {

// Address in the block's shared window: the offset from its base, below 2^18.
uint32_t shared_address(const void* shared);

// ---- mma.sync, ldmatrix, wgmma (mma.cpp, wgmma.cpp) ---------------------------------------------
// m x n products of fragments, at most kMmaTile of each: d[m][n][4], a[m][4], b[n][2].
inline constexpr int kMmaTile = 16;
void mma_m16n8k16_bf16(float* d, const uint32_t* a, const uint32_t* b, int m, int n, Site);
void mma_m16n8k8_tf32(float* d, const uint32_t* a, const uint32_t* b, int m, int n, Site);
uint32_t to_tf32(float);
// `count` times: r[count][matrices], a row for each.
void ldmatrix(uint32_t* r, const void* const* rows, int count, int matrices, bool transpose, Site);
void stmatrix(void* const* rows, int count, int matrices, bool transpose, const uint32_t* r, Site);

enum class WgmmaType : uint8_t { bf16, tf32 };
void wgmma(float* d, int n, WgmmaType, uint64_t a, uint64_t b, bool accumulate, bool transpose_a,
           bool transpose_b, Site);
// count x height of them, of bf16, in one call: for each step j along k, to each of `height`
// accumulators, n / 2 floats apart, A of the descriptor a + steps[j * (height + 1) + h] with B of b
// + steps[j * (height + 1) + height]. `accumulate` is for j = 0. Threads of a warpgroup bring the
// same array.
void wgmma_tile(float* d, int n, uint64_t a, uint64_t b, bool accumulate, bool transpose_a,
                bool transpose_b, const uint32_t* steps, int height, int count, Site);
void wgmma_fence(Site);
void wgmma_commit(Site);
void wgmma_wait(int newest, Site);
void set_max_registers(int n, bool increase, Site);
bool elect_one(Site);

// ---- mbarrier, cp.async, TMA (mbarrier.cpp, copy.cpp, tma.cpp) ---------------------------------
void mbarrier_init(uint64_t* bar, uint32_t count, Site);
void mbarrier_inval(uint64_t* bar, Site);
void mbarrier_arrive(uint64_t* bar, Site);
void mbarrier_expect_tx(uint64_t* bar, uint32_t bytes, Site);
void mbarrier_arrive_expect_tx(uint64_t* bar, uint32_t bytes, Site);
void mbarrier_arrive_cluster(uint32_t address, Site);
// Orders what the thread has read, and not what it has written.
void mbarrier_arrive_cluster_read(uint32_t address, Site);
bool mbarrier_try_wait(uint64_t* bar, uint32_t parity, Site);

void cp_async(void* shared, const void* global, int bytes, int src_bytes, Site = Site::current());
void cp_async_commit();
void cp_async_wait(int newest);
void cp_async_mbarrier_arrive_noinc(uint64_t* bar, Site = Site::current());

void tma_load(void* shared, const CUtensorMap_st& map, uint64_t* bar, uint32_t blocks,
              const int32_t* at, int dims, Site = Site::current());
void tma_load_im2col(void* shared, const CUtensorMap_st& map, uint64_t* bar, uint32_t blocks,
                     int32_t c, int32_t w, int32_t h, int32_t n, uint16_t offset_w,
                     uint16_t offset_h, Site = Site::current());
void tma_store(const CUtensorMap_st& map, const void* shared, const int32_t* at, int dims,
               Site = Site::current());
void bulk_load(void* shared, const void* global, uint32_t bytes, uint64_t* bar,
               Site = Site::current());
void bulk_store(void* global, const void* shared, uint32_t bytes, Site = Site::current());
void bulk_commit();
void bulk_wait(int newest, bool read_only);
void fence_proxy_async();

// ---- clusters, dependent launches (cluster.cpp) -------------------------------------------------
uint32_t cluster_rank();
uint32_t cluster_size();
void cluster_arrive(Site, bool relaxed = false);
void cluster_wait(Site);
uint32_t map_shared(const void* shared, uint32_t rank);  // rank << 24 | offset
void* map_shared_pointer(const void* shared, uint32_t rank);
void griddep_wait();
void griddep_launch_dependents();

}  // namespace vgpu
