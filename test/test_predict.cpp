// The model of a kernel's time: against sums that were made by hand of the same constants, and
// what holds of any prediction.
#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <set>

#include "host/model/issue_slots_table.h"
#include "host/model/predict.h"
#include "host/model/side_by_side.h"
#include "host/model/step_prediction.h"
#include "host/net/problem_text.h"
#include "test/program.h"

using namespace wt;
using namespace wt::model;

namespace {

constexpr const char* kSteps[] = {"alexnet", "owt"};

// A kernel's counts as nvcc 13.0.88 made them of an older commit, so that these sums stay what they
// are when the kernels change.
IssueSlots slots(int loop, int unit, int fences) {
    return {.object = "",
            .kernel = "",
            .all = 2000,
            .loop = loop,
            .multiplies = 4,
            .unit = unit,
            .producer = 150,
            .fences = fences,
            .store = 0};
}

double conv_us(const ProductPlan& plan, const IssueSlots* kernel, const char* problem) {
    Prediction p;
    conv_wgmma(gpu_of("h200"), plan, kernel, problem_of<ConvProblem>(problem), p);
    return p.us;
}

StepPrediction step(const std::string& gpu, const std::string& net, int batch,
                    const std::string& precision = "bf16", const std::string& overlap = "auto") {
    WorkerConfig c = step_config(net, batch, precision);
    c.overlap = OverlapChoice::parse(overlap);
    return predict_step(gpu_of(gpu), Layout(c));
}

}  // namespace

