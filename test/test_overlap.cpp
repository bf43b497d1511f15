// What runs beside what in a step: whichever parts do, the weights are the same, bit for bit, under
// any legal order; no two launches on different streams touch the same place unless an event orders
// them; and every such event is needed.
#include <doctest/doctest.h>

#include <array>
#include <map>
#include <thread>

#include "host/parallel/step_segments.h"
#include "host/parallel/step_text.h"
#include "kernels/common/machine.h"
#include "kernels/common/sm_limit.h"
#include "test/parallel_job.h"

using namespace wt;

namespace {

OverlapChoice only(Overlap parts, int fc_sms = -1) {
    return {.automatic = false, .parts = parts, .fc_sms = fc_sms};
}

const OverlapChoice kChoices[] = {OverlapChoice::all(), only({.fc_update = true}),
                                  only({.wgrad = true}), only({.input = true})};

WorkerConfig config_of(const std::string& net, int workers, const OverlapChoice& overlap) {
    WorkerConfig c;
    c.net = net.starts_with("tiny") ? tiny_net({.classes = 10}, net) : make_net(net, {});
    c.workers = workers;
    c.batch = 6;
    c.overlap = overlap;
    c.kernels.fuse = Fuse::on;
    return c;
}

bool equal(const Outcome& a, const Outcome& b) {
    return a.weights == b.weights && a.losses == b.losses && a.evaluations == b.evaluations;
}

}  // namespace

TEST_CASE("overlap: the flag's values") {
    CHECK(OverlapChoice::parse("auto").automatic);
    CHECK(OverlapChoice::parse("on").parts == Overlap{true, true, true});
    CHECK(
        (!OverlapChoice::parse("off").automatic && OverlapChoice::parse("off").parts == Overlap{}));
    const OverlapChoice some = OverlapChoice::parse("input,fc-update:20");
    CHECK(some.parts == Overlap{.fc_update = true, .input = true});
    CHECK(some.fc_sms == 20);
    CHECK(text_of(some.parts) == "fc-update,input");
    CHECK_THROWS_WITH_AS(OverlapChoice::parse("wgard"), doctest::Contains("wgrad"), UsageError);
    CHECK_THROWS_WITH_AS(OverlapChoice::parse("wgrad,on"), doctest::Contains("stands alone"),
                         UsageError);
    CHECK_THROWS_WITH_AS(OverlapChoice::parse("wgrad:3"), doctest::Contains("only fc-update"),
                         UsageError);
    for (const char* bad :
         {"fc-update:", "fc-update:-1", "fc-update:9999", "fc-update:2x", "", ","})
        CHECK_THROWS_AS(OverlapChoice::parse(bad), UsageError);
    CHECK_THROWS_WITH_AS(Layout{config_of("tiny", 1, only({.fc_update = true}, 132))},
                         doctest::Contains("fc-update:132"), UsageError);
}

// Automatic: nothing on virtual GPUs; on Hopper what is predicted to gain.
TEST_CASE("overlap: what is taken by itself") {
    WorkerConfig c = config_of("alexnet", 1, {});
    c.sm = 0, c.batch = 256, c.dtype = DType::bf16;
    CHECK(Layout(c).overlap == Overlap{});
    c.sm = 90;
    const Layout hopper(c);
    CHECK(hopper.overlap == Overlap{true, true, true});
    CHECK(hopper.fc_gain > 0);
    int limited = 0, updates = 0;
    for (const Step& s : hopper.training_steps)
        if (const auto* l = std::get_if<Launch>(&s.action)) {
            if (s.stream == StreamName::update) {
                CHECK(l->sms == hopper.fc_sms);
                ++updates;
            } else if (l->sms) {
                CHECK(l->sms == planned_sms() - hopper.fc_sms);
                ++limited;
            }
        }
    CHECK(updates == 3);
    CHECK(limited > 2);
    // The shorter the trunk's backward pass, the more SMs the update gets: nothing waits for it.
    c.batch = 64;
    const Layout small(c);
    CHECK((!small.overlap.fc_update || small.fc_sms >= hopper.fc_sms));
    c.batch = 256;
    c.dtype = DType::f32;
    CHECK(Layout(c).overlap == Overlap{.input = true});
    c.training = false;
    CHECK(Layout(c).overlap == Overlap{.input = true});
    // Two workers: the upper layers' updates hide the exchange of the gradients.
    c = config_of("alexnet", 2, OverlapChoice::all());
    for (const HeadOp& op : Layout(c).head) CHECK(op.update_beside == (op.layer->name == "fc6"));
    c.scheme = FcScheme::dp;  // gradients are summed over the workers: no update in the product
    CHECK(Layout(c).overlap == Overlap{.wgrad = true, .input = true});
    c = config_of("alexnet", 1, OverlapChoice::all());  // nothing runs below
    c.frozen = {"conv1", "conv2", "conv3", "conv4", "conv5"};
    CHECK(!Layout(c).overlap.fc_update);
}

