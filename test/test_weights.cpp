// Weights from elsewhere: torchvision's names, types and layouts, what is wrong with a file, what is left
// out and made anew, and the way back.
#include <doctest/doctest.h>

#include <bit>
#include <cmath>
#include <fstream>
#include <random>

#include "host/parallel/group.h"
#include "host/train/export_weights.h"
#include "host/train/foreign_weights.h"
#include "host/train/init_weights.h"
#include "host/train/predictions.h"
#include "host/train/torchvision_names.h"
#include "test/program.h"
#include "test/temp_dir.h"

using namespace wt;
using test::TempDir;

namespace {

// Layers as owt has them, at a size for loops; its last pooling leaves 3 x 3, so that the order of fc6's
// inputs matters.
NetSpec small_owt(int classes = 6, const std::string& name = "owt") {
    NetBuilder n(name, 63, {.classes = classes});
    n.conv("conv1", 8, 5, {.stride = 2, .pad = 2}).act().pool();
    n.conv("conv2", 12, 3, {.pad = 1}).act().pool();
    n.conv("conv3", 10, 3, {.pad = 1}).act().conv("conv4", 9, 3, {.pad = 1}).act();
    n.conv("conv5", 7, 3, {.pad = 1}).act().pool();
    n.dropout().fc("fc6", 24).act().dropout().fc("fc7", 20).act().fc("fc8", classes);
    return n.done();
}

struct Tensor {
    std::string name;
    std::vector<int64_t> shape;
    std::vector<float> values;
};

// Random weights under the names that `naming` has, of a size that keeps activations near 1.
std::vector<Tensor> random_tensors(const NetSpec& net, Naming naming) {
    std::mt19937 rng(5);
    std::vector<Tensor> all;
    for (const Param& p : params_of(net)) {
        std::normal_distribution<float> normal(0, p.bias ? 0.1f : std::sqrt(2.f / static_cast<float>(p.row)));
        Tensor t{naming == Naming::own ? p.name : torchvision_name(p.name), p.shape, std::vector<float>(p.count())};
        for (float& v : t.values) v = normal(rng);
        all.push_back(std::move(t));
    }
    return all;
}

uint16_t to_bf16(float v) { return static_cast<uint16_t>(std::bit_cast<uint32_t>(v) >> 16); }

// Of values that fp16 holds as normal numbers, cut off.
uint16_t to_f16(float v) {
    const uint32_t b = std::bit_cast<uint32_t>(v), sign = b >> 16 & 0x8000;
    const int exponent = static_cast<int>(b >> 23 & 255) - 112;
    return static_cast<uint16_t>(exponent <= 0 ? sign : sign | static_cast<uint32_t>(exponent) << 10 | (b >> 13 & 0x3ff));
}
float of_f16(uint16_t h) {
    const uint32_t magnitude = h & 0x7fff;
    return std::bit_cast<float>(static_cast<uint32_t>(h & 0x8000) << 16 | (magnitude ? (magnitude << 13) + (112u << 23) : 0));
}

// Writes the tensors as `dtype` and gives them the values that were written.
void write(const std::string& path, std::vector<Tensor>& tensors, const std::string& dtype = "F32") {
    std::string header, data;
    for (Tensor& t : tensors) {
        const size_t begin = data.size();
        for (float& v : t.values) {
            const auto put = [&](auto bits) { data.append(reinterpret_cast<const char*>(&bits), sizeof bits); };
            if (dtype == "F32") put(v);
            else if (dtype == "F64") put(double(v));
            else if (dtype == "BF16") put(to_bf16(v)), v = std::bit_cast<float>(uint32_t(to_bf16(v)) << 16);
            else put(to_f16(v)), v = of_f16(to_f16(v));
        }
        std::string shape;
        for (const int64_t e : t.shape) shape += (shape.empty() ? "" : ",") + std::to_string(e);
        header += (header.empty() ? "" : ",") + ("\"" + t.name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape +
                  "],\"data_offsets\":[" + std::to_string(begin) + "," + std::to_string(data.size()) + "]}");
    }
    header = "{" + header + "}";
    const uint64_t length = header.size();
    std::ofstream f(path, std::ios::binary);
    f.write(reinterpret_cast<const char*>(&length), 8);
    f << header << data;
}

// A forward pass in fp64 and in torchvision's layout: images C, H, W; filters O, I, H, W; flattened C, H, W.
std::vector<double> reference(const NetSpec& net, const std::vector<Tensor>& tensors, std::vector<double> x) {
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
                                        const int ih = h * l.stride - l.pad + r, iw = v * l.stride - l.pad + q;
                                        if (ih < 0 || iw < 0 || ih >= l.x.h || iw >= l.x.w) continue;
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
                                    m = std::max(m, x[(size_t(c) * l.x.h + h * l.stride + r) * l.x.w + v * l.stride + q]);
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

std::vector<WorkerConfig> configs_of(const NetSpec& net, int workers, int batch, FcScheme scheme = FcScheme::a) {
    std::vector<WorkerConfig> all;
    for (int r = 0; r < workers; ++r) {
        WorkerConfig c;
        c.net = net;
        c.rank = r, c.workers = workers, c.device = r % device_count();
        c.batch = batch;
        c.image_h = c.image_w = net.input.h;
        c.training = false;
        c.scheme = scheme;
        all.push_back(c);
    }
    return all;
}

// What the group says of the images (workers x batch of them), and what the reference does.
void check_logits(Group& group, const NetSpec& net, const std::vector<Tensor>& tensors, double tolerance) {
    const int workers = group.workers(), batch = group.worker(0).layout().config.batch, n = workers * batch;
    const int side = net.input.h, size = side * side * 3;
    PinnedBuffer<uint8_t> images(size_t(n) * size);
    PinnedBuffer<AugmentParams> draws(n);
    PinnedBuffer<int> labels(n);
    std::mt19937 rng(9);
    for (size_t i = 0; i < images.size(); ++i) images[i] = static_cast<uint8_t>(rng());
    std::vector<int> place;
    for (int r = 0; r < workers; ++r)
        for (const int row : batch_rows(group.worker(r).layout().config, r)) place.push_back(row);
    for (int i = 0; i < n; ++i) draws[i] = {}, labels[i] = 0;
    group.run([&](Worker& w) {
        Normalisation norm;
        for (int c = 0; c < 3; ++c) norm.mean[c] = kMean[c], norm.inv_std[c] = 1 / kStd[c];
        w.set_normalisation(norm);
        const int first = w.layout().config.rank * batch;
        w.wait(w.evaluate({images.data() + size_t(first) * size, draws.data() + first, labels.data() + first}));
    });
    const auto logits = group.get_logits();
    REQUIRE(static_cast<int>(logits.size()) == n * net.classes());
    for (int i = 0; i < n; ++i) {
        std::vector<double> x(size);
        for (int p = 0; p < side * side; ++p)
            for (int c = 0; c < 3; ++c) x[c * side * side + p] = (images[size_t(i) * size + p * 3 + c] - double(kMean[c])) / kStd[c];
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
        write(s / "w.safetensors", tensors, dtype);
        const auto file = SafetensorsFile::open(s / "w.safetensors");
        Group group(configs_of(net, 1, 2));
        CHECK(read_weights(&file, group, net, {}) == "all layers from " + s / "w.safetensors" + " (torchvision's names)");
        check_logits(group, net, tensors, 1e-4);
    }
    // Our own names, and other ways to share the work: what is asked for is every image's.
    auto tensors = random_tensors(net, Naming::own);
    write(s / "own.safetensors", tensors);
    const auto file = SafetensorsFile::open(s / "own.safetensors");
    for (const FcScheme scheme : {FcScheme::a, FcScheme::b, FcScheme::c, FcScheme::dp})
        for (const int workers : {2, 3}) {
            INFO(name_of(scheme) << " " << workers);
            Group group(configs_of(net, workers, 4, scheme));
            CHECK(read_weights(&file, group, net, {}) == "all layers from " + s / "own.safetensors");
            check_logits(group, net, tensors, 1e-4);
        }
}

TEST_CASE("weights: every name of torchvision's AlexNet, with its shape") {
    const std::vector<std::pair<std::string, std::vector<int64_t>>> theirs = {
        {"features.0.weight", {64, 3, 11, 11}},  {"features.0.bias", {64}},     {"features.3.weight", {192, 64, 5, 5}},
        {"features.3.bias", {192}},              {"features.6.weight", {384, 192, 3, 3}}, {"features.6.bias", {384}},
        {"features.8.weight", {256, 384, 3, 3}}, {"features.8.bias", {256}},    {"features.10.weight", {256, 256, 3, 3}},
        {"features.10.bias", {256}},             {"classifier.1.weight", {4096, 9216}},   {"classifier.1.bias", {4096}},
        {"classifier.4.weight", {4096, 4096}},   {"classifier.4.bias", {4096}}, {"classifier.6.weight", {1000, 4096}},
        {"classifier.6.bias", {1000}}};
    const auto params = params_of(make_net("owt", {}));
    REQUIRE(params.size() == theirs.size());
    for (size_t i = 0; i < params.size(); ++i) {
        CHECK(torchvision_name(params[i].name) == theirs[i].first);
        CHECK(params[i].shape == theirs[i].second);
    }
    CHECK(torchvision_name("conv6.weight") == "");
    CHECK(torchvision_name("conv1") == "");
}

TEST_CASE("weights: another number of classes, and layers that are left out, are made anew and said") {
    const TempDir s;
    auto tensors = random_tensors(small_owt(9), Naming::torchvision);
    write(s / "nine.safetensors", tensors);
    const auto file = SafetensorsFile::open(s / "nine.safetensors");
    const NetSpec net = small_owt(6);
    Group group(configs_of(net, 2, 2));
    CHECK_THROWS_WITH_AS(read_weights(&file, group, net, {}),
                         doctest::Contains("nine.safetensors has 9 classes, the data has 6"), Error);
    const InitWeights how{.init = Init::he, .seed = 4, .except = {}, .new_classes = true};
    CHECK(read_weights(&file, group, net, how) ==
          "conv1, conv2, conv3, conv4, conv5, fc6, fc7 from " + s / "nine.safetensors" +
              " (torchvision's names); fc8 anew (he): " + s / "nine.safetensors" + " has 9 classes, the data 6");
    const auto params = params_of(net);
    const auto made = [&](size_t i) { return initial_values(net, params[i], {0, params[i].rows}, Init::he, 4); };
    for (size_t i = 0; i < params.size(); ++i) {
        INFO(params[i].name);
        const bool last = params[i].name.starts_with("fc8");
        CHECK((to_file_order(net, params[i], group.get_param(int(i))) ==
               (last ? to_file_order(net, params[i], made(i)) : tensors[i].values)));
    }
    InitWeights except = how;
    except.except = {"conv2", "fc8"};
    CHECK(read_weights(&file, group, net, except).find("; conv2, fc8 anew (he)") != std::string::npos);
    CHECK(group.get_param(2) == made(2));
    CHECK(group.get_param(3) == made(3));

    CHECK(layer_list("--freeze", "conv1,fc8", net) == std::vector<std::string>{"conv1", "fc8"});
    const auto refused = [&](const char* text, const char* why) {
        CHECK_THROWS_WITH_AS(layer_list("--freeze", text, net), doctest::Contains(why), UsageError);
    };
    refused("conv1,fc9", "--freeze conv1,fc9: unknown layer 'fc9': must be one of conv1, conv2, conv3, conv4, conv5, fc6, fc7, fc8");
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
    const auto check = [&](std::vector<Tensor> tensors, const std::string& why, const NetSpec& of, const char* dtype = "F32") {
        write(path, tensors, dtype);
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
    check(bad, "has a tensor features.12.weight, which net owt has not: weights of another network", net);
    bad = good;
    bad[2].shape = {12, 8, 9, 1};
    check(bad, "tensor features.3.weight is 12x8x9x1, net owt has 12x8x3x3: weights of another network", net);
    bad = good;
    bad[14].shape = {6 * 4, 5};  // not a matter of classes
    check(bad, "tensor classifier.6.weight is 24x5, net owt has 6x20", net);
    bad = good;
    bad[14].shape = {3, 20}, bad[14].values.resize(60), bad[15].shape = {2}, bad[15].values.resize(2);
    check(bad, "tensor classifier.6.weight is 3x20, net owt has 2x20", net);
    bad = good;
    bad[3].values[4] = std::numeric_limits<float>::quiet_NaN();
    check(bad, "tensor features.3.bias has a value that is not finite, element 4", net);
    check(good, "tensor features.0.weight has dtype F64: must be F32, F16 or BF16", net, "F64");
    check(good, "has the names of torchvision's AlexNet, which is net owt, not alexnet: give --net owt", small_owt(6, "alexnet"));
    check({{"layer1.weight", {1}, {1}}}, "has a tensor 'layer1.weight': names must be this project's (conv1.weight ...) or torchvision's", net);
    check({{"conv1.weight", {1}, {1}}}, "tensor conv1.weight is 1, net owt has 8x3x5x5", net);
}

TEST_CASE("weights: files of PyTorch, NumPy, Caffe and HDF5 are recognised, by content or name") {
    const TempDir s;
    const auto told = [&](const std::string& name, const std::string& content) {
        std::ofstream(s / name, std::ios::binary) << content;
        return how_to_convert(s / name);
    };
    const auto zip = [](const std::string& first) {
        std::string head("PK\3\4", 4);
        head.append(22, '\0');
        head += static_cast<char>(first.size());
        head.append(3, '\0');
        return head + first + "...";
    };
    CHECK(told("a.bin", zip("archive/data.pkl")).find("is a file of PyTorch, and weights are read from safetensors files: python3 -c '") != std::string::npos);
    CHECK(told("b.bin", std::string("\x80\x02\x8a\x0a", 4)).find("file of PyTorch") != std::string::npos);
    CHECK(told("c.pth", "?").find("file of PyTorch") != std::string::npos);
    CHECK(told("d.bin", zip("conv1.weight.npy")).find("is a file of NumPy") != std::string::npos);
    CHECK(told("e.npy", "\x93NUMPY\x01").find("one array of NumPy") != std::string::npos);
    CHECK(told("f.bin", "\n\7AlexNet\x12\x05").find("is a file of Caffe") != std::string::npos);
    CHECK(told("g.caffemodel", "?").find("is a file of Caffe") != std::string::npos);
    CHECK(told("h.bin", "\x89HDF\r\n\x1a\n").find("HDF5") != std::string::npos);
    const std::string quotes = told("it's \"1\".pth", "?");
    CHECK(quotes.find("it'\\''s \\\"1\\\".safetensors\") makes one") == std::string::npos);
    CHECK(quotes.find("it'\\''s \\\"1\\\".safetensors\")'") != std::string::npos);
    CHECK(told("i.bin", "nothing that is known") == "");
    CHECK(told("j.bin", "") == "");
    CHECK(how_to_convert(s / "not there.pth") == "");
    auto tensors = random_tensors(small_owt(), Naming::own);
    write(s / "k.pth", tensors);  // what it is counts, not what it is called
    CHECK(how_to_convert(s / "k.pth") == "");
    for (const char* name : {"a.bin", "d.bin", "f.bin", "h.bin"}) CHECK(how_to_convert(s / name).find('\n') == std::string::npos);
}

TEST_CASE("weights: an export of owt has torchvision's names and the same bits, and comes back") {
    const TempDir s;
    const NetSpec net = make_net("owt", {.classes = 3});
    std::vector<std::vector<float>> values;
    std::vector<NamedTensor> tensors;
    for (const Param& p : params_of(net)) {
        values.emplace_back(p.count());
        for (size_t i = 0; i < values.back().size(); ++i)
            values.back()[i] = static_cast<float>(static_cast<int32_t>(i * 2654435761u + p.rows)) * 0x1p-36f;
        tensors.push_back({p.name, p.shape, values.back().data()});
    }
    write_safetensors(s / "own.safetensors", tensors);
    const WeightsMeaning meaning{{102, 51, 25.5f}, {51, 51, 51}, {"cat", "dog", "owl"}};
    CHECK(export_torchvision(SafetensorsFile::open(s / "own.safetensors"), meaning, s / "out.safetensors") ==
          s / "out.safetensors" + ": 3 classes, torchvision's names; its images are normalised with mean=[0.4, 0.2, 0.1], std=[0.2, 0.2, 0.2]");
    const auto out = SafetensorsFile::open(s / "out.safetensors");
    CHECK(out.names().size() == tensors.size());
    for (size_t i = 0; i < tensors.size(); ++i) {
        const std::string name = torchvision_name(tensors[i].name);
        CHECK(out.dtype(name) == "F32");
        CHECK(out.shape(name) == tensors[i].shape);
        CHECK((out.read(name) == values[i]));
    }
    CHECK(out.metadata().at("format") == "pt");
    CHECK(out.metadata().at("classes") == R"(["cat","dog","owl"])");
    CHECK(out.metadata().at("normalisation").find("\"mean\":[102.0,51.0,25.5]") != std::string::npos);
    // What torchvision's names have is taken too: a copy.
    export_torchvision(out, meaning, s / "again.safetensors");
    CHECK((SafetensorsFile::open(s / "again.safetensors").read("features.3.weight") == values[2]));

    CHECK(export_torchvision(SafetensorsFile::open(s / "own.safetensors"), {}, s / "bare.safetensors").ends_with("how its images are normalised is not known"));
    CHECK_FALSE(SafetensorsFile::open(s / "bare.safetensors").metadata().contains("normalisation"));
    auto small = random_tensors(small_owt(), Naming::own);
    write(s / "small.safetensors", small);
    CHECK_THROWS_WITH_AS(export_torchvision(SafetensorsFile::open(s / "small.safetensors"), {}, s / "no.safetensors"),
                         doctest::Contains("weights of another network"), Error);
    CHECK_FALSE(std::filesystem::exists(s / "no.safetensors"));
}

TEST_CASE("predictions: logits as .npy, the likeliest classes as .csv") {
    const TempDir s;
    const std::vector<std::string> classes = {"cat", "dog, \"big\"", "owl"};
    const float rows[2][3] = {{0, 1, 2}, {5, 5, -5}};
    for (const char* name : {"p.npy", "p.csv"}) {
        Predictions p(s / name, classes);
        p.add("a,b.jpg", 2, rows[0]);
        p.add("broken.jpg", -1, rows[0]);
        p.add("c.jpg", 0, rows[1]);
        p.write();
    }
    const std::string npy = test::slurp(s / "p.npy");
    CHECK(npy.substr(0, 8) == std::string("\x93NUMPY\x01\x00", 8));
    const size_t header = 10 + static_cast<unsigned char>(npy[8]) + 256u * static_cast<unsigned char>(npy[9]);
    CHECK(header % 64 == 0);
    CHECK(npy.find("{'descr': '<f4', 'fortran_order': False, 'shape': (3, 3), }") == 10);
    REQUIRE(npy.size() == header + 9 * 4);
    float got[9];
    std::memcpy(got, npy.data() + header, sizeof got);
    CHECK((got[0] == 0 && got[2] == 2 && got[6] == 5 && got[8] == -5));
    CHECK((std::isnan(got[3]) && std::isnan(got[5])));
    // Of 0, 1, 2: e^k / (1 + e + e^2).
    CHECK(test::slurp(s / "p.csv") ==
          "image,class,top1,probability1,top2,probability2,top3,probability3\n"
          "\"a,b.jpg\",owl,owl,0.665241,\"dog, \"\"big\"\"\",0.244728,cat,0.090031\n"
          "c.jpg,cat,cat,0.499989,\"dog, \"\"big\"\"\",0.499989,owl,0.000023\n");
    CHECK_THROWS_WITH_AS(Predictions("p.txt", classes), doctest::Contains("must be a file that ends in .npy (logits) or .csv"), UsageError);
}
