// The page of a run: its numbers are the log's, and nothing on it is from elsewhere.
#include "host/cuda/device.h"
#include "host/draw/chart.h"
#include "host/draw/page.h"
#include "host/draw/png.h"
#include "host/json.h"
#include "host/report/run_report.h"
#include "data/image.h"
#include "test/data_files.h"
#include "test/program.h"

using namespace wt;
using namespace wt::test;

namespace {

// No address that a browser would load, no script, and every tag closed.
void check_alone(const std::string& page) {
    std::string text = page;
    for (size_t at; (at = text.find("http://www.w3.org/2000/svg")) != text.npos;)
        text.erase(at, std::string("http://www.w3.org/2000/svg").size());
    for (const char* part : {"http:", "https:", "<script", "<link", "@import", "url("})
        CHECK_MESSAGE(!has(text, part), part);
    for (size_t at = text.find("src='"); at != text.npos; at = text.find("src='", at + 1))
        CHECK((text.compare(at, 20, "src='data:image/png;") == 0 ||
               text.compare(at, 21, "src='data:image/jpeg;") == 0));
    for (const char* tag : {"div", "svg", "table", "tr", "td", "th", "p", "h1", "h2", "details",
                            "figure", "figcaption", "span", "b", "text", "title", "style"}) {
        const std::string name = tag;
        CHECK_MESSAGE(count(text, "<" + name + " ") + count(text, "<" + name + ">") ==
                          count(text, "</" + name + ">"),
                      name);
    }
}

void write_colours(const TempDir& t) {
    for (int c = 0; c < 2; ++c)
        for (int i = 0; i < 6; ++i)
            write_file(t / ("set/" + std::string(i < 4 ? "train/" : "val/") + (c ? "a<b" : "c&d") +
                            "/" + std::to_string(i) + ".png"),
                       flat_png(32, 32, c * 200, 9 * i, 100));
}

}  // namespace

TEST_CASE("draw: ticks, means of runs, text and pictures") {
    CHECK(draw::ticks(0, 1) == std::vector<double>{0, 0.2, 0.4, 0.6000000000000001, 0.8, 1});
    for (const double high : {0.003, 0.9, 1.0, 7.0, 99.0, 123456.0}) {
        const auto t = draw::ticks(0, high);
        CHECK(t.size() >= 3);
        CHECK(t.size() <= 11);
        CHECK(t.back() <= high * 1.0001);
    }
    std::vector<std::pair<double, double>> points;
    for (int i = 0; i < 1000; ++i) points.push_back({i, 2.0 * i});
    const auto few = draw::thinned(points, 10);
    REQUIRE(few.size() == 10);
    CHECK(few[0].first == 49.5);
    CHECK(few[9].second == 2 * 949.5);
    CHECK(draw::escaped("<a href=\"x\">&'") == "&lt;a href=&quot;x&quot;&gt;&amp;&#39;");
    CHECK(draw::png_address("Man") == "data:image/png;base64,TWFu");
    CHECK(draw::png_address("Ma") == "data:image/png;base64,TWE=");
    CHECK(draw::png_address("M") == "data:image/png;base64,TQ==");
    draw::Chart c{.title = "t", .x_name = "x", .series = {}, .marks = {}};
    CHECK(draw::line_chart(c).empty());
    c.series.push_back({.name = "n", .points = {{0, 1}, {1, std::nan("")}, {2, 3}, {3, 4}}});
    CHECK(count(draw::line_chart(c), " M") == 2);  // the line is broken where nothing is known
    // Two filters of 2x2x3: the largest weight of each is white, the smallest black.
    std::vector<float> w(2 * 3 * 2 * 2);
    for (size_t i = 0; i < w.size(); ++i) w[i] = static_cast<float>(i < 12 ? i : 100 - 3 * i);
    const std::string png = draw::filters_png(w, 2, 3, 2, 2, 16, 4);
    Image image;
    REQUIRE(decode_image(Bytes(png.begin(), png.end()), image) == "");
    CHECK(image.height == 2 * 4 + 2 + 2);
    CHECK(image.width == 16 * (2 * 4 + 2) + 2);
    const auto at = [&](int y, int x) {
        return &image.rgb[static_cast<size_t>((y * image.width + x) * 3)];
    };
    CHECK(at(2, 2)[0] == 0);            // weight 0 of red, the first filter
    CHECK(at(2 + 7, 2 + 7)[2] == 255);  // weight 11, its last of blue
    CHECK(at(2, 2 + 10)[0] == 255);     // the second filter falls
    CHECK(at(2 + 7, 2 + 10 + 7)[2] == 0);
}

