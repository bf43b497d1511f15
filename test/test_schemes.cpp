// The schemes of "One weird trick": whatever way the fully connected layers get their batches, and
// whoever updates what, the weights are those of one worker; the bytes are those of the formula;
// and every wait is needed.
#include <doctest/doctest.h>

#include <mutex>
#include <set>

#include "host/parallel/waits.h"
#include "test/parallel_job.h"
#include "test/seeds.h"

using namespace wt;
using wt::test::SeedGuard;
using wt::test::seeds;

namespace {

struct Way {
    FcScheme scheme;
    bool per_microbatch;
    FcSplit split = FcSplit::columns;
    std::string text() const {
        return std::string(name_of(scheme)) + (per_microbatch ? " per pass" : "") +
               (split == FcSplit::alternate ? " alternate" : "");
    }
};
#ifdef __SANITIZE_ADDRESS__  // several times slower: a choice that has every line of code
const Way kWays[] = {{FcScheme::a, false},
                     {FcScheme::c, true},
                     {FcScheme::dp, false},
                     {FcScheme::b, false, FcSplit::alternate}};
#else
const Way kWays[] = {{FcScheme::a, false},
                     {FcScheme::b, false},
                     {FcScheme::b, true},
                     {FcScheme::c, false},
                     {FcScheme::c, true},
                     {FcScheme::dp, false},
                     {FcScheme::a, false, FcSplit::alternate},
                     {FcScheme::b, false, FcSplit::alternate},
                     {FcScheme::c, true, FcSplit::alternate}};
#endif

Job job_of(const Way& way, int workers, int batch) {
    Job job{.net = "tiny", .workers = workers, .global_batch = workers * batch};
    job.bucket_bytes = 8 << 10;
    job.scheme = way.scheme, job.per_microbatch = way.per_microbatch, job.split = way.split;
    job.lr = 1e-3f;
    return job;
}

// How far the weights are from others, as a share of how far training has moved them.
double off(const Outcome& got, const Outcome& want, size_t i) {
    double d = 0, moved = 0;
    for (size_t e = 0; e < want.weights[i].size(); ++e) {
        d += std::pow(double(got.weights[i][e]) - want.weights[i][e], 2);
        moved += std::pow(double(want.weights[i][e]) - want.first[i][e], 2);
    }
    return std::sqrt(d) / std::max(std::sqrt(moved), 1e-30);
}

double worst_off(const Outcome& got, const Outcome& want) {
    double worst = 0;
    for (size_t i = 0; i < want.params.size(); ++i) {
        const double o = off(got, want, i);
        if (!(o <= worst)) worst = o;  // NaN stays
    }
    return worst;
}

#ifdef __SANITIZE_ADDRESS__
constexpr int kSteps = 3, kSeeds = 2;
#else
constexpr int kSteps = 20, kSeeds = 20;
#endif

}  // namespace

// Rounding is 1e-7; what grows is the flip of a unit to the other side of its ReLU, or of a maximum
// to another pixel: it moves a share of one sample's gradient, 1e-3 of the whole where one was
// seen. The rate is low enough for the steps after it not to multiply that (at 1e-2 they do,
// tenfold in 4 steps). What a missing, doubled or misplaced share of a gradient does is of order 1;
// updating in every pass instead of once is seen too (below).
TEST_CASE(
    "schemes: after many steps the weights are those of one worker, 1 to 4 workers, dropout on") {
    constexpr double kTolerance = 5e-3;
    for (const int workers : {1, 2, 3, 4}) {
#ifdef __SANITIZE_ADDRESS__
        if (workers % 2) continue;
#endif
        // a batch that three workers share unevenly in scheme c
        Job job = job_of(kWays[0], 1, 4 * workers);
        const Outcome once = run(job, kSteps);
        job.microbatches = workers, job.per_microbatch = true;
        const Outcome per_microbatch = run(job, kSteps);
        if (workers > 1) CHECK(worst_off(per_microbatch, once) > 5 * kTolerance);
        job.per_microbatch = false;
        CHECK(worst_off(run(job, kSteps), once) <= kTolerance);
        for (const Way& way : kWays) {
            if (workers == 1) continue;
            INFO(way.text() << ", " << workers << " workers");
            job = job_of(way, workers, 4);
            const Outcome got = run(job, kSteps);
            const Outcome& want = way.per_microbatch ? per_microbatch : once;
            const double o = worst_off(got, want);
            MESSAGE(way.text() << ", " << workers << " workers: " << o << " off after " << kSteps
                               << " steps");
            CHECK(o <= kTolerance);
            CHECK(std::abs(got.losses[0] - want.losses[0]) <= 1e-5 * want.losses[0]);
            CHECK(got.evaluated.rows == job.global_batch - 1);
        }
    }
}

