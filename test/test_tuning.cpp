// Choices by measurement: what is known is used, what is not is measured and kept, a bad file is no
// harm.
#include <doctest/doctest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>

#include "host/parallel/group.h"
#include "host/train/tune.h"
#include "test/temp_dir.h"

using namespace wt;
using test::slurp;
using test::TempDir;

namespace {

const PoolProblem kPool{.n = 1, .h = 8, .w = 8, .c = 8};

NetSpec small_net() {
    NetBuilder n("small", 12, {.classes = 4});
    n.conv("conv1", 8, 3, {.pad = 1})
        .act()
        .lrn()
        .pool()
        .conv("conv2", 8, 3, {.pad = 1})
        .act()
        .fc("fc3", 16)
        .act()
        .dropout()
        .fc("fc4", 4);
    return n.done();
}

}  // namespace

TEST_CASE("tuning: a problem's text has all that tells it from others") {
    std::vector<std::string> all;
    for (const ConvProblem& p :
         {ConvProblem{}, ConvProblem{.n = 2}, ConvProblem{.stride_w = 2}, ConvProblem{.pad_h = 1},
          ConvProblem{.dtype = DType::bf16}, ConvProblem{.bias = false}, ConvProblem{.relu = true},
          ConvProblem{.drelu = true}, ConvProblem{.tf32 = true}, ConvProblem{.fold = 4},
          ConvProblem{.fold = 4, .planes = true}})
        all.push_back(text_of(p));
    for (const GemmProblem& p :
         {GemmProblem{}, GemmProblem{.layout = GemmLayout::tn}, GemmProblem{.lda = 2},
          GemmProblem{.out = DType::bf16}, GemmProblem{.dropout = 0.5f}, GemmProblem{.drelu = true},
          GemmProblem{.sgd = true}, GemmProblem{.tf32 = true}})
        all.push_back(text_of(p));
    for (const LrnPoolProblem& p : {LrnPoolProblem{}, LrnPoolProblem{.lrn = false},
                                    LrnPoolProblem{.relu = false}, LrnPoolProblem{.bias = false}})
        all.push_back(text_of(p));
    std::sort(all.begin(), all.end());
    CHECK(std::adjacent_find(all.begin(), all.end()) == all.end());
    CHECK(text_of(kPool) == "n=1 h=8 w=8 c=8 dtype=fp32");
}

TEST_CASE("tuning: a known choice is taken, after a named one, where it fits and is allowed") {
    const auto table = pool_forward_variants();
    KernelSettings k = KernelSettings::parse("own");
    const auto chosen = [&] {
        return std::string(k.bind("pool1.forward", table, kPool, 0).variant->name);
    };
    const std::string otherwise = chosen();
    REQUIRE(otherwise != "naive");
    k.tuning = std::make_shared<Tuning>("test");
    CHECK(chosen() == otherwise);
    k.tuning->set("pool_forward", text_of(kPool), {"naive", 1});
    CHECK(chosen() == "naive");
    k.by_layer_op["pool1.forward"] = otherwise;
    CHECK(chosen() == otherwise);
    k.by_layer_op.clear();
    k.tuning->set("pool_forward", text_of(kPool), {"no such variant", 1});
    CHECK(chosen() == otherwise);
    k.tuning->set("pool_forward", text_of(kPool), {"onednn", 1});  // not own
    CHECK(chosen() == otherwise);
}

TEST_CASE("tuning: measured times decide whether to fuse") {
    const LrnPoolProblem p{.n = 1, .h = 8, .w = 8, .c = 8};
    KernelSettings k = KernelSettings::parse("own");
    k.tuning = std::make_shared<Tuning>("test");
    const auto fused = [&] {
        return k.fuses("norm1.forward+pool1", lrn_pool_forward_variants(), p, 0,
                       Part{"pool1.forward", pool_forward_variants(), p.pool()},
                       Part{"norm1.forward", lrn_forward_variants(), p.norm()});
    };
    CHECK(fused());  // nothing is known, and no vendor has the parts
    k.tuning->set("lrn_pool_forward", text_of(p), {"naive", 3});
    k.tuning->set("pool_forward", text_of(p.pool()), {"naive", 1});
    k.tuning->set("lrn_forward", text_of(p.norm()), {"naive", 1});
    CHECK_FALSE(fused());
    k.tuning->set("lrn_forward", text_of(p.norm()), {"naive", 2.5});
    CHECK(fused());
    k.fuse = Fuse::off;
    CHECK_FALSE(fused());
}

