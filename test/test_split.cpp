// Fully connected layers split by units and by inputs in turn (FcSplit::alternate), where it
// differs from the schemes' tests (test_schemes.cpp): fused and not, other activations, parts of
// parameters that are columns, and checkpoints.
#include <doctest/doctest.h>

#include "host/train/checkpoint.h"
#include "test/parallel_job.h"
#include "test/temp_dir.h"

using namespace wt;

namespace {

NetSpec tiny() {
    NetOptions options;
    options.classes = 10;
    return tiny_net(options);
}

std::vector<WorkerConfig> configs_of(int workers, FcSplit split, DType dtype = DType::f32) {
    std::vector<WorkerConfig> all;
    for (int r = 0; r < workers; ++r) {
        WorkerConfig c;
        c.net = tiny();
        c.rank = r, c.workers = workers, c.device = r % device_count();
        c.batch = 12 / workers;
        c.dtype = dtype;
        c.split = split;
        c.image_h = c.image_w = c.net.input.h;
        all.push_back(c);
    }
    return all;
}

std::vector<float> numbered(int64_t n, float first) {
    std::vector<float> v(n);
    for (int64_t i = 0; i < n; ++i) v[i] = first + static_cast<float>(i);
    return v;
}

// One step on the same made-up images, whoever has them; the loss.
double step(Group& group, int number) {
    const WorkerConfig& c = group.worker(0).layout().config;
    const int64_t image = int64_t(c.image_h) * c.image_w * c.image_c, all = c.rows();
    PinnedBuffer<uint8_t> images(image * all);
    PinnedBuffer<AugmentParams> draws(all);
    PinnedBuffer<int> labels(all);
    std::mt19937 rng(number);
    for (size_t i = 0; i < images.size(); ++i) images.data()[i] = static_cast<uint8_t>(rng());
    for (int64_t i = 0; i < all; ++i)
        draws.data()[i] = {}, labels.data()[i] = static_cast<int>(rng() % 10);
    std::vector<double> losses(group.workers());
    group.run([&](Worker& w) {
        const int r = w.layout().config.rank;
        const int64_t first = int64_t(r) * c.batch;
        losses[r] = w.wait(w.train({images.data() + first * image, draws.data() + first,
                                    labels.data() + first},
                                   {5, static_cast<uint64_t>(number), 1e-3f, 0.9f}))
                        .loss_sum;
    });
    return losses[0];
}

void prepare(Group& group) {
    group.run([](Worker& w) {
        Normalisation n;
        for (int i = 0; i < 3; ++i) n.mean[i] = 120, n.inv_std[i] = 1 / 60.f;
        w.set_normalisation(n);
        w.set_weight_decay(5e-4f);
    });
}

}  // namespace

// The tolerances are those of the columns' (test_parallel.cpp).
TEST_CASE(
    "split: fused or not, relu or tanh, one layer to three, with and without kept gradients, packed too") {
    struct Net {
        const char* name;
        bool tanh;
    };
    for (const Net net :
         {Net{"tiny", false}, Net{"tiny2", false}, Net{"cifar", false}, Net{"mini", true}})
        for (const Fuse fuse : {Fuse::off, Fuse::on}) {
#ifdef __SANITIZE_ADDRESS__
            if (net.name[0] != 't') continue;
#endif
            Job job{
                .net = net.name, .global_batch = 4, .options = {.tanh = net.tanh}, .fuse = fuse};
            const Outcome one = run(job, 2);
            job.workers = 2;
            job.split = FcSplit::alternate;
            for (const bool keep : {true, false}) {
                INFO(net.name << (net.tanh ? " tanh" : " relu")
                              << (fuse == Fuse::on ? ", fused" : "")
                              << (keep ? ", gradients kept" : ""));
                job.keep_gradients = keep;  // where not, the update is in wgrad
                job.packed = !keep;
                check_equal(job, run(job, 2), one, 1e-3);
            }
        }
}

TEST_CASE("split: the networks on two and three workers, own and baseline kernels") {
    for (const char* kernels : {"own", "auto"}) {
        Job job{.net = "mini", .global_batch = 6, .kernels = kernels};
        const Outcome one = run(job, 3);
        for (const int workers : {2, 3}) {
            job.workers = workers;
            job.split = FcSplit::alternate;
            check_equal(job, run(job, 3), one, 1e-3);
        }
    }
#ifndef __SANITIZE_ADDRESS__
    for (const char* net : {"alexnet", "owt"}) {
        Job job{.net = net, .global_batch = 2, .classes = 1000};
        const Outcome one = run(job, 1);
        job.workers = 2;
        job.split = FcSplit::alternate;
        check_equal(job, run(job, 1), one, 1e-3);
    }
#endif
}

