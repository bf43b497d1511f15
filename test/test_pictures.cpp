// What a run's page shows of single held-out images: the classes' confusion, best and worst
// examples, and an image's activations.
#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <random>
#include <sstream>

#include "data/image.h"
#include "host/draw/png.h"
#include "host/json.h"
#include "host/report/run_pictures.h"
#include "host/report/run_report.h"
#include "host/train/examples.h"
#include "test/data_files.h"
#include "test/parallel_job.h"
#include "test/training.h"

using namespace wt;
using namespace wt::test;

namespace {

// Three classes of colours, of which the last two are alike. held_out: images of each.
void write_colours(const TempDir& t, const std::string& dir, int held_out) {
    for (int c = 0; c < 3; ++c)
        for (int i = 0; i < 4 + held_out; ++i)
            write_file(t / (dir + (i < 4 ? "/train/" : "/val/") + std::string(1, char('a' + c)) +
                            "/" + std::to_string(i) + ".png"),
                       flat_png(32, 32, c ? 200 + 9 * c + i : 20, 9 * i, 100));
}

// image, class, answer and the class's probability, of a file of --predictions.
struct Row {
    std::string image, label, answer;
    double probability = -1;
};
std::vector<Row> rows_of(const std::string& csv) {
    std::vector<Row> rows;
    std::istringstream in(csv);
    std::string line;
    std::getline(in, line);
    while (std::getline(in, line)) {
        std::vector<std::string> fields;
        std::istringstream parts(line);
        for (std::string part; std::getline(parts, part, ',');) fields.push_back(part);
        Row r{.image = fields.at(0), .label = fields.at(1), .answer = fields.at(2)};
        for (size_t i = 2; i + 1 < fields.size(); i += 2)
            if (fields[i] == r.label) r.probability = std::stod(fields[i + 1]);
        rows.push_back(r);
    }
    return rows;
}

const std::string kCifar = program("train") + " --net cifar --batch 2 --lr 0.01 ";

}  // namespace

TEST_CASE("pictures: examples are the first of a sorted list, a few of each class") {
    for (const int classes : {2, 5, 20, 21}) {
        std::mt19937 rng(static_cast<unsigned>(classes));
        const auto n = static_cast<size_t>(classes);
        Examples examples(n);
        std::vector<int64_t> confusion(n * n);
        std::vector<std::pair<double, int>> all;  // probability, label; by image
        for (int i = 0; i < 200; ++i) {
            std::vector<float> logits(n);
            // Few values, so that some are equal.
            for (float& v : logits) v = static_cast<float>(rng() % 7);
            const int label = static_cast<int>(rng() % n);
            examples.add(i, label, logits.data());
            double sum = 0;
            for (const float v : logits) sum += std::exp(double(v));
            all.push_back({std::exp(double(logits[static_cast<size_t>(label)])) / sum, label});
            const auto answer = static_cast<size_t>(std::max_element(logits.begin(), logits.end()) -
                                                    logits.begin());
            ++confusion[static_cast<size_t>(label) * n + answer];
        }
        CHECK(examples.confusion() == (classes <= 20 ? confusion : std::vector<int64_t>{}));
        for (const bool best : {true, false}) {
            const auto& shown = best ? examples.best() : examples.worst();
            std::vector<int> order(all.size());
            for (size_t i = 0; i < order.size(); ++i) order[i] = static_cast<int>(i);
            std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
                const auto p = [&](int i) {
                    return static_cast<float>(all[static_cast<size_t>(i)].first);
                };
                return std::abs(p(a) - p(b)) > 1e-6 && (best ? p(a) > p(b) : p(a) < p(b));
            });
            std::map<int, int> taken;
            std::vector<double> wanted;
            for (const int i : order)
                if (wanted.size() < Examples::kShown &&
                    taken[all[static_cast<size_t>(i)].second]++ < std::max(1, 6 / classes))
                    wanted.push_back(all[static_cast<size_t>(i)].first);
            REQUIRE(shown.size() == wanted.size());
            for (size_t i = 0; i < shown.size(); ++i) {
                CHECK(shown[i].probability == doctest::Approx(wanted[i]).epsilon(1e-4));
                CHECK(shown[i].label == all[static_cast<size_t>(shown[i].image)].second);
            }
        }
    }
    Examples examples(2);  // what is not a number has no place
    const float bad[] = {std::nanf(""), 1};
    examples.add(0, 0, bad);
    CHECK(examples.best().empty());
}

