// Weights from elsewhere: torchvision's names, types and layouts, what is wrong with a file, what
// is left out and made anew.
#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "host/cuda/check.h"
#include "host/parallel/group.h"
#include "host/train/init_weights.h"
#include "test/temp_dir.h"
#include "test/weights_fixture.h"

using namespace wt;
using namespace wt::test;

namespace {

// A forward pass in fp64 and in torchvision's layout: images C, H, W; filters O, I, H, W; flattened
// C, H, W.
std::vector<double> reference(const NetSpec& net, const std::vector<Tensor>& tensors,
                              std::vector<double> x) {
    size_t next = 0;
    for (const Layer& l : net.layers) {
        std::vector<double> y(static_cast<size_t>(l.y.count()));
        switch (l.kind) {
            case LayerKind::conv: {
                const auto &w = tensors[next].values, &b = tensors[next + 1].values;
                next += 2;
                for (int o = 0; o < l.out; ++o)
                    for (int h = 0; h < l.y.h; ++h)
                        for (int v = 0; v < l.y.w; ++v) {
                            double s = b[o];
                            for (int c = 0; c < l.x.c; ++c)
                                for (int r = 0; r < l.size; ++r)
                                    for (int q = 0; q < l.size; ++q) {
                                        const int ih = h * l.stride - l.pad + r,
                                                  iw = v * l.stride - l.pad + q;
                                        if (ih < 0 || iw < 0 || ih >= l.x.h || iw >= l.x.w)
                                            continue;
                                        s += x[(size_t(c) * l.x.h + ih) * l.x.w + iw] *
                                             w[((size_t(o) * l.x.c + c) * l.size + r) * l.size + q];
                                    }
                            y[(size_t(o) * l.y.h + h) * l.y.w + v] = s;
                        }
                break;
            }
            case LayerKind::pool:
                for (int c = 0; c < l.x.c; ++c)
                    for (int h = 0; h < l.y.h; ++h)
                        for (int v = 0; v < l.y.w; ++v) {
                            double m = -1e300;
                            for (int r = 0; r < l.size; ++r)
                                for (int q = 0; q < l.size; ++q)
                                    m = std::max(m,
                                                 x[(size_t(c) * l.x.h + h * l.stride + r) * l.x.w +
                                                   v * l.stride + q]);
                            y[(size_t(c) * l.y.h + h) * l.y.w + v] = m;
                        }
                break;
            case LayerKind::fc: {
                const auto &w = tensors[next].values, &b = tensors[next + 1].values;
                next += 2;
                for (int o = 0; o < l.out; ++o) {
                    double s = b[o];
                    for (size_t i = 0; i < x.size(); ++i) s += x[i] * w[o * x.size() + i];
                    y[o] = s;
                }
                break;
            }
            case LayerKind::activation:
                for (size_t i = 0; i < x.size(); ++i) y[i] = std::max(0.0, x[i]);
                break;
            default: y = x;
        }
        x = std::move(y);
    }
    return x;
}

constexpr float kMean[3] = {120, 110, 100}, kStd[3] = {60, 55, 50};

std::vector<WorkerConfig> configs_of(const NetSpec& net, int workers, int batch,
                                     FcScheme scheme = FcScheme::a) {
    std::vector<WorkerConfig> all;
    for (int r = 0; r < workers; ++r) {
        WorkerConfig c;
        c.net = net;
        c.rank = r;
        c.workers = workers;
        c.device = r % device_count();
        c.batch = batch;
        c.image_h = c.image_w = net.input.h;
        c.training = false;
        c.scheme = scheme;
        all.push_back(c);
    }
    return all;
}

// What the group says of the images (workers x batch of them), and what the reference does.
void check_logits(Group& group, const NetSpec& net, const std::vector<Tensor>& tensors,
                  double tolerance) {
    const int workers = group.workers(), batch = group.worker(0).layout().config.batch,
              n = workers * batch;
    const int side = net.input.h, size = side * side * 3;
    PinnedBuffer<uint8_t> images(size_t(n) * size);
    PinnedBuffer<AugmentParams> draws(n);
    PinnedBuffer<int> labels(n);
    std::mt19937 rng(9);
    for (size_t i = 0; i < images.size(); ++i) images[i] = static_cast<uint8_t>(rng());
    std::vector<int> place;
    for (int r = 0; r < workers; ++r)
        for (const int row : batch_rows(group.worker(r).layout().config, r)) place.push_back(row);
    for (int i = 0; i < n; ++i) {
        draws[i] = {};
        labels[i] = 0;
    }
    group.run([&](Worker& w) {
        Normalisation norm;
        for (int c = 0; c < 3; ++c) {
            norm.mean[c] = kMean[c];
            norm.inv_std[c] = 1 / kStd[c];
        }
        w.set_normalisation(norm);
        const int first = w.layout().config.rank * batch;
        w.wait(w.evaluate(
            {images.data() + size_t(first) * size, draws.data() + first, labels.data() + first}));
    });
    const auto logits = group.get_logits();
    REQUIRE(static_cast<int>(logits.size()) == n * net.classes());
    for (int i = 0; i < n; ++i) {
        std::vector<double> x(size);
        for (int p = 0; p < side * side; ++p)
            for (int c = 0; c < 3; ++c)
                x[c * side * side + p] =
                    (images[size_t(i) * size + p * 3 + c] - double(kMean[c])) / kStd[c];
        const auto want = reference(net, tensors, x);
        for (int k = 0; k < net.classes(); ++k) {
            INFO("image " << i << ", class " << k);
            CHECK(std::abs(logits[size_t(place[i]) * net.classes() + k] - want[k]) <= tolerance);
        }
    }
}

}  // namespace

