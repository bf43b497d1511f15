// What a checkpoint says of the run that made it, and what later commands do with that.
#include <doctest/doctest.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "host/cuda/check.h"
#include "test/recorded_runs.h"

namespace fs = std::filesystem;
using namespace wt;
using namespace wt::test;
using nlohmann::json;

TEST_CASE("weights: their file says which network and options they are of") {
    const TempDir s;
    write_images(s / "set", {"ant", "bee", "cat"}, 4, 3);
    for (const char* options :
         {"--activation tanh", "--lrn off", "--pool plain", "--precision bf16", "--augment full"}) {
        CAPTURE(options);
        const Result r =
            run(s, program("train") + kNet +
                       "--batch 2 --lr 0.01 --epochs 2 --overwrite --out r --data folder:set " +
                       options);
        INFO(r.out << r.err);
        REQUIRE(r.status == 0);
        const std::string file = "r/checkpoint.safetensors";
        for (const std::string net : {"", "--net cifar "}) {
            const Result e =
                run(s, program("train") + " --eval-only --gpus 0 " + net + "--init " + file);
            INFO(e.out << e.err);
            CHECK(e.status == 0);
            CHECK(result_of(e) == result_of(r));
            CHECK(has(e.out, "weights " + file + ": of cifar, at step 12"));
        }
        check_one_line(run(s, program("train") + " --eval-only --gpus 0 --net mini --init " + file),
                       1, "--net mini contradicts it");
    }
    // A new run from the file, with neither network nor data named.
    const Result n =
        run(s, program("train") +
                   " --gpus 0 --batch 2 --steps 1 --out n --init r/checkpoint.safetensors");
    INFO(n.out << n.err);
    CHECK(n.status == 0);
    CHECK(settings(s / "n/checkpoint.safetensors").at("--net") == "cifar");
    CHECK(has(settings(s / "n/checkpoint.safetensors").at("--data"), "/set"));
}

TEST_CASE("weights: evaluating without --data is of their own data set, or is refused") {
    const TempDir s;
    write_images(s / "set", {"ant", "bee", "cat"}, 4, 3);
    const Result r = run(
        s, program("train") + kNet + "--batch 2 --lr 0.002 --epochs 1 --out r --data folder:set");
    REQUIRE(r.status == 0);
    fs::create_directory(s / "elsewhere");
    const Result e = run(s, "cd elsewhere && " + program("train") +
                                " --eval-only --gpus 0 --init ../r/best.safetensors");
    INFO(e.out << e.err);
    CHECK(e.status == 0);
    CHECK(result_of(e) == result_of(r));
    CHECK(has(e.out, "data    images in " + fs::canonical(s / "set").string() +
                         ": 9 val images, 3 classes"));
    copy_without(s / "r/best.safetensors", s / "bare.safetensors", {});
    check_one_line(run(s, program("train") + kNet + "--eval-only --init bare.safetensors"), 2,
                   "--eval-only: bare.safetensors does not say which data it is of: give --data");
    check_one_line(run(s, program("train") + " --gpus 0 --eval-only --init bare.safetensors"), 2,
                   "give --net");
    const Result named =
        run(s, program("train") + kNet + "--eval-only --init bare.safetensors --data folder:set");
    INFO(named.out << named.err);
    CHECK(result_of(named) == result_of(r));  // measured as the run did
    CHECK(has(notices(named),
              "bare.safetensors does not say of which classes it is, nor how its images were "
              "normalised"));
}

