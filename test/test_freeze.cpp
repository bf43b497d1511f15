// Frozen layers: their weights stay to the bit, those of the others become what they would be in a
// run that puts the frozen ones back after every step; and what they cost is not paid.
#include <doctest/doctest.h>

#include <set>

#include "test/parallel_job.h"

using namespace wt;

namespace {

using Names = std::vector<std::string>;

struct Way {
    FcScheme scheme;
    bool per_microbatch = false;
    FcSplit split = FcSplit::columns;
    std::string text() const {
        return std::string(name_of(scheme)) + (per_microbatch ? " per pass" : "") +
               (split == FcSplit::alternate ? " alternate" : "");
    }
};
const Way kWays[] = {{FcScheme::a},
                     {FcScheme::b},
                     {FcScheme::c},
                     {FcScheme::c, true},
                     {FcScheme::dp},
                     {FcScheme::a, false, FcSplit::alternate},
                     {FcScheme::b, false, FcSplit::alternate}};

// Of tiny_net: the lowest, a whole trunk, all but the last, the last, ones with trained ones below.
const std::vector<Names> kFrozen = {{"conv1"},
                                    {"conv1", "conv2", "conv3"},
                                    {"conv1", "conv2", "conv3", "fc4", "fc5"},
                                    {"conv1", "conv2", "conv3", "fc4"},
                                    {"conv2", "fc5"},
                                    {"conv3", "fc4", "fc6"},
                                    {"conv1", "conv2", "fc4"},
                                    {"fc4", "fc5", "fc6"}};

std::string text(const Names& names) {
    std::string s;
    for (const std::string& n : names) s += (s.empty() ? "" : ",") + n;
    return s;
}

Job job_of(const Way& way, int workers) {
    Job job{.net = "tiny", .workers = workers, .global_batch = workers * 3};
    job.bucket_bytes = 8 << 10;
    job.scheme = way.scheme;
    job.per_microbatch = way.per_microbatch;
    job.split = way.split;
    job.keep_gradients = false;
    return job;
}

bool frozen(const Job& job, const Param& p) {
    return std::ranges::count(job.frozen, p.name.substr(0, p.name.find('.'))) > 0;
}

// `tolerance`: 0 where the same kernels run.
void check_frozen(Job job, const Names& names, int steps, double tolerance) {
    job.put_back = names;
    const Outcome want = run(job, steps);
    job.put_back = {};
    job.frozen = names;
    const Outcome got = run(job, steps);
    INFO(job.workers << " workers, frozen " << text(names));
    for (size_t i = 0; i < want.params.size(); ++i) {
        INFO(want.params[i].name);
        if (frozen(job, want.params[i])) {
            CHECK((got.weights[i] == got.first[i]));
        } else {
            CHECK((got.weights[i] != got.first[i]));
            CHECK(distance(got.weights[i], want.weights[i]) <= tolerance);
        }
    }
    for (size_t s = 0; s < want.losses.size(); ++s)
        CHECK(std::abs(got.losses[s] - want.losses[s]) <= tolerance * want.losses[s]);
}

int64_t sum(const std::vector<int64_t>& all) {
    int64_t n = 0;
    for (const int64_t v : all) n += v;
    return n;
}

}  // namespace

TEST_CASE("freeze: the trained layers become what they do where the frozen ones are put back") {
    for (const int workers : {1, 2, 3})
        for (const Way& way : kWays) {
            if (workers == 1 && way.scheme != FcScheme::a) continue;
            INFO(way.text());
            for (const Names& names : kFrozen)
                // What is put back after a step has changed between its passes.
                if (!way.per_microbatch || names.back().starts_with("conv"))
                    check_frozen(job_of(way, workers), names, 3, 0);
        }
}

TEST_CASE("freeze: updates in every pass, as one worker makes them") {
    for (const Names& names : {kFrozen[3], kFrozen[4], kFrozen[7]}) {
        Job job = job_of(kWays[0], 1);
        job.global_batch = 6;
        job.microbatches = 2;
        job.per_microbatch = true;
        job.frozen = names;
        job.lr = 1e-3f;
        const Outcome want = run(job, 3);
        job = job_of({FcScheme::c, true}, 2);
        job.frozen = names;
        job.lr = 1e-3f;
        const Outcome got = run(job, 3);
        INFO("frozen " << text(names));
        for (size_t i = 0; i < want.params.size(); ++i) {
            INFO(want.params[i].name);
            CHECK((got.weights[i] != got.first[i]) == !frozen(job, want.params[i]));
            CHECK(distance(got.weights[i], want.weights[i]) <= 1e-4);
        }
    }
}