TEST_CASE("predict: convolutions on wgmma, by hand") {
    // 12 waves of 38 stages of 1024 tensor clocks at 1.461 GHz are 320 us; 3 % for the fence in
    // each stage, 1.65 us a tile for its epilogue, 4 us to start: 353.
    const char* conv2 = "n=256,h=27,c=96,k=256,r=5,pad=2,dtype=bf16";
    const IssueSlots fenced = slots(68, 976, 1), plain = slots(68, 976, 0);
    const ProductPlan wide{
        .bm = 128, .bn = 256, .bk = 64, .multicast = 2, .units = 729, .at_once = 66, .steps = 38};
    CHECK(conv_us(wide, &fenced, conv2) == doctest::Approx(353).epsilon(0.01));
    CHECK(conv_us(wide, &plain, conv2) == doctest::Approx(353 - 9.6).epsilon(0.01));
    // Nobody has counted: no epilogue's instructions, no fence.
    CHECK(conv_us(wide, nullptr, conv2) < conv_us(wide, &plain, conv2));

    // Two stages behind the other, a consumer multiplies half of these while that one is at its
    // epilogue: 0.7 us of each epilogue but the last. Of an epilogue no more than all of it.
    ProductPlan behind = wide;
    behind.lag = 2;
    CHECK(conv_us(wide, &plain, conv2) - conv_us(behind, &plain, conv2) ==
          doctest::Approx(11 * 0.70).epsilon(0.01));
    behind.lag = 40;
    CHECK(conv_us(wide, &plain, conv2) - conv_us(behind, &plain, conv2) ==
          doctest::Approx(11 * 1.66).epsilon(0.01));

    // The last wave's 3 units cut into 57 parts of 2 stages: 36 stages less, 25.2 us, and the last
    // epilogue, 1.66; 14.9 MB of parts are written (2.7 us) and in 2 us added up, behind a gap of
    // 1; 0.17 us of the parts' last instructions are in that.
    ProductPlan cut = wide;
    cut.tail = 3, cut.longest = 2, cut.partial_tiles = 114;
    CHECK(conv_us(wide, &plain, conv2) - conv_us(cut, &plain, conv2) ==
          doctest::Approx(25.2 + 1.66 - 2.7 - 2 - 1).epsilon(0.02));

    // 4 waves of 54 stages; 256x128 wants 1152 clocks of shared memory for 1024 of the tensor cores
    // (176 by hand, where 6 % stood for that).
    const ProductPlan tall{
        .bm = 256, .bn = 128, .bk = 64, .multicast = 2, .units = 255, .at_once = 66, .steps = 54};
    const IssueSlots tall_kernel = slots(81, 988, 1);
    CHECK(conv_us(tall, &tall_kernel, "n=256,h=13,c=384,k=384,r=3,pad=1,dtype=bf16") ==
          doctest::Approx(176).epsilon(0.035));

    // Small tiles wait for the fence: 3 waves of 54 stages of 0.48 us.
    const ProductPlan small{
        .bm = 128, .bn = 128, .bk = 64, .multicast = 2, .units = 170, .at_once = 66, .steps = 54};
    const IssueSlots small_kernel = slots(65, 568, 1);
    CHECK(conv_us(small, &small_kernel, "n=128,h=13,c=384,k=256,r=3,pad=1,dtype=bf16") ==
          doctest::Approx(84).epsilon(0.03));

    // wgrad: 442 stages at 1024 tensor clocks are 310 us, 3 % for fences 9, 4 to start; partial
    // sums of 17.3 MB are 3.1 us of writing and as long to add, behind a gap of 1.
    const ProductPlan split{.bm = 128,
                            .bn = 256,
                            .bk = 64,
                            .multicast = 2,
                            .units = 10,
                            .at_once = 66,
                            .steps = 2916,
                            .longest = 442,
                            .partial_tiles = 132};
    const IssueSlots split_kernel = slots(247, 1222, 1);
    CHECK(conv_us(split, &split_kernel, "n=256,h=27,c=96,k=256,r=5,pad=2,bias=0,dtype=bf16") ==
          doctest::Approx(331).epsilon(0.01));
    // With a bias and an even number of tiles the pairs share the sums of dy: 12 KB of a stage in 9
    // for each block are a tenth of what they cost one row of tiles.
    const ProductPlan even{.bm = 128,
                           .bn = 192,
                           .bk = 64,
                           .multicast = 2,
                           .units = 18,
                           .at_once = 66,
                           .steps = 676,
                           .longest = 185,
                           .partial_tiles = 150};
    const char* conv3 = "n=256,h=13,c=256,k=384,r=3,pad=1,dtype=bf16,bias=";
    const double alone = conv_us(even, nullptr, (conv3 + std::string("0")).c_str()),
                 with_sums = conv_us(even, nullptr, (conv3 + std::string("1")).c_str());
    CHECK(with_sums > alone);
    CHECK(with_sums < alone * 1.015);
}

TEST_CASE("predict: dgrad by views, by hand") {
    // conv2: 6 waves of 100 stages of 768 tensor clocks at 1.461 GHz are 315 us, one of half the
    // height 269 ns of shared memory a stage; 6.5 epilogues of 2.04 us, 4 us to start.
    const char* conv2 = "n=256,h=27,c=96,k=256,r=5,pad=2,dtype=bf16";
    const ProductPlan plan{.bm = 256,
                           .bn = 96,
                           .bk = 64,
                           .multicast = 2,
                           .units = 421,
                           .at_once = 66,
                           .steps = 100,
                           .halved = 25,
                           .positions = 376,
                           .taps = 25};
    const IssueSlots kernel = slots(107, 1230, 0);
    Prediction p;
    conv_views(gpu_of("h200"), plan, false, &kernel, problem_of<ConvProblem>(conv2), p);
    CHECK(p.us == doctest::Approx(359).epsilon(0.01));
    CHECK(p.idle > 0);
    // What views are for: im2col's tile of the same size gets its operands from L2 more slowly.
    const ProductPlan im2col{
        .bm = 256, .bn = 96, .bk = 64, .multicast = 2, .units = 365, .at_once = 66, .steps = 100};
    Prediction q;
    conv_wgmma(gpu_of("h200"), im2col, &kernel, problem_of<ConvProblem>(conv2), q);
    CHECK(q.l2 > 3 * p.l2);
    CHECK(q.us > p.us);
    // With a swizzle rows are of 128 bytes: whole sectors, and fewer to walk through.
    Prediction swizzled;
    conv_views(gpu_of("h200"), plan, true, &kernel, problem_of<ConvProblem>(conv2), swizzled);
    CHECK(swizzled.l2 < p.l2);
}

