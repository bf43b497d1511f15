// What bin/compare --counters writes, from counters that were made up.
#include <doctest/doctest.h>

#include <fstream>

#include "host/bench/counters.h"
#include "host/model/counted_results.h"
#include "host/model/predict.h"
#include "test/program.h"

using namespace wt;
using namespace wt::bench;

namespace {

CountedKernel kernel() {
    const CountedAccess stores{.what = "shared stores",
                               .unit = "wavefronts",
                               .requests = 4,
                               .lanes = 128,
                               .units = 12,
                               .least = 4,
                               .bytes = 512,
                               .rows = 0};
    return {.name = "multiply",
            .shape = "2 blocks of 64 threads",
            .blocks = 2,
            .warps = 4,
            .instructions = 1000,
            .lanes = 16,
            .classes = {{"integer", 600}, {"fp32", 300}, {"barrier", 95}, {"move", 5}},
            .accesses = {{.what = "global loads",
                          .unit = "sectors",
                          .requests = 10,
                          .lanes = 320,
                          .units = 80,
                          .least = 40,
                          .bytes = 1280,
                          .rows = 0},
                         {.what = "global stores",
                          .unit = "sectors",
                          .requests = 5,
                          .lanes = 160,
                          .units = 20,
                          .least = 20,
                          .bytes = 640,
                          .rows = 0},
                         stores,
                         {.what = "TMA loads",
                          .unit = "sectors",
                          .requests = 2,
                          .lanes = 2,
                          .units = 250,
                          .least = 250,
                          .bytes = 16000,
                          .rows = 128}},
            .block_sectors = 50,
            .matrix = {{.what = "wgmma 64x128x16 bf16",
                        .warps = 8,
                        .flops = 524288,
                        .shared_bytes = 12288}},
            .worst = {{.place = "kernels/a.cu:7", .access = stores}}};
}

bool says(const std::string& text, const std::string& part) {
    INFO(text);
    const bool there = text.find(part) != std::string::npos;
    CHECK_MESSAGE(there, part);
    return there;
}

}  // namespace

TEST_CASE("counters: sums, lines and fields") {
    BenchCase bench_case;
    bench_case.name = "fc6.forward";
    bench_case.op = "gemm";
    bench_case.problem = "m=64 n=128 k=32";
    bench_case.whole_problem = "m=64 n=128 k=32 dtype=bf16";
    bench_case.flops = 262144;
    const CountedCase c{
        .bench_case = &bench_case,
        .precision = "bf16",
        .variants = {{.variant = "mine", .why = "", .kernels = {kernel(), kernel()}},
                     {.variant = "theirs", .why = "a vendor's library", .kernels = {}},
                     {.variant = "bad", .why = "misaligned", .failed = true, .kernels = {}}}};
    const CountedVariant& v = c.variants[0];
    CHECK(v.instructions() == 2000);
    // What a block's loads differ in, and all sectors of the others.
    CHECK(v.l2_bytes() == 2 * 32 * (50 + 20 + 250));
    CHECK(v.shared_wavefronts() == 2 * (12 + 12288 / 128));
    CHECK(v.flops() == 2 * 524288);

    std::string text = to_text(c);  // its lines are wrapped
    const std::string wrap = "\n" + std::string(25, ' ');
    for (size_t at; (at = text.find(wrap)) != std::string::npos;)
        text.replace(at, wrap.size(), " ");
    says(text,
         "1,000 of warps, 250 a warp, 16.0 of 32 lanes: integer 60%, fp32 30%, barrier 9.5%, "
         "others 0.5%");
    says(text,
         "10 requests, 8.00 sectors each, at least 4.00; L2 0.0016 MB where L1 keeps a block's, "
         "0.00256 MB where it keeps none");
    says(text, "4 requests, 3.00 wavefronts each, at least 1.00; 8 conflicts");
    says(text, "2 copies, 64 rows and 8000 bytes each: 0.016 MB; L2 0.008 MB");
    says(text, "8 wgmma 64x128x16 bf16: 0.0005243 GFLOP, 2.000 of the problem's");
    says(text, "kernels/a.cu:7 shared stores: 3.00 wavefronts each, at least 1.00; 8 too many");
    says(text, "not counted: a vendor's library");
    says(text, "FAILED: misaligned");

    const Json j = to_json(c);
    CHECK(j.at("variants").at(0).at("l2_bytes") == v.l2_bytes());
    CHECK(j.at("variants").at(0).at("kernels").at(0).at("classes").at("fp32") == 300);
    CHECK(j.at("variants").at(0).at("kernels").at(1).at("accesses").at(3).at("rows") == 128);
    CHECK(j.at("variants").at(0).at("kernels").at(0).at("worst").at(0).at("place") ==
          "kernels/a.cu:7");
    CHECK(j.at("variants").at(1).at("not_counted") == "a vendor's library");
    CHECK(j.at("variants").at(2).at("failed") == "misaligned");
    const std::string page = counters_page({c}, "Counters & more");
    says(page, "<h1>Counters &amp; more</h1>");
    says(page, "a vendor&#39;s library");
    says(page, "8 conflicts");
}

