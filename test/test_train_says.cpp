// What bin/train and bin/summary tell their users while and before they work: the log's and the
// progress's figures, warnings, defaults, and what a run in another folder goes on from.
#include <doctest/doctest.h>

#include <algorithm>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "test/data_files.h"
#include "test/training.h"

namespace fs = std::filesystem;
using namespace wt;
using namespace wt::test;
using nlohmann::json;

namespace {

std::vector<json> lines_of(const std::string& path, const std::string& kind) {
    std::vector<json> all;
    std::ifstream log(path);
    for (std::string line; std::getline(log, line);)
        if (auto j = json::parse(line); j["kind"] == kind) all.push_back(j);
    return all;
}

std::vector<int> evaluated_after(const std::string& path) {
    std::vector<int> steps;
    for (const json& j : lines_of(path, "eval")) steps.push_back(j.at("step"));
    return steps;
}

std::string step_of(const std::string& path) {
    return SafetensorsFile::open(path).metadata().at("step");
}

void write_classes(const std::string& dir, int train, int side = 32) {
    for (const char* name : {"ant", "bee"})
        for (int i = 0; i < train; ++i) {
            write_file(dir + "/train/" + name + "/" + std::to_string(i) + ".png",
                       flat_png(side, side, name[0] * 2 % 256, 20 * i, 90));
            write_file(dir + "/val/" + name + "/" + std::to_string(i) + ".png",
                       flat_png(side, side, name[0] * 2 % 256, 20 * i + 5, 90));
        }
}

const std::string kCifar = " --net cifar --gpus 0 --batch 2 --lr 0.002 --lr-policy constant ";

}  // namespace

TEST_CASE("train: the log and the progress have the training error and the wait for input") {
    const TempDir s;
    write_classes(s / "set", 4);
    const Result r =
        run(s, program("train") + kCifar + "--data folder:set --epochs 12 --lr 0.01 --out r");
    INFO(r.out << r.err);
    REQUIRE(r.status == 0);
    const auto steps = lines_of(s / "r/metrics.jsonl", "step");
    REQUIRE(steps.size() == 48);
    for (const json& j : steps) {
        const double error = j.at("top1_error"), wait = j.at("input_wait");
        CHECK((error == 0 || error == 50 || error == 100));
        CHECK(wait >= 0);
        CHECK(wait <= 1);
    }
    CHECK(steps.back().at("top1_error") == 0);  // two colours are learnt by then
    CHECK(has(r.out, "  error "));
    CHECK(has(r.out, "%  lr 0.01  "));
    CHECK(has(r.out, " images/s  input wait "));
}

TEST_CASE(
    "train: a run that its input holds up says so, and its last step is no faster than the "
    "others") {
    const TempDir s;
    // Few images that take long to read: 2600x2000 of noise, and a network that takes a
    // millisecond.
    Bytes rows(size_t(2600) * 2000 * 3);
    uint32_t state = 1;
    for (uint8_t& b : rows) b = uint8_t((state = state * 1664525 + 1013904223) >> 24);
    const Bytes slow = png(2600, 2000, 8, 2, rows);
    for (const char* name : {"set/train/a/1.png", "set/train/b/1.png"}) write_file(s / name, slow);
    const Result r = run(s, program("train") +
                                " --net cifar --gpus 0 --batch 1 --lr 0.0001 --data folder:set "
                                "--steps 8 --mean 1,2,3 --std 9,9,9 --out r");
    INFO(r.out << r.err);
    REQUIRE(r.status == 0);
    const auto steps = lines_of(s / "r/metrics.jsonl", "step");
    REQUIRE(steps.size() == 8);
    std::vector<double> rates;
    double wait = 0;
    for (size_t i = 5; i < steps.size(); ++i) {  // those that were not read ahead
        rates.push_back(steps[i].at("images_per_s"));
        wait += steps[i].at("input_wait").get<double>() / 3;
    }
    CHECK(wait > 0.5);
    // One that were not counted in would be the network's own, some 20 times as fast.
    CHECK(rates.back() < 8 * std::max(rates[0], rates[1]));
}