TEST_CASE("predict: rows with a fixed tile") {
    const Gpu g = gpu_of("h200");
    const char* conv3 = "n=256 h=13 w=13 c=256 k=384 r=3 s=3 pad=1 relu=1 dtype=bf16";
    const double free_us = predict(g, "conv_fprop", "wgmma_sm90", conv3).us;
    int same = 0, tiles = 0;
    for (const char* name : {"wgmma_128x256_sm90", "wgmma_256x128_sm90", "wgmma_128x192_sm90",
                             "wgmma_128x128_sm90", "wgmma_256x64_sm90", "wgmma_single_sm90"}) {
        CAPTURE(name);
        const Prediction p = predict(g, "conv_fprop", name, conv3);
        CHECK(p.known);
        CHECK(p.issue_known);
        CHECK(p.us >= free_us * 0.97);  // the planner's estimate is another, by as much
        same += p.us == free_us;
        ++tiles;
    }
    CHECK(same == 1);
    CHECK(tiles == 6);
    // conv5's last wave is worth cutting, and conv3's, by the planner's own estimate, is not; a lag
    // is worth something everywhere.
    const char* conv5 = "n=256 h=13 w=13 c=384 k=256 r=3 s=3 pad=1 relu=1 dtype=bf16";
    const auto us = [&](const char* name, const char* problem) {
        const Prediction p = predict(g, "conv_fprop", name, problem);
        CHECK(p.known);
        return p.us;
    };
    CHECK(us("wgmma_split_sm90", conv5) == us("wgmma_sm90", conv5));
    CHECK(us("wgmma_whole_sm90", conv5) > us("wgmma_sm90", conv5));
    CHECK(us("wgmma_whole_sm90", conv3) == us("wgmma_sm90", conv3));
    for (const char* problem : {conv3, conv5})
        CHECK(us("wgmma_level_sm90", problem) > us("wgmma_sm90", problem) + 0.5);
    const char* fc6 = "layout=nn m=256 n=9216 k=4096 dtype=bf16 out=bf16";
    for (const char* name : {"wgmma_128x160_sm90", "wgmma_128x64_sm90", "wgmma_single_sm90"}) {
        CAPTURE(name);
        CHECK(predict(g, "gemm", name, fc6).issue_known);
        CHECK(predict(g, "gemm", name, fc6).us > 0);
    }
    CHECK_FALSE(predict(g, "gemm", "wgmma_128x160", fc6).known);
    CHECK_FALSE(predict(g, "gemm", "wgmma_level_sm90", fc6).known);
    CHECK_FALSE(predict(g, "gemm", "wgmma_128x160_sm90x", fc6).known);
}

TEST_CASE("predict: a product that leaves SMs free leaves them to others") {
    // fc8.dgrad has 128 blocks, so the one warp that sums the rows' losses runs beside it.
    double sum = -1, dgrad = -1;
    for (const auto& row : step("h200", "alexnet", 256).rows) {
        if (row.name == "loss.sum") sum = row.begins;
        if (row.name == "fc8.dgrad") dgrad = row.begins;
    }
    CHECK(sum > 0);
    CHECK(dgrad == doctest::Approx(sum));
}

TEST_CASE("predict: wgrad with the update of fc6 moves 686 MB") {
    const auto p = problem_of<GemmProblem>("layout=tn,m=4096,n=9216,k=256,sgd=1,dtype=bf16");
    const ProductPlan plan{
        .bm = 128, .bn = 128, .bk = 64, .multicast = 2, .units = 1152, .at_once = 66, .steps = 4};
    Prediction out;
    gemm_wgmma(gpu_of("h200"), plan, nullptr, p, out);
    CHECK(out.us == doctest::Approx(188).epsilon(0.01));
    CHECK_FALSE(out.issue_known);
}

