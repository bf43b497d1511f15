// The networks. Each fits one screen; the margin has the output of each stage (H x W x C).
#include "host/cuda/check.h"
#include "host/cuda/nearest.h"
#include "host/net/spec.h"

namespace wt {

namespace {

// Krizhevsky, Sutskever, Hinton 2012, in one tower, or (groups = 2) with the two towers of the
// paper: conv2, conv4 and conv5 see the half of the channels that lived on their GPU. Layer order
// of the paper: conv, ReLU, LRN, pool. Biases of 1 where the paper has them (section 5).
NetSpec alexnet_of(const char* name, int groups, const NetOptions& o) {
    NetBuilder n(name, 227, o);
    n.conv("conv1", 96, 11, {.stride = 4}).act().lrn().pool();  // 55x55x96, 27x27x96
    // 27x27x256, 13x13x256
    n.conv("conv2", 256, 5, {.pad = 2, .groups = groups, .bias = 1}).act().lrn().pool();
    n.conv("conv3", 384, 3, {.pad = 1}).act();                               // 13x13x384
    n.conv("conv4", 384, 3, {.pad = 1, .groups = groups, .bias = 1}).act();  // 13x13x384
    n.conv("conv5", 256, 3, {.pad = 1, .groups = groups, .bias = 1})
        .act()
        .pool();  // 13x13x256, 6x6x256
    n.fc("fc6", 4096, 1).act().dropout();
    n.fc("fc7", 4096, 1).act().dropout();
    n.fc("fc8", o.classes);
    return n.done();
}

NetSpec alexnet(const NetOptions& o) { return alexnet_of("alexnet", 1, o); }
NetSpec alexnet2012(const NetOptions& o) { return alexnet_of("alexnet2012", 2, o); }

// The network of "One weird trick for parallelizing convolutional neural networks" (arXiv
// 1404.5997) as torchvision ships it: no LRN, dropout before fc6 and fc7.
NetSpec owt(const NetOptions& o) {
    NetBuilder n("owt", 224, o);
    n.conv("conv1", 64, 11, {.stride = 4, .pad = 2}).act().pool();  // 55x55x64, 27x27x64
    n.conv("conv2", 192, 5, {.pad = 2, .bias = 1}).act().pool();    // 27x27x192, 13x13x192
    n.conv("conv3", 384, 3, {.pad = 1}).act();                      // 13x13x384
    n.conv("conv4", 256, 3, {.pad = 1, .bias = 1}).act();           // 13x13x256
    n.conv("conv5", 256, 3, {.pad = 1, .bias = 1}).act().pool();    // 13x13x256, 6x6x256
    n.dropout().fc("fc6", 4096, 1).act();
    n.dropout().fc("fc7", 4096, 1).act();
    n.fc("fc8", o.classes);
    return n.done();
}

// Four weighted layers for CIFAR-10, after cuda-convnet's, for the ReLU-against-tanh and LRN
// claims.
NetSpec cifar(const NetOptions& o) {
    NetBuilder n("cifar", 24, o);
    n.conv("conv1", 64, 5, {.pad = 2}).act().pool().lrn();  // 24x24x64, 11x11x64
    n.conv("conv2", 64, 5, {.pad = 2}).act().lrn().pool();  // 11x11x64, 5x5x64
    n.conv("conv3", 64, 3, {.pad = 1}).act().pool();        // 5x5x64, 2x2x64
    n.fc("fc4", o.classes);
    return n.done();
}

// Every layer type and geometry of AlexNet, at a size that a CPU trains in minutes.
NetSpec mini(const NetOptions& o) {
    NetBuilder n("mini", 67, o);
    n.conv("conv1", 48, 11, {.stride = 4}).act().lrn().pool();          // 15x15x48, 7x7x48
    n.conv("conv2", 128, 5, {.pad = 2, .bias = 1}).act().lrn().pool();  // 7x7x128, 3x3x128
    n.conv("conv3", 192, 3, {.pad = 1}).act();                          // 3x3x192
    n.conv("conv4", 192, 3, {.pad = 1, .bias = 1}).act();               // 3x3x192
    n.conv("conv5", 128, 3, {.pad = 1, .bias = 1}).act().pool();        // 3x3x128, 1x1x128
    n.fc("fc6", 1024, 1).act().dropout();
    n.fc("fc7", 1024, 1).act().dropout();
    n.fc("fc8", o.classes);
    return n.done();
}

// A network, how it is trained, and how many classes its recipe's data set has. The constructor
// wants all of it, so no network can be added without a recipe of its own.
struct Network {
    using Build = NetSpec (*)(const NetOptions&);
    Network(const char* name, Build build, const Recipe& recipe, int classes)
        : name(name), build(build), recipe(recipe), classes(classes) {}
    const char* name;
    Build build;
    Recipe recipe;
    int classes;
};

// The paper's, of 2012; the networks with more recent recipes begin with --init he.
const Recipe kPaper = {.batch = 128,
                       .epochs = 90,
                       .divide_std = false,
                       .lr_policy = "plateau",
                       .init = "paper",
                       .augment = "full",
                       .data = "synthetic"};
const Recipe kOwt = {.batch = 128,
                     .epochs = 90,
                     .divide_std = true,
                     .lr_policy = "plateau",
                     .init = "he",
                     .augment = "full",
                     .data = "synthetic"};
const Recipe kCifar = {.batch = 128,
                       .epochs = 60,
                       .divide_std = true,
                       .lr_policy = "plateau",
                       .init = "he",
                       .augment = "crop",
                       .data = "synthetic:10"};
const Recipe kMini = {.batch = 64,
                      .epochs = 2,
                      .divide_std = true,
                      .lr_policy = "linear",
                      .init = "he",
                      .augment = "crop",
                      .data = "fashion-mnist"};

const Network kNetworks[] = {
    {"alexnet", alexnet, kPaper, 1000}, {"alexnet2012", alexnet2012, kPaper, 1000},
    {"owt", owt, kOwt, 1000},           {"cifar", cifar, kCifar, 10},
    {"mini", mini, kMini, 10},
};

const Network& network(const std::string& name) {
    for (const Network& n : kNetworks)
        if (name == n.name) return n;
    throw UsageError(unknown_name("net", name, net_names()));
}

}  // namespace

const std::vector<std::string>& net_names() {
    static const std::vector<std::string> names = [] {
        std::vector<std::string> all;
        for (const Network& n : kNetworks) all.push_back(n.name);
        return all;
    }();
    return names;
}

NetSpec make_net(const std::string& name, const NetOptions& o) { return network(name).build(o); }

const Recipe& recipe_of(const std::string& name) { return network(name).recipe; }

int classes_of(const std::string& name) { return network(name).classes; }

}  // namespace wt