TEST_CASE("pictures: a run's are those of an evaluation of its checkpoint") {
    const TempDir t;
    write_colours(t, "set", 5);
    // One image that cannot be read, and workers that share an odd number of the others.
    write_file(t / "set/val/b/9.png", Bytes{'x'});
    for (const std::string gpus : {"0", "0,0 --fc-scheme b", "0,0 --fc-scheme dp"}) {
        INFO(gpus);
        const std::string begin =
            kCifar + "--data folder:set --steps 8 --overwrite --out r --gpus ";
        const Result r = run(t, begin + gpus);
        REQUIRE_MESSAGE(r.status == 0, r.err);
        REQUIRE(run(t, program("train") + " --resume r --eval-only --gpus 0 --predictions p.csv")
                    .status == 0);
        auto rows = rows_of(slurp(t / "p.csv"));
        REQUIRE(rows.size() == 15);
        const RunPictures p = read_pictures(t / "r");
        CHECK(p.step == 8);
        CHECK(p.split == "val");
        CHECK(p.classes == std::vector<std::string>{"a", "b", "c"});
        std::vector<int64_t> confusion(9);
        for (const Row& row : rows)
            ++confusion[static_cast<size_t>((row.label[0] - 'a') * 3 + row.answer[0] - 'a')];
        CHECK(p.confusion == confusion);
        // The log's error is the matrix's.
        const std::string log = slurp(t / "r/metrics.jsonl");
        const Json eval = parse_json(
            log.substr(log.rfind("{\"kind\":\"eval\""),
                       log.rfind("{\"kind\":\"done\"") - log.rfind("{\"kind\":\"eval\"")));
        CHECK(eval["images"] == 15);
        CHECK(eval["skipped"] == 1);
        CHECK(eval["top1_error"].get<double>() ==
              doctest::Approx(100 - (confusion[0] + confusion[4] + confusion[8]) / 0.15));
        for (const bool best : {true, false}) {
            std::stable_sort(rows.begin(), rows.end(), [&](const Row& a, const Row& b) {
                return best ? a.probability > b.probability : a.probability < b.probability;
            });
            const auto& shown = best ? p.best : p.worst;
            REQUIRE(shown.size() == 6);
            CHECK(shown[0].probability == doctest::Approx(rows[0].probability).epsilon(1e-3));
            for (const auto& i : shown) {
                const auto at = std::find_if(rows.begin(), rows.end(), [&](const Row& row) {
                    return row.image.ends_with("/val/" + i.name);
                });
                REQUIRE(at != rows.end());
                CHECK(at->label == i.label);
                CHECK(at->answer == i.answer);
                CHECK(at->probability == doctest::Approx(i.probability).epsilon(1e-3));
                CHECK(i.picture.starts_with("data:image/png;base64,"));
            }
        }
        REQUIRE(p.maps.size() == 3);
        CHECK(p.maps[0].layer == "conv1");
        CHECK(p.maps[0].height == 24);
        CHECK(p.maps[0].shown == 16);
        CHECK(!p.through.picture.empty());
        // The page has them, each number once where it is.
        const std::string page = slurp(t / "r/report.html");
        CHECK(has(page, "class='confusion'"));
        CHECK(has(page, "Missed most (val, after step 8)"));
        CHECK(has(page, p.worst[0].picture));
        CHECK(has(page, p.maps[2].picture));
    }
    // Another run in the same folder does not show what was there.
    REQUIRE(
        run(t, kCifar + "--data folder:set --steps 0 --eval-every 0 --overwrite --out r --gpus 0")
            .status == 0);
    CHECK(read_pictures(t / "r").step == -1);
}

TEST_CASE("pictures: what is no picture is not taken over, and what is no file of ours is none") {
    const TempDir t;
    RunPictures p;
    p.step = 3;
    p.split = "val";
    p.best.push_back(
        {.name = "<b>", .label = "x", .answer = "y", .probability = 0.5, .picture = ""});
    p.best.back().picture = "javascript:alert(1)";
    p.worst.push_back(
        {.name = "n", .label = "x", .answer = "x", .probability = 0.25, .picture = ""});
    p.worst.back().picture = "data:image/png;base64,TWFu";
    p.through.picture = "data:image/png;base64,TWFu' onload='alert(1)";
    p.classes = {"a", "b"};
    p.confusion = {1, 2, 3};  // not 2 x 2
    write_pictures(t.path(), p);
    const RunPictures q = read_pictures(t.path());
    CHECK(q.step == 3);
    CHECK(q.best[0].picture == "");
    CHECK(q.worst[0].picture == p.worst[0].picture);
    CHECK(q.worst[0].probability == 0.25);
    CHECK(q.through.picture == "");
    CHECK(q.confusion.empty());
    const std::string html = pictures_section(q);
    CHECK(!has(html,
               "<b>"
               "</span>"));
    CHECK(has(html, "&lt;b&gt;"));
    CHECK(has(html, "taken for y"));
    for (const char* text : {"", "{", "[]", "{\"step\":1}", "{\"step\":\"x\",\"split\":1}"}) {
        write_file(pictures_path(t.path()), Bytes(text, text + std::strlen(text)));
        CHECK(read_pictures(t.path()).step == -1);
    }
    CHECK(pictures_section({}) == "");
}