TEST_CASE("overlap: a step of one worker is one graph, and what several do is whole") {
    for (const int workers : {1, 2})
        for (const char* net : {"tiny", "alexnet"})
            for (const OverlapChoice& choice : kChoices) {
                const Layout l(config_of(net, workers, choice));
                const StepList& steps = l.training_steps;
                const auto segments = segments_of(steps);
                size_t next = 0, graphs = 0;
                for (const StepSegment& s : segments) {
                    CHECK(s.begin == next);
                    next = s.end;
                    graphs += s.graph && steps[s.begin].stream != StreamName::input;
                    bool launches = false;
                    for (size_t i = s.begin; i < s.end; ++i)
                        launches = launches || std::holds_alternative<Launch>(steps[i].action);
                    CHECK(launches == s.graph);
                }
                CHECK(next == steps.size());
                if (workers == 1) CHECK(graphs == 1);
            }
    // Without the wait at its end, a fork does not come back: it is no part of the graph.
    StepList open = Layout(config_of("tiny", 1, only({.fc_update = true}))).training_steps;
    std::erase_if(open, [](const Step& s) {
        const auto* a = std::get_if<Await>(&s.action);
        return a && a->event == Events::fc_updated;
    });
    size_t graphs = 0;
    for (const StepSegment& s : segments_of(open)) graphs += s.graph;
    CHECK(graphs == 3);
}

// ---- orders that are not there ------------------------------------------------------------------

namespace {

// Two launches of one worker's step and the next, on different streams, of which one writes what
// the other reads or writes, and which no event orders; or a post of what is not yet written. ""
// where there is no such. What is ordered by way of other workers alone it does not see.
std::string race(const Layout& l, const StepList& steps) {
    using Seen = std::array<size_t, kStreams>;
    struct Access {
        int stream;
        size_t at;  // actions of its stream up to it
        bool writes;
        std::string name;
    };
    std::map<std::pair<int, size_t>, std::vector<Access>> accesses;
    std::array<Seen, kStreams> seen{};
    std::map<int, Seen> recorded, posted;
    const auto own = [&](int t) { return l.transfers[t].moves(l.config.rank, l.config.rank); };
    std::string found;
    for (int round = 0; round < 2; ++round) {
        // The next step's input is in the other slot.
        const auto place = [&](const BufferRef& p) {
            for (const BufferRef& q : {l.images[0], l.draws[0], l.labels[0], l.state[0]})
                if (p.buffer == q.buffer && round) return std::pair(-1 - p.buffer, p.offset);
            if (l.overlap.input && p.buffer == l.input[0].buffer && round)
                return std::pair(-1 - p.buffer, p.offset);
            return std::pair(p.buffer, p.offset);
        };
        for (const Step& s : steps) {
            const int stream = static_cast<int>(s.stream);
            if (const auto* a = std::get_if<Await>(&s.action))
                for (int i = 0; i < kStreams; ++i)
                    seen[stream][i] = std::max(seen[stream][i], recorded[a->event][i]);
            ++seen[stream][stream];
            if (const auto* p = std::get_if<Post>(&s.action)) {
                posted[p->transfer] = seen[stream];
                for (const auto& [at, all] : accesses)
                    for (const Access& o : all)
                        if (at.first == p->block.buffer && o.writes &&
                            seen[stream][o.stream] < o.at)
                            found = l.transfers[p->transfer].name + " is posted before " + o.name;
            }
            if (const auto* c = std::get_if<Collect>(&s.action); c && own(c->transfer))
                for (int i = 0; i < kStreams; ++i)
                    seen[stream][i] = std::max(seen[stream][i], posted[c->transfer][i]);
            if (const auto* r = std::get_if<Record>(&s.action)) recorded[r->event] = seen[stream];
            const auto* launch = std::get_if<Launch>(&s.action);
            if (!launch) continue;
            const auto touch = [&](const BufferRef& p, bool writes) {
                auto& all = accesses[place(p)];
                for (const Access& o : all)
                    if (o.stream != stream && (writes || o.writes) && seen[stream][o.stream] < o.at)
                        found = launch->name + " and " + o.name + ": " +
                                l.plan.entries()[p.buffer].what;
                all.push_back({stream, seen[stream][stream], writes, launch->name});
            };
            for (const BufferRef& p : launch->reads) touch(p, false);
            for (const BufferRef& p : launch->writes) touch(p, true);
        }
    }
    return found;
}

}  // namespace

