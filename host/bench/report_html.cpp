// The page with bars: one chart a case, drawn as inline SVG; light or dark as the reader's system
// is.
#include <algorithm>
#include <cstdio>

#include "host/bench/report.h"
#include "host/draw/page.h"
#include "host/draw/svg.h"
#include "kernels/variant.h"

namespace wt::bench {

namespace {

using draw::escaped;
using draw::fixed;
using draw::number;

constexpr const char* kStyle = R"(
:root { --own: #2f6fde; --vendor: #9aa4b0; --ceiling: #c2410c; }
@media (prefers-color-scheme: dark) { :root { --own: #6ea0ff; --vendor: #6b7683; --ceiling: #fb923c; } }
svg .own { fill: var(--own); } svg .vendor { fill: var(--vendor); }
svg .ceiling { stroke: var(--ceiling); stroke-width: 2; stroke-dasharray: 5 3; }
svg .ceiling-text { fill: var(--ceiling); font-size: 12px; }
)";

// What a bar stands for: the share of the ceiling, or, where that is not known, of the fastest
// variant's speed.
struct Scale {
    double least_ms;  // of a bar of 1
    bool ceiling;
    double top;  // the longest bar drawn
};

Scale scale_of(const Comparison& c, const Compared& p) {
    Scale s{c.ceilings.least_ms(p.bench_case), true, 1};
    double fastest = 0;
    for (const Row& r : p.rows)
        if (r.state == Row::State::timed && (fastest == 0 || r.timing.median_ms < fastest))
            fastest = r.timing.median_ms;
    if (!(s.least_ms > 0)) s = {fastest, false, 1};
    // caches can beat the copy rate
    if (fastest > 0) s.top = std::clamp(s.least_ms / fastest, 1.0, 3.0);
    return s;
}

constexpr double kWidth = 1000, kLabel = 150, kBars = 430, kPitch = 26, kBar = 16, kTop = 20;

void draw_bar(draw::Svg& svg, const Compared& p, const Row& r, const Scale& scale, double y) {
    const double ms = r.timing.median_ms, share = scale.least_ms / ms,
                 width = std::max(1.0, kBars * std::min(share, scale.top) / scale.top);
    const double baseline = p.best(true);
    svg.text(0, y + 13, r.variant);
    svg.rect({kLabel, y, width, kBar}, r.baseline ? "vendor" : "own",
             r.variant + ": " + number(ms, 4) + " ms, spread " + fixed(100 * r.timing.spread, 1) +
                 "%, " + std::to_string(r.timing.samples) + " samples",
             2);
    std::string text = number(ms, 4) + " ms";
    if (p.bench_case.flops > 0)
        text += ", " + number(p.bench_case.flops / ms / (kAutomaticUsesBaselines ? 1e6 : 1e9), 4) +
                (kAutomaticUsesBaselines ? " GFLOP/s" : " TFLOP/s");
    else
        text += ", " + number(p.bench_case.bytes / ms / 1e6, 4) + " GB/s";
    if (scale.ceiling) text += ", " + fixed(100 * share, 0) + "%";
    if (baseline > 0 && !r.baseline) text += ", " + fixed(baseline / ms, 2) + "x";
    text += "; error " + number(r.error_ratio, 2);
    svg.text(kLabel + kBars + 14, y + 13, text, "muted");
}

std::string chart(const Comparison& c, const Compared& p, const std::vector<Row>& rows) {
    const Scale scale = scale_of(c, p);
    const auto timed = std::count_if(rows.begin(), rows.end(),
                                     [](const Row& r) { return r.state == Row::State::timed; });
    if (timed == 0) return "";
    const double bottom = kTop + kPitch * static_cast<double>(timed);
    draw::Svg svg(kWidth, bottom, p.bench_case.name);
    svg.line(kLabel, kTop - 4, kLabel, bottom - 6);
    double y = kTop;
    for (const Row& r : rows) {
        if (r.state != Row::State::timed) continue;
        draw_bar(svg, p, r, scale, y);
        y += kPitch;
    }
    if (scale.ceiling) {
        const double x = kLabel + kBars / scale.top;
        svg.line(x, kTop - 4, x, bottom - 6, "ceiling");
        svg.text(x, 12,
                 std::string(c.ceilings.by_matrix(p.bench_case) ? "matrix rate: " : "copy rate: ") +
                     number(scale.least_ms, 4) + " ms",
                 "ceiling-text", draw::Svg::Anchor::end);
    }
    return "<div class='scroll'>" + svg.inline_text() + "</div>\n";
}

std::string section(const Comparison& c, const Compared& p, Sort sort) {
    const std::vector<Row> rows = sorted(p.rows, sort);
    std::string s = "<section>\n<h2>" + escaped(p.bench_case.name) + "</h2>\n<p class='muted'>" +
                    escaped(p.bench_case.op + ": " + p.bench_case.problem) + "</p>\n" +
                    chart(c, p, rows);
    for (const Row& r : rows) {
        if (r.state == Row::State::wrong)
            s += "<p class='bad'>" + escaped(r.variant) +
                 " is wrong, not timed: " + escaped(r.why) + "</p>\n";
        if (r.state == Row::State::right)
            s += "<p class='muted'>" + escaped(r.variant) + ": right" +
                 (r.why.empty() ? "" : ", " + escaped(r.why)) + "; error " +
                 number(r.error_ratio, 2) + "</p>\n";
        if (r.state == Row::State::skipped)
            s += "<p class='muted'>" + escaped(r.variant) + ": skipped, " + escaped(r.why) +
                 "</p>\n";
    }
    return s + "</section>\n";
}

std::string fused_table(const Comparison& c) {
    std::string rows;
    for (const Compared& p : c.cases) {
        const double parts = c.parts_ms(p.bench_case), own = p.best(false), vendor = p.best(true);
        const double ms = own > 0 && (vendor == 0 || own < vendor) ? own : vendor;
        if (!(parts > 0) || !(ms > 0)) continue;
        std::string names;
        for (const std::string& part : p.bench_case.parts)
            names += (names.empty() ? "" : " + ") + part;
        rows += "<tr><td>" + escaped(p.bench_case.name) + "</td><td class='n'>" + number(ms, 4) +
                "</td><td class='n'>" + number(parts, 4) + "</td><td class='n'>" +
                fixed(parts / ms, 2) + "x</td><td class='muted'>" + escaped(names) + "</td></tr>\n";
    }
    if (rows.empty()) return "";
    return "<h2>Fused, against the fastest variants of what they do</h2>\n<table><tr><th></th><th class='n'>ms</th><th class='n'>parts, ms</th>"
           "<th class='n'>gain</th><th>parts</th></tr>\n" +
           rows + "</table>\n";
}

}  // namespace

std::string to_html(const Comparison& c, Sort sort) {
    std::string s =
        "<h1>Kernel variants" +
        (c.net.empty() ? "" : ": " + escaped(c.net) + ", batch " + std::to_string(c.batch)) + ", " +
        escaped(c.precision) + "</h1>\n";
    std::string head = heading(c);
    for (size_t at = 0; at < head.size();) {
        const size_t end = std::min(head.find('\n', at), head.size());
        s += "<p class='muted'>" + escaped(head.substr(at, end - at)) + "</p>\n";
        at = end + 1;
    }
    s +=
        "<p class='key muted'><i style='background:var(--own)'></i>ours<i style='background:var(--vendor)'></i>vendor's library"
        "<i style='background:var(--ceiling);height:2px;vertical-align:3px'></i>what the device can do at most. A bar is the share of that; \"x\" is the speed against "
        "the fastest vendor's; \"error\" is the error against fp64 over the plain variant's.</p>\n";
    s += fused_table(c);
    for (const Compared& p : c.cases) s += section(c, p, sort);
    return draw::page("Kernel variants, " + c.device, kStyle, s);
}

}  // namespace wt::bench