TEST_CASE(
    "split: what is put in is what comes out, every element is one worker's, and columns are where they belong") {
    for (const DType dtype : {DType::f32, DType::bf16})
        for (const int workers : {1, 2, 3, 4}) {
            INFO(workers << " workers, " << name_of(dtype));
            Group group(configs_of(workers, FcSplit::alternate, dtype));
            const std::vector<Param> params = group.worker(0).layout().params;
            for (size_t i = 0; i < params.size(); ++i) {
                const int n = static_cast<int>(i);
                const auto values = numbered(params[i].count(), 1),
                           momentum = numbered(params[i].count(), -9);
                group.set_param(n, values);
                group.set_param(n, momentum, true);
                CHECK(group.get_param(n) == values);
                CHECK(group.get_param(n, true) == momentum);
                int64_t owned = 0;
                for (int r = 0; r < workers; ++r) {
                    const Layout& l = group.worker(r).layout();
                    owned += l.own[i].count;
                    const auto held = group.worker(r).get_values(n);
                    REQUIRE(static_cast<int64_t>(held.size()) ==
                            l.rows[i].count * l.columns[i].count);
                    bool right = true;
                    for (int64_t row = 0, e = 0; row < l.rows[i].count; ++row)
                        for (int64_t column = 0; column < l.columns[i].count; ++column, ++e) {
                            const float want = values[(l.rows[i].first + row) * params[i].row +
                                                      l.columns[i].first + column];
                            right = right &&
                                    held[e] == (dtype == DType::f32 || params[i].bias
                                                    ? want
                                                    : __bfloat162float(__float2bfloat16(want)));
                        }
                    CHECK(right);
                    const bool above_first = params[i].layer > l.config.net.first_fc();
                    if (workers > 1 && above_first && !params[i].bias)
                        CHECK((l.rows[i].count == params[i].rows &&
                               l.columns[i].count < params[i].row));
                }
                CHECK(owned == params[i].count());
            }
        }
}

TEST_CASE("split: nothing is exchanged between the first two layers, and less is sent") {
    const auto configs = configs_of(2, FcSplit::alternate), whole = configs_of(2, FcSplit::columns);
    const Layout alternate(configs[0]), columns(whole[0]);
    CHECK(
        (alternate.ids.up[0][0] < 0 && alternate.ids.up[1][0] >= 0 && alternate.ids.up[2][0] >= 0));
    CHECK((alternate.ids.down[2][0] >= 0 && alternate.ids.down[1][0] < 0 &&
           alternate.ids.down[0][0] >= 0));
    CHECK(alternate.head[0].gather.empty());
    for (const auto& ids : {columns.ids.up, columns.ids.down})
        for (const auto& of_layer : ids) CHECK(of_layer[0] >= 0);
    // By one worker alone nothing is split.
    const auto one = configs_of(1, FcSplit::alternate);
    for (const HeadOp& op : Layout(one[0]).head) CHECK_FALSE(op.row_parallel);
    WorkerConfig dp = configs[0];
    dp.scheme = FcScheme::dp;
    CHECK_THROWS_WITH_AS(Layout{dp},
                         doctest::Contains("--fc-split alternate: --fc-scheme dp splits no layer"),
                         UsageError);
}

// Steps as one worker, as two split one way and as three split the other, handing over at
// checkpoints: where rounding is all that differs (test_schemes.cpp) the end is that of one worker
// alone. A file is the same bits whoever writes it.
TEST_CASE(
    "split: a checkpoint of one split is resumed with another, and by another number of workers") {
    const test::TempDir dir;
    const NetSpec net = tiny();
    Position position;
    position.net = net.name;
    const auto weights = [&](Group& g) {
        std::vector<std::vector<float>> all;
        for (int momentum = 0; momentum < 2; ++momentum)
            for (size_t i = 0; i < g.worker(0).layout().params.size(); ++i)
                all.push_back(g.get_param(static_cast<int>(i), momentum));
        return all;
    };
    std::vector<std::vector<float>> want, first;
    {
        Group one(configs_of(1, FcSplit::columns));
        prepare(one);
        const auto& params = one.worker(0).layout().params;
        for (size_t i = 0; i < params.size(); ++i) {
            one.set_param(static_cast<int>(i),
                          initial_values(net, params[i], {0, params[i].rows}, Init::he, 3));
            one.set_param(static_cast<int>(i), std::vector<float>(params[i].count()), true);
        }
        first = weights(one);
        save_checkpoint(dir / "start", one, net, position);
        for (int s = 0; s < 8; ++s) step(one, s);
        want = weights(one);
    }
    struct Leg {
        int workers;
        FcSplit split;
    };
    const Leg legs[] = {{2, FcSplit::alternate},
                        {3, FcSplit::columns},
                        {1, FcSplit::columns},
                        {4, FcSplit::alternate}};
    std::string from = dir / "start";
    std::vector<std::vector<float>> before = first;
    int s = 0;
    for (const Leg& leg : legs) {
        Group g(configs_of(leg.workers, leg.split));
        prepare(g);
        const auto file = SafetensorsFile::open(from);
        load_weights(&file, g, net, true);
        CHECK(weights(g) == before);
        for (int i = 0; i < 2; ++i) step(g, s++);
        before = weights(g);
        from = dir / ("leg" + std::to_string(s));
        save_checkpoint(from, g, net, position);
    }
    for (size_t i = 0; i < want.size(); ++i) {
        double off = 0, moved = 0;
        for (size_t e = 0; e < want[i].size(); ++e)
            off += std::pow(double(before[i][e]) - want[i][e], 2),
                moved += std::pow(double(want[i][e]) - first[i][e], 2);
        CHECK(std::sqrt(off) <= 5e-3 * std::sqrt(moved));
    }
}
