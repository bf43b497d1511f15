#include "host/draw/chart.h"

#include <algorithm>
#include <cmath>

#include "host/draw/page.h"

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

constexpr double kLeft = 52, kRight = 14, kTop = 26, kBottom = 36;

std::string short_number(double v) {
    const double a = std::abs(v);
    if (a >= 1e9) return number(v / 1e9, 3) + "G";
    if (a >= 1e6) return number(v / 1e6, 3) + "M";
    if (a >= 1e4) return number(v / 1e3, 3) + "k";
    return number(v, 4);
}

class Canvas {
public:
    explicit Canvas(const Chart& c) : c_(c) {
        for (const Series& s : c.series)
            for (const auto& [x, y] : s.points) {
                if (!std::isfinite(x) || !std::isfinite(y)) continue;
                high_x_ = empty_ ? x : std::max(high_x_, x);
                high_y_ = empty_ ? y : std::max(high_y_, y);
                empty_ = false;
            }
        if (high_x_ <= 0) high_x_ = 1;
        if (high_y_ <= 0) high_y_ = 1;
        high_y_ *= 1.05;
    }
    bool empty() const { return empty_; }

    std::string draw() const {
        const std::string bottom = fixed(at_y(0), 1), right = fixed(c_.width - kRight, 1);
        std::string s = "<text x='0' y='14'>" + escaped(c_.title) + "</text>\n";
        for (const double v : ticks(0, high_y_)) {
            const std::string y = fixed(at_y(v), 1);
            s += "<line class='axis' x1='" + fixed(kLeft, 0) + "' x2='" + right + "' y1='" + y +
                 "' y2='" + y + "'/><text class='muted' text-anchor='end' x='" +
                 fixed(kLeft - 6, 0) + "' y='" + fixed(at_y(v) + 4, 1) + "'>" + short_number(v) +
                 "</text>\n";
        }
        for (const double v : ticks(0, high_x_))
            s += "<text class='muted' text-anchor='middle' x='" + fixed(at_x(v), 1) + "' y='" +
                 fixed(at_y(0) + 16, 1) + "'>" + short_number(v) + "</text>\n";
        s += "<text class='muted' text-anchor='end' x='" + right + "' y='" +
             fixed(c_.height - 4, 1) + "'>" + escaped(c_.x_name) + "</text>\n";
        for (const auto& [x, word] : c_.marks) {
            const std::string px = fixed(at_x(x), 1);
            s += "<line class='axis' stroke-dasharray='3 3' x1='" + px + "' x2='" + px + "' y1='" +
                 fixed(kTop, 0) + "' y2='" + bottom +
                 "'/><text class='muted' text-anchor='end' x='" + fixed(at_x(x) - 3, 1) + "' y='" +
                 fixed(kTop + 10, 0) + "'>" + escaped(word) + "</text>\n";
        }
        for (const Series& line : c_.series) s += draw(line);
        return s;
    }

private:
    double at_x(double x) const { return kLeft + (c_.width - kLeft - kRight) * x / high_x_; }
    double at_y(double y) const {
        return c_.height - kBottom - (c_.height - kBottom - kTop) * y / high_y_;
    }
    std::string draw(const Series& s) const {
        const std::string colour = "var(--s" + std::to_string(s.colour % 8) + ")";
        std::string path, dots;
        bool down = false;
        for (const auto& [x, y] : s.points) {
            if (!std::isfinite(x) || !std::isfinite(y)) {
                down = false;
                continue;
            }
            const std::string px = fixed(at_x(x), 1), py = fixed(at_y(y), 1);
            path += (down ? " L" : " M") + px + " " + py;
            down = true;
            if (s.dots)
                dots += "<circle cx='" + px + "' cy='" + py + "' r='3' style='fill:" + colour +
                        "'><title>" + escaped(s.name) + ": " + number(y, 5) + " at " +
                        short_number(x) + "</title></circle>";
        }
        return "<path d='" + path + "' style='fill:none;stroke:" + colour + ";stroke-width:1.6" +
               (s.dashed ? ";stroke-dasharray:5 3" : "") + "'><title>" + escaped(s.name) +
               "</title></path>" + dots + "\n";
    }

    const Chart& c_;
    bool empty_ = true;
    double high_x_ = 1, high_y_ = 1;
};

std::string svg(const Chart& c, const std::string& style, const std::string& inside) {
    return "<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 " + fixed(c.width, 0) + " " +
           fixed(c.height, 0) + "' role='img' aria-label='" + escaped(c.title) + "'>\n" + style +
           inside + "</svg>\n";
}

}  // namespace

std::string line_chart(const Chart& chart) {
    const Canvas canvas(chart);
    return canvas.empty() ? "" : svg(chart, "", canvas.draw());
}

std::string line_chart_file(const Chart& chart) {
    const Canvas canvas(chart);
    constexpr const char* kStyle =
        "<style>svg { --s0: #4a86e8; --s1: #d9622b; --s2: #38a169; --s3: #a06be0; --s4: #c99a2e; "
        "--s5: #2a9bb5; --s6: #d9508a; --s7: #808a94; background: #fff; } "
        "text { font: 13px system-ui, sans-serif; fill: #1b1f24; } .muted { fill: #5d6670; } "
        ".axis { stroke: #d5dae0; } @media (prefers-color-scheme: dark) { "
        "svg { background: #14171a; } text { fill: #e6e9ec; } .muted { fill: #98a2ad; } "
        ".axis { stroke: #333a42; } }</style>\n";
    return svg(chart, kStyle, canvas.draw());
}

}  // namespace wt::draw
