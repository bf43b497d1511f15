// Training by compiled PTX against training by what g++ makes of the same kernels: the same flags,
// two steps, and then the losses, weights and momentum of both. `make test PTX=1` says where g++'s
// bin/train is (WT_PLAIN_TRAIN).
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <random>

#include "host/json.h"
#include "host/vgpu/ptx_exec/kernels.h"
#include "test/data_files.h"
#include "test/hopper.h"
#include "test/seeds.h"
#include "test/training.h"

using namespace wt;
using namespace wt::test;

namespace {

struct Training {
    const char* net;
    const char* scheme;
    int workers, batch, steps;
    const char* precision;
    const char* variant;  // of every product that can be; "": the fastest of ours
    // How far gradients may be off, as a share of their norm. A rounding is 1e-7 in fp32, and what
    // grows is the flip of a unit to the other side of its ReLU. In bf16 a sum that differs by 1e-7
    // may be rounded to the other neighbour, and then every layer above is: in networks as large as
    // alexnet that moves the lowest gradients by 0.1 (as much as another kernel of the same sums
    // does in either program). A wrong operand is of order 1.
    double tolerance;
};

std::string kernels_of(const Training& t) {
    std::string list = "own";
    if (!*t.variant) return list;
    const bool cifar = std::string(t.net) == "cifar";
    for (int layer = 2; layer <= (cifar ? 4 : 8); ++layer)
        for (const char* pass : {"fprop", "dgrad", "wgrad"}) {
            const char* kind = layer < (cifar ? 4 : 6) ? "conv" : "fc";
            list += "," + std::string(kind) + std::to_string(layer) + "." + pass + "=" + t.variant;
        }
    return list;
}

constexpr double kFp32 = 5e-3, kBf16 = 0.2, kLoss = 1e-2;
constexpr int kClasses = 16;  // tensor cores want a multiple of 8

// One image of noise of each class to train on and a single held-out one: made-up data sets have
// 256 of these, which would take far longer than the steps.
void write_images(const TempDir& s) {
    constexpr int kSide = 48;
    std::mt19937 random(1);
    const auto noise = [&](const std::string& path) {
        Bytes rows(3 * kSide * kSide);
        for (uint8_t& v : rows) v = static_cast<uint8_t>(random());
        write_file(path, png(kSide, kSide, 8, 2, rows));
    };
    for (int i = 0; i < kClasses; ++i) {
        const std::string name = "/c" + std::to_string(10 + i);
        for (const char* half : {"train", "val"})
            if (i == 0 || std::string(half) == "train") {
                const std::string folder = s / ("images/" + (half + name));
                std::filesystem::create_directories(folder);
                noise(folder + "/0.png");
            }
    }
}

std::string flags_of(const Training& t) {
    std::string gpus = "0";
    for (int w = 1; w < t.workers; ++w) gpus += "," + std::to_string(w);
    return std::string(" --net ") + t.net + " --data folder:images --gpus " + gpus + " --batch " +
           std::to_string(t.batch) + " --fc-scheme " + t.scheme + " --precision " + t.precision +
           " --kernels " + kernels_of(t) + " --steps " + std::to_string(t.steps) +
           " --eval-every 0 --lr-policy constant";
}

std::vector<double> losses(const std::string& path) {
    std::vector<double> all;
    std::istringstream lines(slurp(path));
    for (std::string line; std::getline(lines, line);) {
        const Json record = try_parse_json(line);
        if (record.is_object() && record.contains("loss")) all.push_back(record["loss"]);
    }
    return all;
}

// |got - want| / |want|; 0 where both are the same bits.
double off(const std::vector<float>& got, const std::vector<float>& want) {
    double difference = 0, norm = 0;
    for (size_t i = 0; i < want.size(); ++i) {
        difference += std::pow(double(got[i]) - want[i], 2);
        norm += std::pow(double(want[i]), 2);
    }
    return difference == 0 ? 0 : std::sqrt(difference / norm);
}

void compare(const Training& t, const std::string& plain) {
    const TempDir s;
    write_images(s);
    for (const auto& [program, out] : {std::pair{program("train"), "ptx"}, {plain, "plain"}}) {
        const Result r = run(s, program + flags_of(t) + " --out " + out);
        INFO(program << ": " << r.err);
        REQUIRE(r.status == 0);
    }
    const auto ptx = SafetensorsFile::open(s / "ptx/checkpoint.safetensors"),
               want = SafetensorsFile::open(s / "plain/checkpoint.safetensors");
    REQUIRE(ptx.names() == want.names());
    double worst = 0;
    std::string of;
    size_t same = 0;
    for (const std::string& name : want.names()) {
        const double o = off(ptx.read(name), want.read(name));
        same += o == 0;
        // Momentum is the gradients' sum; the weights are mostly those of the start.
        if (name.find(".momentum") == std::string::npos) {
            CHECK_MESSAGE(o <= t.tolerance, name, ": off by ", o);
        } else if (of.empty() || !(o <= worst)) {  // NaN stays
            worst = o;
            of = name;
        }
    }
    const std::vector<double> a = losses(s / "ptx/metrics.jsonl"),
                              b = losses(s / "plain/metrics.jsonl");
    REQUIRE(a.size() == b.size());
    REQUIRE(!b.empty());
    double loss = 0;
    for (size_t i = 0; i < b.size(); ++i) loss = std::max(loss, std::abs(a[i] - b[i]) / b[i]);
    const std::string what = std::string(t.net) + ", scheme " + t.scheme + ", " +
                             std::to_string(t.workers) + " workers, " + t.precision +
                             (*t.variant ? ", " : "") + t.variant;
    MESSAGE(what << ": losses off by " << loss << ", gradients by " << worst << " (" << of << "); "
                 << same << " of " << want.names().size() << " tensors have the same bits");
    CHECK(loss <= std::min(t.tolerance, kLoss));
    CHECK(worst <= t.tolerance);
    CHECK(same < want.names().size());  // two programs, not one twice
}

// "" where this is not PTX, or nobody said where g++'s program is.
std::string plain_program() {
    const char* plain = std::getenv("WT_PLAIN_TRAIN");
    if (vgpu::ptx_exec::present() && plain && *plain) return plain;
    MESSAGE("skip: for make test PTX=1");
    return {};
}

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test PTX=1` runs

TEST_CASE("PTX training: small networks agree with g++'s, every scheme, one and two workers") {
    const std::string plain = plain_program();
    if (plain.empty()) return;
    const char* tensor_cores = is_hopper() ? "wgmma_sm90" : "mma_sm80";
    for (const char* net : {"cifar", "mini"})
        for (const int workers : {1, 2})
            for (const char* scheme : {"a", "b", "c"}) {
                if (workers == 1 && *scheme != 'a') continue;  // the same steps
                if (races_wanted() && (workers == 1 || *scheme != 'b')) continue;
                compare({net, scheme, workers, 4, 2, "fp32", "", kFp32}, plain);
                compare({net, scheme, workers, 4, 2, "bf16", tensor_cores, kBf16}, plain);
            }
    if (!races_wanted()) compare({"mini", "b", 2, 4, 2, "bf16", "mma_sm80", kBf16}, plain);
}

TEST_CASE("PTX training: alexnet's step on tensor cores agrees with g++'s") {
    const std::string plain = plain_program();
    if (plain.empty() || races_wanted()) return;
    compare({"alexnet", "a", 1, 2, 1, "bf16", is_hopper() ? "wgmma_sm90" : "mma_sm80", kBf16},
            plain);
}

TEST_SUITE_END();
