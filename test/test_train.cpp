// bin/train as its users meet it: runs, resumes, survives, and answers bad input with one line.
#include <doctest/doctest.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "test/data_files.h"
#include "test/training.h"

namespace fs = std::filesystem;
using namespace wt;
using test::check_one_line;
using test::program;
using test::Result;
using test::run;
using test::same_tensors;
using test::slurp;
using test::spit;
using test::TempDir;
using test::train;

namespace {

// Starts the command, waits for `file` to be there (a minute at most) and a little longer, sends
// the signal. The status is the command's own.
Result interrupted(const TempDir& s, const std::string& command, const char* signal,
                   const std::string& file) {
    return run(s, command + " & pid=$!; n=0; while [ ! -s " + file +
                      " ] && [ $n -lt 600 ]; do sleep 0.1; n=$((n+1)); done; sleep 0.3; kill -" +
                      signal + " $pid; wait $pid");
}

}  // namespace

TEST_CASE("train: a run leaves a log and a checkpoint; two workers on one device too") {
    const TempDir s;
    for (const char* gpus : {"0", "0,0"}) {
        const Result r = run(s, train(std::string("--steps 4 --out r --gpus ") + gpus));
        INFO(r.err);
        REQUIRE(r.status == 0);
        std::ifstream log(s / "r/metrics.jsonl");
        int steps = 0, evals = 0, dones = 0;
        for (std::string line; std::getline(log, line);) {
            const auto j = nlohmann::json::parse(line);
            if (j["kind"] == "step") {
                ++steps;
                CHECK(j["step"] == steps);
                CHECK(j["loss"].get<double>() > 0);
                CHECK(j["images_per_s"].get<double>() > 0);
                for (const char* key : {"epoch", "lr", "seconds"}) CHECK(j.contains(key));
            } else if (j["kind"] == "eval") {
                ++evals;
                for (const char* key : {"split", "loss", "top1_error", "top5_error", "images"})
                    CHECK(j.contains(key));
                CHECK(j["top1_error"].get<double>() <= 100);
            } else if (j["kind"] == "done") {
                ++dones;
            }
        }
        CHECK(steps == 4);
        CHECK(evals == 1);
        CHECK(dones == 1);
        const auto c = SafetensorsFile::open(s / "r/checkpoint.safetensors");
        CHECK(c.shape("conv1.weight") == std::vector<int64_t>{48, 3, 11, 11});
        CHECK(c.shape("fc8.bias") == std::vector<int64_t>{10});
        fs::remove_all(s / "r");
    }
}

TEST_CASE("train: a resumed run is bit for bit the one that was not stopped") {
    const TempDir s;
    REQUIRE(run(s, train("--steps 6 --out whole")).status == 0);
    REQUIRE(run(s, train("--steps 3 --out parts")).status == 0);
    const Result r = run(s, program("train") + " --resume parts --steps 6");
    INFO(r.err);
    REQUIRE(r.status == 0);
    CHECK(same_tensors(s / "whole/checkpoint.safetensors", s / "parts/checkpoint.safetensors"));
    const auto step_lines = [&](const char* file) {
        std::ifstream log(s / file);
        std::vector<std::pair<int, double>> lines;
        for (std::string line; std::getline(log, line);) {
            const auto j = nlohmann::json::parse(line);
            if (j["kind"] == "step")
                lines.emplace_back(j["step"].get<int>(), j["loss"].get<double>());
        }
        return lines;
    };
    CHECK(step_lines("whole/metrics.jsonl") == step_lines("parts/metrics.jsonl"));
}

TEST_CASE("train: --timeline draws one step of every worker, and changes nothing") {
    const TempDir s;
    REQUIRE(run(s, train("--steps 4 --graph on --gpus 0,0 --out plain")).status == 0);
    const Result r =
        run(s, train("--steps 4 --graph on --gpus 0,0 --out drawn --timeline picture.svg"));
    INFO(r.err);
    REQUIRE(r.status == 0);
    CHECK(same_tensors(s / "plain/checkpoint.safetensors", s / "drawn/checkpoint.safetensors"));
    CHECK(r.out.find("step 3: ") != std::string::npos);
    CHECK(r.out.find(" not hidden") != std::string::npos);
    CHECK(r.out.find(" MiB sent; wrote ") != std::string::npos);
    CHECK(r.out.find("wrote picture.svg and picture.json") != std::string::npos);
    const std::string svg = slurp(s / "picture.svg");
    CHECK(svg.find("<svg") == 0);
    for (const char* name : {"conv2.wgrad", "fc6.fprop", "update", "input.augment",
                             "mini, batch 4 a worker, fp32, step 3"})
        CHECK_MESSAGE(svg.find(name) != std::string::npos, name);
    const auto j = nlohmann::json::parse(slurp(s / "picture.json"));
    const double ms = j.at("otherData").at("step_ms");
    // Kernels of one worker's first stream come one after the other, in the step.
    for (const int worker : {0, 1}) {
        double last = 0, exchanged = 0;
        int layers = 0, lane = -1;
        for (const auto& e : j.at("traceEvents")) {
            if (e.at("pid") != worker) continue;
            if (e.at("name") == "thread_name" && e.at("args").at("name") == "compute")
                lane = e.at("tid");
            if (e.at("ph") != "X") continue;
            const double start = e.at("ts").get<double>() / 1e3,
                         end = start + e.at("dur").get<double>() / 1e3;
            CHECK(start >= 0);
            CHECK(end <= ms + 1e-3);
            if (e.at("cat") == "exchange") exchanged += end - start;
            if (e.at("tid") != lane) continue;
            CHECK(start >= last - 1e-3);
            last = end;
            layers += e.at("name") == "conv1.wgrad" || e.at("name") == "fc8.dgrad";
        }
        CHECK(layers == 2);
        CHECK(exchanged > 0);
        CHECK(exchanged < 2 * ms);
    }
    // One step only: it is that one. And the flag is not part of the run.
    REQUIRE(run(s, train("--steps 1 --gpus 0 --out one --timeline one.svg")).out.find("step 1: ") !=
            std::string::npos);
    CHECK(SafetensorsFile::open(s / "one/checkpoint.safetensors")
              .metadata()
              .at("arguments")
              .find("timeline") == std::string::npos);
    check_one_line(run(s, train("--out r --timeline picture.png")), 2,
                   "--timeline picture.png: must be a file that ends in .svg");
}

