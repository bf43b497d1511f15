// A training of a few steps on random images, by any number of workers, for tests that compare one
// with another.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <utility>

#include "host/parallel/group.h"
#include "host/train/step_timeline.h"

namespace wt {

// A small network with all that is exchanged in a large one; its trunk ends in dropout, as owt's.
// With buckets of 8 KiB conv3 is one, conv2 and conv1 together another, half of them each. "tiny2"
// has two fully connected layers.
inline NetSpec tiny_net(const NetOptions& options, const std::string& name = "tiny") {
    NetBuilder n(name, 16, options);
    n.conv("conv1", 24, 5, {.stride = 2}).act().lrn().pool();  // 6x6x24, 2x2x24
    n.conv("conv2", 8, 3, {.pad = 1})
        .act()
        .conv("conv3", 32, 3, {.pad = 1})
        .act();  // 2x2x8, 2x2x32
    n.dropout().fc("fc4", 72, 1).act().dropout();
    if (name != "tiny2") n.fc("fc5", 40, 1).act().dropout();
    return n.fc("fc6", options.classes).done();
}

struct Job {
    std::string net;  // "tiny", "tiny2" or one of networks.cpp
    int workers = 1, global_batch = 4, classes = 10;
    std::vector<int> devices = {};
    DType dtype = DType::f32;
    const char* kernels = "auto";
    NetOptions options = {};
    bool graph = false, tf32 = false;
    Fuse fuse = Fuse::automatic;
    bool keep_gradients = true;
    int evaluations = 1;
    FcScheme scheme = FcScheme::a;
    FcSplit split = FcSplit::columns;
    int accumulate = 1;  // passes that share the global batch and add up to one step
    float label_smoothing = 0;
    bool per_microbatch = false;
    int microbatches = 0;  // of one worker's head, as the several workers' scheme has them
    bool packed = false;
    float lr = 0.01f;
    size_t bucket_bytes = 2 << 20;
    bool check = true;  // that the ranks agree
    std::vector<std::string> frozen = {};
    // layers that get their first weights again after every step
    std::vector<std::string> put_back = {};
    bool picture = false;  // of the last step
    OverlapChoice overlap = {};
};

struct Outcome {
    std::vector<Param> params;
    std::vector<std::vector<float>> weights, gradients;
    std::vector<std::vector<float>> first;  // weights before the first step
    std::vector<double> losses;
    std::vector<int64_t> bytes_sent;  // by rank, in all
    std::vector<double> told;         // loss of every pass as each rank has it
    SoftmaxStats evaluated{};         // the last
    std::vector<double> evaluations;
    size_t memory = 0;  // that worker 0 has planned, bytes
    StepPicture picture;
};

// Trains `steps` steps on random images and evaluates once.
inline Outcome run(const Job& job, int steps) {
    NetOptions options = job.options;
    options.classes = job.classes;
    const NetSpec net =
        job.net.starts_with("tiny") ? tiny_net(options, job.net) : make_net(job.net, options);
    const int stored = net.input.h + 5, pass = job.global_batch / job.accumulate,
              batch = pass / job.workers;
    std::vector<WorkerConfig> configs;
    for (int r = 0; r < job.workers; ++r) {
        WorkerConfig c;
        c.net = net;
        c.rank = r, c.workers = job.workers, c.batch = batch;
        c.device = job.devices.empty() ? r % device_count() : job.devices[r];
        c.dtype = job.dtype;
        c.kernels = KernelSettings::parse(job.kernels);
        c.image_h = c.image_w = stored;
        c.graph = job.graph;
        c.kernels.fuse = job.fuse;
        c.keep_gradients = job.keep_gradients;
        c.tf32 = job.tf32;
        c.scheme = job.scheme, c.split = job.split, c.per_microbatch = job.per_microbatch,
        c.microbatches = job.microbatches, c.packed = job.packed;
        c.bucket_bytes = job.bucket_bytes;
        c.frozen = job.frozen;
        c.accumulate = job.accumulate;
        c.label_smoothing = job.label_smoothing;
        c.overlap = job.overlap;
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
            w.set_param(static_cast<int>(i),
                        initial_values(net, p, w.layout().rows[i], Init::he, 3));
            if (!w.layout().frozen(static_cast<int>(i)))
                w.set_momentum(static_cast<int>(i),
                               std::vector<float>(w.layout().rows[i].count * p.row));
        }
    });
    Outcome out;
    out.memory = group.worker(0).layout().plan.total();
    out.params = group.worker(0).layout().params;
    for (size_t i = 0; i < out.params.size(); ++i)
        out.first.push_back(group.get_param(static_cast<int>(i)));
    const size_t image = size_t(stored) * stored * 3;
    struct Samples {
        PinnedBuffer<uint8_t> images;
        PinnedBuffer<AugmentParams> draws;
        PinnedBuffer<int> labels;
    };
    Samples turns[2];  // two passes may be under way
    for (Samples& t : turns) {
        t.images = PinnedBuffer<uint8_t>(image * job.global_batch);
        t.draws = PinnedBuffer<AugmentParams>(job.global_batch);
        t.labels = PinnedBuffer<int>(job.global_batch);
    }
    std::mt19937 rng(7);
    std::vector<int> place;  // in the whole batch, of each worker's samples one after the other
    for (int n = 0; n < job.accumulate; ++n)
        for (int r = 0; r < job.workers; ++r)
            for (const int row : batch_rows(configs[r], r)) place.push_back(n * pass + row);
    // Sample i of the whole batch is the same, whoever has it.
    const auto fill = [&](Samples& to) {
        std::vector<uint8_t> all(to.images.size());
        for (uint8_t& v : all) v = static_cast<uint8_t>(rng());
        std::vector<AugmentParams> params;
        std::vector<int> classes;
        for (int i = 0; i < job.global_batch; ++i) {
            const auto y = static_cast<int16_t>(rng() % 6), x = static_cast<int16_t>(rng() % 6);
            params.push_back({y, x, static_cast<int32_t>(rng() % 2), {1, -2, 3}});
            classes.push_back(static_cast<int>(rng() % job.classes));
        }
        for (int i = 0; i < job.global_batch; ++i) {
            std::copy_n(all.begin() + place[i] * image, image, to.images.data() + i * image);
            to.draws[i] = params[place[i]];
            to.labels[i] = classes[place[i]];
        }
    };
    // The last of its passes is under way; the counts are those of the others, by rank.
    struct Submission {
        long ticket = -1;
        std::vector<SoftmaxStats> counts;
    };
    const auto take = [&](Submission& s) {
        s.counts.resize(job.workers);
        for (int r = 0; r < job.workers && s.ticket >= 0; ++r) {
            const SoftmaxStats more = group.worker(r).wait(s.ticket);
            s.counts[r].loss_sum += more.loss_sum;
            s.counts[r].rows += more.rows;
            s.counts[r].top1 += more.top1;
            s.counts[r].top5 += more.top5;
        }
    };
    const auto submit = [&](const Samples& of, const StepState* state) {
        Submission s;
        for (int n = 0; n < job.accumulate; ++n) {
            std::vector<long> tickets(job.workers);
            StepState here = state ? *state : StepState{};
            here.row0 = n * pass;
            group.run([&](Worker& w) {
                const int r = w.layout().config.rank, first = n * pass + r * batch;
                const HostBatch b{of.images.data() + first * image, of.draws.data() + first,
                                  of.labels.data() + first};
                tickets[r] = state ? w.train(b, here, n) : w.evaluate(b);
            });
            take(s);  // of the pass before: two are under way
            s.ticket = tickets[0];
        }
        return s;
    };
    const auto finish = [&](Submission s) {
        SoftmaxStats stats{};
        take(s);
        for (int r = 0; r < job.workers; ++r) {
            const SoftmaxStats mine = s.counts[r];
            if (r > 0 &&
                job.check) {  // every rank knows the whole batch's loss, from the same logits
                CHECK(mine.top1 == stats.top1);
                CHECK(mine.loss_sum == stats.loss_sum);
            }
            out.told.push_back(mine.loss_sum);
            stats = mine;
        }
        return stats;
    };
    for (int s = 0; s < steps; ++s) {
        fill(turns[0]);
        const StepState state{11, static_cast<uint64_t>(s), job.lr, 0.9f};
        std::optional<StepTimeline> timeline;
        if (job.picture && s + 1 == steps) timeline.emplace(group);
        const Submission submission = submit(turns[0], &state);
        if (timeline) out.picture = timeline->read();
        out.losses.push_back(finish(submission).loss_sum / job.global_batch);
        for (size_t i = 0; i < out.params.size(); ++i)
            if (std::ranges::count(job.put_back, net.layers[out.params[i].layer].name))
                group.set_param(static_cast<int>(i), out.first[i]);
    }
    for (int r = 0; r < job.workers; ++r) out.bytes_sent.push_back(group.worker(r).bytes_sent());
    // Everybody reads the same of what is replicated.
    for (size_t i = 0; i < out.params.size() && job.workers > 1 && job.check; ++i) {
        if (group.worker(0).layout().params[i].sharded) continue;
        const std::vector<float> first = group.worker(0).get_values(static_cast<int>(i));
        for (int r = 1; r < job.workers; ++r)
            CHECK((group.worker(r).get_values(static_cast<int>(i)) == first));
    }
    for (size_t i = 0; i < out.params.size(); ++i) {
        out.weights.push_back(group.get_param(static_cast<int>(i)));
        if (job.keep_gradients && !group.worker(0).layout().frozen(static_cast<int>(i)))
            out.gradients.push_back(group.get_gradient(static_cast<int>(i)));
    }
    Submission before;
    const auto evaluated = [&](const Submission& s) {
        if (s.ticket < 0) return;
        out.evaluated = finish(s);
        out.evaluations.push_back(out.evaluated.loss_sum);
    };
    for (int i = 0; i < job.evaluations; ++i) {
        Samples& s = turns[i % 2];
        fill(s);
        // as the last batch of an evaluation has
        if (i + 1 == job.evaluations)
            s.labels[std::find(place.begin(), place.end(), job.global_batch - 1) - place.begin()] =
                -1;
        if (job.accumulate > 1) evaluated(std::exchange(before, {}));  // no three are under way
        const Submission submission = submit(s, nullptr);
        evaluated(before);
        before = submission;
    }
    evaluated(before);
    return out;
}