TEST_CASE("train: --eval-every") {
    const TempDir s;
    write_classes(s / "set", 4);
    const std::string begin =
        program("train") + kCifar + "--data folder:set --epochs 2 --overwrite --out r ";
    const auto at = [&](const std::string& flags) {
        const Result r = run(s, begin + flags);
        INFO(r.out << r.err);
        CHECK(r.status == 0);
        CHECK(step_of(s / "r/checkpoint.safetensors") == "8");
        return evaluated_after(s / "r/metrics.jsonl");
    };
    CHECK(at("") == std::vector<int>{4, 8});
    CHECK(at("--eval-every 3") == std::vector<int>{3, 6, 8});
    CHECK(at("--eval-every 0") == std::vector<int>{8});
    CHECK(at("--eval-every 3 --save-every 2 --keep 9") == std::vector<int>{3, 6, 8});
    for (const char* step : {"2", "4", "6"})
        CHECK(fs::exists(s / (std::string("r/checkpoint-") + step + ".safetensors")));
    CHECK_FALSE(fs::exists(s / "r/checkpoint-3.safetensors"));
    check_one_line(run(s, begin + "--eval-every -1"), 2, "--eval-every");
    // a part of the run
    REQUIRE(run(s, program("train") + " --resume r --epochs 3").status == 0);
    CHECK(evaluated_after(s / "r/metrics.jsonl") == std::vector<int>{3, 6, 8, 9, 12});
}

TEST_CASE("train: a run goes on in another folder, and the first stays as it is") {
    const TempDir s;
    write_classes(s / "set", 4);
    REQUIRE(run(s, program("train") + kCifar + "--data folder:set --epochs 1 --out r").status == 0);
    const std::string weights = slurp(s / "r/checkpoint.safetensors"),
                      log = slurp(s / "r/metrics.jsonl");
    const std::string best = slurp(s / "r/best.safetensors");
    const Result r = run(s, program("train") + " --resume r --out n --epochs 2 --lr 0.001");
    INFO(r.out << r.err);
    REQUIRE(r.status == 0);
    CHECK(has(r.out, "resumed at step 4 of 8"));
    CHECK(
        has(r.out,
            "notice  r/checkpoint.safetensors was made with --lr 0.002; from here on it is 0.001"));
    CHECK(slurp(s / "r/checkpoint.safetensors") == weights);
    CHECK(slurp(s / "r/metrics.jsonl") == log);
    CHECK(slurp(s / "r/best.safetensors") == best);
    CHECK(step_of(s / "n/checkpoint.safetensors") == "8");
    CHECK(fs::exists(s / "n/best.safetensors"));
    const auto steps = lines_of(s / "n/metrics.jsonl", "step");
    REQUIRE(steps.size() == 8);  // the log of all of it
    CHECK(steps[3] == lines_of(s / "r/metrics.jsonl", "step")[3]);
    CHECK(steps[4].at("lr") == 0.001);
    // The new folder is a run of its own, from its first moment on.
    REQUIRE(run(s, program("train") + " --resume n --epochs 3").status == 0);
    CHECK(step_of(s / "n/checkpoint.safetensors") == "12");
    check_one_line(run(s, program("train") + " --resume r --out n --epochs 2"), 1,
                   "n holds a run of cifar, at step 12");
    check_one_line(run(s, program("train") + " --resume r --out r/ --overwrite"), 2,
                   "leave one away");
    CHECK(run(s, program("train") + " --resume r --out n --overwrite --epochs 2").status == 0);
    // its own folder
    CHECK(run(s, program("train") + " --resume r/ --out ./r --epochs 2").status == 0);
    CHECK(step_of(s / "r/checkpoint.safetensors") == "8");
    // As a run that was never parted from it.
    REQUIRE(run(s, program("train") + kCifar + "--data folder:set --epochs 1 --out a").status == 0);
    REQUIRE(run(s, program("train") + " --resume a --out b --epochs 2").status == 0);
    CHECK(same_tensors(s / "b/checkpoint.safetensors", s / "r/checkpoint.safetensors"));
}

TEST_CASE(
    "train: a loss far above chance is warned of once, and nobody is told to do what they do") {
    const TempDir s;
    const std::string begin = program("train") +
                              " --net mini --gpus 0 --batch 2 --data synthetic:5 --lr-policy "
                              "constant --overwrite --out r ";
    const Result high = run(s, begin + "--lr 0.01 --init paper --std 1,1,1 --steps 40");
    INFO(high.out << high.err);
    CHECK(has(high.err,
              "far above that of guessing among 5 classes (ln 5 = 1.609): lower --lr (0.01 now)"));
    CHECK(high.err.find("warning") == high.err.rfind("warning"));
    CHECK(high.error_lines() <= 2);
    const Result sound = run(s, begin + "--lr 0.0005 --steps 30");
    CHECK_MESSAGE(sound.err.empty(), sound.err);
    for (const auto& [init, advised] : {std::pair{"he", false}, {"paper", true}}) {
        const Result r = run(s, begin + "--lr 1000 --steps 30 --init " + init);
        INFO(r.err);
        CHECK(r.status == 1);
        CHECK(has(r.err, "the loss is not finite at step "));
        CHECK(has(r.err, "--init he") == advised);
    }
}

