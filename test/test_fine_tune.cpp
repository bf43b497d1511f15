// bin/train with weights from elsewhere: fine-tuning, frozen layers, export, predictions, and what
// is refused.
#include <doctest/doctest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "test/training.h"

namespace fs = std::filesystem;
using namespace wt;
using namespace wt::test;

namespace {

bool said(const Result& r, const std::string& text) {
    return r.out.find(text) != std::string::npos;
}

void require_done(const Result& r) {
    INFO(r.out << r.err);
    REQUIRE(r.status == 0);
}

std::string setting(const std::string& file, const char* flag) {
    return nlohmann::json::parse(SafetensorsFile::open(file).metadata().at("settings")).at(flag);
}

const std::vector<std::string> kLayers = {"conv1", "conv2", "conv3", "conv4",
                                          "conv5", "fc6",   "fc7",   "fc8"};

// Layers of which both files have the same bits.
std::string same_layers(const std::string& a, const std::string& b) {
    const auto x = SafetensorsFile::open(a), y = SafetensorsFile::open(b);
    std::string same;
    for (const std::string& l : kLayers)
        if (x.shape(l + ".weight") == y.shape(l + ".weight") &&
            x.read(l + ".weight") == y.read(l + ".weight") &&
            x.read(l + ".bias") == y.read(l + ".bias"))
            same += (same.empty() ? "" : ",") + l;
    return same;
}

std::string with_momentum(const std::string& file) {
    const auto x = SafetensorsFile::open(file);
    std::string all;
    for (const std::string& l : kLayers)
        if (x.has(l + ".weight.momentum")) all += (all.empty() ? "" : ",") + l;
    return all;
}

// The numbers of a .npy file of fp32.
std::vector<float> npy(const std::string& path) {
    const std::string all = slurp(path);
    const size_t data =
        10 + static_cast<unsigned char>(all[8]) + 256u * static_cast<unsigned char>(all[9]);
    std::vector<float> v((all.size() - data) / 4);
    std::memcpy(v.data(), all.data() + data, v.size() * 4);
    return v;
}

}  // namespace

TEST_CASE(
    "fine-tune: frozen layers stay, the last one is made anew for other classes, and a run goes on so") {
    const TempDir s;
    require_done(run(s, train("--steps 2 --out first")));
    const std::string from = s / "first/checkpoint.safetensors";
    // `train` says --data synthetic:10; later flags win.
    const std::string flags =
        "--init first/checkpoint.safetensors --data synthetic:4 --freeze conv1,conv2,fc6 ";
    const Result r = run(s, train(flags + "--steps 4 --out tuned"));
    require_done(r);
    CHECK(said(
        r,
        "weights conv1, conv2, conv3, conv4, conv5, fc6, fc7 from first/checkpoint.safetensors; fc8 anew (he): "
        "first/checkpoint.safetensors has 10 classes, the data 4"));
    CHECK(said(r, "frozen  conv1,conv2,fc6: "));
    CHECK(said(r, " parameters are trained, and the backward pass ends at conv3"));
    const std::string tuned = s / "tuned/checkpoint.safetensors";
    CHECK(same_layers(from, tuned) == "conv1,conv2,fc6");
    CHECK(with_momentum(from) == "conv1,conv2,conv3,conv4,conv5,fc6,fc7,fc8");
    CHECK(with_momentum(tuned) == "conv3,conv4,conv5,fc7,fc8");
    CHECK(setting(tuned, "--freeze") == "conv1,conv2,fc6");
    CHECK(SafetensorsFile::open(tuned).shape("fc8.bias") == std::vector<int64_t>{4});

    // Stopped and gone on with, with another number of workers too.
    require_done(run(s, train(flags + "--steps 2 --out parts")));
    const Result on = run(s, program("train") + " --resume parts --steps 4");
    require_done(on);
    CHECK(said(on, "frozen  conv1,conv2,fc6: "));
    CHECK(same_tensors(tuned, s / "parts/checkpoint.safetensors"));

    // Thawed: what had no momentum begins with none.
    const Result thawed =
        run(s, program("train") + " --resume tuned --out thawed --freeze none --steps 5");
    require_done(thawed);
    CHECK(said(thawed, "was made with --freeze conv1,conv2,fc6; from here on it is none"));
    CHECK_FALSE(said(thawed, "frozen  "));
    CHECK(same_layers(tuned, s / "thawed/checkpoint.safetensors") == "");
    CHECK(with_momentum(s / "thawed/checkpoint.safetensors") ==
          "conv1,conv2,conv3,conv4,conv5,fc6,fc7,fc8");
    // And frozen on the way.
    const Result more =
        run(s, program("train") +
                   " --resume tuned --out more --freeze conv1,conv2,conv3,fc6 --steps 5");
    require_done(more);
    CHECK(same_layers(tuned, s / "more/checkpoint.safetensors") == "conv1,conv2,conv3,fc6");
    CHECK(with_momentum(s / "more/checkpoint.safetensors") == "conv4,conv5,fc7,fc8");

    // By name: steps 0 leave what a run begins with.
    const Result except = run(
        s, train("--init first/best.safetensors --init-except conv2,fc7 --steps 0 --out except"));
    require_done(except);
    CHECK(said(
        except,
        "conv1, conv3, conv4, conv5, fc6, fc8 from first/best.safetensors; conv2, fc7 anew (he)"));
    CHECK(same_layers(from, s / "except/checkpoint.safetensors") ==
          "conv1,conv3,conv4,conv5,fc6,fc8");
    require_done(run(s, train("--steps 0 --out made")));
    CHECK(same_layers(s / "made/checkpoint.safetensors", s / "except/checkpoint.safetensors") ==
          "conv2,fc7");
    // A run that began so goes on.
    require_done(run(s, program("train") + " --resume except --steps 1"));
}

