// SGD with momentum over all tensors of a network in one launch, 8 elements at a time. The tensors travel by value in
// the kernel's parameters (1.7 KB of the 4 KB that every GPU takes); a block finds its tensor in the list of first
// blocks.
#include "kernels/ptx/griddep.h"
#include "kernels/sgd/problem.h"
#include "kernels/tile/group.h"
#include "kernels/tile/stream.h"

namespace wt::sgd_multi {
namespace {

constexpr int kGroup = 8;
constexpr int64_t kPiece = 8192;  // elements of a block

struct Network {
    SgdTensor tensor[kSgdMaxTensors];
    int first_block[kSgdMaxTensors + 1];  // of tensor i; one more for the end
    uint32_t aligned;                     // bit i: tensor i's pointers take whole vectors
    int tensors;
};

__global__ void sgd_multi_kernel(Network net, const StepState* state) {
    ptx::griddep_wait();
    ptx::griddep_launch_dependents();
    int i = 0;
    while (i + 1 < net.tensors && static_cast<int>(blockIdx.x) >= net.first_block[i + 1]) ++i;
    const SgdTensor& t = net.tensor[i];
    const bool aligned = net.aligned >> i & 1;
    const float momentum = state->momentum, lr = state->lr * t.lr_scale, decay = t.weight_decay * lr;
    const int64_t first = (static_cast<int>(blockIdx.x) - net.first_block[i]) * kPiece;
    const int64_t end = min(first + kPiece, t.count);
    for (int64_t at = first + int64_t(threadIdx.x) * kGroup; at < end; at += int64_t(blockDim.x) * kGroup) {
        const int64_t left = end - at;
        float w[kGroup], v[kGroup], g[kGroup];
        load_group(t.w + at, left, aligned, w);
        load_group(t.v + at, left, aligned, v);
        load_group(t.g + at, left, aligned, g);
        WT_LANES
        for (int e = 0; e < kGroup; ++e) {
            v[e] = momentum * v[e] - decay * w[e] - lr * g[e];
            w[e] += v[e];
        }
        store_group(t.v + at, left, aligned, v);
        store_group(t.w + at, left, aligned, w);
        if (t.w_low) store_group(t.w_low + at, left, aligned, w);
    }
}

std::string refuses(const SgdProblem& p) {
    return p.tensors <= kSgdMaxTensors ? "" : "more than 32 tensors: they travel in the kernel's parameters";
}

void run(const SgdProblem& p, const SgdArgs& a) {
    Network net{};
    int64_t blocks = 0;
    for (int i = 0; i < p.tensors; ++i) {
        const SgdTensor& t = a.tensors[i];
        if (!t.count) continue;
        net.tensor[net.tensors] = t;
        net.first_block[net.tensors] = static_cast<int>(blocks);
        if (groups_aligned(t.w, 0, 4) && groups_aligned(t.v, 0, 4) && groups_aligned(t.g, 0, 4) &&
            groups_aligned(t.w_low, 0, 2))
            net.aligned |= 1u << net.tensors;
        blocks += ceil_div(t.count, kPiece);
        ++net.tensors;
    }
    if (!blocks) return;
    net.first_block[net.tensors] = static_cast<int>(blocks);
    launch("sgd_multi", LaunchShape{dim3(static_cast<unsigned>(blocks)), dim3(stream_threads), a.stream}.early(), sgd_multi_kernel, net,
           a.state);
}

}  // namespace

extern const Sgd variant;
const Sgd variant{"multi", refuses, nullptr, run};

}  // namespace wt::sgd_multi
