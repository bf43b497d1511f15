// How a run stops: on every signal that asks for it, with a checkpoint, wherever it is, and also
// where nobody can be told any more.
#include <doctest/doctest.h>

#include <pty.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "test/data_files.h"
#include "test/training.h"

namespace fs = std::filesystem;
using namespace wt;
using namespace wt::test;

namespace {

// The command in the background; when `ready` holds (a shell's condition), `then`, which may use
// $pid. Its status is the command's.
Result disturbed(const TempDir& s, const std::string& command, const std::string& ready,
                 const std::string& then) {
    return run(s, command + " & pid=$!; n=0; until " + ready +
                      " || ! kill -0 $pid 2>/dev/null || [ $n -ge 6000 ]; do "
                      "sleep 0.1; n=$((n+1)); done; " +
                      then + "; wait $pid");
}

// That so many steps are in the run's log, as a shell asks it.
std::string steps(const std::string& out, int n) {
    return "grep -q '\"step\":" + std::to_string(n) + ",.*\"loss\"' " + out +
           "/metrics.jsonl 2>/dev/null";
}

const std::string kEndless = "--steps 1000000 --gpus 0 --lr 0.0001 --out r";

int step_of(const std::string& path) {
    return std::stoi(SafetensorsFile::open(path).metadata().at("step"));
}

std::vector<nlohmann::json> lines_of(const std::string& path, const std::string& kind) {
    std::vector<nlohmann::json> all;
    std::ifstream log(path);
    for (std::string line; std::getline(log, line);)
        if (auto j = nlohmann::json::parse(line); j["kind"] == kind) {
            j.erase("seconds"), j.erase("images_per_s"), j.erase("input_wait");
            all.push_back(j);
        }
    return all;
}

std::map<std::string, std::string> metadata(const std::string& path) {
    auto m = SafetensorsFile::open(path).metadata();
    m.erase("seconds"), m.erase("arguments"), m.erase("command");
    return m;
}

// It stopped by itself, with a checkpoint, from which it goes on.
void check_stopped(const TempDir& s, const Result& r, int status) {
    INFO(r.out << r.err);
    CHECK(r.status == status);
    REQUIRE(fs::exists(s / "r/checkpoint.safetensors"));
    CHECK_FALSE(fs::exists(s / "r/lock"));
    const std::string next = std::to_string(step_of(s / "r/checkpoint.safetensors") + 1);
    CHECK(run(s, program("train") + " --resume r --steps " + next).status == 0);
}

}  // namespace

TEST_CASE("stop: SIGINT, SIGTERM and SIGHUP end the step, write a checkpoint, say how to go on") {
    for (const auto& [name, status] : {std::pair{"INT", 130}, {"TERM", 143}, {"HUP", 129}}) {
        const TempDir s;
        // Twice at once, as `timeout` does it: one event.
        const std::string twice = std::string("kill -") + name + " $pid; kill -" + name + " $pid";
        const Result r = disturbed(s, train(kEndless), steps("r", 2), twice);
        CHECK(has(r.out, "interrupted at step "));
        CHECK(has(r.out, "go on with: bin/train --resume r\n"));
        CHECK(r.err.empty());
        check_stopped(s, r, status);
    }
}

TEST_CASE("stop: a second signal ends it at once, but for what a closing terminal sends twice") {
    const TempDir s;
    // Steps of some seconds, of which one is always behind the one that runs.
    const std::string slow =
        train("--net alexnet --data synthetic --batch 96 --steps 1000000 --gpus 0 --out r ");
    const auto signals = [&](const std::string& first, const std::string& second) {
        fs::remove_all(s / "r");
        return disturbed(s, slow, steps("r", 1),
                         "kill -" + first +
                             " $pid; sleep 0.3; kill -HUP $pid; sleep 0.5; "
                             "kill -0 $pid && echo there; kill -" +
                             second + " $pid");
    };
    const Result a = signals("INT", "TERM");
    CHECK(has(a.out, "there\n"));
    CHECK(a.status == 143);
    const Result b = signals("HUP", "INT");
    CHECK(has(b.out, "there\n"));
    CHECK(b.status == 130);
    CHECK_FALSE(fs::exists(s / "r/checkpoint.safetensors"));
}

TEST_CASE("stop: a closed terminal costs no step, and nohup is heeded") {
    const TempDir s;
    int terminal = -1;
    const std::string command = "cd " + s.path() + " && exec " + train(kEndless);
    const pid_t pid = forkpty(&terminal, nullptr, nullptr, nullptr);
    REQUIRE(pid >= 0);
    if (pid == 0) {
        signal(SIGHUP, SIG_DFL);
        execl("/bin/sh", "sh", "-c", command.c_str(), nullptr);
        _exit(127);
    }
    // Takes what is written, until two steps are done.
    for (char bytes[4096]; read(terminal, bytes, sizeof bytes) > 0;)
        if (lines_of(s / "r/metrics.jsonl", "step").size() >= 2) break;
    close(terminal);
    int status = 0;
    CHECK(waitpid(pid, &status, 0) == pid);
    Result r;
    r.status = WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    check_stopped(s, r, 128 + SIGHUP);

    fs::remove_all(s / "r");
    const Result on = disturbed(s, "trap '' HUP; " + train("--steps 12 --gpus 0 --out r"),
                                steps("r", 2), "kill -HUP $pid");
    CHECK(on.status == 0);
    CHECK(step_of(s / "r/checkpoint.safetensors") == 12);
}