TEST_CASE("tuning: the file comes back, and a bad one is ignored with one line") {
    const TempDir s;
    const std::string path = s / "folder/tuned.json";
    Tuning a("some GPU");
    CHECK(load_tuning(path, a).empty());  // there is none yet
    a.set("gemm", "nt m=1", {"tiled", 0.25});
    save_tuning(path, a);
    Tuning b("some GPU");
    REQUIRE(load_tuning(path, b).empty());
    REQUIRE(b.find("gemm", "nt m=1"));
    CHECK(b.find("gemm", "nt m=1")->variant == "tiled");
    CHECK(b.find("gemm", "nt m=1")->ms == 0.25);
    CHECK(b.find("gemm", "nt m=2") == nullptr);

    const std::string whole = slurp(path);
    const auto line_of = [&](const std::string& bytes, const char* device = "some GPU") {
        std::ofstream(path, std::ios::binary) << bytes;
        Tuning t(device);
        const std::string line = load_tuning(path, t);
        CHECK(t.entries().empty());
        CHECK(line.find('\n') == std::string::npos);
        return line;
    };
    CHECK(line_of(whole.substr(0, whole.size() / 2)).find("no file of tuned kernels") !=
          std::string::npos);
    CHECK(line_of("").find("no file of tuned kernels") != std::string::npos);
    CHECK(line_of("[1, 2]").find("no file of tuned kernels") != std::string::npos);
    CHECK(line_of(whole, "another GPU").find("of another device") != std::string::npos);
    std::string others = whole;
    others.insert(others.find("\"kernels\": \"") + 12, "9");
    CHECK(line_of(others).find("of other kernels") != std::string::npos);
    std::string entry = whole;
    entry.replace(entry.find("\"tiled\""), 7, "7");
    CHECK(line_of(entry).find("no file of tuned kernels") != std::string::npos);
    CHECK(tuning_path("NVIDIA H200").ends_with("/weirdtrick/tuned-nvidia-h200.json"));
}

TEST_CASE("tuning: tune measures what is not known, keeps it, and does not measure it again") {
    const TempDir s;
    const char* before = std::getenv("XDG_CACHE_HOME");
    const std::string kept = before ? before : "";
    setenv("XDG_CACHE_HOME", s.path().c_str(), 1);
    std::vector<WorkerConfig> configs(2);
    for (int r = 0; r < 2; ++r) {
        configs[r].net = small_net();
        configs[r].rank = r, configs[r].workers = 2, configs[r].device = 0, configs[r].batch = 2;
        configs[r].kernels = KernelSettings::parse("tune,own,conv2.wgrad=naive");
        configs[r].image_h = configs[r].image_w = 12;
    }
    choose_kernels(configs, 0.001);
    const auto& tuning = configs[0].kernels.tuning;
    CHECK(tuning == configs[1].kernels.tuning);
    CHECK(tuning->measured > 10);
    CHECK_FALSE(tuning->measure);
    const Layout first(configs[0]);
    CHECK(first.choices == Layout(configs[0]).choices);
    for (const auto& [pass, variant] : first.choices)
        if (pass == "conv2.wgrad") CHECK(variant == "naive");

    choose_kernels(configs, 0.001);
    CHECK(configs[0].kernels.tuning->measured == 0);
    CHECK(Layout(configs[0]).choices == first.choices);
    for (WorkerConfig& c : configs) c.kernels.tune = false;  // without tune, the file is not read
    choose_kernels(configs);
    CHECK(configs[0].kernels.tuning->entries().empty());
    kept.empty() ? unsetenv("XDG_CACHE_HOME") : setenv("XDG_CACHE_HOME", kept.c_str(), 1);
}
