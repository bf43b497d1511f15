// A chart that a script describes (bin/report --chart).
#include "host/report/chart_file.h"

#include <cmath>

#include "host/json.h"
#include "test/program.h"
#include "test/text.h"

using namespace wt;
using namespace wt::test;

TEST_CASE("report --chart: a described chart is drawn with its key, and nothing else is taken") {
    const TempDir t;
    const std::string file = t / "chart.json", out = t / "chart.svg";
    spit(file, R"({"title": "error, %", "x": "epochs", "marks": [[2, "lr 0.1"]],
        "series": [{"name": "with <LRN>", "points": [[1, 60.5], [2, 40], [3, null]], "dots": true},
                   {"name": "without", "points": [[1, 70], [2, 55]], "colour": 4, "dashed": true}]})");
    CHECK(run(t, program("report") + " --chart " + file + " --out " + out).status == 0);
    const std::string svg = slurp(out);
    CHECK(has(svg, "with &lt;LRN&gt;: 60.5 at 1"));
    CHECK(has(svg, ">without</text>"));
    CHECK(has(svg, "lr 0.1"));
    // Twice, in the key and as the line; the colours come with the file.
    CHECK(count(svg, "<path class='s4 dashed'") == 2);
    CHECK(count(svg, "<path class='s0'") == 2);
    CHECK(!has(svg, "var("));
    CHECK(has(svg, "svg path.s4 { stroke: #"));
    CHECK(count(svg, "<svg ") == 1);
    CHECK(count(svg, " viewBox='0 0 460 286' ") == 1);  // 26 of them the key's
    CHECK(count(svg, " width='460'") == 1);

    const draw::Chart chart = parse_chart(slurp(file), "it");
    REQUIRE(chart.series.size() == 2);
    CHECK(chart.series[0].colour == 0);
    CHECK(std::isnan(chart.series[0].points[2].second));

    const char* broken[] = {"",
                            "[]",
                            "{}",
                            R"({"series": []})",
                            R"({"series": [1]})",
                            R"({"series": [{"points": [[1]]}]})",
                            R"({"series": [{"points": [[1, "2"]]}]})",
                            R"({"series": [{"points": [[1, null]]}]})",
                            R"({"series": [{"points": [[1, 2]], "colour": -1}]})",
                            R"({"series": [{"points": [[1, 2]]}], "title": 5})",
                            R"({"series": [{"points": [[1, 2]]}], "marks": [[1, 2]]})"};
    for (const char* text : broken) {
        CAPTURE(text);
        spit(file, text);
        check_one_line(run(t, program("report") + " --chart " + file + " --out " + out), 1,
                       "describes no chart");
    }
    CHECK(slurp(out) == svg);
    check_one_line(run(t, program("report") + " --chart " + file), 2, "--out FILE.svg");
    check_one_line(run(t, program("report") + " --chart " + file + " " + t.path()), 2,
                   "drawn alone");
    check_one_line(run(t, program("report") + " --chart " + (t / "none") + " --out " + out), 1,
                   "none");
}