TEST_CASE(
    "schemes: runs of one configuration are bit-equal, under any legal order of unordered work") {
    for (const int workers : {2, 3})
        for (const Way& way : kWays) {
            Job job = job_of(way, workers, 3);
            job.evaluations = 3;  // in a row, with nothing between
            const Outcome want = run(job, 2), again = run(job, 2);
            CHECK((again.weights == want.weights && again.losses == want.losses));
#ifdef VGPU
            for (uint64_t seed = 1; seed <= (workers == 2 ? kSeeds : kSeeds / 4); ++seed) {
                INFO(way.text() << ", " << workers << " workers, VGPU_SEED=" << seed);
                vgpu::set_seed(seed);
                const Outcome got = run(job, 2);
                vgpu::set_seed(0);
                CHECK((got.weights == want.weights && got.losses == want.losses &&
                       got.evaluations == want.evaluations));
            }
#endif
        }
}

TEST_CASE("schemes: graphs, bf16, one device for all, and the host's memory between devices" *
          doctest::test_suite("kernels")) {
    for (const Way& way : kWays) {
        INFO(way.text());
        Job job = job_of(way, 2, 2);
        const Outcome want = run(job, 5);
        job.graph = true;
        CHECK((run(job, 5).weights == want.weights));
        job.graph = false;
        job.devices = {0, 0};
        CHECK((run(job, 5).weights == want.weights));
        job.devices = {};
        job.packed = true;
        CHECK((run(job, 5).weights == want.weights));
        job.graph = true;
        CHECK((run(job, 5).weights == want.weights));

        // Gradients of what passes between workers are rounded to bf16 (2^-9) before they are
        // summed.
        Job low = job_of(kWays[0], 1, 4);
        low.dtype = DType::bf16;
        if (way.per_microbatch) low.microbatches = 2, low.per_microbatch = true;
        const Outcome one = run(low, 1);
        low = job_of(way, 2, 2);
        low.dtype = DType::bf16;
        CHECK(worst_off(run(low, 1), one) <= 5e-2);
    }
}

#ifdef VGPU
// Copies through the host's memory are complete at their own posts, in whatever order they run.
TEST_CASE("schemes: through the host's memory, any legal order of unordered work" *
          doctest::test_suite("kernels")) {
    for (const Way& way : kWays) {
        Job job = job_of(way, 2, 2);
        const Outcome want = run(job, 2);
        job.packed = true;
        for (const uint64_t seed : seeds(6)) {
            INFO(way.text() << ", VGPU_SEED=" << seed);
            const SeedGuard guard(seed);
            const Outcome got = run(job, 2);
            CHECK((got.weights == want.weights));
            CHECK((got.losses == want.losses));
        }
    }
}
#endif

TEST_CASE("schemes: eight workers, shards and segments of different size" *
          doctest::test_suite("kernels")) {
    for (const Way& way : kWays) {
        INFO(way.text());
        Job job = job_of(kWays[0], 1, 8 * 8);
        if (way.per_microbatch) job.microbatches = 8, job.per_microbatch = true;
        const Outcome one = run(job, 2);
        CHECK(worst_off(run(job_of(way, 8, 8), 2), one) <= 1e-2);
    }
}

