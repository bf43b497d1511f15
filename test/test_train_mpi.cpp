// bin/train as several processes under mpirun: the same weights as with threads, stops, losses and
// resumption.
#include <doctest/doctest.h>
#include <signal.h>

#include <chrono>
#include <nlohmann/json.hpp>

#include "test/data_files.h"
#include "test/mpi.h"
#include "test/training.h"

namespace fs = std::filesystem;
using namespace wt;
using namespace wt::test;

namespace {

// Our own kernels: oneDNN's sums depend on how many cores a process has.
std::string train_own(const std::string& flags) { return train("--kernels own " + flags); }

std::string step_of(const std::string& checkpoint) {
    return SafetensorsFile::open(checkpoint).metadata().at("step");
}

// Starts the command in the background, waits until a shell's condition holds (or it has ended),
// runs `then`, which may use $pid, the command's, and $rank0 and $rank1, the ranks', and ends as
// the command does.
Result disturbed_when(const TempDir& s, const std::string& command, const std::string& ready,
                      const std::string& then) {
    const std::string wait = "n=0; until " + ready +
                             " || ! kill -0 $pid 2>/dev/null || [ $n -ge 6000 ]; do "
                             "sleep 0.1; n=$((n+1)); done; ";
    const std::string find =
        "for r in 0 1; do for e in /proc/[0-9]*/environ; do "
        "if grep -qzx WT_TEST_JOB=$PWD $e && "
        "grep -qzx OMPI_COMM_WORLD_RANK=$r $e; then "
        "p=${e#/proc/}; eval rank$r=${p%/environ}; fi; "
        "done; done 2>/dev/null; ";
    return run(s, "export WT_TEST_JOB=$PWD; " + command + " & pid=$!; " + wait + find + then +
                      "; wait $pid");
}

// Starts the command in the background, waits until the run in `out` has saved its first checkpoint
// and a step more is under way, runs `then` (which may use $pid, the command's, and $rank1, the
// process that rank 1 is), and ends as the command does.
Result disturbed(const TempDir& s, const std::string& command, const std::string& out,
                 const std::string& then) {
    return disturbed_when(s, command, "[ -s " + out + "/checkpoint.safetensors ]",
                          "sleep 0.2; " + then);
}

std::vector<nlohmann::json> lines_of(const std::string& path, const char* kind) {
    std::vector<nlohmann::json> all;
    std::ifstream log(path);
    for (std::string line; std::getline(log, line);) {
        const auto j = nlohmann::json::parse(line);
        if (j["kind"] == kind) all.push_back(j);
    }
    return all;
}

}  // namespace

TEST_CASE(
    "train with mpirun: two processes train what two threads do, bit for bit; rank 0 writes") {
    const TempDir s;
    for (const std::string scheme : {"a", "c"}) {
        if (kSanitized && scheme == "a") continue;
        const std::string flags =
            "--steps 5 --save-every 2 --keep 2 --fc-scheme " + scheme + " --out ";
        REQUIRE(run(s, train_own(flags + "threads --gpus 0,1")).status == 0);
        const Result r = run(s, mpirun(2) + train_own(flags + "mpi --comm mpi"));
        INFO(r.out << r.err);
        REQUIRE(r.status == 0);
        for (const char* name : {"checkpoint", "checkpoint-4", "best"}) {
            const std::string file = std::string("/") + name + ".safetensors";
            CHECK(same_tensors(s / ("threads" + file), s / ("mpi" + file)));
            CHECK(step_of(s / ("mpi" + file)) == (name == std::string("checkpoint-4") ? "4" : "5"));
        }
        CHECK_FALSE(fs::exists(s / "mpi/checkpoint-2.safetensors"));
        CHECK_FALSE(fs::exists(s / "mpi/lock"));
        CHECK(count(r.out, "best    top-1 error ") == 1);
        CHECK(count(r.out, "trained 5 steps") == 1);
        CHECK(count(r.out, "2 processes: 2 on machine ") == 1);
        CHECK(r.out.find("link 1 -> 0: messages, ") != std::string::npos);
        const auto a = lines_of(s / "threads/metrics.jsonl", "step"),
                   b = lines_of(s / "mpi/metrics.jsonl", "step");
        REQUIRE(a.size() == 5);
        REQUIRE(b.size() == 5);
        for (size_t i = 0; i < 5; ++i) CHECK(a[i]["loss"] == b[i]["loss"]);
        // Where a submission takes as long as the step, the last one has its share of the time too.
        for (size_t i = 0; i < 5; ++i)
            CHECK(b[i]["images_per_s"].get<double>() < 20 * b[0]["images_per_s"].get<double>());
        const auto x = lines_of(s / "threads/metrics.jsonl", "eval"),
                   y = lines_of(s / "mpi/metrics.jsonl", "eval");
        REQUIRE(x.size() == 1);
        REQUIRE(y.size() == 1);
        for (const char* key : {"loss", "top1_error", "top5_error", "images"})
            CHECK(x[0][key] == y[0][key]);
        // What processes have written, threads go on with, and the other way round.
        REQUIRE(run(s, program("train") + " --resume mpi --gpus 0,1 --steps 7").status == 0);
        REQUIRE(run(s, mpirun(2) + program("train") + " --resume threads --comm mpi --steps 7")
                    .status == 0);
        CHECK(same_tensors(s / "threads/checkpoint.safetensors", s / "mpi/checkpoint.safetensors"));
        fs::remove_all(s / "threads"), fs::remove_all(s / "mpi");
    }
}