TEST_CASE("pictures: maps are a layer's channels, each stretched to its own range") {
    // Three channels of 2x3; the second is flat.
    std::vector<float> y;
    for (int at = 0; at < 6; ++at) y.insert(y.end(), {float(at), 7.f, float(-at)});
    const std::string png = draw::maps_png(y, 2, 3, 3, {0, 1, 2}, 2);
    Image image;
    REQUIRE(decode_image(Bytes(png.begin(), png.end()), image) == "");
    CHECK(image.width == 2 * 3 + 1);
    CHECK(image.height == 2 * 2 + 1);
    const auto at = [&](int row, int column) {
        return int(image.rgb[static_cast<size_t>((row * image.width + column) * 3)]);
    };
    CHECK(at(0, 0) == 0);
    CHECK(at(1, 2) == 255);
    CHECK(at(0, 1) == 51);
    CHECK(at(0, 4) == 0);    // flat
    CHECK(at(3, 0) == 255);  // falling, in the second row
    CHECK(at(4, 2) == 0);
}

TEST_CASE("pictures: a layer's output is what fp64 loops make of the image") {
    for (const uint64_t seed : {1, 2, 3}) {
        WorkerConfig c;
        c.net = tiny_net({.classes = 10}, "tiny");
        c.batch = 2;
        c.image_h = c.image_w = c.net.input.h;
        Group group({c});
        const Layout& l = group.worker(0).layout();
        Normalisation n;
        for (int i = 0; i < 3; ++i) n.mean[i] = 100, n.inv_std[i] = 1 / 50.f;
        group.run([&](Worker& w) { w.set_normalisation(n); });
        for (size_t i = 0; i < l.params.size(); ++i)
            group.set_param(
                static_cast<int>(i),
                initial_values(c.net, l.params[i], {0, l.params[i].rows}, Init::he, seed));
        const int side = c.net.input.h;
        PinnedBuffer<uint8_t> images(static_cast<size_t>(2 * side * side * 3));
        std::mt19937 rng(static_cast<unsigned>(seed));
        for (size_t i = 0; i < images.size(); ++i) images[i] = static_cast<uint8_t>(rng());
        PinnedBuffer<AugmentParams> draws(2);
        PinnedBuffer<int> labels(2);
        for (size_t i = 0; i < 2; ++i) draws[i] = {}, labels[i] = 1;
        group.run([&](Worker& w) {
            w.wait(w.evaluate({images.data(), draws.data(), labels.data()}));
        });
        const Layer& conv = c.net.layers[0];
        const std::vector<float> w = group.get_param(0), bias = group.get_param(1),
                                 y = group.worker(0).get_output("conv1");
        REQUIRE(y.size() == static_cast<size_t>(2 * conv.y.count()));
        double worst = 0;
        for (int s = 0; s < 2; ++s)
            for (int py = 0; py < conv.y.h; ++py)
                for (int px = 0; px < conv.y.w; ++px)
                    for (int k = 0; k < conv.y.c; ++k) {
                        double sum = bias[static_cast<size_t>(k)];
                        for (int r = 0; r < conv.size; ++r)
                            for (int q = 0; q < conv.size; ++q)
                                for (int ch = 0; ch < 3; ++ch) {
                                    const int iy = py * conv.stride + r, ix = px * conv.stride + q;
                                    const double v = images[static_cast<size_t>(
                                        ((s * side + iy) * side + ix) * 3 + ch)];
                                    sum += (v - 100) / 50 *
                                           w[static_cast<size_t>(
                                               ((k * conv.size + r) * conv.size + q) * 3 + ch)];
                                }
                        const double wanted = std::max(0.0, sum);
                        const size_t at = static_cast<size_t>(
                            ((s * conv.y.h + py) * conv.y.w + px) * conv.y.c + k);
                        worst = std::max(worst, std::abs(y[at] - wanted));
                    }
        CHECK(worst < 1e-4);
        CHECK(group.worker(0).get_output("conv1", 1).size() == static_cast<size_t>(conv.y.count()));
        CHECK(group.worker(0).get_output("fc6") == group.get_logits());
        CHECK_THROWS_WITH(group.worker(0).get_output("conv9"),
                          "no layer conv9 with an output of its own");
    }
}
