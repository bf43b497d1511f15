// The page with bars: one chart a case, drawn as inline SVG; light or dark as the reader's system
// is.
#include <algorithm>
#include <cstdio>

#include "host/bench/report.h"
#include "kernels/variant.h"

namespace wt::bench {

namespace {

std::string escaped(const std::string& text) {
    std::string s;
    for (char c : text)
        s += c == '<'   ? "&lt;"
             : c == '>' ? "&gt;"
             : c == '&' ? "&amp;"
             : c == '"' ? "&quot;"
                        : std::string(1, c);
    return s;
}

std::string number(double v, int digits = 3) {
    char s[32];
    std::snprintf(s, sizeof s, "%.*g", digits, v);
    return s;
}
std::string fixed(double v, int places) {
    char s[32];
    std::snprintf(s, sizeof s, "%.*f", places, v);
    return s;
}

constexpr const char* kStyle = R"(
:root { color-scheme: light dark; --ground: #fff; --text: #1b1f24; --muted: #5d6670; --line: #d5dae0; --own: #2f6fde; --vendor: #9aa4b0; --ceiling: #c2410c; --bad: #b42318; }
@media (prefers-color-scheme: dark) { :root { --ground: #14171a; --text: #e6e9ec; --muted: #98a2ad; --line: #333a42; --own: #6ea0ff; --vendor: #6b7683; --ceiling: #fb923c; --bad: #ff7b6b; } }
body { margin: 0; background: var(--ground); color: var(--text); font: 15px/1.45 system-ui, sans-serif; }
main { max-width: 1000px; margin: 0 auto; padding: 24px 16px 64px; }
h1 { font-size: 22px; margin: 0 0 4px; } h2 { font-size: 16px; margin: 36px 0 2px; }
p { margin: 2px 0; } .muted { color: var(--muted); font-size: 13px; } .bad { color: var(--bad); }
.key i { display: inline-block; width: 12px; height: 12px; margin: 0 5px 0 14px; border-radius: 2px; vertical-align: -1px; }
svg { display: block; width: 100%; height: auto; margin-top: 6px; } svg text { fill: var(--text); font: 13px system-ui, sans-serif; }
svg .own { fill: var(--own); } svg .vendor { fill: var(--vendor); } svg .muted { fill: var(--muted); } svg .axis { stroke: var(--line); }
svg .ceiling { stroke: var(--ceiling); stroke-width: 2; stroke-dasharray: 5 3; } svg .ceiling-text { fill: var(--ceiling); font-size: 12px; }
table { border-collapse: collapse; margin-top: 8px; font-size: 14px; } td, th { text-align: left; padding: 3px 18px 3px 0; border-bottom: 1px solid var(--line); }
td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
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

std::string bar(const Compared& p, const Row& r, const Scale& scale, double y) {
    const double ms = r.timing.median_ms, share = scale.least_ms / ms,
                 width = std::max(1.0, kBars * std::min(share, scale.top) / scale.top);
    const double baseline = p.best(true);
    std::string s = "<text x='0' y='" + fixed(y + 13, 1) + "'>" + escaped(r.variant) + "</text>";
    s += "<rect class='" + std::string(r.baseline ? "vendor" : "own") + "' x='" + fixed(kLabel, 0) +
         "' y='" + fixed(y, 1) + "' width='" + fixed(width, 1) + "' height='" + fixed(kBar, 0) +
         "' rx='2'><title>" + escaped(r.variant) + ": " + number(ms, 4) + " ms, spread " +
         fixed(100 * r.timing.spread, 1) + "%, " + std::to_string(r.timing.samples) +
         " samples</title></rect>";
    std::string text = number(ms, 4) + " ms";
    if (p.bench_case.flops > 0)
        text += ", " + number(p.bench_case.flops / ms / (kAutomaticUsesBaselines ? 1e6 : 1e9), 4) +
                (kAutomaticUsesBaselines ? " GFLOP/s" : " TFLOP/s");
    else
        text += ", " + number(p.bench_case.bytes / ms / 1e6, 4) + " GB/s";
    if (scale.ceiling) text += ", " + fixed(100 * share, 0) + "%";
    if (baseline > 0 && !r.baseline) text += ", " + fixed(baseline / ms, 2) + "x";
    text += "; error " + number(r.error_ratio, 2);
    return s + "<text class='muted' x='" + fixed(kLabel + kBars + 14, 0) + "' y='" +
           fixed(y + 13, 1) + "'>" + escaped(text) + "</text>\n";
}

std::string chart(const Comparison& c, const Compared& p, const std::vector<Row>& rows) {
    const Scale scale = scale_of(c, p);
    std::string bars;
    double y = kTop;
    for (const Row& r : rows)
        if (r.state == Row::State::timed) bars += bar(p, r, scale, y), y += kPitch;
    if (bars.empty()) return "";
    std::string s = "<svg viewBox='0 0 " + fixed(kWidth, 0) + " " + fixed(y, 0) +
                    "' role='img' aria-label='" + escaped(p.bench_case.name) + "'>\n";
    s += "<line class='axis' x1='" + fixed(kLabel, 0) + "' x2='" + fixed(kLabel, 0) + "' y1='" +
         fixed(kTop - 4, 0) + "' y2='" + fixed(y - 6, 0) + "'/>\n" + bars;
    if (scale.ceiling) {
        const std::string x = fixed(kLabel + kBars / scale.top, 1);
        s += "<line class='ceiling' x1='" + x + "' x2='" + x + "' y1='" + fixed(kTop - 4, 0) +
             "' y2='" + fixed(y - 6, 0) + "'/>\n";
        s += "<text class='ceiling-text' text-anchor='end' x='" + x + "' y='12'>" +
             (c.ceilings.by_matrix(p.bench_case) ? "matrix rate: " : "copy rate: ") +
             number(scale.least_ms, 4) + " ms</text>\n";
    }
    return s + "</svg>\n";
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
        "<!doctype html>\n<html lang='en'><head><meta charset='utf-8'><meta name='viewport' content='width=device-width'>\n<title>Kernel variants, " +
        escaped(c.device) + "</title>\n<style>" + kStyle +
        "</style></head><body><main>\n<h1>Kernel variants" +
        (c.net.empty() ? "" : ": " + escaped(c.net) + ", batch " + std::to_string(c.batch)) + ", " +
        escaped(c.precision) + "</h1>\n";
    std::string head = heading(c);
    for (size_t at = 0; at < head.size();) {
        const size_t end = std::min(head.find('\n', at), head.size());
        s += "<p class='muted'>" + escaped(head.substr(at, end - at)) + "</p>\n";
        at = end + 1;
    }
    s +=
        "<p class='key muted'><i style='background:var(--own);margin-left:0'></i>ours<i style='background:var(--vendor)'></i>vendor's library"
        "<i style='background:var(--ceiling);height:2px;vertical-align:3px'></i>what the device can do at most. A bar is the share of that; \"x\" is the speed against "
        "the fastest vendor's; \"error\" is the error against fp64 over the plain variant's.</p>\n";
    s += fused_table(c);
    for (const Compared& p : c.cases) s += section(c, p, sort);
    return s + "</main></body></html>\n";
}

}  // namespace wt::bench