TEST_CASE("predict: a step is no faster than its floor, and no slower than it has been") {
    // ms that the model gives of today's kernels, one after the other and with --overlap auto.
    // Kernels that change are to make them smaller.
    const double most[2][2][2] = {{{1.89, 3.19}, {1.34, 2.13}}, {{1.70, 3.02}, {1.13, 1.91}}};
    for (const bool beside : {false, true})
        for (int net = 0; net < 2; ++net)
            for (int big = 0; big < 2; ++big) {
                const StepPrediction s =
                    step("h200", kSteps[net], big ? 256 : 128, "bf16", beside ? "auto" : "off");
                CAPTURE(s.net);
                CAPTURE(s.batch);
                CHECK(s.us > s.floor_us);
                CHECK(s.us / 1e3 <= most[beside][net][big] * 1.005);
                CHECK(s.without_model.empty());
                double sum = 0;
                for (const auto& row : s.rows) {
                    CAPTURE(row.name);
                    sum += row.prediction.us;
                    CHECK(row.prediction.us >= row.prediction.floor_us);
                    CHECK(row.prediction.issue_known);
                    CHECK_FALSE(row.prediction.bound.empty());
                }
                CHECK(sum == doctest::Approx(s.alone_us));
                CHECK(s.us <= s.alone_us * (1 + 1e-9));
            }
}

TEST_CASE("predict: more images take longer, and an H100 is no faster than an H200") {
    for (const char* net : kSteps)
        for (const char* precision : {"bf16", "tf32", "fp32"}) {
            CAPTURE(net);
            CAPTURE(precision);
            double before = 0;
            for (const int batch : {16, 64, 128, 256, 512, 1024}) {
                const StepPrediction s = step("h200", net, batch, precision);
                for (const auto& row : s.rows) {
                    CAPTURE(row.name);
                    if (row.prediction.known) CHECK(row.prediction.us >= row.prediction.floor_us);
                }
                const double us = s.us;
                CHECK(us > before);
                before = us;
                CHECK(step("h100", net, batch, precision).us >= us);
            }
        }
}

TEST_CASE("predict: plans are for the GPU's SMs, and the planner's own come back") {
    const int before = plan_overrides.sms;
    Gpu half = gpu_of("h200");
    half.sms = 66;
    const char* problem = "n=256,h=27,c=96,k=256,r=5,pad=2,dtype=bf16";
    const double whole = predict(gpu_of("h200"), "conv_fprop", "wgmma_sm90", problem).us,
                 less = predict(half, "conv_fprop", "wgmma_sm90", problem).us;
    CHECK(less > 1.8 * whole);
    CHECK(plan_overrides.sms == before);
}

