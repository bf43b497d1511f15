#include "host/net/spec.h"

#include "host/cuda/check.h"

namespace wt {

int64_t Layer::weights() const {
    if (kind == LayerKind::conv) return int64_t(out) * size * size * (x.c / groups);
    if (kind == LayerKind::fc) return x.count() * out;
    return 0;
}

int64_t Layer::parameters() const { return weights() ? weights() + out : 0; }

int64_t Layer::macs() const {
    return kind == LayerKind::conv ? int64_t(y.h) * y.w * weights() : weights();
}

int NetSpec::first_fc() const {
    int i = 0;
    while (layers[i].kind != LayerKind::fc) ++i;
    return i;
}

int64_t NetSpec::parameters() const {
    int64_t n = 0;
    for (const Layer& l : layers) n += l.parameters();
    return n;
}

int64_t NetSpec::macs() const {
    int64_t n = 0;
    for (const Layer& l : layers) n += l.macs();
    return n;
}

NetBuilder::NetBuilder(std::string name, int input, const NetOptions& options) : options_(options) {
    spec_.name = std::move(name);
    spec_.input = {input, input, 3};
}

Layer& NetBuilder::add(LayerKind kind, std::string name) {
    Layer l;
    l.kind = kind;
    l.name = std::move(name);
    l.x = l.y = spec_.layers.empty() ? spec_.input : spec_.layers.back().y;
    spec_.layers.push_back(l);
    return spec_.layers.back();
}

// Output of a convolution's or pooling's sliding window.
static void slide(Layer& l, int channels) {
    if (l.x.h + 2 * l.pad < l.size || l.x.w + 2 * l.pad < l.size)
        throw Error("layer " + l.name + ": a window of " + std::to_string(l.size) +
                    " does not fit an input of " + std::to_string(l.x.h) + "x" +
                    std::to_string(l.x.w));
    l.y = {(l.x.h + 2 * l.pad - l.size) / l.stride + 1, (l.x.w + 2 * l.pad - l.size) / l.stride + 1,
           channels};
}

NetBuilder& NetBuilder::conv(const char* name, int filters, int size, Conv c) {
    Layer& l = add(LayerKind::conv, name);
    ++index_;
    l.out = filters;
    l.size = size;
    l.stride = c.stride;
    l.pad = c.pad;
    l.groups = c.groups;
    l.bias_init = c.bias;
    slide(l, filters);
    return *this;
}

NetBuilder& NetBuilder::layer(LayerKind kind, const char* name) {
    add(kind, name + std::to_string(index_));
    return *this;
}

NetBuilder& NetBuilder::act() {
    layer(LayerKind::activation, options_.tanh ? "tanh" : "relu");
    spec_.layers.back().act = options_.tanh ? Activation::tanh : Activation::relu;
    return *this;
}

NetBuilder& NetBuilder::lrn() { return options_.lrn ? layer(LayerKind::lrn, "norm") : *this; }

NetBuilder& NetBuilder::pool() {
    Layer& l = add(LayerKind::pool, "pool" + std::to_string(index_));
    l.size = options_.plain_pool ? 2 : 3;
    l.stride = 2;
    slide(l, l.x.c);
    return *this;
}

NetBuilder& NetBuilder::dropout(float p) {
    if (options_.dropout >= 0) p = options_.dropout;
    if (p > 0) add(LayerKind::dropout, "drop" + std::to_string(index_)).p = p;
    return *this;
}

NetBuilder& NetBuilder::fc(const char* name, int units, float bias) {
    Layer& l = add(LayerKind::fc, name);
    ++index_;
    l.out = units, l.bias_init = bias;
    l.y = {1, 1, units};
    return *this;
}

}  // namespace wt
