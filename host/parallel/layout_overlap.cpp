// What runs beside what (overlap.h), and the workspace of every stream.
//
// --overlap auto takes on a Hopper GPU in bf16 what the prediction below says to gain, of other
// GPUs the input alone, and nothing on virtual GPUs, where kernels of two streams run one after the
// other and the buffers would cost memory.
#include <algorithm>

#include "host/cuda/device.h"
#include "host/parallel/layout.h"
#include "kernels/common/machine.h"
#include "kernels/common/sm_limit.h"
#include "kernels/product_plan.h"

namespace wt {

namespace {

// The prediction: rates of an H100 or H200. None of them was measured with these kernels.
constexpr double kFlops = 600e12;   // of bf16 products that no planner counts the clocks of
constexpr double kMemory = 3.7e12;  // bytes a second
constexpr double kGap = 4e-6;       // seconds between two kernels' work
constexpr double kMargin = 1.05;    // of the update's time: the trunk leaves it SMs for so long

// SMs that the update may get, in pairs, of which the best by the prediction is taken. More are
// done sooner, and leave the convolutions fewer: what is right depends on how long these take, and
// on how they fill the SMs that are left.
constexpr int kFewestFcSms = 8, kMostFcSms = 48;

struct FcUpdate {
    int sms = -1;
    double end = 0;
};

// Seconds of a convolution's pass on `sms` SMs, of `all`.
template <class Args>
double product_seconds(const Bound<ConvProblem, Args>& op, ConvPass pass, int sms, int all) {
    const SmLimit limit(sms < all ? sms : 0);
    const std::string name = op.variant->name;
    if (op.variant->sm == 90 && name == "wgmma_sm90")
        return conv_wgmma_seconds(pass, op.problem) + kGap;
    if (op.variant->sm == 90 && name == "views_wgmma_sm90")
        return conv_views_seconds(op.problem) + kGap;
    return op.problem.flops() / kFlops * all / sms + kGap;
}

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
    if (asked >= all)
        throw UsageError("--overlap fc-update:" + std::to_string(asked) + ": of " +
                         std::to_string(all) + " SMs the convolutions beside it need some");
    FcUpdate chosen{.sms = asked};
    if (asked < 0 && config.architecture() == 0) chosen.sms = 0;
    if (asked >= 0 || config.architecture() == 0)
        chosen.end = update_beside_trunk(chosen.sms, bytes, false);
    else
        for (int sms = kFewestFcSms; sms <= kMostFcSms && sms < all; sms += 2) {
            const double end = update_beside_trunk(sms, bytes, false);
            if (chosen.sms < 0 || end < chosen.end) chosen = {sms, end};
        }
    // Against the trunk first and then the update, which alone has all of the memory's rate.
    fc_gain = update_beside_trunk(0, 0, false) + bytes / kMemory - chosen.end;
    if (config.workers > 1) fc_gain -= kExchange;
    if (chosen.sms < 0 || (config.overlap.automatic && (!early || fc_gain <= 0))) return;
    overlap.fc_update = true;
    fc_sms = chosen.sms;
    update_beside_trunk(fc_sms, bytes, true);
    for (HeadOp* op : beside) {
        op->update_beside = true;
        op->wgrad.sms = fc_sms;
    }
}

// Seconds from the begin of the trunk's backward pass until it and an update of so many bytes on
// `sms` SMs (0: no limit) have ended. The convolutions that begin while the update runs have the
// other SMs: `limit` plans them so.
double Layout::update_beside_trunk(int sms, double bytes, bool limit) {
    const int all = planned_sms();
    const double update = bytes / (sms ? std::min(kMemory, sms * kMemoryOfSm) : kMemory) + kGap;
    double t = 0;
    for (int i = static_cast<int>(trunk.size()) - 1; i >= bottom; --i) {
        TrunkOp& op = trunk[i];
        if (op.pool_back) t += bytes_of<PoolBackwardArgs>(op.pool_back.problem) / kMemory + kGap;
        if (op.lrn_pool_back)
            t += bytes_of<LrnPoolBackwardArgs>(op.lrn_pool_back.problem) / kMemory + kGap;
        if (op.layer->kind != LayerKind::conv) continue;
        const auto product = [&](auto& bound, ConvPass pass) {
            const bool beside = sms > 0 && t < kMargin * update;
            if (beside && limit) bound.sms = all - sms;
            t += product_seconds(bound, pass, beside ? all - sms : all, all);
        };
        if (op.trained) product(op.wgrad, ConvPass::wgrad);
        if (op.needs_dx) product(op.dgrad, ConvPass::dgrad);
    }
    return std::max(t, update);
}

// Every stream has a workspace, as large as the launch there that needs most.
void Layout::plan_workspaces() {
    size_t bytes[kStreams] = {};
    for (const StepList* steps :
         {&training_steps, &earlier_steps[0], &earlier_steps[1], &evaluation_steps})
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