TEST_CASE("predict: kernels side by side") {
    using doctest::Approx;
    {
        SideBySide one(132);
        const int first = one.kernel(0, {.us = 10}), second = one.kernel(0, {.us = 5});
        one.run();
        CHECK(one.begin(first) == 0);
        CHECK(one.begin(second) == Approx(10));
        CHECK(one.end() == Approx(15));
    }
    {  // two that want all SMs take turns, whatever their streams
        SideBySide two(132);
        two.kernel(0, {.us = 10});
        const int other = two.kernel(1, {.us = 5});
        two.run();
        CHECK(two.begin(other) == Approx(10));
        CHECK(two.end() == Approx(15));
    }
    {  // parts of the machine do not wait for each other; a third one waits for its SMs
        SideBySide parts(132);
        parts.kernel(0, {.us = 40, .sms = 14});
        parts.kernel(0, {.us = 60, .sms = 14});  // not there yet, and in nobody's way
        const int a = parts.kernel(1, {.us = 60, .sms = 118}),
                  b = parts.kernel(1, {.us = 30, .sms = 118}),
                  c = parts.kernel(2, {.us = 1, .sms = 118});
        parts.run();
        CHECK(parts.begin(a) == 0);
        CHECK(parts.begin(b) == Approx(60));
        CHECK(parts.begin(c) == Approx(90));
        CHECK(parts.end() == Approx(100));
    }
    {  // one that is planned for all takes what is left, and is slower as far as SMs limit it
        SideBySide rest(132);
        rest.kernel(0, {.us = 100, .sms = 32});
        const int slower = rest.kernel(1, {.us = 10});
        rest.record(1, 7);
        rest.await(2, 7);
        rest.await(2, 8);  // recorded by nobody
        const int behind = rest.kernel(2, {.us = 10, .on_sms = 5}),
                  last = rest.kernel(2, {.us = 1});
        rest.run();
        CHECK(rest.begin(slower) == 0);
        CHECK(rest.begin(behind) == Approx(13.2));
        CHECK(rest.begin(last) == Approx(23.2));
    }
    {  // ... but not where its blocks stay: the last ones would wait in any case
        SideBySide stays(132);
        stays.kernel(0, {.us = 100, .sms = 14});
        const int product = stays.kernel(1, {.us = 10, .stays = true});
        stays.run();
        CHECK(stays.begin(product) == Approx(100));
    }
    {  // the memory has one rate: 0.5 and 0.75 of it make both slower by 1.25, until one ends
        SideBySide memory(132);
        memory.kernel(0, {.us = 100, .sms = 14, .memory = 50});
        memory.kernel(1, {.us = 40, .sms = 118, .memory = 30});
        memory.run();
        CHECK(memory.end() == Approx(50 + 60));
    }
    {  // who waited for SMs alone has no gap, and half of what the last wave left idle
        SideBySide gap(132, 0.5);
        gap.kernel(0, {.us = 20, .gap = 2, .idle = 6});
        gap.kernel(1, {.us = 30, .gap = 2});
        gap.kernel(0, {.us = 10, .gap = 2});
        gap.run();
        CHECK(gap.end() == Approx(20 + 30 - 2 - 3 + 10 - 2));
        SideBySide ordered(132, 0.5);  // the same, each for what comes before it
        ordered.kernel(0, {.us = 20, .gap = 2, .idle = 6});
        ordered.record(0, 1);
        ordered.await(1, 1);
        ordered.kernel(1, {.us = 30, .gap = 2});
        ordered.run();
        CHECK(ordered.end() == Approx(50));
    }
}

TEST_CASE("predict: a step side by side moves no more bytes than the memory can") {
    const Gpu g = gpu_of("h200");
    for (const char* net : kSteps)
        for (const int batch : {128, 256}) {
            const StepPrediction s = step("h200", net, batch);
            double bytes_us = 0;
            for (const auto& row : s.rows)
                if (!row.operation.empty())
                    bytes_us += predict(g, row.operation, row.variant, row.problem).memory;
            CHECK(s.us > bytes_us);
            // Nothing of the compute stream's is lost.
            double trunk = 0;
            for (const auto& row : s.rows)
                if (row.stage == Stage::trunk_forward) trunk += row.prediction.us;
            CHECK(s.us > trunk);
        }
}

TEST_CASE("predict: on few SMs a kernel of memory is bound by them") {
    const char* fc6 = "layout=tn,m=4096,n=9216,k=256,bias=1,sgd=1,dtype=bf16";
    const double all = predict(gpu_of("h200"), "gemm", "wgmma_sm90", fc6).us,
                 few = predict(gpu_of("h200"), "gemm", "wgmma_sm90", fc6, 14).us,
                 more = predict(gpu_of("h200"), "gemm", "wgmma_sm90", fc6, 28).us;
    // 686 MB at 75 GB/s an SM
    CHECK(few == doctest::Approx(654).epsilon(0.02));
    CHECK(more < few);
    CHECK(all < more);
}

