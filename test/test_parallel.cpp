// Two workers (and three) compute what one computes on the same global batch: every network,
// dropout on.
#include <doctest/doctest.h>

#include "test/parallel_job.h"

using namespace wt;

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

TEST_CASE("parallel: two workers on one device, tanh, bf16" * doctest::test_suite("kernels")) {
    Job job{.net = "mini", .global_batch = 4};
    const Outcome one = run(job, 2);
    job.workers = 2;
    job.devices = {0, 0};
    check_equal(job, run(job, 2), one, 1e-3);

    Job tanh{.net = "mini", .global_batch = 4, .options = {.tanh = true}};
    const Outcome tanh_one = run(tanh, 2);
    tanh.workers = 2;
    check_equal(tanh, run(tanh, 2), tanh_one, 1e-3);

    // bf16 rounds what is exchanged (2^-9 relative): shares of a gradient are rounded before they
    // are summed.
    Job low{.net = "mini", .global_batch = 4, .dtype = DType::bf16};
    const Outcome low_one = run(low, 1);
    low.workers = 2;
    check_equal(low, run(low, 1), low_one, 3e-2);
}

TEST_CASE("parallel: the gradient of the trunk's dropout in the product above it") {
    // A ReLU below the dropout, as "tiny" has it. Naming the dropout's kernel keeps it apart.
    const auto launches = [](const std::string& kernels, int workers) {
        WorkerConfig c;
        c.net = tiny_net({});
        c.batch = 4, c.workers = workers;
        c.kernels = KernelSettings::parse(kernels);
        c.kernels.fuse = Fuse::on;
        int count = 0;
        for (const Step& s : Layout(c).training_steps)
            if (const auto* l = std::get_if<Launch>(&s.action))
                count += l->name == "drop3.backward";
        return count;
    };
    CHECK(launches("own", 1) == 0);
    CHECK(launches("own,drop3.forward=naive", 1) == 1);
    CHECK(launches("own", 2) >= 1);  // the gradients of both are summed first
    for (const DType dtype : {DType::f32, DType::bf16})
        for (const int microbatches : {0, 2}) {
            Job job{.net = "tiny", .global_batch = 4, .dtype = dtype, .kernels = "own"};
            job.fuse = Fuse::on;
            job.microbatches = microbatches;
            const Outcome together = run(job, 3);
            job.kernels = "own,drop3.forward=naive";
            const Outcome apart = run(job, 3);
            CHECK(together.weights == apart.weights);  // the scale, 2, rounds nothing
            CHECK(together.losses == apart.losses);
        }
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

// The first pass of a kind runs as it is, the second and third are captured, later ones replay:
// five steps, four evaluations.
TEST_CASE("parallel: replaying graphs gives the bits of launching anew, dropout on") {
    for (const int workers : {1, 2}) {
        Job job{.net = "mini", .workers = workers, .global_batch = 2, .evaluations = 4};
        const Outcome want = run(job, 5);
        job.graph = true;
        const auto check = [&] {
            const Outcome got = run(job, 5);
            CHECK(got.weights == want.weights);
            CHECK(got.losses == want.losses);
            CHECK(got.evaluated.loss_sum == want.evaluated.loss_sum);
            CHECK(got.evaluated.top5 == want.evaluated.top5);
        };
        check();
#ifdef VGPU
        for (uint64_t seed = 1; seed <= 2 * uint64_t(workers); ++seed) {
            INFO(workers << " workers, VGPU_SEED=" << seed);
            vgpu::set_seed(seed);
            check();
            vgpu::set_seed(0);
        }
#endif
    }
}

// Fused operations add up and round as their parts do, but for bf16, which the parts round to once
// more in between. `fused_kernels`: instead of job.kernels where operations are fused.
void check_fused(Job job, int steps, double tolerance, const char* fused_kernels = nullptr) {
    job.fuse = Fuse::off;
    const Outcome apart = run(job, steps);
    if (fused_kernels) job.kernels = fused_kernels;
    for (const int workers : {1, 2}) {
        job.workers = workers;
        job.fuse = Fuse::on;
        job.keep_gradients = true;
        check_equal(job, run(job, steps), apart, tolerance);
        job.keep_gradients = false;  // the fully connected layers' update in their wgrad
        check_equal(job, run(job, steps), apart, tolerance);
    }
}

TEST_CASE("parallel: fused operations compute what their parts do") {
    check_fused({.net = "mini", .global_batch = 4, .kernels = "own"}, 2, 1e-3);
    check_fused({.net = "mini", .global_batch = 2, .options = {.tanh = true}}, 2, 1e-3);
    check_fused({.net = "mini", .global_batch = 2, .options = {.plain_pool = true, .lrn = false}},
                2, 1e-3);
    // A rounding to bf16 is off by at most 2^-9, in the mean by 0.001; of 30 in a row (ten layers'
    // activations and gradients, shares summed over two workers) comes 0.006. `fused` pools what
    // LRN has rounded, as the parts do. A kernel that pools before it rounds sends a window's
    // gradient elsewhere where two maxima round to one: that alone is 0.1 here.
    check_fused({.net = "mini", .global_batch = 2, .dtype = DType::bf16, .kernels = "own"}, 1, 0.02,
                "own,norm1.forward+pool1=fused,norm2.forward+pool2=fused");
    check_fused({.net = "cifar", .global_batch = 2}, 2, 1e-3);
}

#ifndef __SANITIZE_ADDRESS__
TEST_CASE("parallel: fused operations compute what their parts do in the full-size networks") {
    for (const char* net : {"alexnet", "owt"}) {
        Job job{.net = net,
                .global_batch = 2,
                .classes = 1000,
                .fuse = Fuse::off,
                .keep_gradients = false};
        const Outcome apart = run(job, 1);
        job.fuse = Fuse::on;
        // Of 10^5 units of a layer one may be 0 within rounding and fall to the other side of its
        // ReLU: 10^-2.5 of a gradient, and of a bias that was 0 before the step.
        check_equal(job, run(job, 1), apart, 1e-2);
    }
}
#endif

TEST_CASE("parallel: which operations are fused") {
    WorkerConfig c;
    c.net = make_net("alexnet", {.classes = 10});
    c.batch = 2;
    const auto variant_of = [](const Layout& l, const std::string& pass) {
        for (const auto& [name, variant] : l.choices)
            if (name == pass) return variant;
        return std::string();
    };
    c.kernels.fuse = Fuse::on;
    {
        const Layout l(c);
        CHECK(variant_of(l, "norm1.forward+pool1") != "");
        CHECK(variant_of(l, "pool1.backward+norm1+relu1") != "");
        CHECK(variant_of(l, "pool5.backward+relu5") != "");
        CHECK(variant_of(l, "norm1.forward") == "");
        CHECK(variant_of(l, "pool5.forward") != "");
        for (const TrunkOp& op : l.trunk) {
            if (op.layer->kind == LayerKind::activation)
                CHECK((op.fused_away_forward && op.fused_away_backward));
            const std::string& n = op.layer->name;
            if (op.layer->kind == LayerKind::conv) {
                CHECK(op.dgrad.problem.drelu == (n == "conv4" || n == "conv5"));
                CHECK(op.wgrad.problem.bias == (n == "conv3" || n == "conv4"));
            }
        }
        CHECK(
            (l.head[0].fprop.problem.dropout == 0.5f && l.head[0].fprop_eval.problem.dropout == 0));
        CHECK((l.augment.problem.fold == 4 && l.trunk[0].fprop.problem.fold == 4 &&
               l.trunk[0].wgrad.problem.fold == 4));
        CHECK((!l.head[0].dgrad.problem.drelu && l.head[1].dgrad.problem.drelu &&
               l.head[1].mask_scale == 2));
        CHECK((l.head[2].wgrad.problem.sgd && l.updates.size() == 5 * 2 + 3));
    }
    // Who names a part's variant has the part.
    c.kernels.by_layer_op = {{"conv1.wgrad", "tiled"},
                             {"norm1.forward", "naive"},
                             {"relu4.backward", "naive"},
                             {"update.sgd", "naive"}};
    {
        const Layout l(c);
        CHECK(variant_of(l, "norm1.forward") == "naive");
        CHECK(variant_of(l, "relu4.backward") == "naive");
        CHECK(l.augment.problem.fold == 1);
        CHECK(variant_of(l, "pool2.backward+norm2+relu2") != "");
        CHECK_FALSE(l.head[2].wgrad.problem.sgd);
    }
    // A fused operation only its plain variant has is not an automatic choice where there is a
    // better one for the part.
    c.kernels = KernelSettings::parse("own");
    for (const TrunkOp& op : Layout(c).trunk)
        if (op.dgrad && op.dgrad.problem.drelu)
            CHECK(op.dgrad.variant != &conv_dgrad_variants()[0]);
#ifdef WT_ONEDNN
    c.kernels = KernelSettings::parse("auto");
    const Layout l(c);
    CHECK(variant_of(l, "norm1.forward+pool1") == "");
    CHECK(variant_of(l, "norm1.forward") != "");
    CHECK(variant_of(l, "fc6.wgrad") == "onednn");
    CHECK((l.head[0].grad && l.updates.size() == l.params.size()));
    // A fused product that is written for CPUs comes before oneDNN's and the update apart.
    c.dtype = DType::bf16;
    if (find(gemm_variants(), "sgd_bf16_cpu")
            ->refuses({.layout = GemmLayout::tn, .dtype = DType::bf16, .sgd = true}) == "") {
        const Layout low(c);
        CHECK(variant_of(low, "fc6.wgrad") == "sgd_bf16_cpu");
        CHECK((low.head[0].wgrad.problem.sgd && low.updates.size() < low.params.size()));
    }
#endif
}

TEST_CASE("parallel: settings that a graph has captured can be changed") {
    WorkerConfig c;
    c.net = make_net("cifar", {.classes = 10});
    c.batch = 2;
    c.image_h = c.image_w = 24;
    std::vector<std::vector<float>> weights;
    for (const bool graph : {false, true}) {
        c.graph = graph;
        Group group({c});
        PinnedBuffer<uint8_t> images(2 * 24 * 24 * 3);
        PinnedBuffer<AugmentParams> draws(2);
        PinnedBuffer<int> labels(2);
        for (size_t i = 0; i < images.size(); ++i)
            images[i] = static_cast<uint8_t>(i * 2654435761u >> 24);
        for (int i = 0; i < 2; ++i) draws[i] = {}, labels[i] = i;
        group.run([&](Worker& w) {
            for (size_t i = 0; i < w.layout().params.size(); ++i) {
                const Param& p = w.layout().params[i];
                w.set_param(static_cast<int>(i),
                            initial_values(c.net, p, {0, p.rows}, Init::he, 3));
                w.set_momentum(static_cast<int>(i), std::vector<float>(p.count()));
            }
            for (int step = 0; step < 8; ++step) {
                if (step == 4) {
                    Normalisation n;
                    for (int ch = 0; ch < 3; ++ch) n.mean[ch] = 100, n.inv_std[ch] = 1 / 50.f;
                    w.set_normalisation(n);
                    w.set_weight_decay(0.1f);
                }
                w.wait(w.train({images.data(), draws.data(), labels.data()},
                               {1, static_cast<uint64_t>(step), 1e-4f, 0.9f}));
            }
        });
        weights.push_back(group.get_param(0));
    }
    CHECK(weights[0] == weights[1]);
}

TEST_CASE("parallel: tf32 is asked of every product of fp32 operands, and of nothing else") {
    WorkerConfig c;
    c.net = make_net("mini", {.classes = 10});
    c.batch = 2;
    c.tf32 = true;
    const Layout l(c);
    for (const TrunkOp& op : l.trunk)
        if (op.layer->kind == LayerKind::conv) {
            CHECK((op.fprop.problem.tf32 && op.wgrad.problem.tf32));
            CHECK((!op.needs_dx || op.dgrad.problem.tf32));
        }
    for (const HeadOp& op : l.head)
        CHECK((op.fprop.problem.tf32 && op.dgrad.problem.tf32 && op.wgrad.problem.tf32));
    // 10 bits of fraction: 2^-11 relative, in every product of some ten layers.
    Job job{.net = "mini", .global_batch = 4};
    const Outcome full = run(job, 1);
    job.tf32 = true;
    check_equal(job, run(job, 1), full, 1e-2);
}

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
    CHECK_THROWS_WITH_AS(Group({c}),
                         doctest::Contains("out of memory on GPU 0: mini at batch 16777216 needs"),
                         Error);
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
    c.kernels = KernelSettings::parse("conv2.wgrda=tiled");
    CHECK_THROWS_WITH_AS(Layout{c}, doctest::Contains("nearest is conv2.wgrad"), UsageError);
}
