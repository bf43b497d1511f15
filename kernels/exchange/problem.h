// What workers exchange: a block of a matrix copied from one device to another, and the sum of one
// block of every worker, added in rank order so that runs are bit-equal.
//   copy    dst[i,j] = src[i,j]
//   reduce  dst[i,j] = sum_{r=0}^{sources-1} src_r[i,j]  (fp32 sums; dst may be one of the sources)
// Pointers may belong to a peer device, to which access has been enabled.
#pragma once

#include <cuda_runtime.h>

#include "kernels/common/dtype.h"
#include "kernels/variant.h"

namespace wt {

inline constexpr int kMaxRanks = 16;

struct CopyProblem {
    int64_t rows = 1, cols = 1;
    int64_t ld_src = 1, ld_dst = 1;
    DType dtype = DType::f32;
    double bytes() const { return 2.0 * rows * cols * size_of(dtype); }
};

struct CopyArgs {
    static constexpr const char* operation = "exchange_copy";
    // one device alone cannot tell how fast they are
    static constexpr bool between_devices = true;

    const void* src;
    void* dst;
    cudaStream_t stream;
};

struct ReduceProblem {
    int sources = 1;  // at most kMaxRanks
    int64_t rows = 1, cols = 1;
    int64_t ld_src = 1, ld_dst = 1;
    DType dtype = DType::f32;
    double bytes() const { return (sources + 1.0) * rows * cols * size_of(dtype); }
};

struct ReduceArgs {
    static constexpr const char* operation = "exchange_reduce";
    // one device alone cannot tell how fast they are
    static constexpr bool between_devices = true;

    const void* src[kMaxRanks];
    void* dst;
    cudaStream_t stream;
};

const ProblemFields& fields_of(const CopyProblem&);    // fields.cpp
const ProblemFields& fields_of(const ReduceProblem&);  // fields.cpp

using ExchangeCopy = Variant<CopyProblem, CopyArgs>;
using ExchangeReduce = Variant<ReduceProblem, ReduceArgs>;
Table<CopyProblem, CopyArgs> exchange_copy_variants();
Table<ReduceProblem, ReduceArgs> exchange_reduce_variants();

}  // namespace wt