TEST_CASE(
    "train: more epochs after --steps, or after the end, are trained; with nothing left that is "
    "said") {
    const TempDir s;
    write_images(s / "set", {"ant", "bee", "cat"}, 4, 3);
    const std::string begin =
        program("train") + kNet + "--batch 2 --lr 0.002 --lr-policy constant --data folder:set ";
    REQUIRE(run(s, begin + "--steps 4 --out r").status == 0);
    const auto step = [&](const char* dir) {
        return metadata(s / (std::string(dir) + "/checkpoint.safetensors")).at("step");
    };
    const Result more = run(s, program("train") + " --resume r --epochs 2");
    INFO(more.out << more.err);
    CHECK(more.status == 0);
    CHECK(step("r") == "12");
    CHECK(has(more.out, "trained 8 more steps (12 in all)"));
    CHECK_FALSE(settings(s / "r/checkpoint.safetensors").contains("--steps"));
    REQUIRE(run(s, begin + "--epochs 2 --out whole").status == 0);
    CHECK(same_tensors(s / "r/checkpoint.safetensors", s / "whole/checkpoint.safetensors"));
    // Over.
    const std::string log = slurp(s / "r/metrics.jsonl"),
                      weights = slurp(s / "r/checkpoint.safetensors");
    for (const char* flags :
         {"", " --epochs 2", " --epochs 1", " --steps 3", " --timeline x.svg"}) {
        const Result none = run(s, program("train") + " --resume r" + flags);
        CAPTURE(flags);
        INFO(none.out << none.err);
        CHECK(none.status == 0);
        CHECK(has(none.out,
                  "nothing to train: r/checkpoint.safetensors is at step 12, and this run has "));
        CHECK_FALSE(has(none.out, "trained"));
        CHECK_FALSE(has(none.out, "wrote"));
    }
    CHECK(slurp(s / "r/metrics.jsonl") == log);
    CHECK(slurp(s / "r/checkpoint.safetensors") == weights);
    REQUIRE(run(s, program("train") + " --resume r --epochs 3").status == 0);
    CHECK(step("r") == "18");
    REQUIRE(run(s, program("train") + " --resume r").status == 0);  // epochs stay meant
    REQUIRE(run(s, program("train") + " --resume r --steps 20").status == 0);
    CHECK(step("r") == "20");
    // A rate that depends on the end.
    REQUIRE(run(s, begin + "--lr-policy linear --epochs 1 --out linear").status == 0);
    const Result later = run(s, program("train") + " --resume linear --epochs 2");
    CHECK(has(notices(later),
              "the rate falls to 0 over 12 steps, before over 6: it goes on at 0.001"));
}

TEST_CASE("weights: images are normalised as the run did, whatever lies beside them") {
    const TempDir s;
    write_images(s / "set", {"ant", "bee", "cat"}, 4, 3);
    const Result r = run(
        s, program("train") + kNet + "--batch 2 --lr 0.01 --epochs 3 --out r --data folder:set");
    REQUIRE(r.status == 0);
    write_images(s / "bright", {"ant", "bee", "cat"}, 9, 3, 150);
    fs::remove_all(s / "bright/val");
    fs::copy(s / "set/val", s / "bright/val", fs::copy_options::recursive);
    for (const char* weights : {"--init r/checkpoint.safetensors", "--resume r"}) {
        const Result e =
            run(s, program("train") + " --eval-only --gpus 0 --data folder:bright " + weights);
        INFO(e.out << e.err);
        CHECK(result_of(e) == result_of(r));
        CHECK(has(e.out, "(as r/checkpoint.safetensors)"));
    }
    const auto j = json::parse(metadata(s / "r/best.safetensors").at("normalisation"));
    CHECK(j.at("mean").size() == 3);
    CHECK(j.at("std").at(2).get<double>() > 1);
    // The side that images are stored at, too: 64x64 here, 32x32 there.
    for (const char* name : {"ant", "bee", "cat"})
        for (int i = 0; i < 3; ++i)
            write_file(s / ("large/val/" + std::string(name) + "/" + std::to_string(i) + ".png"),
                       flat_png(64, 64, 90, 40 * i, 9));
    const Result large =
        run(s, program("train") +
                   " --eval-only --gpus 0 --data folder:large --init r/best.safetensors");
    CHECK(has(large.out, "stored at 32"));
    // A run that goes on keeps its own, too.
    fs::rename(s / "set", s / "old");
    fs::rename(s / "bright", s / "set");
    REQUIRE(run(s, program("train") + " --resume r --steps 19").status == 0);
    CHECK(json::parse(metadata(s / "r/checkpoint.safetensors").at("normalisation")) == j);
}

