// Ten views, classes' errors, and bin/classify: what a trained network says of image files.
#include "data/sampling.h"
#include "host/json.h"
#include "host/train/per_class.h"
#include "test/data_files.h"
#include "test/program.h"
#include "test/training.h"

using namespace wt;
using namespace wt::test;

namespace {

// Two classes that a small network tells apart at once, 32x32; of each also some to hold out.
void write_colours(const TempDir& t) {
    const char* names[] = {"red", "teal"};
    for (int c = 0; c < 2; ++c)
        for (int i = 0; i < 14; ++i) {
            const int base = c ? 40 : 200, other = c ? 190 : 30;
            write_file(t / ("set/" + std::string(i < 10 ? "train/" : "val/") + names[c] + "/" +
                            std::to_string(10 + i) + ".png"),
                       flat_png(32, 32, base + 3 * i, other + i, other - i));
        }
}

std::vector<Json> json_lines(const std::string& text) {
    std::vector<Json> all;
    std::istringstream in(text);
    for (std::string line; std::getline(in, line);) all.push_back(parse_json(line));
    return all;
}

}  // namespace

TEST_CASE("views: corners and centre, then mirrored") {
    const int want[5][2] = {{0, 0}, {0, 8}, {10, 0}, {10, 8}, {5, 4}};  // y0, x0
    for (int v = 0; v < 10; ++v) {
        const AugmentParams p = view_of(v, 10, 34, 32, 24);
        CHECK(p.y0 == want[v % 5][0]);
        CHECK(p.x0 == want[v % 5][1]);
        CHECK(p.mirror == v / 5);
        CHECK(p.noise[0] == 0);
    }
    const float pca[3][3] = {};
    const AugmentParams one = view_of(0, 1, 33, 32, 24),
                        centre = draw_augment(AugmentMode::none, 1, 0, 0, 33, 32, 24, pca);
    CHECK(one.y0 == centre.y0);
    CHECK(one.x0 == centre.x0);
    CHECK(view_count(10, true) == 10);
    CHECK(view_count(10, false) == 5);  // digits
    CHECK(view_count(1, false) == 1);
}

TEST_CASE("per class: errors, ties, NaN") {
    const float nan = std::nanf("");
    const float tie[] = {1, 3, 3, 0, 0, 0, 0}, wrong[] = {1, 2, nan, 0, 0, 0, 0};
    CHECK(rank_of(tie, 7, 1).top1);
    CHECK_FALSE(rank_of(tie, 7, 2).top1);
    CHECK(rank_of(tie, 7, 2).top5);
    CHECK_FALSE(rank_of(tie, 7, 6).top5);  // three equal ones and three larger are before it
    CHECK_FALSE(rank_of(wrong, 7, 2).top5);
    const TempDir t;
    PerClass p({"a", "b,c", "d"});
    const float first[] = {2, 1, 0}, second[] = {0, 1, 0};
    p.add(0, first);
    p.add(0, second);
    p.add(1, second);
    p.add(-1, second);
    p.write(t / "p.csv");
    CHECK(slurp(t / "p.csv") ==
          "class,images,top1_error,top5_error,taken_for,times\n"
          "a,2,50.0000,0.0000,\"b,c\",1\n\"b,c\",1,0.0000,0.0000,,\nd,0,,,,\n");
    CHECK(p.summary() == "worst: a 50.0%, b,c 0.0%");
}

