// Label smoothing in training, on one worker and on shards; the kernels are tested in
// test_softmax.cpp.
#include <doctest/doctest.h>

#include <cmath>

#include "test/parallel_job.h"
#include "test/training.h"

using namespace wt;
using namespace wt::test;

TEST_CASE("label smoothing: training counts it, evaluation does not, on shards too") {
    constexpr double kSmoothing = 0.2;
    Job job{.net = "tiny", .global_batch = 12, .lr = 0};
    const Outcome plain = run(job, 1);
    job.label_smoothing = kSmoothing;
    const Outcome smooth = run(job, 1);
    CHECK(smooth.weights == plain.weights);  // the rate is 0
    CHECK(smooth.evaluated.loss_sum == plain.evaluated.loss_sum);
    CHECK(smooth.losses[0] != plain.losses[0]);

    // The gradient of the last layer's bias is the mean of softmax - q. So the two differ by
    // kSmoothing (share of the class - 1 / classes), which tells the labels of the batch.
    const std::vector<float>&a = plain.gradients.back(), &b = smooth.gradients.back();
    double labels = 0;
    for (size_t j = 0; j < a.size(); ++j) {
        const double share = (double(b[j]) - a[j]) / kSmoothing + 1.0 / job.classes,
                     count = share * job.global_batch;
        CHECK(count == doctest::Approx(std::round(count)).epsilon(1e-4));
        CHECK(count > -1e-4);
        labels += std::round(count);
    }
    CHECK(labels == job.global_batch);

    for (const int workers : {2, 3})
        for (const FcScheme scheme : {FcScheme::a, FcScheme::b, FcScheme::c, FcScheme::dp})
            for (const FcSplit split : {FcSplit::columns, FcSplit::alternate}) {
                if (split == FcSplit::alternate && scheme == FcScheme::dp) continue;
                job.workers = workers, job.scheme = scheme, job.split = split;
                INFO(workers << " workers, scheme " << std::string(name_of(scheme)));
                check_equal(job, run(job, 1), smooth, 1e-4);
            }
}

TEST_CASE("label smoothing: bin/train's flag") {
    const TempDir s;
    const std::string start = program("train") +
                              " --net mini --data synthetic:10:40 --batch 4 --gpus 0 --steps 2 "
                              "--lr-policy constant --lr 0 --seed 3 --out ";
    const Result plain = run(s, start + "plain"),
                 smooth = run(s, start + "smooth --label-smoothing 0.3");
    REQUIRE(smooth.status == 0);
    CHECK(smooth.out.find("labels  smoothed by 0.3 in training, whose loss counts that") !=
          std::string::npos);
    CHECK(plain.out.find("smoothed") == std::string::npos);
    // The held-out loss of the same weights is the same; a resumed run keeps the flag.
    const auto held_out = [](const std::string& out) {
        const size_t at = out.find("val after 2 steps");
        return at == std::string::npos ? std::string() : out.substr(at, out.find('\n', at) - at);
    };
    CHECK(held_out(plain.out) != "");
    CHECK(held_out(smooth.out) == held_out(plain.out));
    const Result on = run(s, program("train") + " --resume smooth --steps 3 --gpus 0");
    CHECK(on.out.find("labels  smoothed by 0.3") != std::string::npos);
    const Result other =
        run(s, program("train") + " --resume smooth --steps 4 --gpus 0 --label-smoothing 0");
    CHECK(other.out.find("was made with --label-smoothing 0.3; from here on it is 0") !=
          std::string::npos);
    check_one_line(run(s, start + "x --label-smoothing 1"), 2, "--label-smoothing");
}
