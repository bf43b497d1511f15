// What a network is: layers in order, with every shape inferred. No device, no memory: those are
// host/parallel's. The networks themselves are in networks.cpp.
#pragma once

#include <cstdint>
#include <string>
#include <utility>
#include <vector>

#include "kernels/activation/problem.h"

namespace wt {

// Extents of one sample's activations, NHWC without the N. A fully connected layer's are 1 x 1 x
// units.
struct Shape {
    int h = 1, w = 1, c = 1;
    int64_t count() const { return int64_t(h) * w * c; }
};

enum class LayerKind { conv, activation, lrn, pool, dropout, fc };

struct Layer {
    LayerKind kind{};
    std::string name;
    // conv: `out` filters of size x size; fc: `out` units; pool: windows of size x size
    int out = 0, size = 0, stride = 1, pad = 0, groups = 1;
    float bias_init = 0;                                     // conv and fc, with `--init paper`
    int lrn_size = 5;                                        // lrn
    float lrn_alpha = 1e-4f, lrn_beta = 0.75f, lrn_k = 2.f;  // alpha times the plain sum
    float p = 0;                                             // dropout: probability of zeroing
    Activation act = Activation::relu;                       // activation
    Shape x, y;                                              // inferred input and output

    bool is_relu() const { return kind == LayerKind::activation && act == Activation::relu; }
    int64_t weights() const;     // elements, without biases
    int64_t parameters() const;  // with biases
    int64_t macs() const;        // multiply-adds of one forward pass of one sample
};

struct NetSpec {
    std::string name;
    Shape input;
    std::vector<Layer> layers;

    // index of the first fully connected layer: what is before it is replicated
    int first_fc() const;
    int classes() const { return layers.back().out; }
    int64_t parameters() const;
    int64_t macs() const;
};

// Deviations from a network's own definition, as the command line gives them.
struct NetOptions {
    int classes = 1000;
    bool tanh = false;        // --activation tanh
    bool plain_pool = false;  // --pool plain: windows of 2, stride 2, instead of overlapping 3/2
    bool lrn = true;          // --lrn off removes normalisation
    float dropout = -1;       // --dropout P; negative: the network's own
};

// How a network is trained unless told otherwise.
struct Recipe {
    int batch = 128;  // per worker
    double lr = 0.01, momentum = 0.9, weight_decay = 0.0005;
    int epochs = 90;
    bool divide_std = false;  // images by their standard deviation, after subtracting the mean
    std::string lr_policy = "plateau", init = "paper", augment = "full", data = "synthetic";
};

const std::vector<std::string>& net_names();
// Throws UsageError naming the nearest network for an unknown name.
NetSpec make_net(const std::string& name, const NetOptions& options);
const Recipe& recipe_of(const std::string& name);
// Classes of the data set in its recipe: 1000 of ImageNet, 10.
int classes_of(const std::string& name);

// Builds a NetSpec layer by layer, inferring shapes. Throws Error when a layer does not fit its
// input.
class NetBuilder {
public:
    NetBuilder(std::string name, int input, const NetOptions& options);
    struct Conv {
        int stride = 1, pad = 0, groups = 1;
        float bias = 0;
    };
    NetBuilder& conv(const char* name, int filters, int size, Conv c);
    // A layer that keeps the shape of its input: "relu" becomes relu1.
    NetBuilder& layer(LayerKind kind, const char* name);
    NetBuilder& act();   // relu, or tanh when asked
    NetBuilder& lrn();   // nothing with --lrn off
    NetBuilder& pool();  // 3x3, stride 2 (2x2 when plain)
    NetBuilder& dropout(float p = 0.5f);
    NetBuilder& fc(const char* name, int units, float bias = 0);
    NetSpec done() { return std::move(spec_); }

private:
    Layer& add(LayerKind kind, std::string name);
    NetSpec spec_;
    NetOptions options_;
    int index_ = 0;  // of the last conv or fc layer: relu1, norm1, pool1 follow conv1
};

}  // namespace wt
