// What a run was made with, and what a later command says: every pair is taken over, refused, or used with
// a notice, and none is passed over in silence.
#include <doctest/doctest.h>

#include <filesystem>
#include <fstream>
#include <map>
#include <nlohmann/json.hpp>

#include "host/train/carry.h"
#include "host/train/classes.h"
#include "host/train/options.h"
#include "test/data_files.h"
#include "test/training.h"

namespace fs = std::filesystem;
using namespace wt;
using namespace wt::test;
using nlohmann::json;

namespace {

Metadata metadata(const std::string& path) { return SafetensorsFile::open(path).metadata(); }
std::map<std::string, std::string> settings(const std::string& path) {
    return json::parse(metadata(path).at("settings"));
}
std::vector<std::string> classes(const std::string& path) { return json::parse(metadata(path).at("classes")); }

// Images of 32x32, a colour a class and a shade an image.
void write_images(const std::string& dir, const std::vector<std::string>& names, int train, int held_out, int shade = 0) {
    for (const std::string& name : names) {
        const int r = 40 + name[0] * 37 % 150;
        for (int i = 0; i < train; ++i)
            write_file(dir + "/train/" + name + "/" + std::to_string(i) + ".png",
                       flat_png(32, 32, r, 255 - r, 20 + 5 * i + shade));
        for (int i = 0; i < held_out; ++i)
            write_file(dir + "/val/" + name + "/" + std::to_string(i) + ".png",
                       flat_png(32, 32, r + 3, 250 - r, 30 + 9 * i + shade));
    }
}

const std::string kNet = " --net cifar --gpus 0 ";

// The line of an evaluation: from "loss" to its end.
std::string result_of(const Result& r) {
    const size_t at = r.out.rfind(": loss ");
    return at == std::string::npos ? "no result" : r.out.substr(at, r.out.find('\n', at) - at);
}

// The file again, without these keys of its metadata: as older versions wrote it, or others do.
void copy_without(const std::string& from, const std::string& to, const std::vector<std::string>& keys) {
    const auto file = SafetensorsFile::open(from);
    Metadata m = file.metadata();
    for (const std::string& k : keys) m.erase(k);
    std::vector<std::vector<float>> values;
    std::vector<NamedTensor> tensors;
    for (const auto& n : file.names()) values.push_back(file.read(n));
    for (size_t i = 0; i < values.size(); ++i) tensors.push_back({file.names()[i], file.shape(file.names()[i]), values[i].data()});
    fs::create_directories(fs::path(to).parent_path());
    write_safetensors(to, tensors, keys.empty() ? Metadata{} : m);
}

const std::vector<std::string> kNewKeys = {"settings", "classes", "normalisation", "input", "data", "total_steps", "command"};

std::string notices(const Result& r) {
    std::string all;
    std::istringstream lines(r.out);
    for (std::string line; std::getline(lines, line);)
        if (line.starts_with("notice ")) all += line + "\n";
    return all;
}

}  // namespace

TEST_CASE("pairs: every setting has a rule, and is carried as it was") {
    TrainOptions o = recipe_options("mini");
    o.net_options.dropout = 0.25f;
    o.steps = 7;
    o.lr = 0.1 + 0.2;
    const auto s = settings_of(o, 2);
    std::map<std::string, int> rules;
    for (const SettingRule& r : setting_rules()) ++rules[r.setting];
    for (const auto& [flag, value] : s) CHECK_MESSAGE(rules[flag] == 1, flag);
    for (const auto& [flag, count] : rules)
        CHECK_MESSAGE((count == 1 && (s.contains(flag) || flag == "--mean" || flag == "--std")), flag);
    CHECK(std::stod(s.at("--lr")) == o.lr);
    for (const std::string& net : net_names()) {
        const Recipe& r = recipe_of(net);
        const auto of = settings_of(recipe_options(net), 1);
        CHECK(of.at("--init") == r.init);
        CHECK(of.at("--augment") == r.augment);
        CHECK(of.at("--data").starts_with(r.data));
        CHECK(classes_of(net) >= 10);
    }
    CHECK_THROWS_AS(value_in(kPrecisions, "precision", "fp8"), UsageError);
}

