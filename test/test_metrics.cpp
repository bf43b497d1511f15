// A run's log (lines whole, resumed where the checkpoint stands) and its progress on a terminal and
// elsewhere.
#include "host/cuda/check.h"
#include "host/train/metrics.h"
#include "host/train/progress.h"
#include "test/temp_dir.h"
#include "test/text.h"

#include <doctest/doctest.h>

#include <cmath>
#include <filesystem>
#include <string>

using wt::MetricsLog;
using wt::Progress;
using wt::ProgressState;
using wt::test::count;
using wt::test::message_of;
using wt::test::slurp;
using wt::test::spit;
using wt::test::TempDir;

namespace {

// What `f(FILE*)` writes.
template <class F>
std::string written(F f) {
    std::FILE* file = std::tmpfile();
    REQUIRE(file);
    f(file);
    std::string s;
    std::rewind(file);
    for (int c; (c = std::fgetc(file)) != EOF;) s += static_cast<char>(c);
    std::fclose(file);
    return s;
}

const ProgressState kState = {1, 3, 120, 480, 0.81234, 0.01, 512.3, 42};

}  // namespace

TEST_CASE("metrics: lines") {
    const TempDir dir;
    const std::string out = dir / "runs/mini", path = out + "/metrics.jsonl";
    MetricsLog log(out, MetricsLog::kFresh);
    CHECK(slurp(path) == "");
    log.step({1, 0.5, 2.25, 75, 0.01, 512, 0.25, 1.5});
    const std::string step =
        R"({"kind":"step","step":1,"epoch":0.5,"loss":2.25,"top1_error":75.0,"lr":0.01,"images_per_s":512.0,"input_wait":0.25,"seconds":1.5})"
        "\n";
    CHECK(slurp(path) == step);  // in the file at once
    log.eval({2, 1, "val", 0.5, 12.5, 0.25, 10000, 7, 3});
    const std::string eval =
        R"({"kind":"eval","step":2,"epoch":1.0,"split":"val","loss":0.5,"top1_error":12.5,)"
        R"("top5_error":0.25,"images":10000,"skipped":7,"seconds":3.0})"
        "\n";
    CHECK(slurp(path) == step + eval);
    log.done({2, 1, "finished", 3});
    const std::string done =
        R"({"kind":"done","step":2,"epoch":1.0,"reason":"finished","seconds":3.0})"
        "\n";
    CHECK(slurp(path) == step + eval + done);
    log.step({3, 0, std::nan(""), 0, HUGE_VAL, -HUGE_VAL, 0, 1});
    CHECK(slurp(path).ends_with(
        R"("loss":null,"top1_error":0.0,"lr":null,"images_per_s":null,"input_wait":0.0,"seconds":1.0})"
        "\n"));
    MetricsLog again(out, MetricsLog::kFresh);
    CHECK(slurp(path) == "");
    CHECK(again.seconds() == 0);
}

TEST_CASE("metrics: resume keeps what the checkpoint has seen") {
    const TempDir dir;
    const std::string path = dir / "metrics.jsonl";
    const auto fill = [&] {
        MetricsLog log(dir.path(), MetricsLog::kFresh);
        for (int s = 1; s <= 4; ++s) log.step({s, 0, 1, 0, 1, 1, 0, s * 10.0});
        log.eval({4, 1, "val", 1, 1, 1, 1, 0, 41});
        log.step({5, 0, 1, 0, 1, 1, 0, 50});
        log.done({5, 1, "interrupted", 51});
    };
    for (const int at : {0, 3, 4, 5, 99}) {
        fill();
        const std::string before = slurp(path);
        spit(path, before + R"({"kind":"step","st)");  // killed while it wrote
        CAPTURE(at);
        MetricsLog log(dir.path(), at);
        const std::string kept = slurp(path);
        CHECK(before.starts_with(kept));
        CHECK(count(kept, "\n") == static_cast<size_t>(at == 0   ? 0
                                                       : at == 3 ? 3
                                                       : at == 4 ? 5
                                                                 : 6));
        CHECK(count(kept, "done") == 0);
        CHECK(log.seconds() == doctest::Approx(at == 0 ? 0 : at == 3 ? 30 : at == 4 ? 41 : 50));
        log.step({at + 1, 0, 1, 0, 1, 1, 0, 1});
        CHECK(slurp(path).size() > kept.size());
    }
    // A whole last line that lost its newline was not seen whole: dropped too.
    spit(path, R"({"kind":"step","step":1})");
    MetricsLog log(dir.path(), 7);
    CHECK(slurp(path) == "");
    std::filesystem::remove(path);
    MetricsLog none(dir.path(), 7);
    CHECK(slurp(path) == "");
    CHECK_FALSE(std::filesystem::exists(path + ".tmp"));
}

TEST_CASE("metrics: a directory that cannot be made") {
    const TempDir dir;
    spit(dir / "file", "x");
    const std::string m = message_of([&] { MetricsLog log(dir / "file/sub", MetricsLog::kFresh); });
    CHECK(m.starts_with("cannot make the directory " + (dir / "file/sub") + ": "));
}

