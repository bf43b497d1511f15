// The plan of the fully connected part: the forward pass.
#include "host/parallel/layout.h"

namespace wt {

void Layout::plan_head() {
    const NetSpec& net = config.net;
    const int layers = static_cast<int>(net.layers.size());
    BufferRef x = flat;
    int param = 0;
    while (net.layers[params[param].layer].kind != LayerKind::fc) ++param;

    for (int i = net.first_fc(); i < layers; ++i) {
        const Layer& l = net.layers[i];
        // These two are taken with the layer before.
        if (l.kind == LayerKind::activation || l.kind == LayerKind::dropout) continue;
        if (l.kind != LayerKind::fc)
            throw Error("layer " + l.name + " cannot follow a fully connected layer");
        HeadOp op = head_op(i, param);
        const Layer *act = nullptr, *drop = nullptr;
        int next = i + 1;
        if (next < layers && net.layers[next].kind == LayerKind::activation)
            act = &net.layers[next++];
        if (next < layers && net.layers[next].kind == LayerKind::dropout) {
            drop = &net.layers[next];
            op.dropout_layer = next;
        }
        op.x = x.plus(op.inputs.first * element_size());
        plan_fc_outputs(op, act, drop);
        plan_fprop(op, act, drop);
        x = op.y;
        head.push_back(op);
        param += 2;
    }
    if (config.head_workers() > 1) plan_head_exchange();
    const HeadOp& last = head.back();
    if (!last.last || last.has_act)
        throw Error("network " + net.name + ": the last layer must be fully connected");
    if (config.training) plan_head_gradients();
}

// Layer i's names, and its part of the parameter `param` and of the bias that follows it.
HeadOp Layout::head_op(int i, int param) const {
    const Layer& l = config.net.layers[i];
    HeadOp op;
    op.layer = &l;
    op.name_fprop = l.name + ".fprop";
    op.name_dgrad = l.name + ".dgrad";
    op.name_wgrad = l.name + ".wgrad";
    op.weight = param;
    op.row_parallel = config.row_parallel(i);
    op.own = rows[param + 1];
    op.units = rows[param];
    op.inputs = columns[param];
    const BufferRef bias = storage[param + 1].value;
    op.bias = op.row_parallel ? BufferRef{bias.buffer} : bias;
    op.sharded = params[param].sharded;
    op.trained = !frozen(param);
    op.needs_dx = i > bottom;
    op.last = i + 1 == static_cast<int>(config.net.layers.size());
    return op;
}

// Where the layer's results lie.
void Layout::plan_fc_outputs(HeadOp& op, const Layer* act, const Layer* drop) {
    const Layer& l = *op.layer;
    const size_t size = size_of(op.last ? DType::f32 : config.dtype);
    const size_t bytes = config.head_rows() * l.out * size;
    op.y = plan.add(l.name, Use::activations, bytes);
    if (op.row_parallel) op.partial_sums = plan.add(l.name + " shares", Use::activations, bytes);
    op.act_y = op.y.plus(op.own.first * size);
    op.ld_act_y = l.out;
    if (act) op.name_act = act->name + ".forward";
    if (drop) op.name_drop = drop->name + ".forward";
    op.has_act = act != nullptr;
    op.has_dropout = drop != nullptr;
    op.relu = act && act->act == Activation::relu;
    if (act && drop && act->act == Activation::tanh) {  // its gradient needs tanh's own output
        const size_t own_bytes = config.head_rows() * op.own.count * element_size();
        op.act_y = plan.add(act->name, Use::activations, own_bytes);
        op.ld_act_y = op.own.count;
    }
}

// The product with bias and ReLU. Row-parallel, activation and dropout are of the sum of the
// products, so that this one has neither.
GemmProblem Layout::fprop_problem(const HeadOp& op) const {
    const int inputs = static_cast<int>(op.inputs.count);
    return {.layout = GemmLayout::nt,
            .m = static_cast<int>(config.microbatch_rows()),
            .n = static_cast<int>(op.units.count),
            .k = inputs,
            .lda = static_cast<int>(op.layer->x.count()),
            .ldb = inputs,
            .ldc = static_cast<int>(op.row_parallel ? op.layer->out : op.ld_act_y),
            .dtype = config.dtype,
            .out = op.last ? DType::f32 : config.dtype,
            .bias = true,
            .relu = op.relu && !op.row_parallel,
            .tf32 = config.tf32,
            .aligned = op.x.on_16_bytes() && storage[op.weight].value.on_16_bytes()};
}

void Layout::plan_fprop(HeadOp& op, const Layer* act, const Layer* drop) {
    const int B = static_cast<int>(config.microbatch_rows());
    const int cols = static_cast<int>(op.own.count);
    const GemmProblem product = fprop_problem(op);
    op.fprop_eval = bind(op.name_fprop, gemm_variants(), product);
    op.fprop = op.fprop_eval;
    if (drop)
        op.drop.problem = {.rows = B,
                           .cols = cols,
                           .ld_x = op.ld_act_y,
                           .ld_y = op.layer->out,
                           .p = drop->p,
                           .dtype = config.dtype};
    if (drop && config.training && product.relu && !config.kernels.names(op.name_drop)) {
        GemmProblem dropping = product;
        dropping.dropout = drop->p;
        if (fuses(op.name_fprop + "+dropout", op.name_fprop, gemm_variants(), dropping,
                  Part{op.name_fprop, gemm_variants(), product},
                  Part{op.name_drop, dropout_variants(), op.drop.problem}))
            op.fprop = bind(op.name_fprop, gemm_variants(), dropping);
    }
    if (act && !product.relu) {
        const ActivationProblem p{.rows = B,
                                  .cols = cols,
                                  .ld_y = op.ld_act_y,
                                  .ld_dy = cols,
                                  .kind = act->act,
                                  .dtype = config.dtype};
        op.act = bind(op.name_act, activation_forward_variants(), p);
    }
    if (drop && op.fprop.problem.dropout == 0)
        op.drop = bind(op.name_drop, dropout_variants(), op.drop.problem);
}

// What brings everybody's columns, or the sum of everybody's products, to where the next layer
// reads them; and everybody's samples to the first layer.
void Layout::plan_head_exchange() {
    const int K = config.head_workers();
    for (size_t i = 0; i < head.size(); ++i) {
        HeadOp& op = head[i];
        const DType out = op.last ? DType::f32 : config.dtype;
        if (!op.row_parallel) {
            if (op.last || !head[i + 1].row_parallel) bind_gather(op, out);
            continue;
        }
        const int64_t cols = op.last ? op.layer->out : op.own.count;
        const ReduceProblem sum{.sources = K,
                                .rows = config.microbatch_rows(),
                                .cols = cols,
                                .ld_src = config.packed ? cols : op.layer->out,
                                .ld_dst = op.last ? op.layer->out : op.ld_act_y,
                                .dtype = out};
        op.reduce = bind(op.layer->name + ".reduce", exchange_reduce_variants(), sum);
    }
    for (int j = 0; j < config.microbatch_count(); ++j)
        for (int r = 0; r < K; ++r) {
            const CopyProblem rows_of_r{.rows = block_in(r, j).count,
                                        .cols = flat_cols,
                                        .ld_src = flat_cols,
                                        .ld_dst = flat_cols,
                                        .dtype = config.dtype};
            gather_flat.push_back(bind("trunk.gather", exchange_copy_variants(), rows_of_r));
        }
}

void Layout::bind_gather(HeadOp& op, DType dtype) {
    const int64_t units = op.layer->out;
    for (int r = 0; r < config.workers; ++r) {
        const int64_t cols = shard_of(units, r, config.workers).count;
        const CopyProblem p{.rows = config.microbatch_rows(),
                            .cols = cols,
                            .ld_src = config.packed ? cols : units,
                            .ld_dst = units,
                            .dtype = dtype};
        op.gather.push_back(bind(op.layer->name + ".gather", exchange_copy_variants(), p));
    }
}

}  // namespace wt
