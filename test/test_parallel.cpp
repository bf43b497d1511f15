// Two workers (and three) compute what one computes on the same global batch: every network, dropout on.
#include <doctest/doctest.h>

#include <cmath>
#include <random>

#include "host/parallel/group.h"

using namespace wt;

namespace {

struct Job {
    std::string net;
    int workers = 1, global_batch = 4, classes = 10;
    std::vector<int> devices = {};
    DType dtype = DType::f32;
    const char* kernels = "auto";
    NetOptions options = {};
};

struct Outcome {
    std::vector<Param> params;
    std::vector<std::vector<float>> weights, gradients;
    std::vector<double> losses;
    SoftmaxStats evaluated{};
};

// Trains `steps` steps on random images and evaluates once.
Outcome run(const Job& job, int steps) {
    NetOptions options = job.options;
    options.classes = job.classes;
    const NetSpec net = make_net(job.net, options);
    const int stored = net.input.h + 5, batch = job.global_batch / job.workers;
    std::vector<WorkerConfig> configs;
    for (int r = 0; r < job.workers; ++r) {
        WorkerConfig c;
        c.net = net;
        c.rank = r, c.workers = job.workers, c.batch = batch;
        c.device = job.devices.empty() ? r % device_count() : job.devices[r];
        c.dtype = job.dtype;
        c.kernels = KernelSettings::parse(job.kernels);
        c.image_h = c.image_w = stored;
        configs.push_back(c);
    }
    Group group(configs);
    group.run([&](Worker& w) {
        Normalisation n;
        for (int i = 0; i < 3; ++i) n.mean[i] = 120, n.inv_std[i] = 1 / 60.f;
        w.set_normalisation(n);
        w.set_weight_decay(5e-4f);
        for (size_t i = 0; i < w.layout().params.size(); ++i) {
            const Param& p = w.layout().params[i];
            w.set_param(static_cast<int>(i), initial_values(net, p, w.layout().rows[i], Init::he, 3));
            w.set_momentum(static_cast<int>(i), std::vector<float>(w.layout().rows[i].count * p.row));
        }
    });
    Outcome out;
    out.params = group.worker(0).layout().params;
    const size_t image = size_t(stored) * stored * 3;
    PinnedBuffer<uint8_t> images(image * job.global_batch);
    PinnedBuffer<AugmentParams> draws(job.global_batch);
    PinnedBuffer<int> labels(job.global_batch);
    std::mt19937 rng(7);
    const auto fill = [&] {
        for (size_t i = 0; i < images.size(); ++i) images[i] = static_cast<uint8_t>(rng());
        for (int i = 0; i < job.global_batch; ++i) {
            draws[i] = {static_cast<int16_t>(rng() % 6), static_cast<int16_t>(rng() % 6), static_cast<int32_t>(rng() % 2), {1, -2, 3}};
            labels[i] = static_cast<int>(rng() % job.classes);
        }
    };
    const auto submit = [&](const StepState* state) {
        std::vector<long> tickets(job.workers);
        group.run([&](Worker& w) {
            const int r = w.layout().config.rank, first = r * batch;
            const HostBatch b{images.data() + first * image, draws.data() + first, labels.data() + first};
            tickets[r] = state ? w.train(b, *state) : w.evaluate(b);
        });
        SoftmaxStats stats{};
        for (int r = 0; r < job.workers; ++r) {
            const SoftmaxStats mine = group.worker(r).wait(tickets[r]);
            if (r > 0) {  // every rank knows the whole batch's loss, from the same logits
                CHECK(mine.top1 == stats.top1);
                CHECK(mine.loss_sum == stats.loss_sum);
            }
            stats = mine;
        }
        return stats;
    };
    for (int s = 0; s < steps; ++s) {
        fill();
        const StepState state{11, static_cast<uint64_t>(s), 0.01f, 0.9f};
        out.losses.push_back(submit(&state).loss_sum / job.global_batch);
    }
    for (size_t i = 0; i < out.params.size(); ++i) {
        out.weights.push_back(group.get_param(static_cast<int>(i)));
        out.gradients.push_back(group.get_gradient(static_cast<int>(i)));
    }
    fill();
    labels[job.global_batch - 1] = -1;  // as the last batch of an evaluation has
    out.evaluated = submit(nullptr);
    return out;
}

// Norm of the difference over the norm, NaN-proof: not (a <= b) fails.
double distance(const std::vector<float>& a, const std::vector<float>& b) {
    double d = 0, n = 0;
    for (size_t i = 0; i < a.size(); ++i) d += (double(a[i]) - b[i]) * (double(a[i]) - b[i]), n += double(b[i]) * b[i];
    return std::sqrt(d) / std::max(std::sqrt(n), 1e-30);
}

// Sums are grouped differently by shard (fp32: eps 6e-8 over up to 9216 terms, random-walk sqrt(n) = 96,
// through some ten layers), so gradients agree to about 1e-5; a missing or doubled share would be of order 1.
// A unit at a ReLU's or a maximum's tie may fall either way, hence the room.
void check_equal(const Job& job, const Outcome& got, const Outcome& want, double tolerance) {
    for (size_t s = 0; s < want.losses.size(); ++s) {
        CHECK(std::isfinite(got.losses[s]));
        CHECK(std::abs(got.losses[s] - want.losses[s]) <= tolerance * std::abs(want.losses[s]));
    }
    for (size_t i = 0; i < want.params.size(); ++i) {
        INFO(job.net << " " << want.params[i].name << ", " << job.workers << " workers");
        CHECK(distance(got.gradients[i], want.gradients[i]) <= tolerance);
        CHECK(distance(got.weights[i], want.weights[i]) <= tolerance);
    }
    CHECK(got.evaluated.rows == job.global_batch - 1);
    CHECK(std::abs(got.evaluated.loss_sum - want.evaluated.loss_sum) <= tolerance * std::abs(want.evaluated.loss_sum));
}

}  // namespace

