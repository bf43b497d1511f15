// The plan of the fully connected part: the backward pass.
#include "host/parallel/layout.h"

namespace wt {

void Layout::plan_head_gradients() {
    const int classes = config.net.classes();
    dlogits =
        plan.add("logits gradient", Use::gradients, config.head_rows() * classes * element_size());
    head.back().dy = dlogits.plus(head.back().units.first * element_size());
    head.back().ld_dy = classes;
    for (int i = static_cast<int>(head.size()) - 1; i >= 0; --i) {
        HeadOp& op = head[i];
        HeadOp* const below = i > 0 && op.needs_dx ? &head[i - 1] : nullptr;
        plan_input_gradient(op, below);
        if (!op.last) plan_output_gradient(op, head[i + 1]);
        plan_dgrad(op, below);
        if (op.trained) plan_wgrad(op);
        if (!op.needs_dx) return;
    }
    if (config.head_workers() == 1)
        alias_trunk_gradient();
    else
        plan_trunk_reduce();
}

// Where dgrad leaves the gradient of the layer's input, and where it lies as the gradient of the
// layer below's output.
void Layout::plan_input_gradient(HeadOp& op, HeadOp* below) {
    const bool alone = config.head_workers() == 1;
    const size_t size = element_size();
    op.ld_dx = op.layer->x.count();
    if (op.needs_dx && !op.row_parallel)
        op.dx = plan.add(op.layer->name + " input gradient", Use::gradients,
                         config.head_rows() * op.ld_dx * size);
    if (!below) return;
    below->ld_dy = alone ? op.layer->x.count() : below->units.count;
    below->dy = alone ? op.dx
                      : plan.add(below->layer->name + " output gradient", Use::gradients,
                                 config.head_rows() * below->ld_dy * size);
    if (!op.row_parallel) return;
    op.dx = below->dy.plus(below->own_column() * size);
    op.ld_dx = below->ld_dy;
}

// What makes the gradient of the layer's product from the gradients that `above` leaves: the
// exchange, and the gradients of activation and dropout.
void Layout::plan_output_gradient(HeadOp& op, const HeadOp& above) {
    const std::string& name = op.layer->name;
    const int K = config.head_workers();
    const int64_t B = config.microbatch_rows(), cols = op.own.count;
    if (op.row_parallel) {
        bind_gather(op, config.dtype);
    } else if (K > 1 && !above.row_parallel) {
        const ReduceProblem sum{.sources = K,
                                .rows = B,
                                .cols = cols,
                                .ld_src = config.packed ? cols : op.layer->out,
                                .ld_dst = cols,
                                .dtype = config.dtype};
        op.reduce = bind(name + ".reduce", exchange_reduce_variants(), sum);
    }
    if (op.has_act) {
        op.act_back.problem = {.rows = B,
                               .cols = cols,
                               .ld_y = op.ld_act_y,
                               .ld_dy = op.ld_dy,
                               .kind = op.relu ? Activation::relu : Activation::tanh,
                               .dtype = config.dtype};
        if (!op.fused_away_backward)
            op.act_back =
                bind(name + ".act_backward", activation_backward_variants(), op.act_back.problem);
    }
    if (op.has_dropout) {
        op.drop_back.problem = op.drop.problem;
        op.drop_back.problem.ld_x = op.ld_dy;
        op.drop_back.problem.ld_y = op.ld_dy;
        if (!op.fused_away_backward)
            op.drop_back = bind(name + ".drop_backward", dropout_variants(), op.drop_back.problem);
    }
}

// The gradient of the layer's input; with it, in one kernel where that is worth it, the gradients
// of the ReLU and the dropout below, whose output this input is: where it is not above 0, nothing
// goes down.
void Layout::plan_dgrad(HeadOp& op, HeadOp* below) {
    const int inputs = static_cast<int>(op.inputs.count);
    const int64_t B = config.microbatch_rows();
    GemmProblem d{.layout = GemmLayout::nn,
                  .m = static_cast<int>(B),
                  .n = inputs,
                  .k = static_cast<int>(op.units.count),
                  .lda = static_cast<int>(op.ld_dy),
                  .ldb = inputs,
                  .ldc = static_cast<int>(op.ld_dx),
                  .dtype = config.dtype,
                  .out = config.dtype,
                  .tf32 = config.tf32,
                  .aligned = op.dy.on_16_bytes() && storage[op.weight].value.on_16_bytes()};
    if (below && below->relu) {
        const std::string act = below->layer->name + ".act_backward";
        const std::string drop = below->layer->name + ".drop_backward";
        const int64_t cols = below->own.count, ld = below->ld_dy;
        const float p = below->drop.problem.p;
        GemmProblem masked = d;
        masked.drelu = true;
        const Part plain{op.name_dgrad, gemm_variants(), d};
        const Part relu{act, activation_backward_variants(),
                        ActivationProblem{.rows = B,
                                          .cols = cols,
                                          .ld_y = below->ld_act_y,
                                          .ld_dy = ld,
                                          .kind = Activation::relu,
                                          .dtype = config.dtype}};
        const Part dropout{
            drop, dropout_variants(),
            DropoutProblem{
                .rows = B, .cols = cols, .ld_x = ld, .ld_y = ld, .p = p, .dtype = config.dtype}};
        const auto takes = [&](const auto&... parts) {
            return fuses(op.name_dgrad + "+drelu", op.name_dgrad, gemm_variants(), masked,
                         parts...);
        };
        const bool named = config.kernels.names(act) || config.kernels.names(drop);
        if (!named && (below->has_dropout ? takes(plain, dropout, relu) : takes(plain, relu))) {
            d = masked;
            below->fused_away_backward = true;
            if (below->has_dropout) op.mask_scale = 1 / (1 - p);
        }
    }
    TrunkOp* const dropped = below ? nullptr : dropout_below_head();
    if (dropped && op.needs_dx && !config.kernels.names(dropped->name_forward)) {
        GemmProblem masked = d;
        masked.drelu = true;
        if (fuses(op.name_dgrad + "+drelu", op.name_dgrad, gemm_variants(), masked,
                  Part{op.name_dgrad, gemm_variants(), d},
                  Part{dropped->name_dgrad, dropout_variants(), dropped->drop.problem})) {
            d = masked;
            dropped->fused_away_backward = true;
            op.mask_scale = 1 / (1 - dropped->drop.problem.p);
        }
    }
    if (op.needs_dx) op.dgrad = bind(op.name_dgrad, gemm_variants(), d);
}

// The trunk's last layer, if it is a dropout whose gradient is that of its output, scaled, where
// the output is above 0: where it kept a 0, what is below, a ReLU or the pooling of one, lets no
// gradient through. Null too where several workers sum their gradients first.
TrunkOp* Layout::dropout_below_head() {
    const int last = static_cast<int>(trunk.size()) - 1;
    if (config.head_workers() > 1 || last < 2 || bottom >= last) return nullptr;
    TrunkOp& drop = trunk[last];
    if (drop.layer->kind != LayerKind::dropout || drop.dx.buffer != drop.dy.buffer) return nullptr;
    const int below = trunk[last - 1].layer->kind == LayerKind::pool ? last - 2 : last - 1;
    const Layer& l = *trunk[below].layer;
    return l.kind == LayerKind::activation && l.act == Activation::relu ? &drop : nullptr;
}

// The gradient of the layer's weights, or their update at once. It is computed once over all
// microbatches, unless each of them has its update.
void Layout::plan_wgrad(HeadOp& op) {
    const std::string& name = op.layer->name;
    const int64_t units = op.units.count, inputs = op.inputs.count;
    const int64_t samples = config.per_microbatch ? config.microbatch_rows() : config.head_rows();
    const GemmProblem w{.layout = GemmLayout::tn,
                        .m = static_cast<int>(units),
                        .n = static_cast<int>(inputs),
                        .k = static_cast<int>(samples),
                        .lda = static_cast<int>(op.ld_dy),
                        .ldb = static_cast<int>(op.layer->x.count()),
                        .ldc = static_cast<int>(inputs),
                        .dtype = config.dtype,
                        .out = DType::f32,
                        .bias = true,
                        .tf32 = config.tf32,
                        .aligned = op.dy.on_16_bytes() && op.x.on_16_bytes()};
    // Nobody else has gradients of a shard, so the product that makes them can use them up, unless
    // those of other batches are to be added.
    GemmProblem updating = w;
    updating.sgd = true;
    const bool updates =
        op.sharded && config.accumulate == 1 && !config.keep_gradients &&
        !config.kernels.names("update.sgd") &&
        fuses(op.name_wgrad + "+sgd", op.name_wgrad, gemm_variants(), updating,
              Part{op.name_wgrad, gemm_variants(), w},
              Part{"update.sgd", sgd_variants(), SgdProblem{1, units * inputs}, name + ".update"});
    op.wgrad = bind(op.name_wgrad, gemm_variants(), updates ? updating : w);
    if (!op.sharded) {
        op.grad = gradient_of(op.weight);
        op.grad_bias = gradient_of(op.weight + 1);
    } else if (updates) {
        op.grad_bias = plan.add(name + " bias gradient", Use::gradients, units * 4);
    } else {
        op.grad = plan.add(name + " gradient", Use::gradients, units * (inputs + 1) * 4);
        op.grad_bias = op.grad.plus(units * inputs * 4);
    }
}

// One worker's trunk reads the gradient where the head leaves it: so do the trunk's top in-place
// layers, and the one below them that reads theirs.
void Layout::alias_trunk_gradient() {
    trunk_dy = head.front().dx;
    trunk_gradients.push_back(trunk_dy.buffer);
    if (trunk.empty()) return;
    const int planned = trunk.back().dy.buffer;
    for (int i = static_cast<int>(trunk.size()) - 1; i >= 0 && trunk[i].dy.buffer == planned; --i) {
        trunk[i].dy = trunk_dy;
        if (trunk[i].dx.buffer != planned) break;
        trunk[i].dx = trunk_dy;
    }
}

// Several workers sum everybody's gradients of their own samples.
void Layout::plan_trunk_reduce() {
    for (const RowBlock& block : blocks()) {
        const ReduceProblem sum{.sources = config.head_workers(),
                                .rows = block.count,
                                .cols = flat_cols,
                                .ld_src = flat_cols,
                                .ld_dst = flat_cols,
                                .dtype = config.dtype};
        flat_reduce.push_back(bind("trunk.reduce", exchange_reduce_variants(), sum));
    }
}

}  // namespace wt