TEST_CASE("pairs: a setting that was given, and the same flag later") {
    const TempDir s;
    write_images(s / "set", {"ant", "bee", "cat"}, 4, 3);
    write_images(s / "other", {"ant", "bee", "cat"}, 4, 3);
    // Nothing as the recipe has it, so that what is taken over can be told from that.
    const std::string made =
        program("train") + kNet + "--data folder:set --batch 2 --activation tanh --pool plain --lrn off --dropout 0.1 "
        "--mean 100,110,120.25 --std 50,60,70 --seed 5 --augment none --precision tf32 --kernels own --fuse off "
        "--fc-scheme b --fc-split alternate --fc-update per-pass --lr-scale k --lr 0.002 --lr-policy constant "
        "--momentum 0.8 --weight-decay 0.001 --freeze conv2 --epochs 5 --steps 2 --init paper --out r";
    const Result first = run(s, made);
    INFO(first.out << first.err);
    REQUIRE(first.status == 0);
    const std::string file = "r/checkpoint.safetensors";
    const auto before = settings(s / file);
    CHECK(before.at("--activation") == "tanh");
    CHECK(before.at("--data") == "folder:" + fs::canonical(s / "set").string());

    const std::map<std::string, std::string> other = {
        {"--net", "mini"}, {"--activation", "relu"}, {"--pool", "overlap"}, {"--lrn", "on"}, {"--dropout", "0.2"},
        {"--mean", "1,2,3"}, {"--std", "9,9,9"}, {"--data", "folder:other"}, {"--seed", "6"}, {"--augment", "crop"},
        {"--batch", "1"}, {"workers", "--gpus 0,0 --batch 1"}, {"--precision", "fp32"}, {"--kernels", "auto"},
        {"--fuse", "on"}, {"--fc-scheme", "c"}, {"--fc-split", "columns"}, {"--fc-update", "accumulate"},
        {"--lr-scale", "none"}, {"--lr", "0.004"}, {"--lr-policy", "linear"}, {"--momentum", "0.7"},
        {"--weight-decay", "0.002"}, {"--epochs", "4"}, {"--steps", "4"}, {"--init", "he"},
        {"--freeze", "conv1"}};
    struct Command {
        WeightsUse use;
        std::string text;
    };
    const Command commands[] = {
        {WeightsUse::resume, program("train") + " --resume r --out n --overwrite --steps 3 "},
        {WeightsUse::fine_tune, program("train") + " --init " + file + " --gpus 0 --batch 2 --steps 1 --out n --overwrite "},
        {WeightsUse::evaluate, program("train") + " --eval-only --gpus 0 --init " + file + " "}};
    for (const Command& c : commands) {
        // Nothing said: all of it is taken over but for what the new command has of its own.
        const Result quiet = run(s, c.text);
        INFO(quiet.out << quiet.err);
        REQUIRE(quiet.status == 0);
        CHECK(notices(quiet) == "");
        const auto after = c.use == WeightsUse::evaluate ? before : settings(s / "n/checkpoint.safetensors");
        for (const SettingRule& rule : setting_rules()) {
            const std::string flag = rule.setting;
            const Rule what = rule.of(c.use);
            CAPTURE(flag);
            CAPTURE(int(c.use));
            if (what != Rule::own && flag != "--steps" && before.contains(flag)) CHECK(after.at(flag) == before.at(flag));
            REQUIRE(other.contains(flag));
            const std::string value = flag == "workers" ? other.at(flag) : flag + " " + other.at(flag);
            const Result r = run(s, c.text + value);
            INFO(r.out << r.err);
            if (flag == "--init" && c.use != WeightsUse::fine_tune) {
                if (c.use == WeightsUse::resume) check_one_line(r, 2, "--init he");
                else check_one_line(r, 2, "--eval-only needs weights");
            } else if (flag == "--batch" && c.use == WeightsUse::resume) {
                check_one_line(r, 1, "images a step");
            } else if (what == Rule::same) {
                check_one_line(r, 1, file + " was made with " + flag + " ");
                check_one_line(r, 1, flag + " " + other.at(flag) + " contradicts it");
            } else {
                CHECK(r.status == 0);
                const bool said = has(notices(r), "was made with " + flag + " ");
                CHECK_MESSAGE(said == (what == Rule::notice), notices(r));
            }
            if (r.status == 0 && c.use != WeightsUse::evaluate && flag != "workers" && flag != "--init") {
                // It is used, and the next checkpoint says so.
                const auto now = settings(s / "n/checkpoint.safetensors");
                if (flag == "--mean" || flag == "--std")
                    CHECK(has(metadata(s / "n/checkpoint.safetensors").at("normalisation"), flag == "--mean" ? "[1.0,2.0,3.0]" : "[9.0,9.0,9.0]"));
                else if (flag != "--data")
                    CHECK(now.at(flag) == other.at(flag));
            }
        }
    }
    CHECK(settings(s / file) == before);  // the run that all of them came from
}