TEST_CASE("train: --timeline is looked at before the work, and ends no training") {
    const TempDir s;
    write_classes(s / "set", 4);
    const std::string begin = program("train") + kCifar + "--data folder:set --overwrite --out r ";
    check_one_line(run(s, begin + "--steps 2 --timeline nowhere/x.svg"), 1,
                   "cannot write nowhere/x.svg: No such file or directory");
    CHECK_FALSE(fs::exists(s / "r"));
    fs::create_directory(s / "x.json");
    check_one_line(run(s, begin + "--steps 2 --timeline x.svg"), 1,
                   "cannot write x.json: not a regular file (a folder)");
    const Result none = run(s, begin + "--steps 0 --timeline y.svg");
    CHECK(has(none.out, "notice  --timeline: no step is run, so none is drawn"));
    CHECK_FALSE(fs::exists(s / "y.svg"));
    // It can be opened, and no byte can be written.
    fs::create_symlink("/dev/full", s / "y.svg");
    const Result r = run(s, begin + "--steps 4 --timeline y.svg");
    INFO(r.out << r.err);
    CHECK(r.status == 0);
    CHECK(has(r.err, "warning: --timeline: cannot write y.svg"));
    CHECK(step_of(s / "r/checkpoint.safetensors") == "4");
}

TEST_CASE("train: an epoch of synthetic images is as many steps, whatever the batch") {
    const TempDir s;
    std::vector<std::string> results;
    for (const char* batch : {"1", "8"}) {
        const Result r = run(s, program("train") +
                                    " --net cifar --data synthetic:4 --gpus 0 --steps 2 --lr 0 "
                                    "--overwrite --out r --batch " +
                                    batch);
        INFO(r.out << r.err);
        REQUIRE(r.status == 0);
        CHECK(lines_of(s / "r/metrics.jsonl", "step").back().at("epoch") == 0.002);
        // The held-out images are the same: so is what weights that never moved make of them, but
        // for what they are normalised by, which comes from the first.
        const Result e =
            run(s, program("train") +
                       " --eval-only --gpus 0 --init r/checkpoint.safetensors --batch " + batch);
        CHECK(has(e.out, "(256 images)"));
    }
}

TEST_CASE("train and summary: defaults, kinds of data and sizes are those of what is asked about") {
    const TempDir s;
    const std::string help = run(s, program("train") + " --help").out;
    for (const char* part :
         {"=mini", "=fashion-mnist", "--epochs INT:from 0 to 1000000=2", "=64",
          "--lr-policy TEXT=linear", "=runs/NET", "--seed UINT=1", "--keep INT:from 1 to 1000000=1",
          "--augment TEXT:{none,crop,full}=crop", "--init TEXT=he"})
        CHECK_MESSAGE(has(help, part), part);
    const std::string other = run(s, program("train") + " --net alexnet --help").out;
    for (const char* part :
         {"=alexnet", "--data TEXT=synthetic", "=90", "=128", "--lr-policy TEXT=plateau",
          "--augment TEXT:{none,crop,full}=full", "--init TEXT=paper"})
        CHECK_MESSAGE(has(other, part), part);
    write_classes(s / "set", 2);
    check_one_line(run(s, program("train") + kCifar + "--data set"), 2,
                   "--data set: a folder is given with its kind: --data folder:set");
    write_idx_set(s / "idx", 4, 2);
    check_one_line(run(s, program("train") + kCifar + "--data idx"), 2, "--data mnist:idx");
    const Result own = run(s, program("train") + kCifar + "--data folder:set --steps 1 --out r");
    CHECK_MESSAGE(has(own.out, "2 classes, stored at their own size, 32"), own.out);
    CHECK_FALSE(has(own.out, "resized"));

    CHECK(has(run(s, program("summary") + " cifar").out, "1x1x10 "));
    CHECK(has(run(s, program("summary") + " alexnet").out, "62,378,344"));
    CHECK(has(run(s, program("summary") + " alexnet --classes 7").out, "1x1x7 "));
    const Result file = run(s, program("summary") + " r/checkpoint.safetensors");
    INFO(file.out << file.err);
    for (const char* part :
         {"of cifar, at step 1, 2 images a step", "classes  2 classes (ant, bee)",
          "setting  --lr 0.002", "stored at 32, in colour", "1x1x2 "})
        CHECK_MESSAGE(has(file.out, part), part);
    check_one_line(run(s, program("summary") + " r/checkpoint.safetensors --classes 7"), 2,
                   "has its own");
    check_one_line(run(s, program("summary") + " gone.safetensors"), 1, "gone.safetensors");
}
