// The plan of the convolutional part.
#include <algorithm>

#include "host/cuda/device.h"
#include "host/parallel/layout.h"
#include "host/parallel/step_planner.h"

namespace wt {

namespace {

bool in_place(const Layer& l) {
    return l.kind == LayerKind::activation || l.kind == LayerKind::dropout;
}

template <class Problem, class Args>
TrunkOp::Emit emits(const Bound<Problem, Args>& bound) {
    return [bound](StepPlanner& to, const std::string& name, const TrunkOp& op) {
        to.layer(name, bound, op);
    };
}

}  // namespace

// The layer's forward problem, without fusions.
ConvProblem Layout::conv_problem(const Layer& l) const {
    return {.n = config.batch,
            .h = l.x.h,
            .w = l.x.w,
            .c = l.x.c,
            .k = l.out,
            .r = l.size,
            .s = l.size,
            .stride_h = l.stride,
            .stride_w = l.stride,
            .pad_h = l.pad,
            .pad_w = l.pad,
            .groups = l.groups,
            .dtype = config.dtype,
            .tf32 = config.tf32};
}

// How the augmentation stores what the first convolution reads: as planes, else folded, where that
// one and its gradient are no slower so. Both read the one input, so both must like the layout.
void Layout::choose_input_layout(ConvProblem& first) {
    const Layer& l = config.net.layers[0];
    if (l.kind != LayerKind::conv || l.stride == 1) return;
    ConvProblem folded = first;
    folded.fold = l.stride;
    if (const auto planes = as_planes(first); planes && reads(*planes, "planes"))
        first = *planes;
    else if (reads(folded, "folded"))
        first = folded;
}

// The first convolution of images stored as planes, whose positions are 16 bytes in bf16 only.
std::optional<ConvProblem> Layout::as_planes(const ConvProblem& first) const {
    const Layer& l = config.net.layers[0];
    if (l.kind != LayerKind::conv || l.stride == 1 || config.dtype != DType::bf16 ||
        l.stride * l.stride * l.x.c % kPlaneChannels)
        return {};
    ConvProblem planes = first;
    planes.fold = l.stride;
    planes.planes = true;
    return planes;
}

// Whether the augmentation can store the first convolution's input so, and that one and its
// gradient are no slower for it. `name` is how bin/compare tells the layout.
bool Layout::reads(const ConvProblem& stored, const std::string& name) {
    const NetSpec& net = config.net;
    const Layer& l = net.layers[0];
    ConvProblem plain = conv_problem(l), other = stored;
    const AugmentProblem augmented = augment_problem(other);
    const std::string input = "input.augment", fprop = l.name + ".fprop", wgrad = l.name + ".wgrad";
    if (const auto asked = config.kernels.by_layer_op.find(input);
        asked != config.kernels.by_layer_op.end()) {
        const auto* v = find(augment_variants(), asked->second);
        if (!v || !v->refuses(augmented).empty()) return false;
    }
    if (!choose(augment_variants(), augmented, config.kernels.choice, config.architecture())
             .refuses(augmented)
             .empty())
        return false;
    // For bin/compare only: what augmentation itself takes does not decide.
    fusions.push_back(
        {.fused = {input + "+" + name, AugmentArgs::operation, text_of(augmented)},
         .parts = {part_of(Part{input, augment_variants(), augment_problem(plain)})}});
    bool both = true;
    if (config.training && config.trains(l))
        both = fuses(wgrad + "+" + name, wgrad, conv_wgrad_variants(), other,
                     Part{wgrad, conv_wgrad_variants(), plain});
    plain.relu = other.relu = net.layers[1].is_relu();
    both &= fuses(fprop + "+" + name, fprop, conv_fprop_variants(), other,
                  Part{fprop, conv_fprop_variants(), plain});
    return both;
}

AugmentProblem Layout::augment_problem(const ConvProblem& first) const {
    AugmentProblem p{.n = config.batch,
                     .src_h = config.image_h,
                     .src_w = config.image_w,
                     .src_c = config.image_c,
                     .out_h = config.net.input.h,
                     .out_w = config.net.input.w,
                     .dtype = config.dtype};
    if (first.fold > 1) {
        p.fold = first.fold;
        p.pad = first.pad_h;
        p.fold_h = first.fold_h();
        p.fold_w = first.fold_w();
        p.planes = first.planes;
    }
    return p;
}

void Layout::plan_trunk() {
    const NetSpec& net = config.net;
    const int b = config.batch;
    const size_t es = size_of(config.dtype);
    const int end = net.first_fc();
    flat_cols = net.layers[end].x.count();
    flat = plan.add("trunk outputs of the whole batch", Use::activations,
                    config.head_rows() * flat_cols * es);
    // With one microbatch, or several of one worker, this worker's rows are together in `flat`.
    bool together = true;
    for (const RowBlock& block : blocks())
        together = together && block.row - block.local == blocks()[0].row;
    trunk_y = together ? flat.plus(blocks()[0].row * flat_cols * es)
                       : plan.add("trunk output", Use::activations, b * flat_cols * es);
    ConvProblem first = conv_problem(net.layers[0]);
    choose_input_layout(first);
    const AugmentProblem made = augment_problem(first);
    augment = bind("input.augment", augment_variants(), made);
    for (BufferRef& p : input) {
        if (&p != input && !overlap.input) break;
        p = plan.add("input", Use::activations, made.y_count() * es);
    }
    if (!overlap.input) input[1] = input[0];

    for (int i = 0; i < end; ++i) fused_pools_.push_back(find_fused_pool(i));
    // bin/compare asks with --fuse off what could be fused, and then of planes.
    find_conv_pool(config.kernels.fuse == Fuse::off
                       ? as_planes(first).value_or(conv_problem(net.layers[0]))
                       : first);

    // the last layer that is not in place: writes this worker's rows of `flat`
    int last_writer = -1;
    for (int i = 0; i < end; ++i)
        if (!in_place(net.layers[i])) last_writer = i;

    BufferRef x = input[0];  // the first layer reads that of the step's slot
    int param = 0;
    for (int i = 0; i < end; ++i) {
        const Layer& l = net.layers[i];
        const int64_t cols = l.y.count();
        TrunkOp op;
        op.layer = &l;
        op.x = x;
        op.name_forward = l.name + ".forward";
        op.name_dgrad = l.name + ".backward";
        // by the pooling after it: has no output
        const bool taken_along = (l.kind == LayerKind::lrn && fused_pool(i + 1)) ||
                                 (l.kind == LayerKind::conv && does_conv(i + 2));
        op.y = in_place(l) || taken_along ? x
               : i == last_writer         ? trunk_y
                                  : plan.add(l.name, Use::activations, b * l.y.count() * es);
        switch (l.kind) {
            case LayerKind::conv: plan_conv(op, i, param); break;
            case LayerKind::activation: {
                op.fused_away_forward = i > 0 && net.layers[i - 1].kind == LayerKind::conv &&
                                        l.is_relu();  // in the convolution's epilogue
                op.act = {.rows = b,
                          .cols = cols,
                          .ld_y = cols,
                          .ld_dy = cols,
                          .kind = l.act,
                          .dtype = config.dtype};
                if (!op.fused_away_forward)
                    op.forward =
                        emits(bind(op.name_forward, activation_forward_variants(), op.act));
                break;
            }
            case LayerKind::lrn: {
                op.fused_away_forward = op.fused_away_backward = taken_along;
                if (taken_along) break;
                const LrnProblem p{.pixels = int64_t(b) * l.x.h * l.x.w,
                                   .c = l.x.c,
                                   .size = l.lrn_size,
                                   .alpha = l.lrn_alpha,
                                   .beta = l.lrn_beta,
                                   .k = l.lrn_k,
                                   .dtype = config.dtype};
                plan_layer(op, i, lrn_forward_variants(), lrn_backward_variants(), p);
                break;
            }
            case LayerKind::pool: plan_pool(op, i); break;
            case LayerKind::dropout: {
                if (i > 0 && net.layers[i - 1].kind == LayerKind::activation &&
                    net.layers[i - 1].act == Activation::tanh)
                    throw Error(
                        "layer " + l.name +
                        ": dropout right after tanh is supported between fully connected layers only");
                op.drop = bind(op.name_forward, dropout_variants(),
                               DropoutProblem{.rows = b,
                                              .cols = cols,
                                              .ld_x = cols,
                                              .ld_y = cols,
                                              .p = l.p,
                                              .dtype = config.dtype});
                op.dropout_layer = static_cast<uint32_t>(i);
                break;
            }
            case LayerKind::fc: break;
        }
        x = op.y;
        trunk.push_back(op);
    }
    if (!config.training) return;
    for (int i = bottom + 1; i < end; ++i) {  // now that all above are known
        TrunkOp& op = trunk[i];
        if (op.layer->kind == LayerKind::activation && !op.fused_away_backward)
            op.backward = emits(bind(op.name_dgrad, activation_backward_variants(), op.act));
    }
    plan_trunk_gradients();
}

// A layer that is one operation each way and has no weights.
template <class Problem, class Forward, class Backward>
void Layout::plan_layer(TrunkOp& op, int i, Table<Problem, Forward> forward,
                        Table<Problem, Backward> backward, const Problem& problem) {
    op.forward = emits(bind(op.name_forward, forward, problem));
    if (goes_back(i)) op.backward = emits(bind(op.name_dgrad, backward, problem));
}

void Layout::plan_conv(TrunkOp& op, int i, int& param) {
    const NetSpec& net = config.net;
    const Layer& l = *op.layer;
    const int end = net.first_fc();
    const bool first = param == 0;
    op.name_forward = l.name + ".fprop";
    op.name_dgrad = l.name + ".dgrad";
    op.name_wgrad = l.name + ".wgrad";
    op.weight = param;
    param += 2;
    op.needs_dx = i > bottom;
    op.trained = !frozen(op.weight);
    ConvProblem p = conv_problem(l);
    if (first) {
        p.fold = augment.problem.fold;
        p.planes = augment.problem.planes;
    }
    ConvProblem f = p;
    f.relu = i + 1 < end && net.layers[i + 1].is_relu();
    op.fused_away_forward = does_conv(i + 2);
    op.fprop.problem = f;
    if (!op.fused_away_forward) op.fprop = bind(op.name_forward, conv_fprop_variants(), f);
    if (!config.training) return;
    if (op.needs_dx) {
        ConvProblem d = p;
        d.drelu = i > 0 && net.layers[i - 1].is_relu() &&
                  !config.kernels.names(net.layers[i - 1].name + ".backward");
        d.drelu = d.drelu && fuses(op.name_dgrad + "+drelu", op.name_dgrad, conv_dgrad_variants(),
                                   d, Part{op.name_dgrad, conv_dgrad_variants(), p},
                                   Part{net.layers[i - 1].name + ".backward",
                                        activation_backward_variants(), trunk.back().act});
        op.dgrad = bind(op.name_dgrad, conv_dgrad_variants(), d);
        if (d.drelu) trunk.back().fused_away_backward = true;
    }
    ConvProblem w = p;
    if (!op.trained) return;
    for (int above = i + 1; above < end && net.layers[above].kind != LayerKind::conv; ++above)
        if (const auto pool = fused_pool(above); pool && pool->bias && above - 2 - pool->lrn == i)
            w.bias = false;  // it sums db
    op.wgrad = bind(op.name_wgrad, conv_wgrad_variants(), w);
    op.grad = gradient_of(op.weight);
    op.grad_bias = gradient_of(op.weight + 1);
}

void Layout::plan_pool(TrunkOp& op, int i) {
    const Layer& l = *op.layer;
    const PoolProblem p{.n = config.batch,
                        .h = l.x.h,
                        .w = l.x.w,
                        .c = l.x.c,
                        .window = l.size,
                        .stride = l.stride,
                        .pad = l.pad,
                        .dtype = config.dtype};
    op.argmax = plan.add(l.name + " argmax", Use::activations, p.y_count());
    op.pool.problem = op.pool_back.problem = p;
    const auto fused = fused_pool(i);
    if (does_conv(i)) {
        op.conv_weight = trunk[i - 2].weight;
        op.conv_pool =
            bind(op.name_forward = conv_pool_name(), conv_pool_forward_variants(), *conv_pool_);
    } else if (fused && fused->lrn)
        op.lrn_pool =
            bind(op.name_forward = fused_forward_name(i), lrn_pool_forward_variants(), *fused);
    else
        op.pool = bind(op.name_forward, pool_forward_variants(), p);
    if (!goes_back(i)) return;
    if (!fused) {
        op.pool_back = bind(op.name_dgrad, pool_backward_variants(), p);
        return;
    }
    LrnPoolProblem back = *fused;
    if (does_conv(i)) back.relu = false;  // argmax says which windows the ReLU has closed
    op.lrn_pool_back =
        bind(op.name_dgrad = fused_backward_name(i), lrn_pool_backward_variants(), back);
    const int relu = i - 1 - fused->lrn;
    if (fused->relu) trunk[relu].fused_away_backward = true;
    if (fused->bias) op.grad_bias = trunk[relu - 1].grad_bias;
}

// Gradients alternate between two buffers, down to the lowest layer that is trained; in-place
// layers write theirs to the buffer that they read. Three buffers, where a wgrad may still read one
// while the layers below go on.
void Layout::plan_trunk_gradients() {
    const NetSpec& net = config.net;
    const size_t es = size_of(config.dtype);
    const int end = net.first_fc();
    if (bottom >= end) return;
    const auto switches = [](const TrunkOp& op) { return op.y != op.x; };
    int64_t largest = flat_cols;
    bool both = false;
    for (int i = bottom + 1; i < end; ++i) {
        largest = std::max(largest, net.layers[i].x.count());
        both = both || switches(trunk[i]);
    }
    std::vector<BufferRef> buffers;
    for (int i = 0; i < (!both ? 1 : overlap.wgrad ? 3 : 2); ++i) {
        buffers.push_back(plan.add(std::string("trunk gradient ") + "ABC"[i], Use::gradients,
                                   config.batch * largest * es));
        trunk_gradients.push_back(buffers[i].buffer);
    }
    size_t buffer = 0;
    trunk_dy = buffers[0];
    for (int i = end - 1; i >= bottom; --i) {
        TrunkOp& op = trunk[i];
        op.dy = buffers[buffer];
        // with several workers the lowest too: its bucket is posted from there
        op.wgrad_beside = overlap.wgrad && op.layer->kind == LayerKind::conv && op.trained &&
                          (i > bottom || config.workers > 1);
        if (i == bottom) return;
        if (switches(op)) buffer = (buffer + 1) % buffers.size();
        op.dx = buffers[buffer];
    }
}

}  // namespace wt