TEST_CASE("weights: torchvision's names and layouts, fp32, fp16 and bf16, against loops in fp64") {
    const TempDir s;
    const NetSpec net = small_owt();
    for (const char* dtype : {"F32", "F16", "BF16"}) {
        INFO(dtype);
        auto tensors = random_tensors(net, Naming::torchvision);
        write_tensors(s / "w.safetensors", tensors, dtype);
        const auto file = SafetensorsFile::open(s / "w.safetensors");
        Group group(configs_of(net, 1, 2));
        CHECK(read_weights(&file, group, net, {}) ==
              "all layers from " + s / "w.safetensors" + " (torchvision's names)");
        check_logits(group, net, tensors, 1e-4);
    }
    // Our own names, and other ways to share the work: what is asked for is every image's.
    auto tensors = random_tensors(net, Naming::own);
    write_tensors(s / "own.safetensors", tensors);
    const auto file = SafetensorsFile::open(s / "own.safetensors");
    for (const FcScheme scheme : {FcScheme::a, FcScheme::b, FcScheme::c, FcScheme::dp})
        for (const int workers : {2, 3}) {
            INFO(name_of(scheme) << " " << workers);
            Group group(configs_of(net, workers, 4, scheme));
            CHECK(read_weights(&file, group, net, {}) ==
                  "all layers from " + s / "own.safetensors");
            check_logits(group, net, tensors, 1e-4);
        }
}

TEST_CASE("weights: every name of torchvision's AlexNet, with its shape") {
    const std::vector<std::pair<std::string, std::vector<int64_t>>> theirs = {
        {"features.0.weight", {64, 3, 11, 11}},   {"features.0.bias", {64}},
        {"features.3.weight", {192, 64, 5, 5}},   {"features.3.bias", {192}},
        {"features.6.weight", {384, 192, 3, 3}},  {"features.6.bias", {384}},
        {"features.8.weight", {256, 384, 3, 3}},  {"features.8.bias", {256}},
        {"features.10.weight", {256, 256, 3, 3}}, {"features.10.bias", {256}},
        {"classifier.1.weight", {4096, 9216}},    {"classifier.1.bias", {4096}},
        {"classifier.4.weight", {4096, 4096}},    {"classifier.4.bias", {4096}},
        {"classifier.6.weight", {1000, 4096}},    {"classifier.6.bias", {1000}}};
    const auto params = params_of(make_net("owt", {}));
    REQUIRE(params.size() == theirs.size());
    for (size_t i = 0; i < params.size(); ++i) {
        CHECK(torchvision_name(params[i].name) == theirs[i].first);
        CHECK(params[i].shape == theirs[i].second);
    }
    CHECK(torchvision_name("conv6.weight") == "");
    CHECK(torchvision_name("conv1") == "");
}

