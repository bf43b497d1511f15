// Which pooling layers of the convolutional part do the work of the layers before them.
#include <string>
#include <vector>

#include "host/parallel/layout.h"

namespace wt {

// The pooling layer that takes the layers before it along, at its index in the network; null
// elsewhere. Forward it does the normalization before it, if there is one; backward also the ReLU
// below that, and the sum that is the gradient of the bias of the convolution below that.
std::optional<LrnPoolProblem> Layout::find_fused_pool(int i) {
    const NetSpec& net = config.net;
    const KernelSettings& k = config.kernels;
    if (i < 1 || i >= net.first_fc() || net.layers[i].kind != LayerKind::pool) return {};
    const Layer &l = net.layers[i],
                *norm = net.layers[i - 1].kind == LayerKind::lrn ? &net.layers[i - 1] : nullptr;
    const int below = norm ? i - 2 : i - 1;
    const Layer* relu = below >= 0 && net.layers[below].is_relu() ? &net.layers[below] : nullptr;
    LrnPoolProblem p{.n = config.batch,
                     .h = l.x.h,
                     .w = l.x.w,
                     .c = l.x.c,
                     .window = l.size,
                     .stride = l.stride,
                     .pad = l.pad,
                     .dtype = config.dtype,
                     .lrn = norm != nullptr,
                     .relu = relu != nullptr};
    p.bias = relu && below >= 1 && net.layers[below - 1].kind == LayerKind::conv &&
             config.trains(net.layers[below - 1]);
    if (norm) {
        p.size = norm->lrn_size;
        p.alpha = norm->lrn_alpha;
        p.beta = norm->lrn_beta;
        p.k = norm->lrn_k;
    }
    if (!norm && !relu) return {};
    // A variant that is named for a part asks for that part.
    for (const Layer* part : {&l, norm, relu})
        if (part && (k.names(part->name + ".forward") || k.names(part->name + ".backward")))
            return {};
    const Part pool_forward{l.name + ".forward", pool_forward_variants(), p.pool()};
    const Part pool_backward{l.name + ".backward", pool_backward_variants(), p.pool()};
    const Part lrn_forward{norm ? norm->name + ".forward" : "", lrn_forward_variants(), p.norm()};
    const Part lrn_backward{norm ? norm->name + ".backward" : "", lrn_backward_variants(),
                            p.norm()};
    const int64_t count = l.x.count();
    const Part relu_backward{relu ? relu->name + ".backward" : "", activation_backward_variants(),

                             ActivationProblem{.rows = config.batch,
                                               .cols = count,
                                               .ld_y = count,
                                               .ld_dy = count,
                                               .kind = Activation::relu,
                                               .dtype = config.dtype}};
    bool both = true;
    if (norm)
        both = fuses(fused_forward_name(i), fused_forward_name(i), lrn_pool_forward_variants(), p,
                     lrn_forward, pool_forward);
    if (!goes_back(i)) return both ? std::optional(p) : std::nullopt;
    const std::string name = fused_backward_name(i);
    const auto back = [&](const auto&... parts) {
        return fuses(name, name, lrn_pool_backward_variants(), p, parts...);
    };
    both &= !norm  ? back(pool_backward, relu_backward)
            : relu ? back(pool_backward, lrn_backward, relu_backward)
                   : back(pool_backward, lrn_backward);
    return both ? std::optional(p) : std::nullopt;
}

// The first convolution with its ReLU and the pooling behind it as one operation, whose result
// between goes through no memory, of images that are stored as `stored` says. Only where the way
// back needs nothing of that result: pooling's gradient with the ReLU's, of the argmax alone.
void Layout::find_conv_pool(const ConvProblem& stored) {
    const NetSpec& net = config.net;
    const KernelSettings& k = config.kernels;
    constexpr int kPool = kFirstPool, kRelu = kPool - 1;
    if (net.first_fc() <= kPool || net.layers[0].kind != LayerKind::conv ||
        !net.layers[kRelu].is_relu() || net.layers[kPool].kind != LayerKind::pool)
        return;
    const Layer &l = net.layers[0], &pool = net.layers[kPool];
    if (pool.pad || l.groups > 1) return;
    const std::string fprop = l.name + ".fprop", forward = pool.name + ".forward",
                      name = conv_pool_name();
    // A variant that is named for a part asks for that part.
    for (const std::string& part : {fprop, net.layers[kRelu].name + ".forward", forward})
        if (k.names(part)) return;
    if (goes_back(kPool) && k.fuse != Fuse::off && !fused_pool(kPool)) return;
    const ConvPoolProblem p{.n = config.batch,
                            .h = l.x.h,
                            .w = l.x.w,
                            .c = l.x.c,
                            .k = l.out,
                            .r = l.size,
                            .s = l.size,
                            .stride = l.stride,
                            .pad = l.pad,
                            .window = pool.size,
                            .window_stride = pool.stride,
                            .fold = stored.fold,
                            .planes = stored.planes,
                            .dtype = config.dtype,
                            .tf32 = config.tf32};
    const int sm = config.architecture();
    if (!k.names(name) &&
        choose(conv_pool_forward_variants(), p, k.choice, sm).preference.on(sm) <= 0)
        return;  // the plain one multiplies more than it saves
    ConvProblem conv = stored;
    conv.relu = true;
    const std::string layout = stored.planes ? "+planes" : stored.fold > 1 ? "+folded" : "";
    if (fuses(name, name, conv_pool_forward_variants(), p,
              Part{fprop, conv_fprop_variants(), conv, fprop + layout},
              Part{forward, pool_forward_variants(), p.pool()}))
        conv_pool_ = p;
}

std::string Layout::conv_pool_name() const {
    return config.net.layers[0].name + ".fprop+" + config.net.layers[kFirstPool].name;
}

std::string Layout::fused_forward_name(int pool) const {
    return config.net.layers[pool - 1].name + ".forward+" + config.net.layers[pool].name;
}

std::string Layout::fused_backward_name(int pool) const {
    const std::vector<Layer>& all = config.net.layers;
    std::string name = all[pool].name + ".backward";
    int below = pool - 1;
    if (all[below].kind == LayerKind::lrn) name += "+" + all[below--].name;
    if (below >= 0 && all[below].is_relu()) name += "+" + all[below].name;
    return name;
}

}  // namespace wt