TEST_CASE(
    "train: after kill -9 the last checkpoint is whole, and the run goes on to the same end") {
    const TempDir s;
    // Saving after every step makes it likely that the kill comes during a save.
    const Result killed = interrupted(s, train("--steps 100000 --save-every 1 --out parts"), "KILL",
                                      "parts/checkpoint.safetensors");
    CHECK(killed.status == 128 + SIGKILL);
    const int step =
        std::stoi(SafetensorsFile::open(s / "parts/checkpoint.safetensors").metadata().at("step"));
    const std::string end = std::to_string(step + 3);
    const Result r = run(s, program("train") + " --resume parts --steps " + end);
    INFO(r.err);
    REQUIRE(r.status == 0);
    REQUIRE(run(s, train("--out whole --steps " + end)).status == 0);
    CHECK(same_tensors(s / "whole/checkpoint.safetensors", s / "parts/checkpoint.safetensors"));
}

TEST_CASE("train: Ctrl-C writes a checkpoint and exits 130; the run goes on from there") {
    const TempDir s;
    const Result r = interrupted(s, train("--steps 100000 --out r"), "INT", "r/metrics.jsonl");
    INFO(r.err);
    CHECK(r.status == 130);
    CHECK(r.out.find("--resume r") != std::string::npos);
    REQUIRE(fs::exists(s / "r/checkpoint.safetensors"));
    const int step =
        std::stoi(SafetensorsFile::open(s / "r/checkpoint.safetensors").metadata().at("step"));
    CHECK(step > 0);
    CHECK(run(s, program("train") + " --resume r --steps " + std::to_string(step + 1)).status == 0);
}

TEST_CASE("train: bad command lines are one line and exit 2") {
    const TempDir s;
    check_one_line(run(s, program("train") + " --net alexnett"), 2, "nearest is alexnet");
    check_one_line(run(s, program("train") + " --bacth 3"), 2, "--batch");
    check_one_line(run(s, train("--gpus 7")), 2, "unknown GPU 7");
    check_one_line(run(s, train("--gpus 0,x")), 2, "--gpus 0,x");
    check_one_line(run(s, train("--batch 0")), 2, "--batch");
    check_one_line(run(s, train("--batch many")), 2, "--batch");
    check_one_line(run(s, train("--lr-policy cosin")), 2, "--lr-policy cosin");
    check_one_line(run(s, train("--kernels conv2.wgrad=nope")), 2, "unknown variant 'nope'");
    check_one_line(run(s, train("--mean 1,2")), 2, "--mean 1,2");
    check_one_line(run(s, train("--data nothing:x")), 2, "nothing");
    check_one_line(run(s, train("--init nowhere.safetensors")), 2, "nowhere.safetensors");
    check_one_line(run(s, train("--gpus 0,0 --fc-scheme dp --fc-split alternate")), 2,
                   "--fc-split alternate: --fc-scheme dp splits no layer");
    check_one_line(run(s, train("--eval-only")), 2, "--eval-only needs weights");
    for (const char* flag :
         {"--out", "--resume", "--init", "--data", "--mean", "--kernels", "--timeline"})
        check_one_line(run(s, train(std::string(flag) + " ''")), 2,
                       std::string(flag) + ": must not be empty");
    // Before any data are looked for.
    check_one_line(run(s, train("--data folder:missing --lr-policy cosin")), 2,
                   "--lr-policy cosin");
    check_one_line(run(s, train("--data folder:missing --kernels fast")), 2, "--kernels fast");
    spit(s / "file", "x");
    check_one_line(run(s, train("--resume file")), 2,
                   "--resume file: that is a file; give the run's folder");
    check_one_line(run(s, program("summary") + " alexnett"), 2, "nearest is alexnet");
    CHECK(run(s, program("train") + " --help").status == 0);
    CHECK(run(s, program("train") + " --help").err.empty());
}

