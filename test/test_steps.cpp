// The list of a step: nothing is read or posted before it is written, what is collected was posted,
// and the list is what bin/summary --steps prints.
#include <doctest/doctest.h>

#include <algorithm>
#include <set>

#include "host/net/spec.h"
#include "host/parallel/step_text.h"
#include "test/program.h"

using namespace wt;
using namespace wt::test;

namespace {

// "" or what is wrong with the order.
std::string fault(const Layout& l, const StepList& steps) {
    const auto& buffers = l.plan.entries();
    std::set<int> written, collected, recorded, posted;
    for (size_t b = 0; b < buffers.size(); ++b)
        if (buffers[b].use == Use::weights || buffers[b].use == Use::input)
            written.insert(static_cast<int>(b));
    // The first micro-step begins the sums, and the others find them.
    if (&steps != &l.earlier_steps[0])
        for (const GradientSum& s : l.sums) written.insert(s.sum.buffer);
    for (const Step& s : steps) {
        if (const auto* launch = std::get_if<Launch>(&s.action)) {
            for (const BufferRef& p : launch->reads)
                if (!written.contains(p.buffer))
                    return launch->name + " reads " + buffers[p.buffer].what +
                           ", which nothing has written";
            for (const Launch::View& v : launch->views)
                if (!collected.contains(v.transfer))
                    return launch->name + " reads " + l.transfers[v.transfer].name +
                           ", which was not collected";
            if (launch->writes.empty() && !launch->to_host) return launch->name + " writes nothing";
            for (const BufferRef& p : launch->writes) written.insert(p.buffer);
        }
        if (const auto* p = std::get_if<Post>(&s.action)) {
            if (!posted.insert(p->transfer).second)
                return l.transfers[p->transfer].name + " is posted twice";
            if (!written.contains(p->block.buffer))
                return l.transfers[p->transfer].name + " is posted before it is written";
        }
        if (const auto* c = std::get_if<Collect>(&s.action)) {
            if (!posted.contains(c->transfer))
                return l.transfers[c->transfer].name +
                       " is collected before this rank has posted it";
            collected.insert(c->transfer);
        }
        if (const auto* r = std::get_if<Record>(&s.action)) recorded.insert(r->event);
        if (const auto* a = std::get_if<Await>(&s.action))
            if (!recorded.contains(a->event))
                return std::string("waits for ") + a->what + ", which was not recorded";
    }
    return {};
}

}  // namespace

TEST_CASE("steps: nothing is read before it is written, for every network and scheme") {
    for (const std::string& net : net_names())
        for (const FcScheme scheme : {FcScheme::a, FcScheme::b, FcScheme::c, FcScheme::dp})
            for (const int workers : {1, 2, 3})
                for (const FcSplit split : {FcSplit::columns, FcSplit::alternate})
                    for (const Fuse fuse : {Fuse::automatic, Fuse::on, Fuse::off}) {
                        if (split == FcSplit::alternate && scheme == FcScheme::dp) continue;
                        WorkerConfig c;
                        c.net = make_net(net, {});
                        c.workers = workers;
                        c.rank = workers - 1;
                        c.batch = 6;
                        c.scheme = scheme;
                        c.split = split;
                        c.kernels.fuse = fuse;
                        if (workers != 2) c.dtype = DType::bf16;  // owt's conv1 with pool1 in one
                        const Layout l(c);
                        INFO(net << ", scheme " << name_of(scheme) << ", " << workers
                                 << " workers");
                        CHECK(fault(l, l.training_steps) == "");
                        CHECK(fault(l, l.evaluation_steps) == "");
                        for (const Step& s : l.evaluation_steps)
                            CHECK((s.stage != Stage::head_backward &&
                                   s.stage != Stage::trunk_backward));
                        // What --kernels can name is what is run.
                        std::set<std::string> run;
                        for (const StepList* steps : {&l.training_steps, &l.evaluation_steps})
                            for (const Step& s : *steps)
                                if (const auto* launch = std::get_if<Launch>(&s.action))
                                    run.insert(launch->name + "=" + launch->variant);
                        for (const auto& [name, variant] : l.choices)
                            CHECK_MESSAGE(run.contains(name + "=" + variant),
                                          name << " is planned and not run");
                    }
}