TEST_CASE("classify: agrees with the evaluation, in one view and ten, from files and folders") {
    const TempDir t;
    write_colours(t);
    const std::string train =
        program("train") + " --net cifar --data folder:set --batch 5 --gpus 0 ";
    REQUIRE(run(t, train + "--steps 30 --lr 0.005 --out r").status == 0);
    for (const std::string views : {"1", "10"}) {
        const std::string with = " --views " + views + " ";
        const Result e = run(
            t, train + "--resume r --eval-only --per-class c.csv --predictions " + "p.csv" + with);
        REQUIRE_MESSAGE(e.status == 0, e.err);
        const Result c = run(
            t, program("classify") + " r/checkpoint.safetensors set/val --json --batch 3" + with);
        REQUIRE_MESSAGE(c.status == 0, c.err);
        const auto lines = json_lines(c.out);
        REQUIRE(lines.size() == 8);
        std::istringstream rows(slurp(t / "p.csv"));
        std::string row;
        std::getline(rows, row);  // the heading
        int right = 0;
        for (const Json& j : lines) {
            REQUIRE(std::getline(rows, row));
            const std::string file = j["file"], best = j["classes"][0]["class"];
            CHECK_MESSAGE(row.starts_with(file + ","), row);
            char want[64];
            std::snprintf(want, sizeof want, "%s,%.6f", best.c_str(),
                          j["classes"][0]["probability"].get<double>());
            CHECK_MESSAGE(has(row, want), row << " lacks " << want);
            right += has(file, "/" + best + "/");
        }
        char error[64];
        std::snprintf(error, sizeof error, "top-1 error %.2f%%", 100 * (1 - right / 8.0));
        CHECK_MESSAGE(has(e.out, error), e.out);
        CHECK(has(slurp(t / "c.csv"), "red,4,"));
    }
    const std::string classify = program("classify") + " r/checkpoint.safetensors ";
    const Result text = run(t, classify + "set/val/red/20.png");
    CHECK(text.status == 0);
    CHECK_MESSAGE((has(text.out, "set/val/red/20.png\n") && has(text.out, "%  teal\n")), text.out);

    write_file(t / "names.txt", Bytes{'t', 'e', 'a', 'l', '\t', 'd', 'u', 'c', 'k', '\n'});
    CHECK(has(run(t, classify + "set/val/red/20.png --names names.txt").out, "%  duck (teal)\n"));
    check_one_line(run(t, classify + "set/val --names p.csv"), 1,
                   "has none of the network's classes");

    // Nearest by the features: of a red image, red ones; its own file is left out.
    const Result near =
        run(t, classify + "set/train/red/13.png --json --nearest set/train --features fc4 f.npy");
    check_one_line(near, 2, "has no layer below the last");
    CHECK(run(t, classify + "set/val --features fc4 f.npy").status == 0);
    CHECK(std::filesystem::file_size(t / "f.npy") == 128 + 8 * 2 * 4);

    // What cannot be.
    write_file(t / "broken.jpg", Bytes{1, 2, 3});
    const Result some = run(t, classify + "broken.jpg set/val/red/20.png --json");
    CHECK(some.status == 0);
    CHECK(json_lines(some.out).at(0)["error"] == "neither JPEG nor PNG");
    CHECK(run(t, classify + "broken.jpg").status == 1);
    check_one_line(run(t, classify + "set/val --features conv1 f.npy"), 2, "conv1");
    check_one_line(run(t, classify + "set/val --views 5"), 2, "must be one of 1, 10");
    check_one_line(run(t, program("classify") + " none.safetensors set/val"), 1,
                   "none.safetensors");
    check_one_line(run(t, train + "--views 10 --steps 1 --out q"), 2, "give --eval-only too");
}

TEST_CASE("classify: the nearest images by fc7 are of the same colour") {
    const TempDir t;
    write_colours(t);
    REQUIRE(run(t, program("train") +
                       " --net mini --data folder:set --batch 5 --gpus 0 --steps 6 --out r")
                .status == 0);
    const Result r =
        run(t, program("classify") +
                   " r/checkpoint.safetensors set/train/red/13.png --json --nearest set");
    REQUIRE_MESSAGE(r.status == 0, r.err);
    const Json j = json_lines(r.out).at(0);
    REQUIRE(j["nearest"].size() == 6);
    double before = 0;
    for (const Json& n : j["nearest"]) {
        CHECK(has(n["file"], "/red/"));
        CHECK(n["file"] != "set/train/red/13.png");
        CHECK(n["distance"].get<double>() >= before);
        before = n["distance"];
    }
}
