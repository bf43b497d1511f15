// What ends a run that is no longer sound: values that are not finite; and --watch.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "host/json.h"
#include "host/train/health.h"
#include "test/data_files.h"
#include "test/parallel_job.h"
#include "test/training.h"

using namespace wt;
using namespace wt::test;

namespace {

struct Way {
    int workers;
    FcScheme scheme;
    FcSplit split = FcSplit::columns;
    DType dtype = DType::f32;
};
const Way kWays[] = {{1, FcScheme::a},
                     {3, FcScheme::a},
                     {2, FcScheme::b},
                     {2, FcScheme::c},
                     {3, FcScheme::dp},
                     {2, FcScheme::a, FcSplit::alternate},
                     {2, FcScheme::a, FcSplit::columns, DType::bf16}};

// Weights of the network in `configs`, and no momentum.
Group make_group(const Way& way) {
    std::vector<WorkerConfig> configs;
    for (int r = 0; r < way.workers; ++r) {
        WorkerConfig c;
        c.net = tiny_net({.classes = 10}, "tiny");
        c.rank = r;
        c.workers = way.workers;
        c.batch = 2;
        c.device = r % device_count();
        c.dtype = way.dtype;
        c.scheme = way.scheme;
        c.split = way.split;
        c.image_h = c.image_w = c.net.input.h;
        configs.push_back(c);
    }
    return Group(configs);
}

void fill(Group& group, uint64_t seed) {
    const Layout& l = group.worker(0).layout();
    for (size_t i = 0; i < l.params.size(); ++i) {
        const int p = static_cast<int>(i);
        group.set_param(
            p, initial_values(l.config.net, l.params[i], {0, l.params[i].rows}, Init::he, seed));
        group.set_param(p, std::vector<float>(static_cast<size_t>(l.params[i].count())), true);
    }
}

struct Means {
    double weight = 0, update = 0;
};
Means means_of(const std::vector<float>& before, const std::vector<float>& after) {
    REQUIRE(before.size() == after.size());
    Means m;
    for (size_t i = 0; i < after.size(); ++i) {
        m.weight += std::abs(double(after[i]));
        m.update += std::abs(double(after[i]) - double(before[i]));
    }
    return {m.weight / double(after.size()), m.update / double(after.size())};
}

const std::string kMini = program("train") +
                          " --net mini --data synthetic:10 --batch 4 --lr-policy constant "
                          "--eval-every 0 ";

}  // namespace

TEST_CASE("health: mean |w| and |dw| are those of fp64 loops, however the layers are shared") {
    for (const Way& way : kWays) {
        Group group = make_group(way);
        fill(group, 3);
        const auto& params = group.worker(0).layout().params;
        std::vector<std::vector<float>> before;
        for (size_t i = 0; i < params.size(); ++i)
            before.push_back(group.get_param(static_cast<int>(i)));
        Watch watch(group);
        fill(group, 4);
        const auto watched = watch.after();
        REQUIRE(watched.size() == params.size());
        for (size_t i = 0; i < params.size(); ++i) {
            INFO(params[i].name << ", workers " << way.workers);
            const Means m = means_of(before[i], group.get_param(static_cast<int>(i)));
            CHECK(watched[i].name == params[i].name);
            CHECK(watched[i].weight == doctest::Approx(m.weight).epsilon(1e-12));
            CHECK(watched[i].update == doctest::Approx(m.update).epsilon(1e-12));
            if (m.weight > 0) {
                CHECK(watched[i].ratio() == doctest::Approx(m.update / m.weight).epsilon(1e-12));
            } else {
                CHECK(watched[i].ratio() == 0);
            }
        }
        const auto again = watch.after();  // the same bits
        for (size_t i = 0; i < params.size(); ++i) CHECK(again[i].weight == watched[i].weight);
    }
}