// Of the batches that add up to one update only the last one's list exchanges gradients and
// updates, whatever is fused.
TEST_CASE("steps: micro-steps before the last neither update nor exchange gradients") {
    for (const std::string& net : net_names())
        for (const FcScheme scheme : {FcScheme::a, FcScheme::b, FcScheme::c, FcScheme::dp})
            for (const int workers : {1, 2})
                for (const Fuse fuse : {Fuse::automatic, Fuse::on})
                    for (const OverlapChoice& overlap :
                         {OverlapChoice::none(), OverlapChoice::all()}) {
                        WorkerConfig c;
                        c.net = make_net(net, {});
                        c.workers = workers;
                        c.batch = 4;
                        c.scheme = scheme;
                        c.kernels.fuse = fuse;
                        c.overlap = overlap;
                        c.accumulate = 3;
                        const Layout l(c);
                        INFO(net << ", scheme " << name_of(scheme) << ", " << workers
                                 << " workers");
                        int updates = 0;
                        for (const MicroStep part :
                             {MicroStep::first, MicroStep::middle, MicroStep::last}) {
                            const StepList& steps = l.training_list(part);
                            REQUIRE_FALSE(steps.empty());
                            CHECK(fault(l, steps) == "");
                            size_t added = 0;
                            for (const Step& s : steps) {
                                const auto* launch = std::get_if<Launch>(&s.action);
                                const auto* post = std::get_if<Post>(&s.action);
                                const bool earlier = part != MicroStep::last;
                                if (launch && launch->operation == "sgd") {
                                    CHECK_FALSE(earlier);
                                    ++updates;
                                }
                                if (launch && launch->operation == "gemm")
                                    CHECK(launch->problem.find("sgd") == std::string::npos);
                                if (launch && launch->name.ends_with(".accumulate")) ++added;
                                if (post && earlier)
                                    CHECK(std::ranges::count(l.ids.grads, post->transfer) == 0);
                            }
                            CHECK(added == (part == MicroStep::first ? 0 : l.sums.size()));
                        }
                        CHECK(updates > 0);
                        // Every element that is trained is in one sum.
                        int64_t summed = 0, trained = 0;
                        for (const GradientSum& s : l.sums) summed += s.add.problem.cols;
                        for (size_t i = 0; i < l.params.size(); ++i)
                            trained += l.rows[i].count * l.columns[i].count;
                        CHECK(summed >= trained);
                    }
    WorkerConfig c;
    c.net = make_net("mini", {});
    c.batch = 4;
    CHECK(Layout(c).sums.empty());
    CHECK(Layout(c).earlier_steps[0].empty());
    c.accumulate = 2;
    CHECK(Layout(c).earlier_steps[1].empty());  // a first and a last, and none between
    c.workers = 2, c.scheme = FcScheme::b, c.per_microbatch = true;
    CHECK_THROWS_WITH_AS(Layout{c},
                         doctest::Contains("--fc-update per-pass updates in every pass of a batch"),
                         UsageError);
}

TEST_CASE("steps: a launch that comes too early is found") {
    WorkerConfig c;
    c.net = make_net("mini", {});
    c.batch = 2;
    const Layout l(c);
    StepList steps = l.training_steps;
    const auto named = [&](const std::string& name) {
        return std::find_if(steps.begin(), steps.end(), [&](const Step& s) {
            const auto* launch = std::get_if<Launch>(&s.action);
            return launch && launch->name == name;
        });
    };
    std::iter_swap(named("conv2.fprop"), named("conv3.fprop"));
    CHECK(fault(l, steps).find("conv3.fprop reads ") == 0);
}

TEST_CASE("steps: bin/summary prints them") {
    const TempDir s;
    const Result r =
        run(s, program("summary") + " mini --steps --batch 4 --workers 2 --fc-scheme b");
    INFO(r.err);
    REQUIRE(r.status == 0);
    for (const char* part : {"trunk forward\n", "head backward, microbatch 1\n", "conv_wgrad=",
                             "post flat.0", "collect flat.1", "wait for joined", "-> input   ("})
        CHECK_MESSAGE(r.out.find(part) != std::string::npos, part);
    const Result parts = run(s, program("summary") + " mini --steps --batch 4 --accumulate 3");
    for (const char* part : {"the first of 3 batches\n", "each between of 3 batches\n",
                             "the last of 3 batches\n", "fc8.accumulate "})
        CHECK_MESSAGE(parts.out.find(part) != std::string::npos, part);
    CHECK(parts.out.find("update.sgd") > parts.out.find("the last of 3"));
    const Result sm90 = run(s, program("summary") + " alexnet --steps --precision bf16 --sm 90");
    CHECK(sm90.out.find("gemm=wgmma_sm90") != std::string::npos);
    check_one_line(run(s, program("summary") + " mini --steps --fc-scheme e"), 2, "e");
    check_one_line(run(s, program("summary") + " mini --batch 4"), 2,
                   "--batch is of a training step: give --steps too");
}
