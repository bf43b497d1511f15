#include "host/report/run_report.h"

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <set>

#include "host/draw/chart.h"
#include "host/draw/page.h"
#include "host/train/atomic_file.h"
#include "host/train/progress.h"

namespace wt {
namespace {

using draw::Chart;
using draw::escaped;
using draw::Series;
using Points = std::vector<std::pair<double, double>>;

constexpr const char* kStyle = R"(
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 440px), 1fr)); gap: 12px 24px; margin-top: 20px; }
.filters { image-rendering: pixelated; max-width: 100%; margin-top: 6px; }
td.name { white-space: nowrap; }
.command { font: 13px ui-monospace, monospace; overflow-wrap: anywhere; }
details { margin-top: 10px; } summary { cursor: pointer; color: var(--muted); }
)";

// The x axis: images seen, or hours, minutes or seconds of training.
struct Axis {
    bool time;
    double unit;  // seconds
    std::string name;
    template <class Row>
    double of(const RunHistory& run, const Row& row) const {
        return time ? row.seconds / unit : run.images(row.step);
    }
};

Axis time_axis(const std::vector<RunHistory>& runs) {
    double longest = 0;
    for (const RunHistory& r : runs) longest = std::max(longest, r.seconds);
    if (longest > 3 * 3600) return {true, 3600, "hours"};
    if (longest > 180) return {true, 60, "minutes"};
    return {true, 1, "seconds"};
}

std::string name_of(const RunHistory& run, size_t runs) {
    return runs == 1 ? "" : std::filesystem::path(run.folder).filename().string() + ", ";
}

template <class Rows, class Value>
Points points_of(const RunHistory& run, const Rows& rows, const Axis& axis, const Value& value) {
    Points p;
    for (const auto& row : rows) p.push_back({axis.of(run, row), value(row)});
    return p;
}

// Where the rate falls, all at once and by half or more: the steps of plateau and step.
std::vector<std::pair<double, std::string>> rate_marks(const RunHistory& run, const Axis& axis) {
    std::vector<std::pair<double, std::string>> marks;
    for (size_t i = 1; i < run.steps.size(); ++i)
        if (run.steps[i].lr < 0.5 * run.steps[i - 1].lr)
            marks.push_back({axis.of(run, run.steps[i]), "lr " + draw::number(run.steps[i].lr, 2)});
    return marks;
}

// Training as a line of means, and what was held out as points.
Chart curve(const std::vector<RunHistory>& runs, const Axis& axis, const std::string& title,
            bool error) {
    Chart c{
        .title = title + " against " + axis.name, .x_name = axis.name, .series = {}, .marks = {}};
    for (size_t i = 0; i < runs.size(); ++i) {
        const RunHistory& r = runs[i];
        const int colour = static_cast<int>(runs.size() == 1 ? 0 : i);
        const std::string name = name_of(r, runs.size());
        c.series.push_back({.name = name + "training",
                            .points = draw::thinned(points_of(r, r.steps, axis,
                                                              [&](const RunHistory::Step& s) {
                                                                  return error ? s.top1_error
                                                                               : s.loss;
                                                              })),
                            .colour = colour});
        if (r.evals.empty()) continue;
        const std::string split = r.evals.back().split;
        c.series.push_back({.name = name + split + (error ? ", top-1" : ""),
                            .points = points_of(r, r.evals, axis,
                                                [&](const RunHistory::Eval& e) {
                                                    return error ? e.top1_error : e.loss;
                                                }),
                            .colour = runs.size() == 1 ? 1 : colour,
                            .dots = true,
                            .dashed = runs.size() > 1});
        if (error && runs.size() == 1)
            c.series.push_back(
                {.name = split + ", top-5",
                 .points = points_of(r, r.evals, axis,
                                     [](const RunHistory::Eval& e) { return e.top5_error; }),
                 .colour = 2,
                 .dots = true});
    }
    if (runs.size() == 1) c.marks = rate_marks(runs[0], axis);
    return c;
}