// Fused kernels do in one what is left of a layer's backward pass, so others may be chosen: their
// sums are rounded otherwise.
TEST_CASE("freeze: fused or not, bf16, graphs, through the host's memory, kept gradients") {
    for (const int workers : {1, 2})
        for (const Names& names : {kFrozen[0], kFrozen[2], kFrozen[4], kFrozen[6]}) {
            Job job = job_of(kWays[0], workers);
            job.fuse = Fuse::on;
            job.kernels = "own";
            check_frozen(job, names, 2, 1e-6);
            job.options = {.lrn = false};
            check_frozen(job, names, 2, 1e-6);
            job = job_of(kWays[1], workers);
            job.fuse = Fuse::off;
            job.keep_gradients = true;
            check_frozen(job, names, 2, 0);
            job.dtype = DType::bf16;
            check_frozen(job, names, 2, 0);
            job.dtype = DType::f32;
            job.graph = true;
            job.packed = true;
            check_frozen(job, names, 5, 0);
        }
}

TEST_CASE("freeze: the networks themselves") {
    check_frozen({.net = "mini", .workers = 2, .global_batch = 4}, {"conv1", "conv2", "fc6"}, 2,
                 1e-6);
    check_frozen({.net = "mini", .global_batch = 2, .options = {.tanh = true}},
                 {"conv1", "conv3", "fc7"}, 2, 1e-6);
    check_frozen({.net = "cifar", .workers = 2, .global_batch = 4}, {"conv1", "conv2", "conv3"}, 2,
                 1e-6);
    check_frozen({.net = "cifar", .global_batch = 2, .fuse = Fuse::on}, {"conv1", "conv3"}, 2,
                 1e-6);
}

#ifdef VGPU
TEST_CASE("freeze: any legal order of unordered work gives the same bits") {
    for (const int workers : {2, 3})
        for (const Way& way : kWays)
            for (const Names& names : {kFrozen[1], kFrozen[2], kFrozen[6]}) {
                Job job = job_of(way, workers);
                job.evaluations = 3;
                job.frozen = names;
                const Outcome want = run(job, 2);
                for (uint64_t seed = 1; seed <= 6; ++seed) {
                    INFO(way.text() << ", " << workers << " workers, frozen " << text(names)
                                    << ", VGPU_SEED=" << seed);
                    vgpu::set_seed(seed);
                    const Outcome got = run(job, 2);
                    vgpu::set_seed(0);
                    CHECK((got.weights == want.weights && got.losses == want.losses &&
                           got.evaluations == want.evaluations));
                }
            }
}
#endif

// A frozen replicated layer's gradients and weights are not sent, and gradients of activations only
// down to the lowest layer that is trained (formulas of test_schemes.cpp).
TEST_CASE("freeze: bytes sent, by the formula") {
    for (const int K : {2, 3})
        for (const DType dtype : {DType::f32, DType::bf16})
            for (const FcScheme scheme : {FcScheme::a, FcScheme::b, FcScheme::c, FcScheme::dp})
                for (const Names& names : kFrozen) {
                    Job job = job_of({scheme}, K);
                    job.dtype = dtype;
                    job.frozen = names;
                    const int steps = 2, b = 3;
                    const int64_t sent = sum(run(job, steps).bytes_sent);

                    const NetSpec net = tiny_net({.classes = 10});
                    const double es = static_cast<double>(size_of(dtype));
                    const bool dp = scheme == FcScheme::dp;
                    // A sample's activations; all parameters, as gradients and as weights.
                    double activities = net.layers[net.first_fc()].x.count() * es + sizeof(int),
                           summed = 0;
                    bool below = false;  // a layer below is trained
                    for (const Layer& l : net.layers) {
                        if (l.weights() == 0) continue;
                        const bool fc = l.kind == LayerKind::fc,
                                   trained = !std::ranges::count(names, l.name);
                        if (fc) activities += &l == &net.layers.back() ? l.out * 4.0 : l.out * es;
                        if (fc && below) activities += l.x.count() * es;
                        if (trained && (!fc || dp))
                            summed += l.weights() * (4 + es) + (l.parameters() - l.weights()) * 8.0;
                        below = below || trained;
                    }
                    double want = (K - 1.0) / K * summed;
                    want += (K - 1.0) * (dp ? double(sizeof(SoftmaxStats)) : b * activities);
                    INFO(name_of(scheme) << " " << K << " workers " << name_of(dtype) << ", frozen "
                                         << text(names));
                    const double got = double(sent) / steps / K;
                    CHECK(got >= want - 1);
                    // biases start at multiples of 8 elements
                    CHECK(got <= want + (dp ? 6 * 8 : 1));
                }
}