TEST_CASE("fine-tune: predictions are those of the evaluation, whoever computes them") {
    const TempDir s;
    require_done(run(s, train("--steps 2 --out r")));
    const std::string eval = program("train") + " --resume r --eval-only ";
    // the last batch is not whole
    const Result one = run(s, eval + "--gpus 0 --batch 7 --predictions one.npy");
    require_done(one);
    CHECK(said(one, "wrote one.npy: logits of "));
    const auto logits = npy(s / "one.npy");
    REQUIRE(logits.size() % 10 == 0);
    const size_t images = logits.size() / 10;
    CHECK(said(one, "(" + std::to_string(images) + " images)"));
    for (const std::string scheme : {"a", "c", "dp"}) {
        require_done(
            run(s, eval + "--gpus 0,1 --batch 6 --fc-scheme " + scheme + " --predictions two.npy"));
        const auto other = npy(s / "two.npy");
        REQUIRE(other.size() == logits.size());
        float apart = 0;
        for (size_t i = 0; i < logits.size(); ++i)
            apart = std::max(apart, std::abs(logits[i] - other[i]));
        CHECK(apart <= 1e-5f);
    }
    // The error that the evaluation printed, from the rows.
    require_done(run(s, eval + "--predictions rows.csv"));
    std::ifstream rows(s / "rows.csv");
    std::string line;
    REQUIRE(std::getline(rows, line));
    size_t count = 0, right = 0;
    while (std::getline(rows, line)) {
        std::vector<std::string> fields;
        std::istringstream parts(line);
        for (std::string f; std::getline(parts, f, ',');) fields.push_back(f);
        REQUIRE(fields.size() == 12);
        ++count;
        right += fields[1] == fields[2];
    }
    CHECK(count == images);
    char error[64];
    std::snprintf(error, sizeof error, "top-1 error %.2f%%",
                  100.0 * (1.0 - double(right) / double(count)));
    CHECK_MESSAGE(said(one, error), one.out);
}