template <class Value>
Chart of_steps(const std::vector<RunHistory>& runs, const Axis& axis, const std::string& title,
               const Value& value) {
    Chart c{
        .title = title + " against " + axis.name, .x_name = axis.name, .series = {}, .marks = {}};
    for (size_t i = 0; i < runs.size(); ++i)
        c.series.push_back({.name = name_of(runs[i], runs.size()) + title,
                            .points = draw::thinned(points_of(runs[i], runs[i].steps, axis, value)),
                            .colour = static_cast<int>(i)});
    return c;
}

// Of a single line the title is enough.
std::string key_of(const Chart& c) {
    if (c.series.size() == 1) return "";
    std::string s = "<p class='key muted'>";
    const auto known = [](const auto& point) { return std::isfinite(point.second); };
    for (const Series& line : c.series)
        if (std::any_of(line.points.begin(), line.points.end(), known))
            s += "<i style='background:var(--s" + std::to_string(line.colour % 8) + ")'></i>" +
                 escaped(line.name);
    return s + "</p>\n";
}

std::string in_grid(const Chart& c) {
    const std::string svg = draw::line_chart(c);
    return svg.empty() ? "" : "<div>" + key_of(c) + svg + "</div>\n";
}

std::string row(const std::string& name, const std::string& value) {
    return value.empty() ? ""
                         : "<tr><td class='muted name'>" + escaped(name) + "</td><td>" + value +
                               "</td></tr>\n";
}

std::string percent(double v) { return draw::fixed(v, 2) + " %"; }

std::string code(const std::string& text) {
    return "<span class='command'>" + escaped(text) + "</span>";
}

// Each command that began or went on with the run, and what the last one ran on.
std::string starts_of(const RunHistory& r) {
    std::string s;
    for (const RunHistory::Start& start : r.starts)
        s += row(start.step == 0 ? "command" : "from step " + std::to_string(start.step),
                 code(start.command));
    const RunHistory::Start& last = r.starts.back();
    std::string devices;
    for (const std::string& d : last.devices) devices += (devices.empty() ? "" : ", ") + d;
    s += row("workers",
             std::to_string(last.workers) + (devices.empty() ? "" : ": ") + escaped(devices));
    std::string versions;
    for (const auto& [what, version] : last.versions)
        versions += (versions.empty() ? "" : "; ") + what + " " + version;
    return s + row("versions", escaped(versions));
}

// The ratio of updates to weights that --watch logs; biases, which begin at 0, are left out.
Chart ratios(const RunHistory& r, const Axis& axis) {
    Chart c{.title = "mean |dw| / mean |w| against " + axis.name,
            .x_name = axis.name,
            .series = {},
            .marks = {}};
    if (r.watched.empty()) return c;
    for (const auto& [name, first] : r.watched[0].ratios) {
        if (!name.ends_with(".weight")) continue;
        Series line{.name = name.substr(0, name.size() - 7),
                    .points = {},
                    .colour = static_cast<int>(c.series.size())};
        for (const RunHistory::Watched& w : r.watched)
            if (const auto at = w.ratios.find(name); at != w.ratios.end())
                line.points.push_back({axis.of(r, w), at->second});
        line.points = draw::thinned(line.points);
        c.series.push_back(std::move(line));
    }
    return c;
}