// Norm of the difference over the norm, NaN-proof: not (a <= b) fails.
inline double distance(const std::vector<float>& a, const std::vector<float>& b) {
    double d = 0, n = 0;
    for (size_t i = 0; i < a.size(); ++i)
        d += (double(a[i]) - b[i]) * (double(a[i]) - b[i]), n += double(b[i]) * b[i];
    return std::sqrt(d) / std::max(std::sqrt(n), 1e-30);
}

// Sums are grouped differently by shard (fp32: eps 6e-8 over up to 9216 terms, random-walk sqrt(n)
// = 96, through some ten layers), so gradients agree to about 1e-5; a missing or doubled share
// would be of order 1. A unit at a ReLU's or a maximum's tie may fall either way, hence the room.
inline void check_equal(const Job& job, const Outcome& got, const Outcome& want, double tolerance) {
    for (size_t s = 0; s < want.losses.size(); ++s) {
        CHECK(std::isfinite(got.losses[s]));
        CHECK(std::abs(got.losses[s] - want.losses[s]) <= tolerance * std::abs(want.losses[s]));
    }
    for (size_t i = 0; i < want.params.size(); ++i) {
        INFO(job.net << " " << want.params[i].name << ", " << job.workers << " workers");
        if (job.keep_gradients) CHECK(distance(got.gradients[i], want.gradients[i]) <= tolerance);
        CHECK(distance(got.weights[i], want.weights[i]) <= tolerance);
    }
    CHECK(got.evaluated.rows == job.global_batch - 1);
    CHECK(std::abs(got.evaluated.loss_sum - want.evaluated.loss_sum) <=
          tolerance * std::abs(want.evaluated.loss_sum));
}

}  // namespace wt
