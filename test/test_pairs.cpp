// What a run was made with, and what a later command says: every pair is taken over, refused, or
// used with a notice, and none is passed over in silence.
#include <doctest/doctest.h>

#include <filesystem>
#include <map>

#include "host/train/carry.h"
#include "host/train/classes.h"
#include "host/train/options.h"
#include "test/recorded_runs.h"

namespace fs = std::filesystem;
using namespace wt;
using namespace wt::test;

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
        CHECK_MESSAGE((count == 1 && (s.contains(flag) || flag == "--mean" || flag == "--std")),
                      flag);
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
        program("train") + kNet +
        "--data folder:set --batch 2 --activation tanh --pool plain --lrn off --dropout 0.1 "
        "--mean 100,110,120.25 --std 50,60,70 --seed 5 --augment none --precision tf32 --kernels own --fuse off "
        "--fc-scheme b --fc-split alternate --fc-update per-pass --lr-scale k --lr 0.002 --lr-policy constant --warmup 0.5 --check-replicas 1 "
        "--momentum 0.8 --weight-decay 0.001 --freeze conv2 --epochs 5 --steps 2 --init paper --out r";
    const Result first = run(s, made);
    INFO(first.out << first.err);
    REQUIRE(first.status == 0);
    const std::string file = "r/checkpoint.safetensors";
    const auto before = settings(s / file);
    CHECK(before.at("--activation") == "tanh");
    CHECK(before.at("--data") == "folder:" + fs::canonical(s / "set").string());

    const std::map<std::string, std::string> other = {{"--net", "mini"},
                                                      {"--activation", "relu"},
                                                      {"--pool", "overlap"},
                                                      {"--lrn", "on"},
                                                      {"--dropout", "0.2"},
                                                      {"--mean", "1,2,3"},
                                                      {"--std", "9,9,9"},
                                                      {"--data", "folder:other"},
                                                      {"--seed", "6"},
                                                      {"--augment", "crop"},
                                                      {"--batch", "1"},
                                                      {"--accumulate", "2"},
                                                      {"workers", "--gpus 0,0 --batch 1"},
                                                      {"--precision", "fp32"},
                                                      {"--kernels", "auto"},
                                                      {"--fuse", "on"},
                                                      {"--overlap", "wgrad"},
                                                      {"--fc-scheme", "c"},
                                                      {"--fc-split", "columns"},
                                                      {"--fc-update", "accumulate"},
                                                      {"--lr-scale", "none"},
                                                      {"--lr", "0.004"},
                                                      {"--lr-policy", "linear"},
                                                      {"--warmup", "1"},
                                                      {"--label-smoothing", "0.1"},
                                                      {"--check-replicas", "2"},
                                                      {"--momentum", "0.7"},
                                                      {"--weight-decay", "0.002"},
                                                      {"--epochs", "4"},
                                                      {"--steps", "4"},
                                                      {"--init", "he"},
                                                      {"--freeze", "conv1"}};
    struct Command {
        WeightsUse use;
        std::string text;
    };
    const Command commands[] = {
        {WeightsUse::resume, program("train") + " --resume r --out n --overwrite --steps 3 "},
        {WeightsUse::fine_tune, program("train") + " --init " + file +
                                    " --gpus 0 --batch 2 --steps 1 --out n --overwrite "},
        {WeightsUse::evaluate, program("train") + " --eval-only --gpus 0 --init " + file + " "}};
    for (const Command& c : commands) {
        // Nothing said: all of it is taken over but for what the new command has of its own.
        const Result quiet = run(s, c.text);
        INFO(quiet.out << quiet.err);
        REQUIRE(quiet.status == 0);
        CHECK(notices(quiet) == "");
        const auto after =
            c.use == WeightsUse::evaluate ? before : settings(s / "n/checkpoint.safetensors");
        for (const SettingRule& rule : setting_rules()) {
            const std::string flag = rule.setting;
            const Rule what = rule.of(c.use);
            CAPTURE(flag);
            CAPTURE(int(c.use));
            if (what != Rule::own && flag != "--steps" && before.contains(flag))
                CHECK(after.at(flag) == before.at(flag));
            REQUIRE(other.contains(flag));
            const std::string value =
                flag == "workers" ? other.at(flag) : flag + " " + other.at(flag);
            const Result r = run(s, c.text + value);
            INFO(r.out << r.err);
            if (flag == "--init" && c.use != WeightsUse::fine_tune) {
                if (c.use == WeightsUse::resume)
                    check_one_line(r, 2, "--init he");
                else
                    check_one_line(r, 2, "--eval-only needs weights");
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
            if (r.status == 0 && c.use != WeightsUse::evaluate && flag != "workers" &&
                flag != "--init") {
                // It is used, and the next checkpoint says so.
                const auto now = settings(s / "n/checkpoint.safetensors");
                if (flag == "--mean" || flag == "--std")
                    CHECK(has(metadata(s / "n/checkpoint.safetensors").at("normalisation"),
                              flag == "--mean" ? "[1.0,2.0,3.0]" : "[9.0,9.0,9.0]"));
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
    const auto match = [&](const Names& found, WeightsUse use) {
        return match_classes(abc, found, use, "FILE", "DATA");
    };
    const auto refused = [&](const Names& found, WeightsUse use) {
        return message<Error>([&] { match(found, use); });
    };
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
    CHECK(has(
        refused({"ant", "bee", "cats"}, WeightsUse::evaluate),
        "DATA has the class 'cats', and FILE is of 3 classes (ant, bee, cat); nearest is 'cat'"));
    CHECK(has(refused({"ant", "bee", "cat", "dog"}, WeightsUse::evaluate), "the class 'dog'"));
    for (const Names& found :
         {Names{"ant", "bee"}, Names{"ant", "bee", "cat", "dog"}, Names{"ant", "bee", "dog"}}) {
        CHECK(has(
            refused(found, WeightsUse::resume),
            "FILE is of 3 classes (ant, bee, cat), and DATA has " + std::to_string(found.size())));
        const ClassMatch own = match(found, WeightsUse::fine_tune);
        CHECK(own.classes == found);
        CHECK(has(own.notice, "the last layer is trained for these"));
    }
    // nothing known
    CHECK(match_classes({}, abc, WeightsUse::evaluate, "FILE", "DATA").classes == abc);
    CHECK(classes_text({"a", "b", "c", "d", "e", "f"}) == "6 classes (a, b, c, d, e, ...)");
}

TEST_CASE("pairs: a data set with other classes, in another order, elsewhere, or changed") {
    const TempDir s;
    write_images(s / "set", {"ant", "bee", "cat"}, 4, 3);
    const std::string recipe = kNet + "--batch 2 --lr 0.002 --lr-policy constant --epochs 1 ";
    REQUIRE(run(s, program("train") + recipe + "--data folder:set --out r").status == 0);
    const std::string resume = program("train") + " --resume r --out n --overwrite --epochs 2 ";
    const std::string evaluate =
        program("train") + " --eval-only --gpus 0 --init r/checkpoint.safetensors ";
    const std::string tune =
        program("train") +
        " --init r/checkpoint.safetensors --gpus 0 --batch 2 --epochs 1 --out n --overwrite ";
    CHECK(classes(s / "r/checkpoint.safetensors") == std::vector<std::string>{"ant", "bee", "cat"});

    write_images(s / "fewer", {"bee", "cat"}, 4, 3);
    write_images(s / "more", {"ant", "bee", "cat", "dog"}, 4, 3);
    write_images(s / "names", {"ant", "bee", "dog"}, 4, 3);
    for (const char* set : {"fewer", "more", "names"})
        check_one_line(run(s, resume + "--data folder:" + set), 1,
                       "a run goes on with its own classes");
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
    // without train/, and with nothing said
    CHECK(result_of(whole) == result_of(run(s, evaluate)));
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
    CHECK(has(notices(run(s, resume)),
              "the training images are not those that the run began with: their mean was"));
    fs::remove_all(s / "set");
    write_images(s / "set", {"ant", "bee", "cat"}, 5, 3);
    CHECK(has(notices(run(s, resume)), "the run began with 12 training and 9 held-out images, "));

    // Names that are no UTF-8 are theirs all the same.
    write_images(s / "latin", {"b\xe9", "cat"}, 4, 3);
    REQUIRE(run(s, program("train") + recipe + "--data folder:latin --out latin1").status == 0);
    CHECK(run(s, program("train") + " --resume latin1 --epochs 2").status == 0);
    CHECK(
        run(s, program("train") + " --eval-only --gpus 0 --init latin1/best.safetensors").status ==
        0);
    // The same records under names in another order.
    const auto write_records = [&](const std::string& dir, const std::vector<std::string>& names,
                                   const std::vector<int>& label) {
        const auto records = [&](int n) {
            Bytes b;
            for (int i = 0; i < n; ++i) {
                b.push_back(uint8_t(label[i % 10]));
                for (int p = 0; p < 3072; ++p)
                    b.push_back(uint8_t(i % 10 * 20 + p % 7 * (1 + i % 10)));
            }
            return b;
        };
        for (int k = 1; k <= 5; ++k)
            write_file(dir + "/data_batch_" + std::to_string(k) + ".bin", records(10));
        write_file(dir + "/test_batch.bin", records(20));
        std::string text;
        for (const std::string& n : names) text += n + "\n";
        spit(dir + "/batches.meta.txt", text);
    };
    write_records(s / "a", {"0", "1", "2", "3", "4", "5", "6", "7", "8", "9"},
                  {0, 1, 2, 3, 4, 5, 6, 7, 8, 9});
    write_records(s / "b", {"9", "8", "7", "6", "5", "4", "3", "2", "1", "0"},
                  {9, 8, 7, 6, 5, 4, 3, 2, 1, 0});
    REQUIRE(
        run(s, program("train") + recipe + "--data cifar10:a --augment none --out digits").status ==
        0);
    const std::string eval_digits =
        program("train") + " --eval-only --gpus 0 --init digits/best.safetensors ";
    const Result a = run(s, eval_digits), b = run(s, eval_digits + "--data cifar10:b");
    CHECK(a.status == 0);
    CHECK(result_of(a) == result_of(b));
    CHECK(has(notices(b), "classes are numbered as in digits/best.safetensors"));
    REQUIRE(run(s, program("train") + " --resume digits --epochs 2 --out on-a").status == 0);
    REQUIRE(run(s, program("train") + " --resume digits --epochs 2 --out on-b --data cifar10:b")
                .status == 0);
    CHECK(same_tensors(s / "on-a/checkpoint.safetensors", s / "on-b/checkpoint.safetensors"));
    CHECK(classes(s / "on-b/checkpoint.safetensors") ==
          classes(s / "digits/checkpoint.safetensors"));
}