TEST_CASE("predict: every constant has a unit's room and a source, and both GPUs a value") {
    std::set<std::string> names;
    for (const Constant& c : constants()) {
        CAPTURE(c.name);
        CHECK(names.insert(c.name).second);
        CHECK(c.h200 > 0);
        CHECK(c.h100 > 0);
        const std::string source = c.source;
        const bool told = source.starts_with("measured") || source.starts_with("published") ||
                          source.starts_with("estimate") || source.starts_with("derived");
        CHECK(told);
    }
    CHECK_THROWS_WITH_AS(gpu_of("h20"), doctest::Contains("h200"), UsageError);
}

TEST_CASE("predict: bin/summary --predict") {
    const test::TempDir dir;
    const std::string summary = test::program("summary");
    const auto r = test::run(dir, summary +
                                      " owt --steps --predict h200 --precision bf16 --batch 64 "
                                      "--json step.json");
    CHECK(r.status == 0);
    CHECK(r.out.find("not a measurement") != std::string::npos);
    const Json j = parse_json(test::slurp(dir / "step.json"));
    double sum = 0;
    for (const auto& pass : j.at("step").at("passes")) sum += pass.at("us").get<double>();
    CHECK(sum / 1e3 == doctest::Approx(j.at("step").at("sum_ms").get<double>()));
    CHECK(j.at("gpu").at("constants").size() == constants().size());

    test::check_one_line(test::run(dir, summary + " owt --steps --predict b200"), 2, "h200");
    test::check_one_line(test::run(dir, summary + " owt --predict h200"), 2, "--steps");
    test::check_one_line(test::run(dir, summary + " owt --steps --json x"), 2, "--predict");
    test::check_one_line(test::run(dir, summary + " owt --steps --predict h200 --workers 2"), 2,
                         "bin/scaling");
    test::check_one_line(test::run(dir, summary + " owt --steps --predict h200 --sm 80"), 2,
                         "--sm");
}

namespace {

// As profiling/report.py writes it, of no GPU that there is.
void write_made_up(const test::TempDir& dir, const std::string& gpu, double us, bool is_virtual) {
    namespace fs = std::filesystem;
    fs::create_directories(dir / "results/made-up");
    const Json variant{
        {"variant", "wgmma_sm90"}, {"baseline", false}, {"state", "timed"}, {"ms", us / 1e3}};
    const Json problem{{"name", "conv2.fprop"},
                       {"op", "conv_fprop"},
                       {"problem", "n=256 h=27 w=27 c=96 k=256 r=5 s=5 pad=2 relu=1"},
                       {"variants", {variant, {{"variant", "naive"}, {"state", "skipped"}}}}};
    const Json run{{"device", gpu}, {"virtual", false},    {"net", "alexnet"},
                   {"batch", 256},  {"precision", "bf16"}, {"problems", {problem}}};
    const Json machine{{"gpu", gpu}, {"date", "made up"}, {"virtual", is_virtual}};
    std::ofstream(dir / "results/made-up/compare.json")
        << json_text({{"machine", machine}, {"runs", {run}}});
    const Json step{{"who", "ours"}, {"net", "alexnet"},      {"batch", 256}, {"precision", "bf16"},
                    {"ms", 4.0},     {"images_per_s", 64000}, {"workers", 1}};
    std::ofstream(dir / "results/made-up/steps.json") << json_text(
        {{"machine", machine}, {"steps", {step, {{"who", "ours"}, {"error", "none"}}}}});
}

}  // namespace