TEST_CASE("train with mpirun: batches that add up to a step do so in processes too") {
    const TempDir s;
    const std::string flags =
        "--steps 2 --accumulate 3 --fc-scheme b --overlap on --graph on --out ";
    REQUIRE(run(s, train_own(flags + "threads --gpus 0,1")).status == 0);
    const Result r = run(s, mpirun(2) + train_own(flags + "mpi --comm mpi"));
    INFO(r.out << r.err);
    REQUIRE(r.status == 0);
    CHECK(same_tensors(s / "threads/checkpoint.safetensors", s / "mpi/checkpoint.safetensors"));
}

TEST_CASE(
    "train with mpirun: a rank that is killed, or stops, ends the other with one line, and the run goes on bit for bit") {
    const TempDir s;
    for (const std::string way : {"KILL", "STOP"}) {
        if (kSanitized && way == "STOP") continue;
        const auto start = std::chrono::steady_clock::now();
        const std::string command =
            mpirun(2) +
            train_own("--steps 100000 --save-every 1 --out parts --comm mpi --lost-after 5");
        const Result r = disturbed(s, command, "parts", "kill -" + way + " $rank1");
        INFO(way << ": " << r.out << r.err);
        // with the steps before
        CHECK(std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count() < 60);
        CHECK(r.status != 0);
        CHECK(count(r.err, "train: ") == 1);
        CHECK(r.err.find(way == "KILL"
                             ? " was lost: its process is gone; "
                             : " was lost: no sign of life for 5 s; ") != std::string::npos);
        CHECK(r.err.find("train: rank 1 (process ") != std::string::npos);
        const std::string step = step_of(s / "parts/checkpoint.safetensors"),
                          end = std::to_string(std::stoi(step) + 3);
        // The message may be of a save ago, where the end came between the file's renaming and its
        // being known.
        CHECK((r.err.find("the last whole checkpoint is parts/checkpoint.safetensors, of step " +
                          step + "; ") != std::string::npos ||
               r.err.find("of step " + std::to_string(std::stoi(step) - 1) + "; ") !=
                   std::string::npos));
        CHECK(r.err.find("go on with: mpirun -np 2 bin/train --comm mpi --resume parts") !=
              std::string::npos);
        const Result again =
            run(s, mpirun(2) + program("train") + " --comm mpi --resume parts --steps " + end);
        INFO(again.err);
        REQUIRE(again.status == 0);
        REQUIRE(
            run(s, mpirun(2) + train_own("--comm mpi --out whole --save-every 1 --steps " + end))
                .status == 0);
        CHECK(same_tensors(s / "whole/checkpoint.safetensors", s / "parts/checkpoint.safetensors"));
        fs::remove_all(s / "parts"), fs::remove_all(s / "whole");
    }
}

