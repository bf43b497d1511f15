// What translated kernels that count call (translate.py --count), one Counted a thread. Only
// generated files and the counters' own include it.
//
// Threads of a warp run one after the other here, so what they do together is put together
// afterwards. An instruction is issued once for all lanes that come to it in the same iterations of
// the loops around it: every block of instructions keeps a list of such iterations for each warp,
// and an access keeps its lanes' addresses beside it.
#pragma once

#include <cuda.h>

#include "host/vgpu/ptx_exec/counters.h"

namespace vgpu::ptx_exec {

struct CountedClass {
    uint32_t block, type, count;
};
struct CountedMatrix {
    uint32_t block, m, n, k;
    const char* name;
    uint32_t count;
};
struct CountedSite {
    uint32_t block;
    Access access;
    uint32_t bytes;  // of a lane
    uint32_t line;
    const char* file;
};
struct CountedKernel {
    const char* name;  // mangled as g++ does
    void (*loop)(const void* kernel, const void* args);
    uint32_t blocks, class_count, matrix_count, site_count;
    const CountedClass* classes;
    const CountedMatrix* matrix;
    const CountedSite* sites;
};

// `kernels` live as long as the program.
void add_counted(const CountedKernel* const* kernels, size_t count);
// Null where there is none.
const CountedKernel* counted_kernel(const std::string& mangled_name);
// Whether launches take them. These are in kernels.cpp: a program without them has no more.
bool counting();
void set_counting(bool on);

struct BlockCounts;
struct WarpCounts;

// Names an iteration: different ones have different names, as good as always.
inline uint64_t iteration_of(uint64_t around, uint32_t turn) {
    uint64_t h = around ^ (turn * 0x9e3779b97f4a7c15u);
    h = (h ^ h >> 30) * 0xbf58476d1ce4e5b9u;
    h = (h ^ h >> 27) * 0x94d049bb133111ebu;
    return h ^ h >> 31;
}

class Counted {
public:
    explicit Counted(const CountedKernel&);
    ~Counted();
    Counted(const Counted&) = delete;
    Counted& operator=(const Counted&) = delete;

    void enter(unsigned block, uint64_t iteration);
    // Accesses: of global memory or through generic addresses by the host's address, of shared
    // memory by its offset.
    void global(unsigned site, uint64_t address);
    void generic(unsigned site, uint64_t address);
    void shared(unsigned site, uint64_t address);
    // ldmatrix, stmatrix: the lanes of so many matrices have a row's address.
    void matrix_rows(unsigned site, unsigned matrices, uint64_t address);
    void tma(unsigned site, const CUtensorMap_st&, unsigned blocks, const int32_t* at);
    void tma_im2col(unsigned site, const CUtensorMap_st&, int32_t c, int32_t w, int32_t h,
                    int32_t n, uint16_t offset_w, uint16_t offset_h);
    void bulk(unsigned site, uint64_t address, uint32_t bytes);

private:
    BlockCounts& of_;
    WarpCounts& warp_;
    uint32_t* const positions_;  // of each block of instructions: how far its list has been walked
    const unsigned lane_;
    uint32_t instance_ = 0;
};

}  // namespace vgpu::ptx_exec
