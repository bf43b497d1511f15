#include "host/report/chart_file.h"

#include <cmath>
#include <limits>

#include "host/cuda/check.h"
#include "host/json.h"

namespace wt {
namespace {

[[noreturn]] void refuse(const std::string& what, const std::string& why) {
    throw Error(what + " describes no chart: " + why +
                " (host/report/chart_file.h has the format)");
}

// A member that may be missing; of another type it is refused.
template <class T>
T member(const Json& from, const char* name, T otherwise, const std::string& what) {
    const auto at = from.find(name);
    if (at == from.end()) return otherwise;
    bool fits = false;
    if constexpr (std::is_same_v<T, std::string>) fits = at->is_string();
    if constexpr (std::is_same_v<T, bool>) fits = at->is_boolean();
    if constexpr (std::is_same_v<T, int>) fits = at->is_number_unsigned() && *at < 1000;
    if (!fits) refuse(what, std::string(name) + " is " + json_text(*at));
    return at->get<T>();
}

const Json& list(const Json& from, const char* name, const std::string& what) {
    const auto at = from.find(name);
    if (at == from.end() || !at->is_array()) refuse(what, std::string("no list ") + name);
    return *at;
}

bool is_pair(const Json& v) { return v.is_array() && v.size() == 2 && v[0].is_number(); }

}  // namespace

draw::Chart parse_chart(const std::string& text, const std::string& what) {
    const Json all = try_parse_json(text);
    if (!all.is_object()) refuse(what, "it is no JSON object");
    draw::Chart chart{.title = member(all, "title", std::string(), what),
                      .x_name = member(all, "x", std::string(), what),
                      .series = {},
                      .marks = {}};
    bool any = false;
    for (const Json& s : list(all, "series", what)) {
        if (!s.is_object()) refuse(what, "a series is " + json_text(s));
        const int place = static_cast<int>(chart.series.size());
        draw::Series series{.name = member(s, "name", std::string(), what),
                            .points = {},
                            .colour = member(s, "colour", place, what),
                            .dots = member(s, "dots", false, what),
                            .dashed = member(s, "dashed", false, what)};
        for (const Json& p : list(s, "points", what)) {
            if (!is_pair(p) || !(p[1].is_number() || p[1].is_null()))
                refuse(what, "a point is " + json_text(p));
            series.points.push_back(
                {p[0].get<double>(),
                 p[1].is_null() ? std::numeric_limits<double>::quiet_NaN() : p[1].get<double>()});
            any = any || std::isfinite(series.points.back().second);
        }
        chart.series.push_back(std::move(series));
    }
    if (!any) refuse(what, "no series has a point");
    if (all.contains("marks"))
        for (const Json& m : list(all, "marks", what)) {
            if (!is_pair(m) || !m[1].is_string()) refuse(what, "a mark is " + json_text(m));
            chart.marks.push_back({m[0].get<double>(), m[1].get<std::string>()});
        }
    return chart;
}

std::string keyed_chart_file(const draw::Chart& chart) {
    draw::Chart keyed = chart;
    keyed.key = draw::Key::above;
    return draw::line_chart_file(keyed);
}

}  // namespace wt
