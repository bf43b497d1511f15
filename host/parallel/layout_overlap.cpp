// What runs beside what (overlap.h), and the workspace of every stream.
//
// --overlap auto takes on a Hopper GPU in bf16 what the prediction below says to gain, of other
// GPUs the input alone, and nothing on virtual GPUs, where kernels of two streams run one after the
// other and the buffers would cost memory.
#include <algorithm>

#include "host/cuda/device.h"
#include "host/parallel/layout.h"
#include "kernels/common/machine.h"

namespace wt {

namespace {

// The prediction: rates of an H100 or H200. None of them was measured with these kernels.
constexpr double kFlops = 600e12;   // of bf16 products, a second
constexpr double kMemory = 3.7e12;  // bytes a second
constexpr double kMargin = 1.25;    // of the update's time: the trunk leaves it SMs for so long

// What the lowest layer's update hides of the exchange of the trunk's gradient, where it stays.
constexpr double kExchange = 20e-6;

}  // namespace

void Layout::choose_overlap() {
    const OverlapChoice& asked = config.overlap;
    const bool gpu = config.architecture() != 0,
               hopper = config.architecture() == 90 && config.dtype == DType::bf16;
    overlap =
        asked.automatic ? Overlap{.fc_update = hopper, .wgrad = hopper, .input = gpu} : asked.parts;
    // Only a convolution reads the input of either slot.
    if (config.net.layers[0].kind != LayerKind::conv) overlap.input = false;
    if (config.training) return;
    overlap.fc_update = overlap.wgrad = false;
}

// With several workers the upper layers' updates stay where they hide the exchange of the
// gradients, and only the lowest's goes beside the trunk.
void Layout::plan_fc_update() {
    if (!overlap.fc_update) return;
    overlap.fc_update = false;
    if (bottom >= config.net.first_fc()) return;  // the trunk has no backward pass
    std::vector<HeadOp*> beside;
    double bytes = 0;
    bool early = true;
    for (HeadOp& op : head) {
        if (!op.sharded || !op.trained || (config.workers > 1 && &op != &head.front())) continue;
        beside.push_back(&op);
        bytes += op.wgrad.problem.bytes();
        early = early && op.wgrad.problem.sgd && op.wgrad.variant->sm == 90;
    }
    if (beside.empty()) return;
    const int asked = config.overlap.fc_sms, all = planned_sms();
    const int sms = asked >= 0 ? asked : config.architecture() != 0 ? kFcSms : 0;
    if (sms >= all)
        throw UsageError("--overlap fc-update:" + std::to_string(sms) + ": of " +
                         std::to_string(all) + " SMs the convolutions beside it need some");
    const double seconds = sms ? bytes / (sms * kMemoryOfSm) : 0;
    if (sms) limit_trunk(all - sms, seconds);
    // Alone it takes all of the memory's rate; beside the trunk, its SMs' share of that time.
    fc_gain = bytes / kMemory - seconds * sms / all;
    if (config.workers > 1) fc_gain -= kExchange;
    if (config.overlap.automatic && (!early || fc_gain <= 0)) {
        limit_trunk(0, seconds);
        return;
    }
    overlap.fc_update = true;
    fc_sms = sms;
    for (HeadOp* op : beside) {
        op->update_beside = true;
        op->wgrad.sms = sms;
    }
}

// The convolutions that run in the first so many seconds of the trunk's backward pass.
void Layout::limit_trunk(int sms, double seconds) {
    seconds *= kMargin;
    for (int i = static_cast<int>(trunk.size()) - 1; i >= bottom && seconds > 0; --i) {
        TrunkOp& op = trunk[i];
        if (op.pool_back) seconds -= bytes_of<PoolBackwardArgs>(op.pool_back.problem) / kMemory;
        if (op.lrn_pool_back)
            seconds -= bytes_of<LrnPoolBackwardArgs>(op.lrn_pool_back.problem) / kMemory;
        if (op.layer->kind != LayerKind::conv) continue;
        if (op.trained) op.wgrad.sms = sms;
        if (op.needs_dx) op.dgrad.sms = sms;
        seconds -= op.fprop.problem.flops() / kFlops * (op.trained + op.needs_dx);
    }
}

// Every stream has a workspace, as large as the launch there that needs most.
void Layout::plan_workspaces() {
    size_t bytes[kStreams] = {};
    for (const StepList* steps : {&training_steps, &evaluation_steps})
        for (const Step& s : *steps)
            if (const auto* l = std::get_if<Launch>(&s.action)) {
                size_t& most = bytes[static_cast<int>(s.stream)];
                most = std::max(most, l->workspace);
            }
    for (int i = 0; i < kStreams; ++i)
        if (bytes[i])
            workspaces[i] =
                plan.add(std::string("workspace of ") + name_of(static_cast<StreamName>(i)),
                         Use::workspace, bytes[i]);
}

}  // namespace wt