TEST_CASE(
    "weights: another number of classes, and layers that are left out, are made anew and said") {
    const TempDir s;
    auto tensors = random_tensors(small_owt(9), Naming::torchvision);
    write_tensors(s / "nine.safetensors", tensors);
    const auto file = SafetensorsFile::open(s / "nine.safetensors");
    const NetSpec net = small_owt(6);
    Group group(configs_of(net, 2, 2));
    CHECK_THROWS_WITH_AS(read_weights(&file, group, net, {}),
                         doctest::Contains("nine.safetensors has 9 classes, the data has 6"),
                         Error);
    const InitWeights how{.init = Init::he, .seed = 4, .except = {}, .new_classes = true};
    CHECK(read_weights(&file, group, net, how) ==
          "conv1, conv2, conv3, conv4, conv5, fc6, fc7 from " + s / "nine.safetensors" +
              " (torchvision's names); fc8 anew (he): " + s / "nine.safetensors" +
              " has 9 classes, the data 6");
    const auto params = params_of(net);
    const auto made = [&](size_t i) {
        return initial_values(net, params[i], {0, params[i].rows}, Init::he, 4);
    };
    for (size_t i = 0; i < params.size(); ++i) {
        INFO(params[i].name);
        const bool last = params[i].name.starts_with("fc8");
        CHECK((to_file_order(net, params[i], group.get_param(int(i))) ==
               (last ? to_file_order(net, params[i], made(i)) : tensors[i].values)));
    }
    InitWeights except = how;
    except.except = {"conv2", "fc8"};
    CHECK(read_weights(&file, group, net, except).find("; conv2, fc8 anew (he)") !=
          std::string::npos);
    CHECK(group.get_param(2) == made(2));
    CHECK(group.get_param(3) == made(3));

    CHECK(layer_list("--freeze", "conv1,fc8", net) == std::vector<std::string>{"conv1", "fc8"});
    const auto refused = [&](const char* text, const char* why) {
        CHECK_THROWS_WITH_AS(layer_list("--freeze", text, net), doctest::Contains(why), UsageError);
    };
    refused(
        "conv1,fc9",
        "--freeze conv1,fc9: unknown layer 'fc9': must be one of conv1, conv2, conv3, conv4, conv5, fc6, fc7, fc8");
    refused("pool1", "unknown layer 'pool1'");
    refused("conv1,conv1", "conv1 is there twice");
    refused("", "must be one of conv1");
    refused("conv1,", "must be one of conv1");
    refused(",conv1", "unknown layer ''");
}

TEST_CASE("weights: what is wrong with a file is one line") {
    const TempDir s;
    const NetSpec net = small_owt();
    const std::string path = s / "w.safetensors";
    const auto check = [&](std::vector<Tensor> tensors, const std::string& why, const NetSpec& of,
                           const char* dtype = "F32") {
        write_tensors(path, tensors, dtype);
        const auto file = SafetensorsFile::open(path);
        try {
            WeightsFile weights(file, of);
            for (const Param& p : params_of(of)) weights.read(p);
            FAIL_CHECK("taken: " << why);
        } catch (const Error& e) {
            const std::string what = e.what();
            INFO(what);
            CHECK(what.find(path) == 0);
            CHECK(what.find(why) != std::string::npos);
            CHECK(what.find('\n') == std::string::npos);
        }
    };
    const auto good = random_tensors(net, Naming::torchvision);
    auto bad = good;
    bad.erase(bad.begin() + 5);
    check(bad, "has no tensor features.6.bias: not a file of net owt", net);
    bad = good;
    bad.push_back({"features.12.weight", {2}, {1, 2}});
    check(bad, "has a tensor features.12.weight, which net owt has not: weights of another network",
          net);
    bad = good;
    bad[2].shape = {12, 8, 9, 1};
    check(bad,
          "tensor features.3.weight is 12x8x9x1, net owt has 12x8x3x3: weights of another network",
          net);
    bad = good;
    bad[14].shape = {6 * 4, 5};  // not a matter of classes
    check(bad, "tensor classifier.6.weight is 24x5, net owt has 6x20", net);
    bad = good;
    bad[14].shape = {3, 20};
    bad[14].values.resize(60);
    bad[15].shape = {2};
    bad[15].values.resize(2);
    check(bad, "tensor classifier.6.weight is 3x20, net owt has 2x20", net);
    bad = good;
    bad[3].values[4] = std::numeric_limits<float>::quiet_NaN();
    check(bad, "tensor features.3.bias has a value that is not finite, element 4", net);
    check(good, "tensor features.0.weight has dtype F64: must be F32, F16 or BF16", net, "F64");
    check(good,
          "has the names of torchvision's AlexNet, which is net owt, not alexnet: give --net owt",
          small_owt(6, "alexnet"));
    check(
        {{"layer1.weight", {1}, {1}}},
        "has a tensor 'layer1.weight': names must be this project's (conv1.weight ...) or torchvision's",
        net);
    check({{"conv1.weight", {1}, {1}}}, "tensor conv1.weight is 1, net owt has 8x3x5x5", net);
}
