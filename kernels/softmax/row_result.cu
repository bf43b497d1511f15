// Adds the per-row results of softmax cross-entropy: one warp, whose lanes add every 32nd row each,
// several loads at a time, and then each other's sums in pairs. One thread would wait for 256
// additions one after the other, between softmax and the backward pass.
#include "kernels/softmax/row_result.h"

#include "kernels/launch.h"
#include "kernels/ptx/griddep.h"

namespace wt {
namespace {

__global__ void softmax_stats_kernel(int rows, const SoftmaxRow* results, SoftmaxStats* stats) {
    ptx::griddep_wait();
    ptx::griddep_launch_dependents();
    const int lane = static_cast<int>(threadIdx.x);
    SoftmaxStats sum{0, 0, 0, 0};
#pragma unroll 8
    for (int i = lane; i < rows; i += 32) {
        const SoftmaxRow r = results[i];
        const bool counts = r.rank >= 0;
        sum.loss_sum += counts ? r.loss : 0.f;
        sum.rows += counts;
        sum.top1 += r.rank == 0;
        sum.top5 += counts && r.rank < 5;
    }
    for (int apart = 16; apart > 0; apart /= 2)
        sum.loss_sum += __shfl_xor_sync(0xffffffffu, sum.loss_sum, apart);
    sum.rows = __reduce_add_sync(0xffffffffu, sum.rows);
    sum.top1 = __reduce_add_sync(0xffffffffu, sum.top1);
    sum.top5 = __reduce_add_sync(0xffffffffu, sum.top5);
    if (lane == 0) *stats = sum;
}

}  // namespace

void launch_softmax_stats(const SoftmaxProblem& p, const SoftmaxRow* rows, SoftmaxStats* stats,
                          cudaStream_t stream) {
    if (!stats) return;
    launch("softmax_stats",
           LaunchShape{.grid = dim3(1), .block = dim3(32), .stream = stream}.with_pdl(),
           softmax_stats_kernel, p.rows, rows, stats);
}

}  // namespace wt