TEST_CASE("train: what the files and the machine refuse is one line and exit 1") {
    const TempDir s;
    check_one_line(run(s, train("--data folder:missing")), 1, "missing");
    REQUIRE(
        run(s,
            "mkdir idx && printf 'not gzip' > idx/train-images-idx3-ubyte && cp idx/train-images-idx3-ubyte idx/train-labels-idx1-ubyte")
            .status == 0);
    check_one_line(run(s, train("--data mnist:idx")), 1, "idx/");
    REQUIRE(
        run(s,
            "mkdir -p f/train/empty f/train/full && cp idx/train-images-idx3-ubyte f/train/full/text.jpg")
            .status == 0);
    check_one_line(run(s, train("--data folder:f")), 1, "empty");
    test::write_idx_set(s / "small", 40, 10);
    check_one_line(run(s, train("--data mnist:small --batch 50")), 1, "--batch");
    check_one_line(run(s, train("--resume missing")), 1, "missing");
    check_one_line(run(s, "VGPU_MEMORY=8M " + train("--gpus 0 --out oom")), 1,
                   "out of memory on GPU 0: mini at batch 4 needs");

    REQUIRE(run(s, train("--steps 1 --out r")).status == 0);
    check_one_line(run(s, program("train") + " --resume r --net cifar"), 1,
                   "was made with --net mini, and --net cifar contradicts it");
    check_one_line(
        run(s,
            program("train") +
                " --net cifar --data synthetic:10 --init r/checkpoint.safetensors --steps 1 --out c"),
        1, "was made with --net mini, and --net cifar contradicts it");
    check_one_line(run(s, program("train") + " --resume r --batch 8"), 1, "images a step");
    {  // products that no float holds, and then a weight that is none
        const auto file = SafetensorsFile::open(s / "r/checkpoint.safetensors");
        std::vector<std::vector<float>> values;
        std::vector<NamedTensor> tensors;
        for (const auto& n : file.names()) {
            values.push_back(file.read(n));
            if (n == "fc8.weight") std::fill(values.back().begin(), values.back().end(), 3e38f);
            tensors.push_back({n, file.shape(n), values.back().data()});
        }
        write_safetensors(s / "nan.safetensors", tensors);
        check_one_line(run(s, train("--steps 4 --init nan.safetensors --out nan")), 1,
                       "the loss is not finite at step 1");
        for (size_t i = 0; i < tensors.size(); ++i)
            if (tensors[i].name == "fc8.bias") values[i][3] = NAN;
        write_safetensors(s / "nan.safetensors", tensors);
        check_one_line(run(s, train("--steps 4 --init nan.safetensors --out nan")), 1,
                       "has a value that is not finite, element 3");
    }
    // A full disk: no file may grow beyond 2 MB. The checkpoint that was there stays.
    const std::string before = slurp(s / "r/checkpoint.safetensors");
    check_one_line(
        run(s, "trap '' XFSZ; ulimit -f 2000; " + program("train") + " --resume r --steps 2"), 1,
        "r/checkpoint.safetensors");
    CHECK(slurp(s / "r/checkpoint.safetensors") == before);
    for (const auto& f : fs::directory_iterator(s / "r"))
        CHECK(f.path().filename().string().find("tmp") == std::string::npos);
    // Half a checkpoint is recognised.
    std::ofstream(s / "r/checkpoint.safetensors", std::ios::binary)
        << before.substr(0, before.size() / 2);
    check_one_line(run(s, program("train") + " --resume r --steps 2"), 1,
                   "r/checkpoint.safetensors");
}

TEST_CASE("train: a loss that stays at ln(classes) is warned of once") {
    const TempDir s;
    const Result r = run(
        s,
        program("train") +
            " --net cifar --data synthetic:10 --batch 2 --gpus 0 --init paper --lr 0 --steps 220 --out r");
    CHECK(r.status == 0);
    CHECK(r.err.find("that of guessing among 10 classes") != std::string::npos);
    CHECK(r.err.find("--init he") != std::string::npos);
}

TEST_CASE("train: weights given as a file are those that are trained, and can be evaluated") {
    const TempDir s;
    REQUIRE(run(s, train("--steps 2 --out a")).status == 0);
    REQUIRE(run(s, train("--steps 1 --lr 0 --init a/checkpoint.safetensors --out b")).status == 0);
    const auto a = SafetensorsFile::open(s / "a/checkpoint.safetensors"),
               b = SafetensorsFile::open(s / "b/checkpoint.safetensors");
    for (const char* name : {"conv1.weight", "conv3.bias", "fc6.weight", "fc8.weight"})
        CHECK(a.read(name) == b.read(name));
    const Result e = run(s, program("train") + " --resume a --eval-only");
    CHECK(e.status == 0);
    CHECK(e.out.find("top-1 error") != std::string::npos);
}