TEST_CASE("progress: texts") {
    CHECK(wt::duration_text(42.4) == "0:42");
    CHECK(wt::duration_text(59.7) == "1:00");
    CHECK(wt::duration_text(725) == "12:05");
    CHECK(wt::duration_text(3 * 3600 + 7) == "3:00:07");
    CHECK(wt::duration_text(99 * 3600.0) == "4 d 03:00");
    CHECK(wt::duration_text(std::nan("")) == "?");
    CHECK(wt::progress_line(kState) ==
          "epoch 1/3  step 120/480  loss 0.8123  lr 0.01  512 images/s  eta 0:42");
    ProgressState steps = kState;
    steps.epochs = 0;
    steps.eta = -1;
    steps.images_per_s = 7.25;
    CHECK(wt::progress_line(steps) == "step 120/480  loss 0.8123  lr 0.01  7.2 images/s");
    CHECK(
        wt::progress_bar(kState, 200) ==
        "epoch 1/3 [=======>                      ] 120/480  loss 0.8123  lr 0.01  512 images/s  eta 0:42");
    CHECK(wt::progress_bar(kState, 79) ==
          "epoch 1/3 [===>         ] 120/480  loss 0.8123  lr 0.01  512 images/s  eta 0:42");
    for (size_t width = 0; width < 120; ++width)
        CHECK(wt::progress_bar(kState, static_cast<int>(width)).size() <= width);
    ProgressState full = kState;
    full.step = 480;
    CHECK(wt::progress_bar(full, 200).find("[==============================]") !=
          std::string::npos);
    full.steps = 0;
    CHECK(!wt::progress_bar(full, 200).empty());
}

TEST_CASE("progress: error, rate and wait are means since the last line") {
    double now = 0;
    Progress::Options o;
    o.terminal = 0;
    o.every_steps = 3;
    o.clock = [&] { return now; };
    const std::string s = written([&](std::FILE* f) {
        Progress p(f, 4, o);
        const double rates[] = {5, 10, 40, 40}, errors[] = {100, 75, 50, 25},
                     waits[] = {0.9, 0, 0, 0.3};
        for (int i = 0; i < 4; ++i)
            p.update({.epoch = 1,
                      .epochs = 0,
                      .step = i + 1,
                      .steps = 4,
                      .loss = 2,
                      .lr = 0.1,
                      .images_per_s = rates[i],
                      .error = errors[i],
                      .input_wait = waits[i]});
    });
    CHECK(s ==
          "step 1/4  loss 2.0000  error 100.0%  lr 0.1  5.0 images/s  input wait 90%\n"
          "step 4/4  loss 2.0000  error 50.0%  lr 0.1  20.0 images/s  input wait 10%  eta 0:00\n");
}

TEST_CASE("progress: plain lines by steps and by time") {
    double now = 100;
    Progress::Options o;
    o.terminal = 0;
    o.clock = [&] { return now; };
    const auto run = [&](int steps, double seconds) {
        return written([&](std::FILE* f) {
            Progress p(f, steps, o);
            for (int i = 1; i <= steps; ++i) {
                now += seconds;
                p.update({1, 1, i, steps, 1, 0.1, 10});
            }
        });
    };
    // the first, each ten seconds (11, 21, ... 91), the last
    CHECK(count(run(100, 1), "\n") == 11);
    CHECK(count(run(100, 0.01), "\n") == 2);
    o.every_steps = 25;
    CHECK(count(run(101, 0.01), "\n") == 5);  // 1, 26, 51, 76, 101
    const std::string s = run(4, 20);
    CHECK(count(s, "\n") == 4);
    CHECK(s.find("step 2/4  loss 1.0000  lr 0.1  10.0 images/s  eta 0:40\n") != std::string::npos);
    CHECK(s.find("eta 0:00\n") != std::string::npos);
    CHECK(count(s, "\r") == 0);
}

TEST_CASE("progress: the bar") {
    double now = 0;
    Progress::Options o;
    o.terminal = 1;
    o.clock = [&] { return now; };
    const std::string s = written([&](std::FILE* f) {
        Progress p(f, 100, o);
        for (int i = 1; i <= 100; ++i) {
            now += 0.01;
            p.update({1, 1, i, 100, 10.0 / i, 0.1, 10});
            if (i == 50) p.message("the rate is divided by 10");
        }
    });
    CHECK(count(s, "[") >= 10);
    CHECK(count(s, "[") <= 14);  // ten a second, not a hundred
    CHECK(count(s, "\n") == 2);
    CHECK(s.find("\rthe rate is divided by 10\n\repoch 1/1 [") != std::string::npos);
    CHECK(s.find("100/100") != std::string::npos);
    CHECK(s.ends_with("\n"));
    CHECK(written([&](std::FILE* f) {
              Progress p(f, 100);
              p.message("a line");
          }) == "a line\n");
}
