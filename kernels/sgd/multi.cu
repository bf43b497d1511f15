// SGD with momentum over all tensors of a network in one launch. The tensors travel by value in the
// kernel's parameters (1.7 KB of the 4 KB that every GPU takes); a block finds its tensor in the
// list of first blocks.
//   multi   a thread takes 8 elements at a time: on a virtual GPU a SIMD register
//   multi4  4: on a real one every access of a warp to w, v and g is 512 bytes without gaps; with 8
//           it is half of every 32-byte sector of 1 KB, and the other half again
#include "kernels/common/pack.h"
#include "kernels/common/stream.h"
#include "kernels/ptx/griddep.h"
#include "kernels/sgd/problem.h"

namespace wt::sgd_multi {
namespace {

// Elements of a block. Of a real GPU's, so few that the conv layers of AlexNet (3.7 million) are
// 1,831 blocks for the 1,056 that 132 SMs hold at once; a virtual one's blocks are loops, which had
// better be long.
template <int kGroup>
constexpr int64_t kPiece = kGroup == 4 ? 2048 : 8192;

struct Network {
    SgdTensor tensor[kSgdMaxTensors];
    int first_block[kSgdMaxTensors + 1];  // of tensor i; one more for the end
    uint32_t aligned;                     // bit i: tensor i's pointers take whole vectors
    int tensors;
};

template <int kGroup>
__global__ void sgd_multi_kernel(Network net, const StepState* state) {
    ptx::griddep_wait();
    ptx::griddep_launch_dependents();
    int i = 0;
    while (i + 1 < net.tensors && static_cast<int>(blockIdx.x) >= net.first_block[i + 1]) ++i;
    const SgdTensor& t = net.tensor[i];
    const bool aligned = net.aligned >> i & 1;
    const float momentum = state->momentum, lr = state->lr * t.lr_scale,
                decay = t.weight_decay * lr;
    const int64_t first = (static_cast<int>(blockIdx.x) - net.first_block[i]) * kPiece<kGroup>;
    const int64_t end = min(first + kPiece<kGroup>, t.count);
    for (int64_t at = first + int64_t(threadIdx.x) * kGroup; at < end;
         at += int64_t(blockDim.x) * kGroup) {
        const int64_t left = end - at;
        float w[kGroup], v[kGroup], g[kGroup];
        load_pack(t.w + at, left, aligned, w);
        load_pack(t.v + at, left, aligned, v);
        load_pack(t.g + at, left, aligned, g);
        WT_LANES
        for (int e = 0; e < kGroup; ++e) {
            v[e] = momentum * v[e] - decay * w[e] - lr * g[e];
            w[e] += v[e];
        }
        store_pack(t.v + at, left, aligned, v);
        store_pack(t.w + at, left, aligned, w);
        if (t.w_bf16) store_pack(t.w_bf16 + at, left, aligned, w);
    }
}

std::string refuses(const SgdProblem& p) {
    return p.tensors <= kSgdMaxTensors
               ? ""
               : "more than 32 tensors: they travel in the kernel's parameters";
}

template <int kGroup>
void run(const SgdProblem& p, const SgdArgs& a) {
    Network net{};
    int64_t blocks = 0;
    for (int i = 0; i < p.tensors; ++i) {
        const SgdTensor& t = a.tensors[i];
        if (!t.count) continue;
        net.tensor[net.tensors] = t;
        net.first_block[net.tensors] = static_cast<int>(blocks);
        if (packs_aligned(t.w, 0, 4) && packs_aligned(t.v, 0, 4) && packs_aligned(t.g, 0, 4) &&
            packs_aligned(t.w_bf16, 0, 2, kGroup))
            net.aligned |= 1u << net.tensors;
        blocks += ceil_div(t.count, kPiece<kGroup>);
        ++net.tensors;
    }
    if (!blocks) return;
    net.first_block[net.tensors] = static_cast<int>(blocks);
    launch("sgd_multi",
           LaunchShape{dim3(static_cast<unsigned>(blocks)), dim3(plan_overrides.stream_threads),
                       a.stream}
               .with_pdl(),
           sgd_multi_kernel<kGroup>, net, a.state);
}

}  // namespace

extern const Sgd multi, multi4;
const Sgd multi{.name = "multi", .refuses = refuses, .workspace = nullptr, .launch = run<8>};
const Sgd multi4{.name = "multi4", .refuses = refuses, .workspace = nullptr, .launch = run<4>};

}  // namespace wt::sgd_multi