TEST_CASE("predict: bin/compare --predict") {
    const test::TempDir dir;
    const std::string compare = test::program("compare") + " --precision bf16 --batch 256 ";
    const auto all = test::run(dir, compare + "--predict h200 --json all.json");
    CHECK(all.status == 0);
    CHECK(all.out.find("measured:") == std::string::npos);
    const Json j = parse_json(test::slurp(dir / "all.json"));
    const StepPrediction s = step("h200", "alexnet", 256);
    CHECK(j.at("step").at("ms").get<double>() == doctest::Approx(s.us / 1e3));
    // The step's kernels that are among the problems have the same time, where they get all SMs;
    // only own variants are.
    int same = 0;
    const StepPrediction alone = step("h200", "alexnet", 256, "bf16", "off");
    for (const auto& row : alone.rows)
        for (const auto& p : j.at("problems"))
            for (const auto& v : p.at("variants")) {
                CHECK(v.at("variant").get<std::string>().find("onednn") == std::string::npos);
                if (p.at("name") != row.name || v.at("variant") != row.variant) continue;
                if (row.problem != p.at("problem").get<std::string>() + " dtype=bf16") continue;
                CAPTURE(row.name);
                CHECK(v.at("us").get<double>() == doctest::Approx(row.prediction.us));
                ++same;
            }
    CHECK(same >= 10);
    CHECK(test::run(dir, compare + "gemm --problem m=512,n=512,k=512 --predict h100")
              .out.find("no model") != std::string::npos);
    // Kernels that nobody has disassembled are said to be so, not guessed.
    Prediction p;
    conv_wgmma(gpu_of("h200"), {.bm = 128, .bn = 256, .bk = 64, .units = 1, .steps = 1}, nullptr,
               ConvProblem{}, p);
    CHECK_FALSE(p.issue_known);
    CHECK(to_json(p, 0).at("model") == false);

    test::check_one_line(test::run(dir, compare + "--predict a100"), 2, "h200");
    test::check_one_line(test::run(dir, compare + "--predict h200 --check-only"), 2,
                         "--check-only");
    test::check_one_line(test::run(dir, compare + "--measured ."), 2, "--predict");
    test::check_one_line(test::run(dir, compare + "--predict h200 --measured none"), 1, "none");
    test::check_one_line(test::run(dir, compare + "--predict h200 --layer conv9"), 2, "conv9");
    test::check_one_line(test::run(dir, compare + "--predict h200 --variants wgma"), 2, "wgma");
}

TEST_CASE("predict: measured times stand beside predicted ones") {
    const test::TempDir dir;
    write_made_up(dir, "NVIDIA H200 (made up)", 400, false);
    const std::string compare =
        test::program("compare") + " --precision bf16 --batch 256 --measured results --predict ";
    const auto r = test::run(dir, compare + "h200 --json j.json");
    CHECK(r.status == 0);
    CHECK(r.out.find("results/made-up/compare.json") != std::string::npos);
    CHECK(r.out.find("measured 4.00 ms, 64000 images/s") != std::string::npos);
    int beside = 0;
    const Json j = parse_json(test::slurp(dir / "j.json"));
    for (const auto& p : j.at("problems"))
        for (const auto& v : p.at("variants"))
            if (v.contains("measured_us")) {
                ++beside;
                CHECK(p.at("name") == "conv2.fprop");
                CHECK(v.at("variant") == "wgmma_sm90");
                CHECK(v.at("measured_us") == doctest::Approx(400));
                CHECK(v.at("measured_of_predicted").get<double>() ==
                      doctest::Approx(400 / v.at("us").get<double>()));
            }
    CHECK(beside == 1);
    const auto steps = test::run(dir, test::program("summary") +
                                          " alexnet --steps --predict h200 --batch 256 --precision "
                                          "bf16 --measured results");
    CHECK(steps.out.find("    400.0 ") != std::string::npos);
    CHECK(steps.out.find("of predicted") != std::string::npos);
    // Another GPU's, and a dry run's, are not this one's.
    CHECK(test::run(dir, compare + "h100").out.find("made-up") == std::string::npos);
    write_made_up(dir, "NVIDIA H200 (made up)", 400, true);
    CHECK(test::run(dir, compare + "h200").out.find("made-up") == std::string::npos);
    // A torn file is said to be one.
    std::ofstream(dir / "results/made-up/compare.json")
        << "{\"machine\": {\"gpu\": \"H200\"}, \"runs\": [{}]}";
    test::check_one_line(test::run(dir, compare + "h200"), 1, "compare.json");
}