TEST_CASE("stop: a run whose output nobody reads any more stops with a checkpoint") {
    const TempDir s;
    const Result r = run(s, "bash -c '" + train(kEndless) + " | head -n 1; exit ${PIPESTATUS[0]}'");
    CHECK(has(r.err, "interrupted at step "));
    CHECK(has(r.err, "--resume r"));
    check_stopped(s, r, 128 + SIGPIPE);
}

TEST_CASE("stop: before the first step it ends at once, and the run that was there is whole") {
    const TempDir s;
    REQUIRE(run(s, train("--steps 2 --gpus 0 --out r")).status == 0);
    const std::string before = slurp(s / "r/checkpoint.safetensors");
    const std::string log = slurp(s / "r/metrics.jsonl");
    // Measuring kernels takes long, and comes before anything else.
    const std::string measures =
        "XDG_CACHE_HOME=$PWD " + train("--steps 1 --kernels tune,own --overwrite --gpus 0 --out r");
    for (const auto& [name, status] : {std::pair{"TERM", 143}, {"HUP", 129}}) {
        const Result r = disturbed(s, measures, "grep -q ^tuned out.txt",
                                   std::string("kill -") + name + " $pid");
        CHECK(r.status == status);
        CHECK_FALSE(has(r.out, "trained "));
        CHECK(slurp(s / "r/checkpoint.safetensors") == before);
        CHECK(slurp(s / "r/metrics.jsonl") == log);
    }
    CHECK(run(s, program("train") + " --resume r --steps 3").status == 0);
}

TEST_CASE("stop: an evaluation cut short counts for nothing, and is done when the run goes on") {
    const TempDir s;
    write_idx_set(s / "set", 40, 10);
    // Held out: many, so that it takes seconds.
    const int n = 3000;
    for (const char* name : {"set/t10k-images-idx3-ubyte.gz", "set/t10k-labels-idx1-ubyte.gz"})
        fs::remove(s / name);
    write_file(s / "set/t10k-images-idx3-ubyte", idx_images(n, 28, 28));
    write_file(s / "set/t10k-labels-idx1-ubyte", idx_labels(n));
    const auto command = [&](const std::string& out) {
        return program("train") +
               " --net mini --data mnist:set --gpus 0 --batch 4 --epochs 2 "
               "--lr 0.0001 --lr-policy plateau --out " +
               out;
    };
    REQUIRE(run(s, command("whole")).status == 0);
    const auto stop = [&](const std::string& line, int after) {
        // The log may have the step of before: the program itself must be up.
        const Result r = disturbed(s, line, steps("r", after) + " && grep -q ^batch out.txt",
                                   "sleep 0.3; kill -TERM $pid");
        INFO(r.out << r.err);
        CHECK(r.status == 143);
        CHECK(has(r.out, "interrupted at step " + std::to_string(after) +
                             ", before its evaluation; go on with: "));
        CHECK(step_of(s / "r/checkpoint.safetensors") == after);
        CHECK(lines_of(s / "r/metrics.jsonl", "done").empty());
        return lines_of(s / "r/metrics.jsonl", "eval").size();
    };
    CHECK(stop(command("r"), 10) == 0);
    CHECK(stop(program("train") + " --resume r", 10) == 0);  // again, in that same one
    CHECK(metadata(s / "r/checkpoint.safetensors").at("evaluation_due") == "1");
    CHECK(stop(program("train") + " --resume r", 20) == 1);
    REQUIRE(run(s, program("train") + " --resume r").status == 0);
    CHECK(lines_of(s / "r/metrics.jsonl", "step") == lines_of(s / "whole/metrics.jsonl", "step"));
    CHECK(lines_of(s / "r/metrics.jsonl", "eval") == lines_of(s / "whole/metrics.jsonl", "eval"));
    for (const std::string name : {"/checkpoint.safetensors", "/best.safetensors"}) {
        CHECK(same_tensors(s / ("r" + name), s / ("whole" + name)));
        CHECK(metadata(s / ("r" + name)) == metadata(s / ("whole" + name)));
    }
    // Evaluating alone has nothing to save.
    const std::string before = slurp(s / "whole/checkpoint.safetensors");
    const Result e = disturbed(s, program("train") + " --resume whole --eval-only", "sleep 0.5",
                               "kill -TERM $pid");
    CHECK(e.status == 143);
    CHECK_FALSE(has(e.out, "top-1 error"));
    CHECK(slurp(s / "whole/checkpoint.safetensors") == before);
}
