// Adds the per-row results of softmax cross-entropy in row order: one block loads a piece of the
// rows together (a lone thread would wait out the memory's latency for each), its first thread adds
// them.
#include "kernels/softmax/row_result.h"

#include "kernels/launch.h"
#include "kernels/ptx/griddep.h"

namespace wt {
namespace {

constexpr int kPiece = 128;

struct SharedStorage {
    SoftmaxRow rows[kPiece];
};

__global__ void softmax_stats_kernel(int rows, const SoftmaxRow* results, SoftmaxStats* stats) {
    ptx::griddep_wait();
    ptx::griddep_launch_dependents();
    auto& shared = shared_storage<SharedStorage>();
    SoftmaxStats sum{0, 0, 0, 0};
    for (int first = 0; first < rows; first += kPiece) {
        const int count = min(kPiece, rows - first);
        if (static_cast<int>(threadIdx.x) < count)
            shared.rows[threadIdx.x] = results[first + threadIdx.x];
        __syncthreads();
        if (threadIdx.x == 0)
            for (int i = 0; i < count; ++i) {
                const SoftmaxRow r = shared.rows[i];
                if (r.rank < 0) continue;
                sum.loss_sum += r.loss;
                sum.rows += 1;
                sum.top1 += r.rank == 0;
                sum.top5 += r.rank < 5;
            }
        __syncthreads();
    }
    if (threadIdx.x == 0) *stats = sum;
}

}  // namespace

void launch_softmax_stats(const SoftmaxProblem& p, const SoftmaxRow* rows, SoftmaxStats* stats,
                          cudaStream_t stream) {
    if (!stats) return;
    launch("softmax_stats",
           LaunchShape{.grid = dim3(1),
                       .block = dim3(kPiece),
                       .stream = stream,
                       .shared = sizeof(SharedStorage)}
               .with_pdl(),
           softmax_stats_kernel, p.rows, rows, stats);
}

}  // namespace wt