TEST_CASE("overlap: several workers' buckets are posted when they are whole") {
    for (const char* net : {"tiny", "mini", "alexnet", "owt"})
        for (const int workers : {2, 3})
            for (const FcScheme scheme : {FcScheme::a, FcScheme::b, FcScheme::c, FcScheme::dp})
                for (const OverlapChoice& choice : kChoices)
                    for (const size_t bucket : {8 << 10, 2 << 20}) {
                        WorkerConfig c = config_of(net, workers, choice);
                        c.scheme = scheme, c.bucket_bytes = bucket;
                        const Layout l(c);
                        INFO(net << " " << text_of(l.overlap) << ", " << workers << " workers, "
                                 << std::string(name_of(scheme)));
                        CHECK(race(l, l.training_steps) == "");
                    }
}

TEST_CASE("overlap: micro-steps that add up to one step are ordered too") {
    for (const char* net : {"tiny", "mini", "owt"})
        for (const int workers : {1, 2, 3})
            for (const FcScheme scheme : {FcScheme::a, FcScheme::b, FcScheme::c, FcScheme::dp})
                for (const OverlapChoice& choice : kChoices) {
                    WorkerConfig c = config_of(net, workers, choice);
                    c.scheme = scheme, c.accumulate = 3;
                    const Layout l(c);
                    INFO(net << " " << text_of(l.overlap) << ", " << workers << " workers, "
                             << std::string(name_of(scheme)));
                    CHECK(race(l, l.earlier_steps[0]) == "");
                    CHECK(race(l, l.earlier_steps[1]) == "");
                    CHECK(race(l, l.training_steps) == "");
                }
}

TEST_CASE("overlap: events order all that touches the same place, and none is too many") {
    for (const std::string& net :
         {std::string("tiny"), std::string("tiny2"), std::string("mini"), std::string("cifar"),
          std::string("alexnet"), std::string("alexnet2012"), std::string("owt")})
        for (const OverlapChoice& choice : kChoices)
            for (const Fuse fuse : {Fuse::on, Fuse::off})
                for (const int microbatches : {1, 2}) {
                    WorkerConfig c = config_of(net, 1, choice);
                    if (net == "owt") c.dtype = DType::bf16;  // and conv1 with pool1 in one
                    c.kernels.fuse = fuse;
                    c.microbatches = microbatches;
                    c.per_microbatch = microbatches > 1;
                    const Layout l(c);
                    INFO(net << " " << text_of(l.overlap) << ", fused " << (fuse == Fuse::on));
                    CHECK(race(l, l.training_steps) == "");
                    CHECK(race(l, l.evaluation_steps) == "");
                    for (size_t i = 0; i < l.training_steps.size(); ++i) {
                        const auto* a = std::get_if<Await>(&l.training_steps[i].action);
                        // What stages the batch is no launch of the list.
                        if (!a || (a->event == Events::staged && !l.overlap.input)) continue;
                        StepList without = l.training_steps;
                        without.erase(without.begin() + static_cast<int>(i));
                        CHECK_MESSAGE(race(l, without) != "",
                                      "nothing needs the wait " << a->what << " " << a->number);
                    }
                }
}

// ---- weights ------------------------------------------------------------------------------------