// What the run was and where it stands.
std::string facts(const RunHistory& r) {
    std::string s = "<table>\n";
    s += row("network", escaped(r.net));
    if (!r.steps.empty())
        s += row("step", std::to_string(r.steps.back().step) + ", " +
                             draw::fixed(r.images(r.steps.back().step), 0) + " images, " +
                             duration_text(r.seconds) +
                             (r.reason.empty() ? ", not ended" : ", " + escaped(r.reason)));
    if (!r.evals.empty()) {
        const RunHistory::Eval& e = r.evals.back();
        s += row("last evaluation", escaped(e.split) + ": loss " + draw::fixed(e.loss, 4) +
                                        ", top-1 error " + percent(e.top1_error) +
                                        ", top-5 error " + percent(e.top5_error));
    }
    if (r.best_error >= 0)
        s += row("best", "top-1 error " + percent(r.best_error) + " after " +
                             std::to_string(r.best_step) + " steps");
    if (r.global_batch) {
        s += row("images a step", std::to_string(r.global_batch));
        s += row("seed", std::to_string(r.seed));
    }
    if (!r.classes.empty())
        s += row("classes", std::to_string(r.classes.size()) + ": " + escaped(r.classes.front()) +
                                " to " + escaped(r.classes.back()));
    if (r.starts.empty()) {
        if (!r.command.empty()) s += row("command", code(r.command));
    } else {
        s += starts_of(r);
    }
    s += "</table>\n";
    const auto list = [](const std::string& title, const std::map<std::string, std::string>& all) {
        if (all.empty()) return std::string();
        std::string d = "<details><summary>" + title + "</summary><div class='scroll'><table>\n";
        for (const auto& [name, value] : all) d += row(name, escaped(value));
        return d + "</table></div></details>\n";
    };
    return s + list("all settings", r.settings) + list("which kernel each pass runs", r.choices);
}

}  // namespace

std::string report_page(const std::vector<RunHistory>& runs) {
    const Axis images{false, 1, "images"}, time = time_axis(runs);
    std::string title;
    for (const RunHistory& r : runs) title += (title.empty() ? "" : ", ") + r.folder;
    std::string body = "<h1>" + escaped(title) + "</h1>\n";
    if (runs.size() == 1) body += facts(runs[0]);
    body += "<div class='charts'>\n";
    for (const Axis& axis : {images, time}) {
        body += in_grid(curve(runs, axis, "loss", false));
        body += in_grid(curve(runs, axis, "error, %", true));
    }
    body += in_grid(
        of_steps(runs, time, "images/s", [](const RunHistory::Step& s) { return s.images_per_s; }));
    body += in_grid(of_steps(runs, time, "waiting for input, %",
                             [](const RunHistory::Step& s) { return 100 * s.input_wait; }));
    body += in_grid(
        of_steps(runs, images, "learning rate", [](const RunHistory::Step& s) { return s.lr; }));
    if (runs.size() == 1) body += in_grid(ratios(runs[0], images));
    body += "</div>\n";
    if (runs.size() == 1) body += pictures_section(runs[0].pictures);
    for (const RunHistory& r : runs) {
        if (r.filters.empty()) continue;
        body +=
            "<h2>" + escaped(name_of(r, runs.size()) + r.filters_layer) +
            ": its filters after step " + std::to_string(r.checkpoint_step) +
            "</h2>\n<p class='muted'>Each is stretched to its own range.</p>\n<img class='filters' "
            "alt='filters' src='" +
            draw::png_address(r.filters) + "'>\n";
    }
    if (runs.size() == 1 && !runs[0].timeline.empty())
        body += "<h2>One step</h2>\n<div class='scroll'>" + runs[0].timeline + "</div>\n";
    if (runs.size() > 1)
        for (const RunHistory& r : runs) body += "<h2>" + escaped(r.folder) + "</h2>\n" + facts(r);
    return draw::page(title, std::string(kStyle) + kPicturesStyle, body);
}

void write_run_report(const std::string& folder) {
    const std::filesystem::path dir = folder;
    const RunHistory run = read_run(folder);
    atomic_write_file((dir / "report.html").string(), report_page({run}), "report");
    const Axis images{false, 1, "images"};
    atomic_write_file((dir / "curves.svg").string(),
                      draw::line_chart_file(curve({run}, images, "error, %", true)), "picture");
    if (!run.filters.empty())
        atomic_write_file((dir / "filters.png").string(), run.filters, "picture");
}

}  // namespace wt
