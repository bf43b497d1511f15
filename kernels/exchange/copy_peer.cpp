// Copy by the driver: a copy engine moves the block, which leaves the multiprocessors to the
// kernels beside it.
#include "host/cuda/check.h"
#include "kernels/exchange/problem.h"

namespace wt::exchange_copy_peer {
namespace {

void run(const CopyProblem& p, const CopyArgs& a) {
    if (!p.rows || !p.cols) return;
    const size_t size = size_of(p.dtype);
    // Under unified addressing the pointers say which devices they belong to.
    WT_CUDA(cudaMemcpy2DAsync(a.dst, p.ld_dst * size, a.src, p.ld_src * size, p.cols * size, p.rows,
                              cudaMemcpyDefault, a.stream));
}

}  // namespace

extern const ExchangeCopy variant;
const ExchangeCopy variant{
    .name = "peer_copy", .refuses = fits_all<CopyProblem>, .workspace = nullptr, .launch = run};

}  // namespace wt::exchange_copy_peer