TEST_CASE("report: a run draws itself, with the log's numbers and nothing from elsewhere") {
    const TempDir t;
    write_colours(t);
    const std::string train =
        program("train") + " --net cifar --data folder:set --batch 2 --gpus 0 --lr-policy step:2 ";
    REQUIRE(run(t, train + "--epochs 4 --out r --kernels 'auto' --std '60, 60,60'").status == 0);
    const std::string page = slurp(t / "r/report.html");
    check_alone(page);
    // Every evaluation is a point with its error, and the last one is in the table.
    std::istringstream log(slurp(t / "r/metrics.jsonl"));
    int evaluations = 0;
    Json last;
    for (std::string line; std::getline(log, line);) {
        const Json j = parse_json(line);
        if (j["kind"] != "eval") continue;
        ++evaluations;
        last = j;
        CHECK(has(page, "val, top-1: " + draw::number(j["top1_error"].get<double>(), 5) + " at "));
        CHECK(has(page, "val: " + draw::number(j["loss"].get<double>(), 5) + " at "));
    }
    CHECK(evaluations == 4);
    CHECK(has(page, "val: loss " + draw::fixed(last["loss"].get<double>(), 4)));
    CHECK(has(page, "step, 4") == false);
    CHECK(has(page, "lr 0.001"));  // where the rate fell
    // What began the run, and on what.
    CHECK(has(
        page,
        "--lr-policy step:2 --epochs 4 --out r --kernels auto --std &#39;60, 60,60&#39;</span>"));
    CHECK(has(page, "1: " + device_name(0)));
    CHECK(has(page, "compiler "));
    CHECK(has(page, "<td class='muted name'>seed</td><td>1</td>"));
    CHECK(!has(page, "<h2>One step</h2>"));
    CHECK(page.size() < 200000);
    CHECK(has(page, "a&lt;b"));
    CHECK(!has(page, "a<b"));
    CHECK(has(page, "16, 32 images"));
    Image filters;
    REQUIRE(decode_image(read_bytes(t / "r/filters.png"), filters) == "");
    CHECK(filters.width == 16 * (5 * 4 + 2) + 2);
    CHECK(has(slurp(t / "r/curves.svg"), "val, top-1"));

    // What went on with it, and a step's timeline.
    REQUIRE(run(t, program("train") + " --resume r --epochs 5 --timeline s.svg --watch 1").status ==
            0);
    const std::string more = slurp(t / "r/report.html");
    check_alone(more);
    CHECK(has(more, "from step 16"));
    CHECK(has(more, "<h2>One step</h2>"));
    CHECK(has(more, "conv1.fprop (compute): "));
    CHECK(slurp(t / "r/timeline.svg") == slurp(t / "s.svg"));
    CHECK(has(more, "mean |dw| / mean |w| against images"));
    // A picture of somebody else's may bring anything: it is not taken over.
    write_file(t / "r/timeline.svg", Bytes{'<', 's', 'v', 'g', '>'});
    CHECK(run(t, program("report") + " r --out one.html").status == 0);
    CHECK(!has(slurp(t / "one.html"), "<h2>One step</h2>"));

    // Two runs over each other, and what cannot be.
    REQUIRE(run(t, train + "--epochs 1 --seed 2 --out q").status == 0);
    const Result two = run(t, program("report") + " r q --out two.html");
    CHECK(two.status == 0);
    const std::string both = slurp(t / "two.html");
    check_alone(both);
    CHECK(has(both, "r, val"));
    CHECK(has(both, "q, training"));
    check_one_line(run(t, program("report") + " set"), 1, "set has no metrics.jsonl");
    check_one_line(run(t, program("report")), 2, "RUN");
    write_file(t / "odd/metrics.jsonl",
               Bytes{'{', '"', 'k', 'i', 'n', 'd', '"', ':', '1', '}', '\n'});
    check_one_line(run(t, program("report") + " odd"), 1, "a line that bin/train did not write");
}