TEST_CASE("overlap: weights are the same bit for bit, one to three workers, every scheme" *
          doctest::test_suite("kernels")) {
    for (const int workers : {1, 2, 3})
        for (const FcScheme scheme : {FcScheme::a, FcScheme::b, FcScheme::c, FcScheme::dp})
            for (const DType dtype : {DType::f32, DType::bf16})
                for (const bool per_microbatch : {false, true}) {
                    const bool passes = scheme == FcScheme::b || scheme == FcScheme::c;
                    if (workers == 1 && scheme != FcScheme::a) continue;
                    if (per_microbatch && !passes && workers > 1) continue;
                    Job job{.net = "tiny", .workers = workers, .global_batch = 4 * workers};
                    job.scheme = scheme, job.dtype = dtype, job.per_microbatch = per_microbatch;
                    if (workers == 1 && per_microbatch) job.microbatches = 2;
                    job.bucket_bytes = 8 << 10;
                    job.evaluations = 3;
                    job.keep_gradients = false;
                    job.fuse = Fuse::on;
                    job.overlap = OverlapChoice::none();
                    const Outcome want = run(job, 3);
                    for (const OverlapChoice& choice : kChoices) {
                        // each part alone where the others' exchange is the least
                        const bool every = choice.parts == Overlap{true, true, true};
                        if (!every && scheme != FcScheme::a) continue;
                        INFO(workers << " workers, " << std::string(name_of(scheme)) << ", "
                                     << std::string(name_of(dtype)) << ", "
                                     << text_of(choice.parts));
                        job.overlap = choice;
                        for (uint64_t seed = 0; seed < 4; ++seed) {
#ifdef VGPU
                            vgpu::set_seed(seed);
#endif
                            job.graph = seed % 2;
                            const bool same = equal(run(job, 3), want);
#ifdef VGPU
                            vgpu::set_seed(0);
#endif
                            CHECK_MESSAGE(same, "VGPU_SEED=" << seed);
                        }
                        job.graph = false;
                    }
                }
}

TEST_CASE("overlap: every network's weights are the same bit for bit") {
    for (const std::string& net : net_names()) {
        Job job{.net = net, .workers = 1, .global_batch = 2};
        job.keep_gradients = false;
        job.overlap = OverlapChoice::none();
        const Outcome want = run(job, 2);
        job.overlap = OverlapChoice::all();
        INFO(net);
#ifdef VGPU
        vgpu::set_seed(5);
#endif
        const Outcome got = run(job, 2);
#ifdef VGPU
        vgpu::set_seed(0);
#endif
        CHECK(equal(got, want));
    }
}

// ---- few SMs ------------------------------------------------------------------------------------

TEST_CASE("overlap: a limit of SMs is one of the thread's plans, and ends") {
    const int all = planned_sms();
    {
        const SmLimit some(14);
        CHECK(planned_sms() == 14);
        {
            const SmLimit none(0);
            CHECK(planned_sms() == 14);
            const SmLimit more(20), fewer(3);
            CHECK(planned_sms() == 3);
        }
        CHECK(planned_sms() == 14);
        int elsewhere = 0;
        std::thread([&] { elsewhere = planned_sms(); }).join();
        CHECK(elsewhere == all);
    }
    CHECK(planned_sms() == all);
}

// With a limit, convolutions split their sums otherwise. The order of the launches changes nothing.
TEST_CASE("overlap: weights with few SMs, of all kernels that are planned for SMs" *
          doctest::test_suite("kernels")) {
    for (const DType dtype : {DType::f32, DType::bf16}) {
        Job job{.net = "tiny", .workers = 1, .global_batch = 4};
        job.dtype = dtype;
        job.kernels = "own";
        job.keep_gradients = false;
        job.fuse = Fuse::on;
        job.overlap = OverlapChoice::none();
        const Outcome whole = run(job, 2);
        job.overlap = only({.fc_update = true, .wgrad = true}, 14);
        const Outcome limited = run(job, 2);
        check_equal(job, limited, whole, dtype == DType::bf16 ? 1e-2 : 1e-4);
#ifdef VGPU
        for (uint64_t seed = 1; seed <= 3; ++seed) {
            vgpu::set_seed(seed);
            const bool same = equal(run(job, 2), limited);
            vgpu::set_seed(0);
            CHECK_MESSAGE(same, "VGPU_SEED=" << seed);
        }
#endif
    }
}