TEST_CASE("pairs: classes, by name") {
    using Names = std::vector<std::string>;
    const Names abc = {"ant", "bee", "cat"};
    const auto match = [&](const Names& found, WeightsUse use) { return match_classes(abc, found, use, "FILE", "DATA"); };
    const auto refused = [&](const Names& found, WeightsUse use) { return message<Error>([&] { match(found, use); }); };
    for (const WeightsUse use : {WeightsUse::resume, WeightsUse::fine_tune, WeightsUse::evaluate}) {
        CAPTURE(int(use));
        CHECK(match(abc, use).notice == "");
        CHECK(match(abc, use).unit_of.empty());
        const ClassMatch turned = match({"cat", "ant", "bee"}, use);
        CHECK(turned.classes == abc);
        CHECK(turned.unit_of == std::vector<int>{2, 0, 1});
        CHECK(has(turned.notice, "numbered as in FILE"));
    }
    const ClassMatch fewer = match({"bee", "cat"}, WeightsUse::evaluate);
    CHECK(fewer.classes == abc);
    CHECK(fewer.unit_of == std::vector<int>{1, 2});
    CHECK(has(fewer.notice, "only 2 of the network's 3 classes are in DATA"));
    CHECK(has(refused({"ant", "bee", "cats"}, WeightsUse::evaluate), "DATA has the class 'cats', and FILE is of 3 classes (ant, bee, cat); nearest is 'cat'"));
    CHECK(has(refused({"ant", "bee", "cat", "dog"}, WeightsUse::evaluate), "the class 'dog'"));
    for (const Names& found : {Names{"ant", "bee"}, Names{"ant", "bee", "cat", "dog"}, Names{"ant", "bee", "dog"}}) {
        CHECK(has(refused(found, WeightsUse::resume), "FILE is of 3 classes (ant, bee, cat), and DATA has " + std::to_string(found.size())));
        const ClassMatch own = match(found, WeightsUse::fine_tune);
        CHECK(own.classes == found);
        CHECK(has(own.notice, "the last layer is trained for these"));
    }
    CHECK(match_classes({}, abc, WeightsUse::evaluate, "FILE", "DATA").classes == abc);  // nothing known
    CHECK(classes_text({"a", "b", "c", "d", "e", "f"}) == "6 classes (a, b, c, d, e, ...)");
}