TEST_CASE("health: --watch logs what a step has changed, in every scheme") {
    const TempDir t;
    for (const std::string scheme : {"a", "b --fc-update per-pass", "c", "dp"}) {
        const Result r = run(t, kMini + "--gpus 0,0 --steps 2 --save-every 1 --keep 2 --watch 2 " +
                                    "--overwrite --out r --fc-scheme " + scheme);
        INFO(scheme << r.err);
        REQUIRE(r.status == 0);
        CHECK(has(r.out, "step 2: mean |w|, mean |dw| and their ratio\n  conv1.weight  "));
        const auto before = SafetensorsFile::open(t / "r/checkpoint-1.safetensors"),
                   after = SafetensorsFile::open(t / "r/checkpoint.safetensors");
        int lines = 0;
        std::istringstream log(slurp(t / "r/metrics.jsonl"));
        for (std::string line; std::getline(log, line);) {
            const Json j = parse_json(line);
            if (j["kind"] != "watch") continue;
            ++lines;
            CHECK(j["step"] == 2);
            CHECK(j["params"].size() == 16);
            for (const auto& [name, of] : j["params"].items()) {
                const Means m = means_of(before.read(name), after.read(name));
                INFO(name);
                CHECK(of["w"].get<double>() == doctest::Approx(m.weight).epsilon(1e-9));
                CHECK(of["dw"].get<double>() == doctest::Approx(m.update).epsilon(1e-9));
                CHECK(m.update > 0);
            }
        }
        CHECK(lines == 1);
    }
}

TEST_CASE("health: --watch with and without its number, and what is none") {
    const TempDir t;
    const Result plain = run(t, kMini + "--gpus 0 --watch --steps 1 --out r");
    CHECK_MESSAGE(plain.status == 0, plain.err);
    CHECK(!has(plain.out, "mean |w|"));  // every hundred steps
    const auto arguments =
        SafetensorsFile::open(t / "r/checkpoint.safetensors").metadata().at("arguments");
    CHECK(has(arguments, R"("--watch","100")"));
    // What is resumed goes on watching, and nothing else changes.
    REQUIRE(run(t, kMini + "--gpus 0 --watch 1 --steps 2 --out watched").status == 0);
    REQUIRE(run(t, kMini + "--gpus 0 --steps 2 --out not").status == 0);
    CHECK(same_tensors(t / "watched/checkpoint.safetensors", t / "not/checkpoint.safetensors"));
    const Result more = run(t, program("train") + " --resume watched --steps 3");
    CHECK_MESSAGE(has(more.out, "step 3: mean |w|"), more.out);
    check_one_line(run(t, kMini + "--out x --watch often"), 2, "--watch");
}

TEST_CASE("health: a weight or momentum that is not finite is found, with its worker") {
    for (const Way& way : kWays) {
        Group group = make_group(way);
        fill(group, 3);
        CHECK(first_bad_weight(group) == "");
        const Layout& l = group.worker(0).layout();
        for (size_t i = 0; i < l.params.size(); ++i)
            for (const bool momentum : {false, true})
                for (const bool last : {false, true}) {
                    const int p = static_cast<int>(i);
                    const auto sound = group.get_param(p, momentum);
                    auto values = sound;
                    (last ? values.back() : values.front()) =
                        momentum ? std::numeric_limits<float>::infinity() : std::nanf("");
                    group.set_param(p, values, momentum);
                    // Whose element it is: the first of the whole is the first worker's that has
                    // any, the last the last one's; row-parallel ones are dealt out by columns,
                    // which keeps that.
                    int owner = -1;
                    for (int w = 0; w < way.workers; ++w)
                        if (group.worker(w).layout().own[i].count > 0 && (owner < 0 || last))
                            owner = w;
                    CHECK(first_bad_weight(group) == l.params[i].name +
                                                         (momentum ? "'s momentum" : "") +
                                                         " of worker " + std::to_string(owner));
                    group.set_param(p, sound, momentum);
                }
        // Of several, the first in the network's order.
        for (const int i : {4, 2, 6})
            group.set_param(
                i, std::vector<float>(static_cast<size_t>(l.params[i].count()), std::nanf("")));
        CHECK(has(first_bad_weight(group), l.params[2].name + " of worker "));
    }
}