TEST_CASE(
    "train with mpirun: a stop that one rank or all are asked for comes after the same step everywhere") {
    const TempDir s;
    // mpirun, itself told to end, exits with 1. What a batch system sends to all, ranks get twice.
    for (const auto& [way, status] : {std::pair<std::string, int>{"kill -INT $rank1", 130},
                                      {"kill -TERM $rank1", 143},
                                      {"kill -HUP $rank0", 129},
                                      {"kill -USR1 $pid", 130},
                                      {"kill -TERM $pid", 1},
                                      {"kill -TERM $rank0 $rank1 $pid", 1}}) {
        if (kSanitized && way == "kill -INT $rank1") continue;
        const std::string time = status == 1 ? "--mca odls_base_sigkill_timeout 3 " : "";
        const std::string flags = "--steps 100000 --save-every 1 --out r --comm mpi";
        const Result r = disturbed(s, mpirun(2) + time + train_own(flags), "r", way);
        INFO(way << ": " << r.out << r.err);
        CHECK(r.status == status);
        CHECK(count(r.out, "odls_base_sigkill_timeout") == (status == 1 ? 0 : 1));
        CHECK(count(r.out, "interrupted at step ") == 1);
        CHECK(r.out.find("go on with: mpirun -np 2 bin/train --comm mpi --resume r") !=
              std::string::npos);
        CHECK(count(r.err, "train: ") == 0);
        const int step = std::stoi(step_of(s / "r/checkpoint.safetensors"));
        // One is gone on with where a rank was told and one where mpirun was: these take seconds.
        if (way == "kill -TERM $rank1" || way == "kill -TERM $pid")
            CHECK(run(s, mpirun(2) + program("train") + " --comm mpi --resume r --steps " +
                             std::to_string(step + 1))
                      .status == 0);
        fs::remove_all(s / "r");
    }
}

TEST_CASE("train with mpirun: a stop before the first step, or in an evaluation, is for all") {
    const TempDir s;
    const std::string measures = "XDG_CACHE_HOME=$PWD " + mpirun(2) +
                                 train("--comm mpi --kernels tune,own --steps 1 --out r");
    const Result early = disturbed_when(s, measures, "grep -q ^tuned out.txt", "kill -TERM $rank1");
    INFO(early.out << early.err);
    CHECK(early.status == 143);
    CHECK(count(early.err, "train: ") == 1);
    CHECK(early.err.find("train: stopped by SIGTERM: no step was under way") != std::string::npos);
    CHECK_FALSE(fs::exists(s / "r"));

    write_idx_set(s / "set", 40, 10);
    for (const char* name : {"set/t10k-images-idx3-ubyte.gz", "set/t10k-labels-idx1-ubyte.gz"})
        fs::remove(s / name);
    write_file(s / "set/t10k-images-idx3-ubyte", idx_images(1500, 28, 28));
    write_file(s / "set/t10k-labels-idx1-ubyte", idx_labels(1500));
    const std::string flags =
        " --net mini --kernels own --data mnist:set --batch 2 --epochs 1 --lr 0.0001 ";
    const Result cut =
        disturbed_when(s, mpirun(2) + program("train") + flags + "--comm mpi --out r",
                       "grep -q '\"step\":10,.*\"loss\"' r/metrics.jsonl 2>/dev/null",
                       "sleep 0.2; kill -TERM $rank1");
    INFO(cut.out << cut.err);
    CHECK(cut.status == 143);
    CHECK(count(cut.out, "at step 10, before its evaluation; go on with: mpirun -np 2 ") == 1);
    CHECK(lines_of(s / "r/metrics.jsonl", "eval").empty());
    REQUIRE(run(s, program("train") + " --resume r --gpus 0,1").status == 0);
    REQUIRE(run(s, program("train") + flags + "--gpus 0,1 --out whole").status == 0);
    const auto a = lines_of(s / "r/metrics.jsonl", "eval");
    const auto b = lines_of(s / "whole/metrics.jsonl", "eval");
    REQUIRE(a.size() == 1);
    REQUIRE(b.size() == 1);
    for (const char* key : {"step", "loss", "top1_error", "images"}) CHECK(a[0][key] == b[0][key]);
    CHECK(same_tensors(s / "r/best.safetensors", s / "whole/best.safetensors"));
}