TEST_CASE("counters: take the place of a prediction's estimates") {
    const model::Gpu g = model::gpu_of("h200");
    const char* problem = "n=8,h=27,c=96,k=256,r=5,pad=2,dtype=bf16";
    const model::Prediction before = model::predict(g, "conv_fprop", "wgmma_sm90", problem);
    REQUIRE(before.known);
    // As much multiplied as the model has it, were all SMs alike: the busiest has more of the bytes
    // too.
    const double even = before.tensor / 2;
    const model::Counted counted{.instructions = 1e9,
                                 .l2_bytes = 1e9,
                                 .shared_bytes = 2e9,
                                 .flops = 2 * even * g.tensor_macs * g.sms * g.tensor_ghz * 1e3};
    model::Prediction p = before;
    model::take(g, counted, p);
    CHECK(p.l2 == doctest::Approx(2 * 1e9 / (g.l2_bytes * g.sms * g.feed_ghz * 1e3)));
    CHECK(p.shared == doctest::Approx(4 * 1e9 / (g.shared_bytes * g.sms * g.feed_ghz * 1e3)));
    CHECK(p.issue == before.issue);
    const double most = std::max({before.tensor, before.issue, before.shared, before.l2});
    CHECK(p.us == doctest::Approx(before.us + std::max(p.l2, p.shared) - most));
    CHECK((p.bound == "L2" || p.bound == "shared"));
    CHECK(p.counted);
}

TEST_CASE("counters: bin/compare --predict --counted") {
    const test::TempDir dir;
    const std::string predict =
        test::program("compare") +
        " conv_fprop --problem n=8,h=27,c=96,k=256,r=5,pad=2 --precision bf16 --predict h200 "
        "--variants wgmma_sm90 --counted ";
    const auto write = [&](const char* name, const std::string& text) {
        std::ofstream(dir / name) << text;
    };
    const BenchCase c = problem_case("conv_fprop", "n=8,h=27,c=96,k=256,r=5,pad=2", Precision::bf16,
                                     Architecture{90});
    const auto file = [&](const std::string& whole_problem, int sms) {
        return json_text({{"counters", true},
                          {"sms", sms},
                          {"problems",
                           {{{"op", "conv_fprop"},
                             {"whole_problem", whole_problem},
                             {"variants",
                              {{{"variant", "wgmma_sm90"},
                                {"instructions", 1e6},
                                {"l2_bytes", 1e9},
                                {"shared_wavefronts", 1e5},
                                {"matrix_flops", 7e9},
                                {"kernels", Json::array()}}}}}}}});
    };
    write("right.json", file(c.whole_problem, 132));
    const test::Result right = test::run(dir, predict + "right.json");
    CHECK(right.status == 0);
    says(right.out, "; counted");
    says(right.out, "of 1 variant, L2 and shared memory are those of the counters in right.json");
    write("other.json", file("n=1", 132));
    says(test::run(dir, predict + "other.json").out, "of 0 variants");
    write("sms.json", file(c.whole_problem, 100));
    test::check_one_line(test::run(dir, predict + "sms.json"), 1, "100 SMs");
    write("times.json", "{\"problems\": []}");
    test::check_one_line(test::run(dir, predict + "times.json"), 1, "no counters");
    write("torn.json", file(c.whole_problem, 132).substr(0, 90));
    test::check_one_line(test::run(dir, predict + "torn.json"), 1, "torn.json");
    test::check_one_line(test::run(dir, predict + "none.json"), 1, "none.json");
    test::check_one_line(
        test::run(dir, test::program("compare") + " gemm --counted right.json --check-only"), 2,
        "--predict");
}
