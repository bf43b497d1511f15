#include "host/draw/chart.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "host/draw/page.h"
#include "host/draw/svg.h"

namespace wt::draw {

std::vector<double> ticks(double low, double high) {
    if (!(high > low)) high = low + 1;
    const double raw = (high - low) / 5, power = std::pow(10, std::floor(std::log10(raw)));
    double step = power;
    for (const double s : {1.0, 2.0, 5.0, 10.0})
        if (s * power >= raw * 0.999) {
            step = s * power;
            break;
        }
    std::vector<double> t;
    for (double v = std::ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step)
        t.push_back(std::abs(v) < step * 1e-9 ? 0 : v);
    return t;
}

std::vector<std::pair<double, double>> thinned(const std::vector<std::pair<double, double>>& points,
                                               size_t most) {
    if (points.size() <= most) return points;
    std::vector<std::pair<double, double>> out;
    for (size_t k = 0; k < most; ++k) {
        const size_t begin = k * points.size() / most, end = (k + 1) * points.size() / most;
        double x = 0, y = 0;
        for (size_t i = begin; i < end; ++i) {
            x += points[i].first;
            y += points[i].second;
        }
        const double n = static_cast<double>(end - begin);
        out.push_back({x / n, y / n});
    }
    return out;
}

namespace {

constexpr double kLeft = 52, kRight = 14, kKey = 112, kTop = 26, kBottom = 36;
constexpr double kKeyLine = 18, kKeyColumn = 230, kKeyGap = 8;  // of a key above

std::string short_number(double v) {
    const double a = std::abs(v);
    if (a >= 1e9) return number(v / 1e9, 3) + "G";
    if (a >= 1e6) return number(v / 1e6, 3) + "M";
    if (a >= 1e4) return number(v / 1e3, 3) + "k";
    return number(v, 4);
}

class Canvas {
public:
    explicit Canvas(const Chart& c)
        : c_(c),
          above_(c.key == Key::above ? kKeyLine * ((named(c) + 1) / 2) + kKeyGap : 0),
          svg_(c.width, c.height + above_, c.title),
          right_(c.width - (c.key == Key::right ? kKey : kRight)) {
        for (const Series& s : c.series)
            for (const auto& [x, y] : s.points) {
                if (!std::isfinite(x) || !std::isfinite(y)) continue;
                low_x_ = empty_ ? x : std::min(low_x_, x);
                high_x_ = empty_ ? x : std::max(high_x_, x);
                high_y_ = empty_ ? y : std::max(high_y_, y);
                empty_ = false;
            }
        if (high_x_ <= 0) high_x_ = 1;
        if (high_y_ <= 0) high_y_ = 1;
        high_y_ = c.top > 0 ? c.top : high_y_ * 1.05;
    }
    bool empty() const { return empty_; }

    const Svg& draw() {
        svg_.text(4, above_ + 14, c_.title);
        draw_axes();
        for (const auto& [x, word] : c_.marks) {
            svg_.line(at_x(x), above_ + kTop, at_x(x), at_y(0), "axis dashed");
            svg_.text(at_x(x) - 3, above_ + kTop + 10, word, "muted", Svg::Anchor::end);
        }
        for (const Series& line : c_.series) draw(line);
        draw_key();
        return svg_;
    }

private:
    double at_x(double x) const {
        const double share = !c_.log2_x ? x / high_x_
                             : high_x_ > low_x_
                                 ? std::log2(x / low_x_) / std::log2(high_x_ / low_x_)
                                 : 0;
        return kLeft + (right_ - kLeft) * share;
    }
    double at_y(double y) const {
        const double high = c_.height - kBottom - kTop;
        return above_ + kTop + high - high * std::min(y, high_y_) / high_y_;
    }
    std::string y_text(double v) const {
        return c_.shares ? number(100 * v, 3) + "%" : short_number(v);
    }
    std::vector<double> x_ticks() const {
        if (!c_.log2_x) return ticks(0, high_x_);
        std::set<double> all;
        for (const Series& s : c_.series)
            for (const auto& [x, y] : s.points) all.insert(x);
        return {all.begin(), all.end()};
    }
    void draw_axes() {
        for (const double v : ticks(0, high_y_)) {
            svg_.line(kLeft, at_y(v), right_, at_y(v));
            svg_.text(kLeft - 6, at_y(v) + 4, y_text(v), "muted", Svg::Anchor::end);
        }
        for (const double v : x_ticks())
            svg_.text(at_x(v), at_y(0) + 16, short_number(v), "muted", Svg::Anchor::middle);
        svg_.text(right_, above_ + c_.height - 4, c_.x_name, "muted", Svg::Anchor::end);
    }
    static std::string class_of(const Series& s) {
        return series_class(s.colour) + (s.dashed ? " dashed" : "");
    }
    void draw(const Series& s) {
        Svg::Points path;
        for (const auto& [x, y] : s.points) {
            const bool known = std::isfinite(x) && std::isfinite(y);
            path.push_back(known ? std::pair{at_x(x), at_y(y)} : std::pair{x, std::nan("")});
        }
        svg_.path(path, class_of(s), s.name);
        if (!s.dots) return;
        for (size_t i = 0; i < path.size(); ++i)
            if (const auto& [x, y] = s.points[i]; std::isfinite(path[i].second))
                svg_.circle(path[i].first, path[i].second, 3, series_class(s.colour),
                            s.name + ": " + number(y, 5) + " at " + short_number(x));
    }
    static int named(const Chart& c) {
        int n = 0;
        for (const Series& s : c.series) n += !s.name.empty();
        return n;
    }
    void draw_key() {
        if (c_.key == Key::none) return;
        int place = 0;
        for (const Series& s : c_.series) {
            if (s.name.empty()) continue;
            const bool over = c_.key == Key::above;
            const double x = over ? 4 + place % 2 * kKeyColumn : right_ + 10,
                         y = over ? kKeyLine * (1 + place / 2) : kTop + 8 + kKeyLine * place;
            svg_.path({{x, y - 4}, {x + 18, y - 4}}, class_of(s));
            svg_.text(x + 23, y, s.name, "muted");
            ++place;
        }
    }

    const Chart& c_;
    const double above_;  // height of the key over the chart
    Svg svg_;
    bool empty_ = true;
    double right_, low_x_ = 1, high_x_ = 1, high_y_ = 1;
};

}  // namespace

std::string line_chart(const Chart& chart) {
    Canvas canvas(chart);
    return canvas.empty() ? "" : canvas.draw().inline_text();
}

std::string line_chart_file(const Chart& chart) { return Canvas(chart).draw().file_text(); }

}  // namespace wt::draw