TEST_CASE("health: a rate that is too high ends the run with the first layer, worker and step") {
    const TempDir t;
    for (const std::string flags :
         {"--gpus 0", "--gpus 0,0 --fc-scheme b", "--gpus 0,0 --fc-scheme dp --precision bf16"}) {
        const Result r = run(t, kMini + "--lr 1000 --steps 30 --overwrite --out r " + flags);
        check_one_line(r, 1, "the loss is not finite at step ");
        // An output of the step whose loss it was.
        const size_t at = r.err.find(" at step ") + 9;
        const std::string step = r.err.substr(at, r.err.find(' ', at) - at);
        CHECK_MESSAGE(has(r.err, "): the output of "), r.err);
        CHECK_MESSAGE(has(r.err, " on worker 0 in step " + step + " is the first value"), r.err);
        CHECK(has(r.err, "no checkpoint was written"));
        CHECK(!std::filesystem::exists(t / "r/checkpoint.safetensors"));
        // The log and the page say how it ended.
        CHECK(has(slurp(t / "r/metrics.jsonl"), R"("reason":"not finite")"));
        CHECK(has(slurp(t / "r/report.html"), ", not finite</td>"));
    }
    // With a checkpoint: the same layer is found from there, and it stays.
    const Result r =
        run(t, kMini + "--lr 1000 --steps 30 --save-every 2 --gpus 0 --overwrite --out r");
    check_one_line(r, 1, "the last checkpoint in r, of step 2, is kept");
    CHECK_MESSAGE(has(r.err, "): the output of "), r.err);
    const auto kept = SafetensorsFile::open(t / "r/checkpoint.safetensors");
    CHECK(kept.metadata().at("step") == "2");
    for (const std::string& name : kept.names())
        CHECK(std::ranges::all_of(kept.read(name), [](float v) { return std::isfinite(v); }));
}

TEST_CASE("health: values that are not finite are never saved, whatever the loss is") {
    const TempDir t;
    REQUIRE(run(t, kMini + "--gpus 0 --steps 2 --out r").status == 0);
    {  // A fault that no loss shows until it is too late: the momentum of the last step.
        const auto file = SafetensorsFile::open(t / "r/checkpoint.safetensors");
        std::vector<std::vector<float>> values;
        std::vector<NamedTensor> tensors;
        for (const auto& n : file.names()) {
            values.push_back(file.read(n));
            if (n == "fc7.weight.momentum") values.back()[5] = std::nanf("");
            tensors.push_back({n, file.shape(n), values.back().data()});
        }
        write_safetensors(t / "r/checkpoint.safetensors", tensors, file.metadata());
    }
    const std::string before = slurp(t / "r/checkpoint.safetensors");
    const Result r = run(t, program("train") + " --resume r --steps 3");
    check_one_line(r, 1, "fc7.weight of worker 0 is not finite after step 3");
    CHECK_MESSAGE(has(r.err, "fc7.weight of worker 0 in step 3 is the first value"), r.err);
    CHECK(slurp(t / "r/checkpoint.safetensors") == before);
}

TEST_CASE("health: the line says what is known, and how to be told more") {
    NotFinite n{.what = "the loss is not finite at step 700",
                .first = "the output of fc6 on worker 1 in step 700",
                .rate = 0.5,
                .folder = "runs/x",
                .saved = 500,
                .step = 700};
    CHECK(text_of(n) ==
          "the loss is not finite at step 700 (rate 0.5): the output of fc6 on worker 1 in step "
          "700 is the first value that is not; lower --lr; the last checkpoint in runs/x, of step "
          "500, is kept");
    n.first = "";
    CHECK(text_of(n) ==
          "the loss is not finite at step 700 (rate 0.5): --resume runs/x --save-every 2 tells the "
          "layer; lower --lr; the last checkpoint in runs/x, of step 500, is kept");
    n.saved = 699;  // no checkpoint could be nearer
    CHECK(!has(text_of(n), "--resume"));
    n.saved = -1;
    n.paper = true;
    CHECK(text_of(n) ==
          "the loss is not finite at step 700 (rate 0.5): lower --lr, or try --init he; no "
          "checkpoint was written");
}