TEST_CASE("pairs: a data set with other classes, in another order, elsewhere, or changed") {
    const TempDir s;
    write_images(s / "set", {"ant", "bee", "cat"}, 4, 3);
    const std::string recipe = kNet + "--batch 2 --lr 0.002 --lr-policy constant --epochs 1 ";
    REQUIRE(run(s, program("train") + recipe + "--data folder:set --out r").status == 0);
    const std::string resume = program("train") + " --resume r --out n --overwrite --epochs 2 ";
    const std::string evaluate = program("train") + " --eval-only --gpus 0 --init r/checkpoint.safetensors ";
    const std::string tune = program("train") + " --init r/checkpoint.safetensors --gpus 0 --batch 2 --epochs 1 --out n --overwrite ";
    CHECK(classes(s / "r/checkpoint.safetensors") == std::vector<std::string>{"ant", "bee", "cat"});

    write_images(s / "fewer", {"bee", "cat"}, 4, 3);
    write_images(s / "more", {"ant", "bee", "cat", "dog"}, 4, 3);
    write_images(s / "names", {"ant", "bee", "dog"}, 4, 3);
    for (const char* set : {"fewer", "more", "names"})
        check_one_line(run(s, resume + "--data folder:" + set), 1, "a run goes on with its own classes");
    check_one_line(run(s, evaluate + "--data folder:more"), 1, "has the class 'dog'");
    const Result two = run(s, evaluate + "--data folder:fewer");
    INFO(two.out << two.err);
    CHECK(two.status == 0);
    CHECK(has(two.out, "notice  only 2 of the network's 3 classes are in folder:fewer"));
    // They are still their own units: the images of two classes give the errors of those two.
    fs::remove_all(s / "part");
    fs::create_directories(s / "part");
    fs::copy(s / "set/val", s / "part/val", fs::copy_options::recursive);
    const Result whole = run(s, evaluate + "--data folder:part");
    CHECK(result_of(whole) == result_of(run(s, evaluate)));  // without train/, and with nothing said
    fs::remove_all(s / "part/val/ant");
    const Result part = run(s, evaluate + "--data folder:part");
    CHECK(result_of(part) == result_of(two));
    const Result tuned = run(s, tune + "--data folder:names");
    INFO(tuned.out << tuned.err);
    CHECK(tuned.status == 0);
    CHECK(has(notices(tuned), "the last layer is trained for these"));
    CHECK(classes(s / "n/checkpoint.safetensors") == std::vector<std::string>{"ant", "bee", "dog"});

    // Moved: the same images are the same run.
    fs::copy(s / "set", s / "moved", fs::copy_options::recursive);
    REQUIRE(run(s, program("train") + " --resume r --out there --epochs 2").status == 0);
    const Result moved = run(s, resume + "--data folder:moved");
    CHECK(moved.status == 0);
    CHECK(has(notices(moved), "was made with --data folder:"));
    CHECK(same_tensors(s / "n/checkpoint.safetensors", s / "there/checkpoint.safetensors"));
    fs::rename(s / "set", s / "gone");
    check_one_line(run(s, resume), 1, "no such folder");
    check_one_line(run(s, evaluate), 1, "no such folder");
    // Other images of the same number; and more of them.
    write_images(s / "set", {"ant", "bee", "cat"}, 4, 3, 40);
    CHECK(has(notices(run(s, resume)), "the training images are not those that the run began with: their mean was"));
    fs::remove_all(s / "set");
    write_images(s / "set", {"ant", "bee", "cat"}, 5, 3);
    CHECK(has(notices(run(s, resume)), "the run began with 12 training and 9 held-out images, "));

    // Names that are no UTF-8 are theirs all the same.
    write_images(s / "latin", {"b\xe9", "cat"}, 4, 3);
    REQUIRE(run(s, program("train") + recipe + "--data folder:latin --out latin1").status == 0);
    CHECK(run(s, program("train") + " --resume latin1 --epochs 2").status == 0);
    CHECK(run(s, program("train") + " --eval-only --gpus 0 --init latin1/best.safetensors").status == 0);
    // The same records under names in another order.
    const auto write_records = [&](const std::string& dir, const std::vector<std::string>& names, const std::vector<int>& label) {
        const auto records = [&](int n) {
            Bytes b;
            for (int i = 0; i < n; ++i) {
                b.push_back(uint8_t(label[i % 10]));
                for (int p = 0; p < 3072; ++p) b.push_back(uint8_t(i % 10 * 20 + p % 7 * (1 + i % 10)));
            }
            return b;
        };
        for (int k = 1; k <= 5; ++k) write_file(dir + "/data_batch_" + std::to_string(k) + ".bin", records(10));
        write_file(dir + "/test_batch.bin", records(20));
        std::string text;
        for (const std::string& n : names) text += n + "\n";
        spit(dir + "/batches.meta.txt", text);
    };
    write_records(s / "a", {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"}, {0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
    write_records(s / "b", {"9", "8", "7", "6", "5", "4", "3", "2", "1", "0"}, {9, 8, 7, 6, 5, 4, 3, 2, 1, 0});
    REQUIRE(run(s, program("train") + recipe + "--data cifar10:a --augment none --out digits").status == 0);
    const std::string eval_digits = program("train") + " --eval-only --gpus 0 --init digits/best.safetensors ";
    const Result a = run(s, eval_digits), b = run(s, eval_digits + "--data cifar10:b");
    CHECK(a.status == 0);
    CHECK(result_of(a) == result_of(b));
    CHECK(has(notices(b), "classes are numbered as in digits/best.safetensors"));
    REQUIRE(run(s, program("train") + " --resume digits --epochs 2 --out on-a").status == 0);
    REQUIRE(run(s, program("train") + " --resume digits --epochs 2 --out on-b --data cifar10:b").status == 0);
    CHECK(same_tensors(s / "on-a/checkpoint.safetensors", s / "on-b/checkpoint.safetensors"));
    CHECK(classes(s / "on-b/checkpoint.safetensors") == classes(s / "digits/checkpoint.safetensors"));
}

TEST_CASE("weights: their file says which network and options they are of") {
    const TempDir s;
    write_images(s / "set", {"ant", "bee", "cat"}, 4, 3);
    for (const char* options : {"--activation tanh", "--lrn off", "--pool plain", "--precision bf16", "--augment full"}) {
        CAPTURE(options);
        const Result r = run(s, program("train") + kNet + "--batch 2 --lr 0.01 --epochs 2 --overwrite --out r --data folder:set " + options);
        INFO(r.out << r.err);
        REQUIRE(r.status == 0);
        const std::string file = "r/checkpoint.safetensors";
        for (const std::string net : {"", "--net cifar "}) {
            const Result e = run(s, program("train") + " --eval-only --gpus 0 " + net + "--init " + file);
            INFO(e.out << e.err);
            CHECK(e.status == 0);
            CHECK(result_of(e) == result_of(r));
            CHECK(has(e.out, "weights " + file + ": of cifar, at step 12"));
        }
        check_one_line(run(s, program("train") + " --eval-only --gpus 0 --net mini --init " + file), 1, "--net mini contradicts it");
    }
    // A new run from the file, with neither network nor data named.
    const Result n = run(s, program("train") + " --gpus 0 --batch 2 --steps 1 --out n --init r/checkpoint.safetensors");
    INFO(n.out << n.err);
    CHECK(n.status == 0);
    CHECK(settings(s / "n/checkpoint.safetensors").at("--net") == "cifar");
    CHECK(has(settings(s / "n/checkpoint.safetensors").at("--data"), "/set"));
}

TEST_CASE("weights: evaluating without --data is of their own data set, or is refused") {
    const TempDir s;
    write_images(s / "set", {"ant", "bee", "cat"}, 4, 3);
    const Result r = run(s, program("train") + kNet + "--batch 2 --lr 0.002 --epochs 1 --out r --data folder:set");
    REQUIRE(r.status == 0);
    fs::create_directory(s / "elsewhere");
    const Result e = run(s, "cd elsewhere && " + program("train") + " --eval-only --gpus 0 --init ../r/best.safetensors");
    INFO(e.out << e.err);
    CHECK(e.status == 0);
    CHECK(result_of(e) == result_of(r));
    CHECK(has(e.out, "data    images in " + fs::canonical(s / "set").string() + ": 9 val images, 3 classes"));
    copy_without(s / "r/best.safetensors", s / "bare.safetensors", {});
    check_one_line(run(s, program("train") + kNet + "--eval-only --init bare.safetensors"), 2,
                   "--eval-only: bare.safetensors does not say which data it is of: give --data");
    check_one_line(run(s, program("train") + " --gpus 0 --eval-only --init bare.safetensors"), 2, "give --net");
    const Result named = run(s, program("train") + kNet + "--eval-only --init bare.safetensors --data folder:set");
    INFO(named.out << named.err);
    CHECK(result_of(named) == result_of(r));  // measured as the run did
    CHECK(has(notices(named), "bare.safetensors does not say of which classes it is, nor how its images were normalised"));
}

TEST_CASE("train: more epochs after --steps, or after the end, are trained; with nothing left that is said") {
    const TempDir s;
    write_images(s / "set", {"ant", "bee", "cat"}, 4, 3);
    const std::string begin = program("train") + kNet + "--batch 2 --lr 0.002 --lr-policy constant --data folder:set ";
    REQUIRE(run(s, begin + "--steps 4 --out r").status == 0);
    const auto step = [&](const char* dir) { return metadata(s / (std::string(dir) + "/checkpoint.safetensors")).at("step"); };
    const Result more = run(s, program("train") + " --resume r --epochs 2");
    INFO(more.out << more.err);
    CHECK(more.status == 0);
    CHECK(step("r") == "12");
    CHECK(has(more.out, "trained 8 more steps (12 in all)"));
    CHECK_FALSE(settings(s / "r/checkpoint.safetensors").contains("--steps"));
    REQUIRE(run(s, begin + "--epochs 2 --out whole").status == 0);
    CHECK(same_tensors(s / "r/checkpoint.safetensors", s / "whole/checkpoint.safetensors"));
    // Over.
    const std::string log = slurp(s / "r/metrics.jsonl"), weights = slurp(s / "r/checkpoint.safetensors");
    for (const char* flags : {"", " --epochs 2", " --epochs 1", " --steps 3", " --timeline x.svg"}) {
        const Result none = run(s, program("train") + " --resume r" + flags);
        CAPTURE(flags);
        INFO(none.out << none.err);
        CHECK(none.status == 0);
        CHECK(has(none.out, "nothing to train: r/checkpoint.safetensors is at step 12, and this run has "));
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
    CHECK(has(notices(later), "the rate falls to 0 over 12 steps, before over 6: it goes on at 0.001"));
}

TEST_CASE("weights: images are normalised as the run did, whatever lies beside them") {
    const TempDir s;
    write_images(s / "set", {"ant", "bee", "cat"}, 4, 3);
    const Result r = run(s, program("train") + kNet + "--batch 2 --lr 0.01 --epochs 3 --out r --data folder:set");
    REQUIRE(r.status == 0);
    write_images(s / "bright", {"ant", "bee", "cat"}, 9, 3, 150);
    fs::remove_all(s / "bright/val");
    fs::copy(s / "set/val", s / "bright/val", fs::copy_options::recursive);
    for (const char* weights : {"--init r/checkpoint.safetensors", "--resume r"}) {
        const Result e = run(s, program("train") + " --eval-only --gpus 0 --data folder:bright " + weights);
        INFO(e.out << e.err);
        CHECK(result_of(e) == result_of(r));
        CHECK(has(e.out, "(as r/checkpoint.safetensors)"));
    }
    const auto j = json::parse(metadata(s / "r/best.safetensors").at("normalisation"));
    CHECK(j.at("mean").size() == 3);
    CHECK(j.at("std").at(2).get<double>() > 1);
    // The side that images are stored at, too: 64x64 here, 32x32 there.
    for (const char* name : {"ant", "bee", "cat"})
        for (int i = 0; i < 3; ++i) write_file(s / ("large/val/" + std::string(name) + "/" + std::to_string(i) + ".png"), flat_png(64, 64, 90, 40 * i, 9));
    const Result large = run(s, program("train") + " --eval-only --gpus 0 --data folder:large --init r/best.safetensors");
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
    const Result r = run(s, program("train") + kNet + "--batch 2 --lr 0.002 --epochs 1 --out r --data folder:set");
    INFO(r.out << r.err);
    const std::string said = "(19 of 20 images; 1 skipped: " + fs::canonical(s / "set/val/ant").string() + "/3.png (";
    const std::string relative = "(19 of 20 images; 1 skipped: set/val/ant/3.png (";
    CHECK(has(r.out, relative));
    CHECK(has(notices(r), "1 entry of set/train not named .jpg, .jpeg or .png, passed over (set/train/bee/notes.txt)"));
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
    const Result r = run(s, program("train") + kNet + "--batch 2 --lr 0.002 --lr-policy constant --steps 4 --activation tanh --seed 3 --out r --data folder:set");
    REQUIRE(r.status == 0);
    copy_without(s / "r/checkpoint.safetensors", s / "old/checkpoint.safetensors", kNewKeys);
    const std::string notice = "old/checkpoint.safetensors does not say of which classes it is, nor how its images were normalised";
    const Result e = run(s, program("train") + " --eval-only --gpus 0 --init old/checkpoint.safetensors");
    INFO(e.out << e.err);
    CHECK(e.status == 0);
    CHECK(result_of(e) == result_of(r));  // its flags say tanh
    CHECK(has(notices(e), notice));
    check_one_line(run(s, program("train") + " --resume old --activation relu"), 1, "contradicts it");
    const Result on = run(s, program("train") + " --resume old --steps 6");
    CHECK(on.status == 0);
    CHECK(has(notices(on), notice));
    REQUIRE(run(s, program("train") + " --resume r --steps 6").status == 0);
    CHECK(same_tensors(s / "old/checkpoint.safetensors", s / "r/checkpoint.safetensors"));
    CHECK(classes(s / "old/checkpoint.safetensors").size() == 3);  // known from here on
    CHECK(has(metadata(s / "r/checkpoint.safetensors").at("command"), "bin/train --resume r --steps 6"));
    // Damage is said.
    auto damaged = metadata(s / "r/checkpoint.safetensors");
    const auto file = SafetensorsFile::open(s / "r/checkpoint.safetensors");
    for (const char* key : {"settings", "classes", "normalisation", "input", "data", "total_steps"}) {
        Metadata m = damaged;
        m[key] = "{\"mean\":[1],\"std\":3";
        CHECK(has(message<Error>([&] { read_record(m, "FILE"); }), std::string("FILE: its '") + key + "' is not understood"));
    }
}