TEST_CASE("train with mpirun: what the user has got wrong is said once") {
    const TempDir s;
    const auto says = [&](const std::string& command, int status, const std::string& part) {
        const Result r = run(s, command);
        INFO(command << ": " << r.status << ": " << r.out << r.err);
        CHECK(r.status == status);
        CHECK(count(r.err, "train: ") == 1);
        CHECK(r.err.find(part) != std::string::npos);
    };
    says(mpirun(2) + train_own("--steps 1"), 2, "give --comm mpi");
    says(mpirun(2) + train_own("--steps 1 --comm mpl"), 2, "must be one of threads, mpi, nccl");
    says(train_own("--steps 1 --comm mpi"), 2, "mpirun -np 2 bin/train --comm mpi");
    says(mpirun(2) + train_own("--steps 1 --comm mpi --gpus 9"), 2, "unknown GPU 9");
    says(mpirun(2) + train_own("--comm mpi --data folder:missing"), 1, "missing");
    says(mpirun(2) + train_own("--comm mpi --resume missing"), 1, "missing");
    REQUIRE(run(s, train_own("--gpus 0 --steps 1 --out r")).status == 0);
    says(mpirun(2) + train_own("--comm mpi --steps 1 --out r"), 1,
         "r holds a run of mini, at step 1");
    says(mpirun(2) + train_own("--comm mpi --resume r --overwrite"), 2, "leave one away");
    says("flock r/lock env " + mpirun(2) + train_own("--comm mpi --resume r"), 1,
         "is at work in it");
    says(mpirun(1) + train_own("--comm mpi --steps 1 --out a") + " : -np 1 " +
             train_own("--comm mpi --steps 2 --out a"),
         1, "command line");
#ifdef VGPU
    says(mpirun(2) + train_own("--steps 1 --comm nccl"), 2, "use --comm mpi");
#endif
}

TEST_CASE(
    "train with mpirun: --peer off is said, and a GPU for which nothing was built ends the job") {
    const TempDir s;
    const Result off = run(s, mpirun(2) + train("--comm mpi --steps 1 --out off --peer off"));
    INFO(off.out << off.err);
    CHECK(off.status == 0);
    CHECK(
        count(
            off.out,
            "notice: --peer off: --comm mpi exchanges through page-locked host memory anyway\n") ==
        1);

    const Result unbuilt = run(s, "VGPU_CAPABILITY=9.0,7.5 timeout 60 env " + mpirun(2) +
                                      train("--comm mpi --steps 1 --out unbuilt"));
    INFO(unbuilt.out << unbuilt.err);
    CHECK(unbuilt.status == 1);
    CHECK(count(unbuilt.err,
                "GPU 1 (virtual GPU 1) has compute capability 7.5, and the kernels were built for "
                "sm_80, sm_90 and") == 1);
    CHECK_FALSE(fs::exists(s / "unbuilt"));
}

TEST_CASE("replicas: processes compare theirs too") {
    const TempDir s;
    const Result r = run(s, mpirun(2) + program("train") +
                                " --comm mpi --net cifar --data synthetic:10 --batch 2 --steps 2 "
                                "--check-replicas 1 --out r");
    CHECK_MESSAGE(r.status == 0, r.err);
}

TEST_CASE("train with mpirun: pictures, --watch and the first bad layer are those of threads") {
    const TempDir s;
    for (const std::string scheme : {"b", "dp"}) {
        if (kSanitized && scheme == "b") continue;
        const std::string flags = "--steps 3 --watch 3 --fc-scheme " + scheme + " --out ";
        REQUIRE(run(s, train_own(flags + "threads --gpus 0,1")).status == 0);
        const Result r = run(s, mpirun(2) + train_own(flags + "mpi --comm mpi"));
        INFO(r.out << r.err);
        REQUIRE(r.status == 0);
        CHECK(slurp(s / "threads/pictures.json") == slurp(s / "mpi/pictures.json"));
        const auto a = lines_of(s / "threads/metrics.jsonl", "watch"),
                   b = lines_of(s / "mpi/metrics.jsonl", "watch");
        REQUIRE(a.size() == 1);
        REQUIRE(b.size() == 1);
        CHECK(a[0]["params"] == b[0]["params"]);
        CHECK(lines_of(s / "mpi/metrics.jsonl", "start")[0]["workers"] == 2);
        fs::remove_all(s / "threads"), fs::remove_all(s / "mpi");
    }
    const std::string flags = "--steps 30 --lr 1000 --out ";
    const Result alone = run(s, train_own(flags + "threads --gpus 0,1"));
    const Result job = run(s, mpirun(2) + train_own(flags + "mpi --comm mpi"));
    CHECK(alone.status == 1);
    CHECK(job.status == 1);
    const std::string line = alone.err.substr(0, alone.err.find('\n'));
    CHECK_MESSAGE(line.find(" is the first value that is not") != std::string::npos, line);
    CHECK_MESSAGE(count(job.err, line) == 1, job.err);  // one rank says it for all
}