// (K - 1) b images' worth of every activity that is gathered, and of its gradient coming back; 2 (K
// - 1) / K of the gradients that are summed: once as gradients, once as weights. Split alternately,
// the first fully connected layer's units and their gradient stay where they are, the others' are
// summed and gathered instead of gathered and summed, and of the logits every worker's share of all
// goes to all: K times as much.
TEST_CASE("schemes: bytes sent are those of the formula") {
    for (const char* name : {"tiny", "mini", "alexnet"}) {
#ifdef __SANITIZE_ADDRESS__
        if (std::string(name) == "alexnet") continue;
#endif
        for (const int K : {2, 3})
            for (const DType dtype : {DType::f32, DType::bf16})
                for (const Way& way : kWays) {
                    const int b = 3;
                    // Once: products of that size take long.
                    if (std::string(name) == "alexnet" &&
                        (K == 3 || dtype == DType::bf16 || way.scheme != FcScheme::a ||
                         way.split == FcSplit::alternate))
                        continue;
                    Job job = job_of(way, K, b);
                    job.net = name, job.dtype = dtype, job.keep_gradients = false;
                    const int steps = 2;
                    const Outcome o = run(job, steps);
                    int64_t sent = 0;
                    for (const int64_t n : o.bytes_sent) sent += n;

                    const NetSpec net = std::string(name) == "tiny"
                                            ? tiny_net({.classes = 10})
                                            : make_net(name, {.classes = 10});
                    const double es = static_cast<double>(size_of(dtype));
                    // bytes of a sample; of all parameters as gradients and as weights
                    double activities = 0, summed = 0;
                    const Layer& top = net.layers[net.first_fc()];
                    // forward and back; its label
                    activities += 2 * top.x.count() * es + sizeof(int);
                    const bool alternate = way.split == FcSplit::alternate;
                    for (const Layer& l : net.layers) {
                        const bool last = &l == &net.layers.back();
                        if (l.kind == LayerKind::fc && alternate)
                            activities += last ? K * l.out * 4.0 : &l == &top ? 0 : 2 * l.out * es;
                        else if (l.kind == LayerKind::fc)
                            // logits are fp32, and their gradient stays
                            activities += last ? l.out * 4.0 : 2 * l.out * es;
                        if (l.kind == LayerKind::conv ||
                            (l.kind == LayerKind::fc && way.scheme == FcScheme::dp))
                            summed += l.weights() * (4 + es) + (l.parameters() - l.weights()) * 8.0;
                    }
                    if (way.scheme == FcScheme::dp) activities = 0;
                    // a worker's, on average: shards differ in size
                    double want = (K - 1.0) * b * activities + (K - 1.0) / K * summed;
                    if (way.scheme == FcScheme::dp) want += (K - 1) * double(sizeof(SoftmaxStats));
                    INFO(name << " " << way.text() << " " << K << " workers " << name_of(dtype)
                              << ": " << sent / steps / K << " bytes a worker and step");
                    // Biases start at multiples of 8 elements: 10 classes take 16.
                    CHECK(double(sent) / steps / K >= want - 1);
                    CHECK(double(sent) / steps / K <=
                          want + (way.scheme == FcScheme::dp ? 6 * 8 : 1));
                }
    }
}

TEST_CASE("schemes: what cannot be is said") {
    WorkerConfig c;
    c.net = make_net("mini", {.classes = 10});
    c.workers = 4, c.batch = 3, c.scheme = FcScheme::c;
    CHECK_THROWS_WITH_AS(Layout{c}, doctest::Contains("--batch 4 or more"), UsageError);
    // What does not fit is said, though half of such a batch would be too few for the scheme.
    std::vector<WorkerConfig> all(4, c);
    for (int r = 0; r < 4; ++r)
        all[r].rank = r, all[r].device = 0, all[r].image_h = all[r].image_w = 1 << 15;
    for (WorkerConfig& w : all) w.batch = 6;
    CHECK_THROWS_WITH_AS(check_memory(all),
                         doctest::Contains("out of memory on GPU 0: mini at batch 6 needs"), Error);
    c.workers = 11, c.batch = 2, c.scheme = FcScheme::b;
    CHECK_THROWS_WITH_AS(Layout{c}, doctest::Contains("fewer than 11 workers"), Error);
    c.scheme = FcScheme::dp;
    CHECK_NOTHROW(Layout{c});
}