TEST_CASE("freeze: memory, passes and time that are saved") {
    for (const FcScheme scheme : {FcScheme::a, FcScheme::dp})
        for (const int workers : {1, 2}) {
            Job job{.net = "mini", .workers = workers, .global_batch = 4 * workers};
            job.scheme = scheme;
            job.keep_gradients = false;
            job.picture = true;
            const Outcome all = run(job, 3);
            const Names kept = job.frozen = {"conv1", "conv2", "conv3", "conv4", "conv5", "fc6"};
            const Outcome some = run(job, 3);

            // At least the momentum of what is frozen, and of the trunk its gradients too.
            const NetSpec net = make_net("mini", {.classes = 10});
            double momentum = 0, gradients = 0;
            for (const Layer& l : net.layers) {
                if (!std::ranges::count(job.frozen, l.name)) continue;
                momentum += l.parameters() * 4.0 / workers;
                if (l.kind == LayerKind::conv || scheme == FcScheme::dp)
                    gradients += l.parameters() * 4.0;
            }
            CHECK(double(all.memory - some.memory) >= momentum + gradients);

            std::set<std::string> passes;
            for (const Span& s : some.picture.spans) passes.insert(s.name);
            for (const std::string& layer : job.frozen)
                for (const char* pass : {".wgrad", ".dgrad"})
                    CHECK_FALSE(passes.contains(layer + pass));
            for (const char* pass :
                 {"conv1.fprop", "fc6.fprop", "fc7.wgrad", "fc8.dgrad", "fc8.wgrad"})
                CHECK_MESSAGE(passes.contains(pass), pass);
            CHECK_FALSE(passes.contains("exchange trunk.reduce"));
            if (scheme == FcScheme::a) CHECK_FALSE(passes.contains("exchange weights.reduce"));
            // Two of three passes of nearly all layers are left out: less than half of the time is
            // left, were it measured alone on the machine.
            bool faster = false;
            for (int attempt = 0; attempt < 10 && !faster; ++attempt) {
                job.frozen = {};
                const double before = run(job, 3).picture.ms;
                job.frozen = kept;
                faster = run(job, 3).picture.ms < 0.7 * before;
            }
            CHECK(faster);
            MESSAGE(std::string(name_of(scheme))
                    << ", " << workers << " workers: " << all.memory << " to " << some.memory
                    << " bytes, " << all.picture.ms << " to " << some.picture.ms << " ms a step, "
                    << sum(all.bytes_sent) << " to " << sum(some.bytes_sent) << " bytes sent");
        }
}

TEST_CASE("freeze: what cannot be is said") {
    WorkerConfig c;
    c.net = make_net("mini", {.classes = 10});
    c.batch = 2;
    c.frozen = {"conv9"};
    CHECK_THROWS_WITH_AS(Layout{c}, doctest::Contains("conv9"), UsageError);
    c.frozen = {"relu1"};
    CHECK_THROWS_WITH_AS(Layout{c}, doctest::Contains("relu1"), UsageError);
    c.frozen = {"conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"};
    CHECK_THROWS_WITH_AS(Layout{c}, doctest::Contains("nothing is left to train"), UsageError);
    c.training = false;
    CHECK_NOTHROW(Layout{c});
    c.training = true;
    c.frozen = {"conv1", "conv2"};
    c.kernels = KernelSettings::parse("conv2.wgrad=tiled");
    CHECK_THROWS_WITH_AS(Layout{c}, doctest::Contains("not run, because of what is frozen"),
                         UsageError);
    c.kernels = KernelSettings::parse("conv2.fprop=tiled");
    CHECK_NOTHROW(Layout{c});

    c.kernels = {};
    const Layout l(c);
    CHECK(l.frozen(0));
    CHECK_FALSE(l.frozen(4));
    CHECK_FALSE(l.storage[0].v);
    CHECK_THROWS_WITH_AS(l.gradient_of(99), doctest::Contains("no bucket"), Error);
}