TEST_CASE("train: images that were skipped are said with every result") {
    const TempDir s;
    write_images(s / "set", {"ant", "bee"}, 4, 10);
    write_file(s / "set/val/ant/3.png", Bytes{'n', 'o', 'n', 'e'});
    write_file(s / "set/train/bee/notes.txt", Bytes{'x'});
    const Result r = run(
        s, program("train") + kNet + "--batch 2 --lr 0.002 --epochs 1 --out r --data folder:set");
    INFO(r.out << r.err);
    const std::string said =
        "(19 of 20 images; 1 skipped: " + fs::canonical(s / "set/val/ant").string() + "/3.png (";
    const std::string relative = "(19 of 20 images; 1 skipped: set/val/ant/3.png (";
    CHECK(has(r.out, relative));
    CHECK(has(notices(r),
              "1 entry of set/train not named .jpg, .jpeg or .png, passed over "
              "(set/train/bee/notes.txt)"));
    const Result e = run(s, program("train") + " --eval-only --gpus 0 --init r/best.safetensors");
    CHECK_MESSAGE(has(e.out, said), e.out);
    CHECK(has(slurp(s / "r/metrics.jsonl"), R"("images":19,"skipped":1)"));
    // Found only when it is decoded: no pixels.
    Bytes cut = read_bytes(s / "set/val/bee/5.png");
    cut[16] = cut[17] = cut[18] = cut[19] = 0;
    write_file(s / "set/val/bee/5.png", cut);
    const Result two = run(s, program("train") + " --eval-only --gpus 0 --init r/best.safetensors");
    CHECK_MESSAGE(has(two.out, "(18 of 20 images; 2 skipped: "), two.out);
    CHECK(has(two.out, "skipped 2 unreadable images of the held-out split:"));
}

TEST_CASE("weights: files of older versions load, with a notice") {
    const TempDir s;
    write_images(s / "set", {"ant", "bee", "cat"}, 4, 3);
    const Result r = run(s, program("train") + kNet +
                                "--batch 2 --lr 0.002 --lr-policy constant --steps 4 --activation "
                                "tanh --seed 3 --out r --data folder:set");
    REQUIRE(r.status == 0);
    copy_without(s / "r/checkpoint.safetensors", s / "old/checkpoint.safetensors", kNewKeys);
    const std::string notice =
        "old/checkpoint.safetensors does not say of which classes it is, nor how its images were "
        "normalised";
    const Result e =
        run(s, program("train") + " --eval-only --gpus 0 --init old/checkpoint.safetensors");
    INFO(e.out << e.err);
    CHECK(e.status == 0);
    CHECK(result_of(e) == result_of(r));  // its flags say tanh
    CHECK(has(notices(e), notice));
    check_one_line(run(s, program("train") + " --resume old --activation relu"), 1,
                   "contradicts it");
    const Result on = run(s, program("train") + " --resume old --steps 6");
    CHECK(on.status == 0);
    CHECK(has(notices(on), notice));
    REQUIRE(run(s, program("train") + " --resume r --steps 6").status == 0);
    CHECK(same_tensors(s / "old/checkpoint.safetensors", s / "r/checkpoint.safetensors"));
    CHECK(classes(s / "old/checkpoint.safetensors").size() == 3);  // known from here on
    CHECK(has(metadata(s / "r/checkpoint.safetensors").at("command"),
              "bin/train --resume r --steps 6"));
    // Damage is said.
    auto damaged = metadata(s / "r/checkpoint.safetensors");
    const auto file = SafetensorsFile::open(s / "r/checkpoint.safetensors");
    for (const char* key :
         {"settings", "classes", "normalisation", "input", "data", "total_steps"}) {
        Metadata m = damaged;
        m[key] = "{\"mean\":[1],\"std\":3";
        CHECK(has(message<Error>([&] { read_record(m, "FILE"); }),
                  std::string("FILE: its '") + key + "' is not understood"));
    }
}