TEST_CASE("schemes: every sample of the batch goes through the head once") {
    for (const FcScheme scheme : {FcScheme::a, FcScheme::b, FcScheme::c, FcScheme::dp})
        for (int workers = 1; workers <= 5; ++workers)
            for (int batch = workers; batch <= 7; ++batch) {
                WorkerConfig c;
                c.workers = workers, c.batch = batch, c.scheme = scheme;
                std::vector<int> seen(c.rows());
                std::vector<int64_t> of_microbatch(c.microbatch_count());
                for (int r = 0; r < workers; ++r) {
                    const auto rows = batch_rows(c, r);
                    CHECK(static_cast<int>(rows.size()) == batch);
                    for (const int row : rows) ++seen[row];
                    int64_t local = 0;
                    for (const RowBlock& b : row_blocks(c, r)) {
                        CHECK(b.local == local);
                        CHECK((b.count > 0 && b.row / c.microbatch_rows() == b.microbatch &&
                               (b.row + b.count - 1) / c.microbatch_rows() == b.microbatch));
                        local += b.count;
                        of_microbatch[b.microbatch] += b.count;
                    }
                }
                CHECK(std::ranges::count(seen, 1) == c.rows());
                if (scheme != FcScheme::dp)
                    for (const int64_t n : of_microbatch) CHECK(n == c.microbatch_rows());
            }
}

#if defined(VGPU) && !defined(__SANITIZE_ADDRESS__)
namespace {

// Runs a job and says what it computed, or that it failed.
struct Trial {
    std::vector<std::vector<float>> weights;
    std::vector<double> told;
    bool operator==(const Trial&) const = default;
};

}  // namespace

// Each wait of a stream for another's work is taken away in turn; under some order of the work its
// absence must show. (Where every convolution is a bucket of its own, the wait for the gradients of
// all but the first is implied by the sharing of the one before: here the second bucket has two.)
TEST_CASE("schemes: a missing wait is noticed") {
    struct Trials {
        Way way;
        int workers;
        OverlapChoice overlap;
    };
    std::vector<Trials> all;
    for (const Way& way : kWays)
        // per microbatch the same waits
        if (!way.per_microbatch) all.push_back({way, 2, OverlapChoice::none()});
    all.push_back({{FcScheme::a, false}, 1, OverlapChoice::all()});
    all.push_back({{FcScheme::a, false}, 2, OverlapChoice::all()});
    all.push_back({{FcScheme::c, true}, 2, OverlapChoice::all()});
    all.push_back({{FcScheme::dp, false}, 2, OverlapChoice::all()});
    for (const auto& [way, workers, overlap] : all) {
        Job job = job_of(way, workers, 2);
        job.overlap = overlap;
        job.evaluations = 5;  // in flight two at a time, with nothing else between them
        job.check = false;
        std::mutex mutex;
        std::set<std::string> waits;
        leave_out_wait = [&](const WaitId& id) {
            std::lock_guard lock(mutex);
            waits.insert(id.text());
            return false;
        };
        const auto trial = [&] {
            const Outcome o = run(job, 2);
            return Trial{o.weights, o.told};
        };
        const Trial want = trial();
        CHECK(waits.size() > (workers > 1 ? 4 : 3));
        for (const char* what :
             {"staged", "gradient ready", "gradient read", "fc ready", "rows ready"})
            if (overlap.parts.wgrad &&
                !(way.scheme == FcScheme::dp && (what[0] == 'f' || what[0] == 'r')) &&
                !(workers > 1 && std::string(what) == "gradient read"))
                CHECK_MESSAGE(std::ranges::any_of(
                                  waits, [&](const std::string& w) { return w.starts_with(what); }),
                              what);
        leave_out_wait = nullptr;
        for (uint64_t seed = 1; seed <= 20; ++seed) {  // with all of them nothing is to be noticed
            vgpu::set_seed(seed);
            CHECK(trial() == want);
            vgpu::set_seed(0);
        }
        for (const std::string& left_out : waits) {
            // What it gathers in a step, it has read before the last pass, all of whose results
            // rank 0 collects before the next step.
            if (way.scheme == FcScheme::b && left_out == "start 0 by 1") continue;
            leave_out_wait = [&](const WaitId& id) { return id.text() == left_out; };
            int noticed = 0;
            for (uint64_t seed = 1; seed <= 300 && !noticed; ++seed) {
                vgpu::set_seed(seed);
                if (!(trial() == want)) noticed = static_cast<int>(seed);
                vgpu::set_seed(0);
            }
            INFO(way.text() << ", " << workers << " workers, overlap " << text_of(overlap.parts)
                            << ": without " << left_out);
            CHECK(noticed > 0);
        }
        leave_out_wait = nullptr;
    }
}
#endif