#ifndef __SANITIZE_ADDRESS__  // 57 M parameters
TEST_CASE(
    "fine-tune: an export comes back under torchvision's names, with what it says of itself") {
    const TempDir s;
    require_done(run(
        s,
        program("train") +
            " --net owt --data synthetic:3 --batch 1 --steps 0 --gpus 0 --out r --mean 102,51,25.5 --std 51,51,51"));
    const Result out =
        run(s, program("train") + " --resume r --export torchvision out.safetensors");
    require_done(out);
    CHECK(out.out ==
          "export  out.safetensors: 3 classes, torchvision's names; its images are normalised with "
          "mean=[0.4, 0.2, 0.1], std=[0.2, 0.2, 0.2]\n");
    CHECK_FALSE(fs::exists(s / "runs"));
    const Result back = run(
        s,
        program("train") +
            " --init out.safetensors --data synthetic:3 --batch 1 --steps 0 --gpus 0 --out back");
    require_done(back);
    CHECK(said(back, "weights all layers from out.safetensors (torchvision's names)"));
    CHECK(said(back, "less the mean 102,51,25.5, by 51,51,51 (as out.safetensors)"));
    CHECK_FALSE(said(back, "notice  out.safetensors"));
    CHECK(same_layers(s / "r/checkpoint.safetensors", s / "back/checkpoint.safetensors") ==
          "conv1,conv2,conv3,conv4,conv5,fc6,fc7,fc8");

    // Without what it says, torchvision's own normalisation is taken, and said; what is given is
    // used.
    const auto file = SafetensorsFile::open(s / "out.safetensors");
    std::vector<std::vector<float>> values;
    std::vector<NamedTensor> tensors;
    for (const std::string& n : file.names()) values.push_back(file.read(n));
    for (size_t i = 0; i < values.size(); ++i)
        tensors.push_back({file.names()[i], file.shape(file.names()[i]), values[i].data()});
    write_safetensors(s / "bare.safetensors", tensors);
    const std::string bare =
        program("train") +
        " --init bare.safetensors --data synthetic:3 --batch 1 --steps 0 --gpus 0 --overwrite --out back ";
    const Result theirs = run(s, bare);
    require_done(theirs);
    CHECK(said(theirs, "less the mean 123.7,116.3,103.5, by 58.4,57.12,57.38"));
    CHECK(said(
        theirs,
        "notice  bare.safetensors does not say how its images are normalised: as torchvision does it, --mean 123.675,116.28,103.53 --std 58.395,57.12,57.375"));
    const Result given = run(s, bare + "--mean 1,2,3 --std 4,5,6");
    require_done(given);
    CHECK(said(given, "less the mean 1,2,3, by 4,5,6"));
    CHECK_FALSE(said(given, "does not say how"));

    check_one_line(
        run(s,
            program("train") +
                " --net alexnet --init bare.safetensors --data synthetic:3 --batch 1 --steps 0 --out n"),
        1,
        "bare.safetensors has the names of torchvision's AlexNet, which is net owt, not alexnet: give --net owt");
    check_one_line(run(s, program("train") +
                              " --init bare.safetensors --eval-only --data synthetic:4 --batch 1"),
                   1, "bare.safetensors has 3 classes, the data has 4");
    check_one_line(
        run(s, program("train") + " --init bare.safetensors --export torchvision bare.safetensors"),
        2, "that is the file with the weights");
    check_one_line(run(s, program("train") + " --init bare.safetensors --export torchvision back"),
                   2, "back is no regular file");
    check_one_line(run(s, program("train") +
                              " --init bare.safetensors --export torchvision no/out.safetensors"),
                   1, "cannot write no/out.safetensors");
}
#endif

TEST_CASE("fine-tune: what is refused is one line") {
    const TempDir s;
    require_done(run(s, train("--steps 1 --out r --gpus 0")));
    const auto usage = [&](const std::string& flags, const std::string& why) {
        check_one_line(run(s, train(flags)), 2, why);
    };
    const std::string init = "--init r/checkpoint.safetensors --out n ";
    usage(
        "--freeze conv9",
        "--freeze conv9: unknown layer 'conv9': must be one of conv1, conv2, conv3, conv4, conv5, fc6, fc7, fc8; nearest is conv");
    usage("--freeze conv1,", "unknown layer ''");
    usage("--freeze conv1,conv2,conv3,conv4,conv5,fc6,fc7,fc8",
          "these are all the layers of mini, and nothing is left to train");
    usage("--freeze conv2 --kernels conv2.wgrad=tiled --out n",
          "this pass is not run, because of what is frozen");
    usage("--init-except fc8", "says what --init FILE does not fill");
    usage(init + "--init-except fc9", "--init-except fc9: unknown layer 'fc9'");
    usage(init + "--init-except fc8 --eval-only", "--eval-only trains none");
    usage("--resume r --init-except fc8", "says what --init FILE does not fill");
    usage("--predictions p.npy", "are of an evaluation: give --eval-only too");
    usage(init + "--eval-only --predictions p.txt",
          "must be a file that ends in .npy (logits) or .csv");
    CHECK_FALSE(fs::exists(s / "n"));
    const std::string bare = program("train") + " ";
    check_one_line(run(s, bare + "--export onnx out --resume r"), 2,
                   "--export onnx out: unknown format 'onnx': must be torchvision");
    check_one_line(run(s, bare + "--export torchvision out"), 2,
                   "needs weights: give --resume DIR or --init FILE.safetensors");
    check_one_line(run(s, bare + "--export torchvision"), 2, "--export");
    check_one_line(run(s, bare + "--resume r --export torchvision out --epochs 4"), 2,
                   "trains nothing: leave --epochs away");
    check_one_line(run(s, bare + "--resume r --export torchvision out"), 1,
                   "is of net mini, and torchvision's AlexNet is net owt");
    CHECK_FALSE(fs::exists(s / "out"));

    std::ofstream(s / "w.pth") << "no such format";
    std::ofstream(s / "w.caffemodel") << "no such format";
    check_one_line(
        run(s, train("--init w.pth --out n")), 1,
        "w.pth is a file of PyTorch, and weights are read from safetensors files: python3 -c ");
    check_one_line(run(s, train("--init w.caffemodel --out n")), 1,
                   "w.caffemodel is a file of Caffe");
    check_one_line(run(s, bare + "--init w.pth --export torchvision out"), 1,
                   "w.pth is a file of PyTorch");
    CHECK_FALSE(fs::exists(s / "n"));
}
