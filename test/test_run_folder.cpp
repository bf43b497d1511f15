// A run's folder: locked while a run is at work in it, not taken from a run that is there unless
// asked to, with the checkpoints that --keep says and the best one.
#include <doctest/doctest.h>

#include <errno.h>
#include <signal.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>
#include <set>

#include "host/cuda/check.h"
#include "host/train/run_folder.h"
#include "host/train/run_lock.h"
#include "test/data_files.h"
#include "test/training.h"

namespace fs = std::filesystem;
using namespace wt;
using namespace wt::test;

namespace {

using Names = std::set<std::string>;

// But the pictures of a run, which are made anew whenever they are.
Names names_in(const std::string& dir) {
    const Names pictures = {"report.html", "curves.svg", "filters.png", "pictures.json"};
    Names names;
    for (const auto& f : fs::directory_iterator(dir))
        if (const std::string name = f.path().filename().string(); !pictures.contains(name))
            names.insert(name);
    return names;
}

std::map<std::string, std::string> metadata(const std::string& path) {
    auto m = SafetensorsFile::open(path).metadata();
    m.erase("seconds");
    return m;
}

int step_of(const std::string& path) { return std::stoi(metadata(path).at("step")); }

// A checkpoint without weights.
void write_checkpoint(const std::string& path, int step, Best best = {}) {
    std::map<std::string, std::string> m = {{"net", "mini"},       {"step", std::to_string(step)},
                                            {"seed", "1"},         {"global_batch", "4"},
                                            {"schedule", "1 0 0"}, {"seconds", "1"},
                                            {"arguments", "[]"}};
    if (best) {
        m["best_error"] = std::to_string(best.error);
        m["best_step"] = std::to_string(best.step);
    }
    write_safetensors(path, {}, m);
}

// At a rate at which no number of steps diverges.
const std::string kEndless = "--steps 1000000 --save-every 1 --lr 0.0001 --gpus 0 ";

int no_links(const char*, const char*) {
    errno = EPERM;
    return -1;
}

int no_locks(int, int) {
    errno = EOPNOTSUPP;
    return -1;
}

// Evaluations of a run's log, in their order: after how many steps, and the top-1 error.
std::vector<std::pair<int, double>> evaluations(const std::string& log) {
    std::vector<std::pair<int, double>> all;
    std::ifstream in(log);
    for (std::string line; std::getline(in, line);) {
        const auto j = nlohmann::json::parse(line);
        if (j["kind"] == "eval")
            all.emplace_back(j["step"].get<int>(), j["top1_error"].get<double>());
    }
    return all;
}

// 40 images of 10 kinds to train on, 20 held out: 10 steps an epoch.
void write_digits(const std::string& dir) {
    for (const auto& [name, n] : {std::pair<std::string, int>{"/train", 40}, {"/t10k", 20}}) {
        Bytes images = idx_images(n, 28, 28);
        for (int i = 0; i < n; ++i)
            for (int p = 0; p < 784; ++p)
                images[16 + i * 784 + p] = static_cast<uint8_t>(i % 10 * 20 + p * 3 * (1 + i % 10));
        write_file(dir + name + "-images-idx3-ubyte", images);
        write_file(dir + name + "-labels-idx1-ubyte", idx_labels(n));
    }
}

std::string train_digits(const std::string& flags) {
    return program("train") +
           " --net mini --data mnist:set --gpus 0 --batch 4 --lr 0.003 "
           "--init he --lr-policy constant " +
           flags;
}

// Runs a training in the background until `then`, a shell command that may use $pid, has ended.
Result beside(const TempDir& s, const std::string& command, const std::string& out,
              const std::string& then) {
    return run(s, "{ " + command +
                      " >back.txt 2>&1 & } ; pid=$!; n=0; "
                      "while [ ! -s " +
                      out +
                      "/checkpoint.safetensors ] && [ $n -lt 6000 ] && kill -0 $pid 2>/dev/null; "
                      "do sleep 0.1; n=$((n+1)); done; " +
                      then);
}

}  // namespace