TEST_CASE("parallel: mini on one, two and three workers, own and baseline kernels") {
    for (const char* kernels : {"own", "auto"}) {
        Job job{.net = "mini", .global_batch = 6, .kernels = kernels};
        const Outcome one = run(job, 3);
        for (int workers : {2, 3}) {
            job.workers = workers;
            check_equal(job, run(job, 3), one, 1e-3);
        }
    }
}

TEST_CASE("parallel: two workers on one device, tanh, bf16") {
    Job job{.net = "mini", .global_batch = 4};
    const Outcome one = run(job, 2);
    job.workers = 2;
    job.devices = {0, 0};
    check_equal(job, run(job, 2), one, 1e-3);

    Job tanh{.net = "mini", .global_batch = 4, .options = {.tanh = true}};
    const Outcome tanh_one = run(tanh, 2);
    tanh.workers = 2;
    check_equal(tanh, run(tanh, 2), tanh_one, 1e-3);

    // bf16 rounds what is exchanged (2^-9 relative): shares of a gradient are rounded before they are summed.
    Job low{.net = "mini", .global_batch = 4, .dtype = DType::bf16};
    const Outcome low_one = run(low, 1);
    low.workers = 2;
    check_equal(low, run(low, 1), low_one, 3e-2);
}

TEST_CASE("parallel: runs of one configuration are bit-equal") {
    const Job job{.net = "mini", .workers = 2, .global_batch = 4};
    const Outcome a = run(job, 3), b = run(job, 3);
    CHECK(a.weights == b.weights);
    CHECK(a.losses == b.losses);
}

#ifdef VGPU
TEST_CASE("parallel: any legal order of unordered work gives the same bits") {
    const Job job{.net = "mini", .workers = 2, .global_batch = 4};
    const Outcome want = run(job, 2);
    for (uint64_t seed = 1; seed <= 12; ++seed) {
        INFO("VGPU_SEED=" << seed);
        vgpu::set_seed(seed);
        const Outcome got = run(job, 2);
        vgpu::set_seed(0);
        CHECK(got.weights == want.weights);
        CHECK(got.losses == want.losses);
    }
}
#endif

TEST_CASE("parallel: cifar on two workers") {
    Job job{.net = "cifar", .global_batch = 4, .options = {.dropout = 0.5f}};
    const Outcome one = run(job, 3);
    job.workers = 2;
    check_equal(job, run(job, 3), one, 1e-3);
}

#ifndef __SANITIZE_ADDRESS__  // 62 M parameters and two copies of them take minutes there
TEST_CASE("parallel: the full-size networks on two workers") {
    for (const char* net : {"alexnet", "alexnet2012", "owt"}) {
        Job job{.net = net, .global_batch = 2, .classes = 1000};
        const Outcome one = run(job, 1);
        job.workers = 2;
        check_equal(job, run(job, 1), one, 1e-3);
    }
}
#endif

TEST_CASE("parallel: what does not fit says how much is needed and which batch fits") {
    WorkerConfig c;
    c.net = make_net("mini", {.classes = 10});
    c.batch = 1 << 24;
    CHECK_THROWS_WITH_AS(Group({c}), doctest::Contains("out of memory on GPU 0: mini at batch 16777216 needs"), Error);
    CHECK_THROWS_WITH_AS(Group({c}), doctest::Contains("--batch "), Error);
    c.batch = 2;
    c.workers = 11;
    CHECK_THROWS_WITH_AS(Group({c}), doctest::Contains("fewer than 11 workers"), Error);
}

TEST_CASE("parallel: a variant that does not exist or refuses is a usage error") {
    WorkerConfig c;
    c.net = make_net("mini", {.classes = 10});
    c.batch = 2;
    c.kernels = KernelSettings::parse("conv2.wgrad=tilde");
    CHECK_THROWS_WITH_AS(Layout{c}, doctest::Contains("nearest is tiled"), UsageError);
    c.kernels = KernelSettings::parse("conv9.wgrad=tiled");
    CHECK_THROWS_WITH_AS(Layout{c}, doctest::Contains("unknown layer 'conv9'"), UsageError);
}
