// Gradient accumulation: N batches add up to the step of the batch N times as large.
#include <doctest/doctest.h>

#include <cstdlib>
#include <fstream>

#include "host/json.h"
#include "test/parallel_job.h"
#include "test/training.h"

#ifdef VGPU
#include "test/seeds.h"
#endif

using namespace wt;
using namespace wt::test;

namespace {

// Sums of 24 samples' gradients in another order, through three steps; a unit at a ReLU's tie may
// fall either way, which has not been seen with this network.
constexpr double kRounding = 1e-4;

}  // namespace

TEST_CASE("accumulate: N batches are the batch N times as large, dropout on, every scheme" *
          doctest::test_suite("kernels")) {
    const Job large{.net = "tiny", .global_batch = 24};
    const Outcome want = run(large, 3);
    for (const int workers : {1, 2})
        for (const FcScheme scheme : {FcScheme::a, FcScheme::b, FcScheme::c, FcScheme::dp})
            for (const int n : {2, 3}) {
                Job job = large;
                job.workers = workers, job.scheme = scheme, job.accumulate = n;
                job.graph = n == 2;
                INFO(workers << " workers, scheme " << std::string(name_of(scheme)) << ", " << n
                             << " batches");
                check_equal(job, run(job, 3), want, kRounding);
                if (workers == 1 && scheme != FcScheme::a) continue;
                job.keep_gradients = false;  // as training has it, where updates may be fused
                check_equal(job, run(job, 3), want, kRounding);
            }
}

TEST_CASE(
    "accumulate: row-parallel layers, exchange through the host, own kernels, three workers") {
    Job job{.net = "tiny", .global_batch = 24, .kernels = "own"};
    const Outcome want = run(job, 2);
    job.accumulate = 4;
    check_equal(job, run(job, 2), want, kRounding);
    for (const int workers : {2, 3}) {
        job.workers = workers, job.accumulate = 4 / (workers - 1);
        job.split = FcSplit::alternate;
        check_equal(job, run(job, 2), want, kRounding);
        job.split = FcSplit::columns;
        job.packed = true;
        job.bucket_bytes = 8 << 10;
        check_equal(job, run(job, 2), want, kRounding);
        job.packed = false;
        job.bucket_bytes = 2 << 20;
    }
}

TEST_CASE("accumulate: mini, with smoothed labels") {
    Job job{.net = "mini", .global_batch = 8, .label_smoothing = 0.1f};
    const Outcome want = run(job, 2);
    job.accumulate = 2;
    check_equal(job, run(job, 2), want, 1e-3);
    job.workers = 2;
    check_equal(job, run(job, 2), want, 1e-3);
}

// Whatever stands beside other work, and whatever the order of unordered work.
TEST_CASE("accumulate: --overlap and any legal order give the same bits" *
          doctest::test_suite("kernels")) {
    for (const int workers : {1, 2}) {
        Job job{.net = "tiny", .workers = workers, .global_batch = 12, .keep_gradients = false};
        job.accumulate = 3;
        job.overlap = OverlapChoice::none();
        const Outcome want = run(job, 3);
        job.overlap = OverlapChoice::all();
        for (const bool graph : {false, true}) {
            job.graph = graph;
            const Outcome got = run(job, 3);
            CHECK(got.weights == want.weights);
            CHECK(got.losses == want.losses);
        }
#ifdef VGPU
        for (uint64_t seed = 1; seed <= 6; ++seed) {
            INFO(workers << " workers, VGPU_SEED=" << seed);
            vgpu::set_seed(seed);
            const Outcome got = run(job, 3);
            vgpu::set_seed(0);
            CHECK(got.weights == want.weights);
        }
#endif
    }
}

TEST_CASE("accumulate: frozen layers have no sums") {
    Job job{.net = "tiny", .global_batch = 12, .frozen = {"conv1", "conv2", "fc5"}};
    const Outcome want = run(job, 2);
    job.accumulate = 2;
    for (const int workers : {1, 2})
        for (const FcScheme scheme : {FcScheme::a, FcScheme::dp}) {
            job.workers = workers, job.scheme = scheme;
            const Outcome got = run(job, 2);
            for (size_t i = 0; i < want.weights.size(); ++i)
                CHECK(distance(got.weights[i], want.weights[i]) <= kRounding);
        }
}

// ---- bin/train ----------------------------------------------------------------------------------