TEST_CASE("run folder: the lock keeps a second one out, names its owner, and goes with it") {
    const TempDir s;
    spit(s / "lock", "left by another, and longer than what is written there now ............ \n");
    {
        const RunLock mine(s.path());
        CHECK(mine.notice().empty());
        const auto j = nlohmann::json::parse(slurp(s / "lock"));
        CHECK(j["pid"] == getpid());
        const std::string m = message_of([&] { RunLock(s.path()); });
        CHECK(m.starts_with(s.path() + ": process " + std::to_string(getpid()) + " on "));
        CHECK(has(m, " is at work in it, for 0:0"));
        CHECK(has(m, "give another --out"));
        const TempDir other;
        CHECK(message_of([&] { RunLock(other.path()); }) == "");
    }
    CHECK(names_in(s.path()).empty());
    // One that is killed leaves the file, and no lock.
    const pid_t child = fork();
    if (child == 0) {
        const RunLock its(s.path());
        raise(SIGKILL);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    REQUIRE(WIFSIGNALED(status));
    CHECK(names_in(s.path()) == Names{"lock"});
    CHECK(message_of([&] { RunLock(s.path()); }) == "");
    // A lock whose owner has written nothing yet.
    {
        const RunLock mine(s.path());
        spit(s / "lock", "");
        CHECK(has(message_of([&] { RunLock(s.path()); }), "another process is at work in it"));
    }
    {
        const RunLock none(s.path(), no_locks);
        CHECK(has(none.notice(), s.path() + " cannot be locked (Operation not supported)"));
    }
    fs::remove(s / "lock");
    fs::create_directory(s / "lock");
    CHECK(has(message_of([&] { RunLock(s.path()); }), "cannot write " + (s / "lock")));
    fs::remove(s / "lock");
    REQUIRE(mkfifo((s / "lock").c_str(), 0600) == 0);
    CHECK(has(message_of([&] { RunLock(s.path()); }), "not a regular file (a FIFO)"));
}

TEST_CASE("run folder: older checkpoints and the best, as links and as copies") {
    for (const bool links : {true, false}) {
        CAPTURE(links);
        const TempDir s;
        const RunFolder folder(s.path(), links ? nullptr : no_links);
        CHECK(folder.held().empty());
        const auto save = [&](int step, int keep) {
            if (fs::exists(folder.newest()) && keep > 1) folder.set_aside(step_of(folder.newest()));
            write_checkpoint(folder.newest(), step);
            folder.prune(step, keep);
        };
        save(2, 3);
        CHECK(names_in(s.path()) == Names{"checkpoint.safetensors"});
        folder.set_aside(2);
        CHECK((fs::hard_link_count(folder.newest()) == 2) == links);
        folder.set_aside(2);  // as after an end between this and the save
        save(4, 3), save(6, 3), save(8, 3);
        CHECK(names_in(s.path()) == Names{"checkpoint.safetensors", "checkpoint-4.safetensors",
                                          "checkpoint-6.safetensors"});
        CHECK(step_of(folder.newest()) == 8);
        for (const int step : {4, 6}) CHECK(step_of(folder.older(step)) == step);
        // Names that are not ours stay, whatever is kept; steps are compared as numbers.
        for (const char* name : {"checkpoint-.safetensors", "checkpoint-04.safetensors",
                                 "checkpoint-good.safetensors", "checkpoint-4.safetensors.bak"})
            spit(s / name, "mine");
        const Names others = [&] {
            Names n = names_in(s.path());
            for (const char* name :
                 {"checkpoint.safetensors", "checkpoint-4.safetensors", "checkpoint-6.safetensors"})
                n.erase(name);
            return n;
        }();
        save(10, 3);
        CHECK(folder.older_steps() == std::vector<int64_t>{6, 8});
        save(12, 2);
        CHECK(folder.older_steps() == std::vector<int64_t>{10});
        CHECK(folder.held() == "holds a run of mini, at step 12");
        // Gone back to step 10, and on from there: what came later goes.
        fs::copy_file(folder.older(10), folder.newest(), fs::copy_options::overwrite_existing);
        write_checkpoint(folder.older(40), 40);
        save(11, 5);
        CHECK(folder.older_steps() == std::vector<int64_t>{10});
        save(13, 1);
        CHECK(folder.older_steps().empty());

        folder.make_best();
        CHECK(step_of(folder.best()) == 13);
        save(14, 1);
        CHECK(step_of(folder.best()) == 13);
        folder.make_best(), folder.make_best();
        CHECK(step_of(folder.best()) == 14);
        for (const std::string& name : names_in(s.path())) CHECK_FALSE(name.ends_with(".tmp"));

        spit(s / "metrics.jsonl", ""), spit(s / "notes.txt", "mine");
        write_checkpoint(folder.older(3), 3);
        fs::remove(folder.newest());
        CHECK(folder.held() == "holds a run of mini, at step 3");
        spit(folder.newest(), "half a");
        CHECK(folder.held() == "holds checkpoint.safetensors, which cannot be read");
        folder.clear();
        CHECK(folder.held().empty());
        Names left = others;
        left.insert("notes.txt");
        CHECK(names_in(s.path()) == left);
    }
}

TEST_CASE("run folder: the best of a run that goes on is the one that is there") {
    const TempDir s;
    const RunFolder folder(s.path());
    std::string notice;
    const auto recall = [&](Best remembered, int step) {
        notice.clear();
        return folder.recall(remembered, step, notice);
    };
    write_checkpoint(folder.newest(), 20, {30, 10});
    CHECK_FALSE(recall({}, 20));
    CHECK(notice.empty());
    CHECK_FALSE(recall({30, 10}, 20));  // removed by somebody
    CHECK(has(notice, "best.safetensors (step 10, top-1 error 30.00%) is gone"));
    write_checkpoint(folder.best(), 10, {30, 10});
    CHECK(recall({30, 10}, 20).step == 10);
    CHECK(notice.empty());
    // Ended after the checkpoint of a better evaluation was saved, and before the best was made.
    write_checkpoint(folder.newest(), 20, {25, 20});
    CHECK(recall({25, 20}, 20).error == 25);
    CHECK(step_of(folder.best()) == 20);
    // Gone back to before it: it stays the one to beat.
    write_checkpoint(folder.newest(), 15, {30, 10});
    CHECK(recall({30, 10}, 15).step == 20);
    CHECK(step_of(folder.best()) == 20);
    // What cannot be read, or says nothing of an evaluation, is none.
    spit(folder.best(), "half");
    CHECK_FALSE(recall({30, 10}, 15));
    CHECK(has(notice, " is gone"));
    write_checkpoint(folder.best(), 15, {30, 10});
    CHECK_FALSE(recall({30, 10}, 15));
    CHECK(Best{30, 10}.beaten_by(29.9));
    CHECK_FALSE(Best{30, 10}.beaten_by(30));
    CHECK(Best{}.beaten_by(100));
}

TEST_CASE("train: a second run in a folder where one is at work is refused in one line") {
    const TempDir s;
    const std::string endless = train(kEndless + "--out r");
    const std::string anew = train("--steps 1 --overwrite --out r");
    for (const std::string& second : {anew, program("train") + " --resume r"}) {
        const Result r = beside(s, endless, "r",
                                "echo $pid >pid.txt; " + second +
                                    "; code=$?; cp -r r copy 2>/dev/null; "
                                    "kill -9 $pid; wait $pid 2>/dev/null; ( exit $code )");
        check_one_line(r, 1, "r: process ");
        std::string pid = slurp(s / "pid.txt");
        pid.pop_back();
        CHECK_MESSAGE(has(r.err, "r: process " + pid + " on "), r.err << pid);
        CHECK(step_of(s / "copy/checkpoint.safetensors") > 0);
        // The killed run's lock is gone, the copy's was none.
        const std::string last = std::to_string(step_of(s / "r/checkpoint.safetensors") + 1);
        CHECK(run(s, program("train") + " --resume r --steps " + last).status == 0);
        CHECK(run(s, program("train") + " --resume copy --eval-only").status == 0);
        CHECK_FALSE(fs::exists(s / "r/lock"));
        fs::remove_all(s / "r"), fs::remove_all(s / "copy");
    }
    // Evaluating only reads.
    const Result r = beside(s, endless, "r",
                            program("train") +
                                " --resume r --eval-only; code=$?; "
                                "kill -9 $pid; wait $pid 2>/dev/null; ( exit $code )");
    INFO(r.err);
    CHECK(r.status == 0);
}

TEST_CASE("train: a run is not taken for another's start, unless --overwrite says so") {
    const TempDir s;
    REQUIRE(run(s, train("--steps 3 --save-every 1 --keep 2 --out r")).status == 0);
    const auto refused = [&](const std::string& command) {
        const Names before = names_in(s / "r");
        const std::string log = slurp(s / "r/metrics.jsonl");
        const std::string weights = slurp(s / "r/checkpoint.safetensors");
        const Result r = run(s, command);
        CHECK(names_in(s / "r") == before);
        CHECK(slurp(s / "r/metrics.jsonl") == log);
        CHECK(slurp(s / "r/checkpoint.safetensors") == weights);
        return r;
    };
    const Result again = refused(train("--steps 1 --out r"));
    check_one_line(again, 1, "r holds a run of mini, at step 3: go on with --resume r, ");
    check_one_line(again, 1, "or begin anew with --overwrite");
    // With whatever else is wrong the old run stays.
    check_one_line(refused(train("--steps 1 --out r --overwrite --data folder:none")), 1, "none");
    write_idx_set(s / "small", 40, 10);
    check_one_line(refused(train("--steps 1 --out r --overwrite --data mnist:small --batch 50")), 1,
                   "--batch");
    check_one_line(refused("VGPU_MEMORY=8M " + train("--steps 1 --gpus 0 --out r --overwrite")), 1,
                   "out of memory");
    spit(s / "other.safetensors", "half");
    check_one_line(refused(train("--steps 1 --out r --overwrite --init other.safetensors")), 1,
                   "other.safetensors");
    check_one_line(refused(train("--out r --overwrite --resume r")), 2, "leave one away");
    check_one_line(refused(train("--out r --overwrite --eval-only --init r/best.safetensors")), 2,
                   "leave one away");

    spit(s / "r/notes.txt", "mine");
    const Result anew = run(s, train("--steps 2 --out r --overwrite --init r/best.safetensors"));
    INFO(anew.err);
    REQUIRE(anew.status == 0);
    CHECK(names_in(s / "r") ==
          Names{"best.safetensors", "checkpoint.safetensors", "metrics.jsonl", "notes.txt"});
    CHECK(step_of(s / "r/checkpoint.safetensors") == 2);
    CHECK(step_of(s / "r/best.safetensors") == 2);
    CHECK(evaluations(s / "r/metrics.jsonl").size() == 1);
    // The flag is of one start only: going on needs and does none of it.
    CHECK_FALSE(has(metadata(s / "r/checkpoint.safetensors").at("arguments"), "overwrite"));
    const Result on = run(s, program("train") + " --resume r --steps 3");
    INFO(on.err);
    CHECK(on.status == 0);
    CHECK(evaluations(s / "r/metrics.jsonl").size() == 2);
    // A log alone is nothing to go on with.
    fs::create_directory(s / "log");
    spit(s / "log/metrics.jsonl", "{\"kind\":\"step\",\"step\":1}\n");
    CHECK(run(s, train("--steps 1 --out log")).status == 0);
}

TEST_CASE("train: --keep keeps the last checkpoints, through kills too") {
    const TempDir s;
    const auto keeps = [&](const std::string& dir, int newest, const std::vector<int>& older) {
        const auto name = [](int step) {
            return "checkpoint-" + std::to_string(step) + ".safetensors";
        };
        Names expected{"best.safetensors", "checkpoint.safetensors", "metrics.jsonl"};
        for (const int step : older) expected.insert(name(step));
        CHECK(names_in(s / dir) == expected);
        CHECK(step_of(s / (dir + "/checkpoint.safetensors")) == newest);
        for (const int step : older) CHECK(step_of(s / (dir + "/" + name(step))) == step);
    };
    REQUIRE(run(s, train("--steps 6 --save-every 1 --keep 3 --gpus 0 --out r")).status == 0);
    keeps("r", 6, {4, 5});
    REQUIRE(run(s, program("train") + " --resume r --steps 7").status == 0);
    keeps("r", 7, {5, 6});
    REQUIRE(run(s, program("train") + " --resume r --steps 8 --keep 1").status == 0);
    keeps("r", 8, {});
    REQUIRE(run(s, train("--steps 2 --save-every 1 --gpus 0 --out one")).status == 0);
    keeps("one", 2, {});
    // Killed whenever it happens, the newest is there and whole, and the run goes on from it.
    for (const char* wait : {"0.3", "0.37", "0.45"}) {
        const std::string begin = train(kEndless + "--keep 3 --out k");
        // Three checkpoints first, however slow the machine; at the end the lock goes with the
        // process.
        const std::string saved =
            "n=0; while [ $(ls k/checkpoint-*.safetensors 2>/dev/null | wc -l) "
            "-lt 2 ] && [ $n -lt 6000 ]; do sleep 0.1; n=$((n+1)); done; ";
        const std::string look =
            "for i in 1 2 3 4 5 6 7 8 9; do "
            "[ -s k/checkpoint.safetensors ] || echo absent; sleep 0.03; "
            "done; ";
        const std::string command = fs::exists(s / "k") ? program("train") + " --resume k" : begin;
        const Result r =
            beside(s, command, "k",
                   saved + look + "sleep " + wait + "; kill -9 $pid; wait $pid 2>/dev/null");
        INFO(r.err << slurp(s / "back.txt"));
        CHECK(r.out.empty());
        const int step = step_of(s / "k/checkpoint.safetensors");
        CHECK(step > 2);
        for (const int64_t older : RunFolder(s / "k").older_steps()) CHECK(older <= step);
    }
    const int end = step_of(s / "k/checkpoint.safetensors") + 4;
    REQUIRE(run(s, program("train") + " --resume k --steps " + std::to_string(end)).status == 0);
    keeps("k", end, {end - 2, end - 1});
    const std::string steps = "--out whole --steps " + std::to_string(end);
    REQUIRE(run(s, train(kEndless + steps)).status == 0);
    CHECK(same_tensors(s / "whole/checkpoint.safetensors", s / "k/checkpoint.safetensors"));
}

TEST_CASE("train: best.safetensors is of the smallest held-out error, in a run of parts too") {
    const TempDir s;
    write_digits(s / "set");
    std::string seed;
    for (const std::string way : {"", "--save-every 7 "}) {
        std::string every;
        std::pair<int, double> best;
        Result whole;
        // A seed whose best evaluation is neither the first nor the last: else it would show
        // little.
        for (int n = 1; n <= 20; ++n) {
            every = way + (seed.empty() ? "--seed " + std::to_string(n) + " " : seed);
            whole = run(s, train_digits(every + "--epochs 6 --overwrite --out whole"));
            INFO(whole.err);
            REQUIRE(whole.status == 0);
            const auto all = evaluations(s / "whole/metrics.jsonl");
            REQUIRE(all.size() == 6);
            best = all.front();
            for (const auto& e : all)
                if (e.second < best.second) best = e;
            if (best.first != all.front().first && best.first != all.back().first) break;
            REQUIRE(n < 20);
        }
        CAPTURE(every);
        seed = every.substr(way.size());
        const auto m = metadata(s / "whole/best.safetensors");
        CHECK(m.at("step") == std::to_string(best.first));
        CHECK(m.at("best_step") == m.at("step"));
        CHECK(std::stod(m.at("best_error")) == best.second);
        CHECK(metadata(s / "whole/checkpoint.safetensors").at("best_step") == m.at("step"));
        char text[80];
        std::snprintf(text, sizeof text, "best    top-1 error %.2f%% after %d steps: ", best.second,
                      best.first);
        CHECK_MESSAGE(has(whole.out, text + std::string("whole/best.safetensors")), whole.out);
        // They are that evaluation's weights.
        std::snprintf(text, sizeof text, "top-1 error %.2f%%", best.second);
        CHECK(has(run(s, train_digits("--init whole/best.safetensors --eval-only")).out, text));

        // In parts: stopped before the best, at it, and after it, where epochs end: a run that
        // stops within one evaluates there, which the whole one does not.
        const int at = best.first;
        REQUIRE(run(s, train_digits(every + "--steps 10 --out parts")).status == 0);
        for (const int end : std::set<int>{at, at + 10, 60})
            REQUIRE(run(s, program("train") + " --resume parts --steps " + std::to_string(end))
                        .status == 0);
        CHECK(metadata(s / "parts/best.safetensors").at("step") == m.at("step"));
        CHECK(same_tensors(s / "parts/best.safetensors", s / "whole/best.safetensors"));
        CHECK(metadata(s / "parts/checkpoint.safetensors").at("best_error") == m.at("best_error"));
        // One that never got its name, for the process ended just before: it is made up for.
        const std::string torn = every + "--out torn --steps " + std::to_string(at);
        REQUIRE(run(s, train_digits(torn)).status == 0);
        fs::remove(s / "torn/best.safetensors");
        REQUIRE(run(s, program("train") + " --resume torn --steps 60").status == 0);
        CHECK(same_tensors(s / "torn/best.safetensors", s / "whole/best.safetensors"));
        for (const char* dir : {"whole", "parts", "torn"}) fs::remove_all(s / dir);
    }
    // Nothing held out, nothing best.
    for (const char* name : {"f/train/a/1.png", "f/train/a/2.png"})
        write_file(s / name, flat_png(76, 76, 1, 2, 3));
    const std::string flags = " --net mini --data folder:f --batch 2 --gpus 0 --epochs 1";
    const Result r = run(s, program("train") + flags + " --out none");
    INFO(r.err);
    CHECK(r.status == 0);
    CHECK_FALSE(has(r.out, "best "));
    CHECK(names_in(s / "none") == Names{"checkpoint.safetensors", "metrics.jsonl"});
}
