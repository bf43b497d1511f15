// The plan of the fully connected part.
#include "host/parallel/layout.h"

namespace wt {

namespace {

// Whether an operand there starts on 16 bytes, in every pass: buffers do, and rows that are a multiple of 16 bytes long
// (kernels that need it look at the leading dimensions themselves).
bool on_16_bytes(Place p) { return p.offset % 16 == 0; }

}  // namespace

void Layout::plan_head() {
    const NetSpec& net = config.net;
    const int K = config.head_workers();
    const int64_t rows_in_all = config.head_rows();
    const int B = static_cast<int>(config.pass_rows());
    const size_t es = size_of(config.dtype);
    const KernelSettings& k = config.kernels;
    Place x = flat;
    int param = 0;
    while (net.layers[params[param].layer].kind != LayerKind::fc) ++param;

    for (int i = net.first_fc(); i < static_cast<int>(net.layers.size()); ++i) {
        const Layer& l = net.layers[i];
        if (l.kind == LayerKind::activation || l.kind == LayerKind::dropout) continue;  // taken with the layer before
        if (l.kind != LayerKind::fc) throw Error("layer " + l.name + " cannot follow a fully connected layer");
        HeadOp op;
        op.layer = &l;
        op.name_fprop = l.name + ".fprop", op.name_dgrad = l.name + ".dgrad", op.name_wgrad = l.name + ".wgrad";
        op.weight = param;
        op.by_inputs = config.by_inputs(i);
        op.own = rows[param + 1];
        op.units = rows[param];
        op.inputs = columns[param];
        op.bias = op.by_inputs ? Place{storage[param + 1].value.buffer} : storage[param + 1].value;
        op.sharded = params[param].sharded;
        op.trained = !frozen(param);
        op.needs_dx = i > bottom;
        param += 2;
        op.last = i + 1 == static_cast<int>(net.layers.size());
        const Layer *act = nullptr, *drop = nullptr;
        int next = i + 1;
        if (next < static_cast<int>(net.layers.size()) && net.layers[next].kind == LayerKind::activation) act = &net.layers[next++];
        if (next < static_cast<int>(net.layers.size()) && net.layers[next].kind == LayerKind::dropout) drop = &net.layers[next], op.dropout_layer = next;

        const int in = static_cast<int>(l.x.count()), units = l.out, cols = static_cast<int>(op.own.count);
        const DType out = op.last ? DType::f32 : config.dtype;
        op.x = x.plus(op.inputs.first * es);
        op.y = plan.add(l.name, Use::activations, rows_in_all * units * size_of(out));
        if (op.by_inputs) op.shares = plan.add(l.name + " shares", Use::activations, rows_in_all * units * size_of(out));
        op.kept = op.y.plus(op.own.first * size_of(out));
        op.ld_kept = units;
        if (act) op.name_act = act->name + ".forward";
        if (drop) op.name_drop = drop->name + ".forward";
        op.has_act = act != nullptr;
        op.has_dropout = drop != nullptr;
        op.relu = act && act->act == Activation::relu;
        if (act && drop && act->act == Activation::tanh) {  // its gradient needs tanh's own output
            op.kept = plan.add(act->name, Use::activations, rows_in_all * cols * es);
            op.ld_kept = cols;
        }
        // By inputs, bias, activation and dropout are of the sum.
        const int ni = static_cast<int>(op.inputs.count), nu = static_cast<int>(op.units.count);
        GemmProblem f{GemmLayout::nt, B, nu, ni, in, ni, static_cast<int>(op.by_inputs ? units : op.ld_kept), config.dtype, out, true, op.relu && !op.by_inputs};
        f.tf32 = config.tf32;
        f.aligned = on_16_bytes(op.x) && on_16_bytes(storage[op.weight].value);
        op.fprop_eval = bind(op.name_fprop, gemm_variants(), f);
        op.fprop = op.fprop_eval;
        if (drop && config.training && f.relu && !k.names(drop->name + ".forward")) {
            GemmProblem dropping = f;
            dropping.dropout = drop->p;
            if (fuses(op.name_fprop + "+dropout", op.name_fprop, gemm_variants(), dropping, Part{op.name_fprop, gemm_variants(), f},
                      Part{drop->name + ".forward", dropout_variants(), DropoutProblem{B, cols, op.ld_kept, units, drop->p, config.dtype}}))
                op.fprop = bind(op.name_fprop, gemm_variants(), dropping);
        }
        if (act && !f.relu)
            op.act = bind(act->name + ".forward", activation_forward_variants(), ActivationProblem{B, cols, op.ld_kept, cols, act->act, config.dtype});
        if (drop) {
            op.drop.problem = {B, cols, op.ld_kept, units, drop->p, config.dtype};
            if (op.fprop.problem.dropout == 0) op.drop = bind(drop->name + ".forward", dropout_variants(), op.drop.problem);
        }
        x = op.y;
        head.push_back(op);
    }
    for (size_t i = 0; i < head.size() && K > 1; ++i) {
        HeadOp& op = head[i];
        if (!op.by_inputs && (op.last || !head[i + 1].by_inputs)) bind_gather(op, op.last ? DType::f32 : config.dtype);
        if (!op.by_inputs) continue;
        const int64_t units = op.layer->out, n = op.last ? units : op.own.count;
        op.reduce = bind(op.layer->name + ".reduce", exchange_reduce_variants(),
                         ReduceProblem{K, B, n, config.packed ? n : units, op.last ? units : op.ld_kept, op.last ? DType::f32 : config.dtype});
    }
    for (int j = 0; j < config.pass_count() && K > 1; ++j)
        for (int r = 0; r < K; ++r) {
            const int64_t n = block_in(r, j).count;
            gather_flat.push_back(bind("trunk.gather", exchange_copy_variants(), CopyProblem{n, flat_cols, flat_cols, flat_cols, config.dtype}));
        }
    const HeadOp& last = head.back();
    if (!last.last || last.has_act) throw Error("network " + net.name + ": the last layer must be fully connected");
    if (config.training) plan_head_gradients();
}

void Layout::bind_gather(HeadOp& op, DType dtype) {
    const int64_t units = op.layer->out;
    for (int r = 0; r < config.workers; ++r) {
        const int64_t n = shard_of(units, r, config.workers).count;
        op.gather.push_back(bind(op.layer->name + ".gather", exchange_copy_variants(), CopyProblem{config.pass_rows(), n, config.packed ? n : units, units, dtype}));
    }
}

void Layout::plan_head_gradients() {
    const NetSpec& net = config.net;
    const int K = config.head_workers();
    const int64_t rows_in_all = config.head_rows();
    const int B = static_cast<int>(config.pass_rows());
    const size_t es = size_of(config.dtype);
    const KernelSettings& k = config.kernels;
    dlogits = plan.add("logits gradient", Use::gradients, rows_in_all * net.classes() * es);
    head.back().dy = dlogits.plus(head.back().units.first * es);
    head.back().ld_dy = net.classes();
    for (int i = static_cast<int>(head.size()) - 1; i >= 0; --i) {
        HeadOp& op = head[i];
        const std::string& name = op.layer->name;
        HeadOp* const below = i > 0 && op.needs_dx ? &head[i - 1] : nullptr;
        const int in = static_cast<int>(op.layer->x.count()), cols = static_cast<int>(op.own.count);
        const int ni = static_cast<int>(op.inputs.count), nu = static_cast<int>(op.units.count);
        op.ld_dx = in;
        if (op.needs_dx && !op.by_inputs) op.dx = plan.add(name + " input gradient", Use::gradients, rows_in_all * in * es);
        if (below) {
            below->ld_dy = K == 1 ? in : below->units.count;
            below->dy = K == 1 ? op.dx : plan.add(below->layer->name + " output gradient", Use::gradients, rows_in_all * below->ld_dy * es);
            if (op.by_inputs) op.dx = below->dy.plus(below->own_column() * es), op.ld_dx = below->ld_dy;
        }
        if (!op.last) {
            if (op.by_inputs)
                bind_gather(op, config.dtype);
            else if (K > 1 && !head[i + 1].by_inputs)  // own columns of the sum over the workers of the layer above's shares
                op.reduce = bind(name + ".reduce", exchange_reduce_variants(), ReduceProblem{K, B, cols, config.packed ? cols : op.layer->out, cols, config.dtype});
            if (op.has_act) {
                op.act_back.problem = {B, cols, op.ld_kept, op.ld_dy, op.relu ? Activation::relu : Activation::tanh, config.dtype};
                if (!op.backward_elsewhere) op.act_back = bind(name + ".act_backward", activation_backward_variants(), op.act_back.problem);
            }
            if (op.has_dropout) {
                op.drop_back.problem = op.drop.problem;
                op.drop_back.problem.ld_x = op.drop_back.problem.ld_y = op.ld_dy;
                if (!op.backward_elsewhere) op.drop_back = bind(name + ".drop_backward", dropout_variants(), op.drop_back.problem);
            }
        }
        const int ld_dy = static_cast<int>(op.ld_dy);
        GemmProblem d{GemmLayout::nn, B, ni, nu, ld_dy, ni, static_cast<int>(op.ld_dx), config.dtype, config.dtype};
        // Once over all passes, unless every pass has its update.
        GemmProblem w{GemmLayout::tn, nu, ni, static_cast<int>(config.per_pass ? B : rows_in_all), ld_dy, in, ni, config.dtype, DType::f32, true};
        d.tf32 = w.tf32 = config.tf32;
        d.aligned = on_16_bytes(op.dy) && on_16_bytes(storage[op.weight].value);
        w.aligned = on_16_bytes(op.dy) && on_16_bytes(op.x);

        // The gradients of the ReLU and dropout below, which is this layer's input: where it is not above 0, nothing goes down.
        if (below && below->relu) {
            const std::string act = below->layer->name + ".act_backward", drop = below->layer->name + ".drop_backward";
            const int64_t width = below->own.count, ld = below->ld_dy;
            GemmProblem masked = d;
            masked.drelu = true;
            const Part plain{op.name_dgrad, gemm_variants(), d};
            const Part relu{act, activation_backward_variants(), ActivationProblem{B, width, below->ld_kept, ld, Activation::relu, config.dtype}};
            const float p = below->drop.problem.p;
            const Part dropout{drop, dropout_variants(), DropoutProblem{B, width, ld, ld, p, config.dtype}};
            const auto takes = [&](const auto&... parts) { return fuses(op.name_dgrad + "+drelu", op.name_dgrad, gemm_variants(), masked, parts...); };
            if (!k.names(act) && !k.names(drop) && (below->has_dropout ? takes(plain, dropout, relu) : takes(plain, relu))) {
                d = masked;
                below->backward_elsewhere = true;
                if (below->has_dropout) op.mask_scale = 1 / (1 - p);
            }
        }
        if (op.needs_dx) op.dgrad = bind(op.name_dgrad, gemm_variants(), d);
        if (op.trained) plan_wgrad(op, w);
        if (!op.needs_dx) return;
    }
    if (K == 1) {
        trunk_dy = head.front().dx;
        if (!trunk.empty()) {  // the trunk's top in-place layers, and the one that reads their gradient, use it too
            const int old = trunk.back().dy.buffer;
            for (int i = static_cast<int>(trunk.size()) - 1; i >= 0 && trunk[i].dy.buffer == old; --i) {
                trunk[i].dy = trunk_dy;
                if (trunk[i].dx.buffer != old) break;
                trunk[i].dx = trunk_dy;
            }
        }
        return;
    }
    for (const RowBlock& block : blocks())
        flat_reduce.push_back(bind("trunk.reduce", exchange_reduce_variants(), ReduceProblem{K, block.count, flat_cols, flat_cols, flat_cols, config.dtype}));
}

// The gradient of a layer's weights, or their update at once.
void Layout::plan_wgrad(HeadOp& op, const GemmProblem& w) {
    const KernelSettings& k = config.kernels;
    const int64_t nu = op.units.count, ni = op.inputs.count;
    const std::string& name = op.layer->name;
    // Nobody else has gradients of a shard, so the product that makes them can use them up.
    GemmProblem updating = w;
    updating.sgd = true;
    const bool updates =
        op.sharded && !config.keep_gradients && !k.names("update.sgd") &&
        fuses(op.name_wgrad + "+sgd", op.name_wgrad, gemm_variants(), updating, Part{op.name_wgrad, gemm_variants(), w},
              Part{"update.sgd", sgd_variants(), SgdProblem{1, nu * ni}, name + ".update"});
    op.wgrad = bind(op.name_wgrad, gemm_variants(), updates ? updating : w);
    if (!op.sharded) {
        op.grad = gradient_of(op.weight), op.grad_bias = gradient_of(op.weight + 1);
    } else if (updates) {
        op.grad_bias = plan.add(name + " bias gradient", Use::gradients, nu * 4);
    } else {
        op.grad = plan.add(name + " gradient", Use::gradients, nu * (ni + 1) * 4);
        op.grad_bias = op.grad.plus(nu * ni * 4);
    }
}

}  // namespace wt