namespace {

std::vector<Json> steps_of(const std::string& folder) {
    std::vector<Json> steps;
    std::ifstream log(folder + "/metrics.jsonl");
    for (std::string line; std::getline(log, line);) {
        Json j = parse_json(line);
        if (j.at("kind") == "step") steps.push_back(j);
    }
    return steps;
}

double weights_apart(const std::string& a, const std::string& b) {
    const auto x = SafetensorsFile::open(a), y = SafetensorsFile::open(b);
    REQUIRE(x.names() == y.names());
    double worst = 0;
    for (const auto& n : x.names()) worst = std::max(worst, distance(x.read(n), y.read(n)));
    return worst;
}

}  // namespace

TEST_CASE("accumulate: bin/train sees the images of the larger batch, and a step is one update") {
    const TempDir s;
    const std::string flags =
        " --net mini --data synthetic:10:48 --augment full --epochs 2 "
        "--lr-policy cosine --warmup 0.5 --gpus ";
    const auto go = [&](const std::string& more) {
        const Result r = run(s, program("train") + flags + more);
        INFO(r.err);
        REQUIRE(r.status == 0);
        return r.out;
    };
    go("0 --batch 16 --out " + s / "large");
    const std::string said = go("0 --batch 4 --accumulate 4 --out " + s / "small");
    CHECK(said.find("the gradients of 4 batches add up to one: 16 images a step") !=
          std::string::npos);
    go("0,1 --batch 4 --accumulate 2 --fc-scheme b --out " + s / "two");
    const auto large = steps_of(s / "large");
    REQUIRE(large.size() == 6);
    for (const char* other : {"small", "two"}) {
        INFO(other);
        const auto steps = steps_of(s / other);
        REQUIRE(steps.size() == large.size());
        double seconds = 0;  // by images/s, which count all images of a step
        for (const Json& j : steps) seconds += 16 / j.at("images_per_s").get<double>();
        CHECK(seconds <= 1.01 * steps.back().at("seconds").get<double>());
        CHECK(seconds > 0.1 * (steps.back().at("seconds").get<double>() -
                               steps[0].at("seconds").get<double>()));
        for (size_t i = 0; i < steps.size(); ++i) {
            CHECK(steps[i].at("lr") == large[i].at("lr"));
            CHECK(steps[i].at("epoch") == large[i].at("epoch"));
            CHECK(steps[i].at("loss").get<double>() ==
                  doctest::Approx(large[i].at("loss").get<double>()).epsilon(1e-3));
        }
        CHECK(weights_apart(s / other + "/checkpoint.safetensors",
                            s / "large" + "/checkpoint.safetensors") < 2e-2);
    }
}

TEST_CASE("accumulate: a run goes on bit for bit, and with the batch shared otherwise") {
    const TempDir s;
    const std::string flags =
        " --net mini --data synthetic:10:36 --batch 4 --accumulate 3 --gpus 0 --kernels own "
        "--lr-policy constant --out ";
    const auto go = [&](const std::string& more) {
        const Result r = run(s, program("train") + more);
        INFO(r.err);
        REQUIRE(r.status == 0);
        return r.out;
    };
    go(flags + s / "whole" + " --steps 5");
    go(flags + s / "part" + " --steps 2");
    go(" --resume " + s / "part" + " --steps 5 --gpus 0");
    CHECK(same_tensors(s / "whole" + "/checkpoint.safetensors",
                       s / "part" + "/checkpoint.safetensors"));
    // 12 images a step: one batch of them.
    go(flags + s / "other" + " --steps 2");
    go(" --resume " + s / "other" + " --steps 5 --gpus 0 --accumulate 1");
    CHECK(weights_apart(s / "whole" + "/checkpoint.safetensors",
                        s / "other" + "/checkpoint.safetensors") < 2e-2);
    check_one_line(run(s, program("train") + " --resume " + s / "other" +
                              " --steps 6 --gpus 0 --accumulate 5"),
                   1, "give a --batch that makes batch x workers x accumulate the same");
}

TEST_CASE("accumulate: what cannot be is one line") {
    const TempDir s;
    const std::string start = program("train") + " --data synthetic:10:40 --out " + s / "run";
    check_one_line(run(s, start + " --batch 4 --gpus 0,1 --fc-scheme b --fc-update per-pass "
                                  "--accumulate 2"),
                   2, "--accumulate 2 once in as many batches: leave one away");
    check_one_line(run(s, start + " --batch 8 --gpus 0 --accumulate 6"), 1,
                   "6 batches of 8 images do not fit");
    check_one_line(run(s, start + " --accumulate 0"), 2, "--accumulate");
}
