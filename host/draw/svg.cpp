#include "host/draw/svg.h"

#include <cmath>

#include "host/draw/page.h"
#include "host/draw/style.h"

namespace wt::draw {
namespace {

// Two places, without zeros at the end: a picture has thousands of these.
std::string pixels(double v) {
    std::string s = fixed(v, 2);
    while (s.back() == '0') s.pop_back();
    if (s.back() == '.') s.pop_back();
    return s == "-0" ? "0" : s;
}

std::string attribute(const char* name, double v) {
    return std::string(" ") + name + "='" + pixels(v) + "'";
}

std::string attribute(const char* name, const std::string& text) {
    return std::string(" ") + name + "='" + escaped(text) + "'";
}

std::string colour_of(const char* name, const std::function<std::string(const Colour&)>& of) {
    for (const Colour& c : kColours)
        if (std::string(name) == c.name) return of(c);
    return "";
}

}  // namespace

std::string series_class(int colour) { return std::string("s") + std::to_string(colour % 8); }

std::string picture_rules(const std::function<std::string(const Colour&)>& of) {
    const auto c = [&](const char* name) { return colour_of(name, of); };
    std::string s = "svg text { fill: " + c("text") + "; font: 13px system-ui, sans-serif; }\n";
    s += "svg text.muted { fill: " + c("muted") + "; } svg text.small { font-size: 11px; }\n";
    s += "svg text.title { font-size: 16px; }\n";
    s += "svg text.in { fill: " + c("ground") + "; font-size: 10px; pointer-events: none; }\n";
    s += "svg path { fill: none; stroke-width: 1.6; } svg .axis { stroke: " + c("line") + "; }\n";
    s += "svg .dashed { stroke-dasharray: 5 3; } svg rect.bar { stroke: " + c("ground") +
         "; stroke-width: 0.5; }\n";
    for (int i = 0; i < 8; ++i) {
        const std::string name = series_class(i), colour = c(name.c_str());
        s += "svg path." + name + " { stroke: " + colour + "; } svg ." + name +
             ":not(path) { fill: " + colour + "; }\n";
    }
    return s;
}

std::string file_style(const std::vector<Fill>& fills) {
    std::string light = picture_rules([](const Colour& c) { return std::string(c.light); });
    std::string dark = picture_rules([](const Colour& c) { return std::string(c.dark); });
    const auto fill = [](const char* name, const char* colour) {
        return std::string("svg .") + name + " { fill: " + colour + "; }\n";
    };
    light += fill("ground", kColours[0].light);
    dark += fill("ground", kColours[0].dark);
    for (const Fill& f : fills) {
        light += fill(f.name, f.light);
        dark += fill(f.name, f.dark);
    }
    return "<style>\n" + light + "@media (prefers-color-scheme: dark) {\n" + dark + "}\n</style>\n";
}

Svg::Svg(double width, double height, std::string label)
    : width_(width), height_(height), label_(std::move(label)) {}

void Svg::element(const std::string& name, const std::string& classes,
                  const std::string& attributes, const std::string& tip) {
    body_ += "<" + name;
    if (!classes.empty()) body_ += attribute("class", classes);
    body_ += attributes;
    body_ += tip.empty() ? "/>\n" : "><title>" + escaped(tip) + "</title></" + name + ">\n";
}

void Svg::rect(const Box& box, const std::string& classes, const std::string& tip, double round) {
    element("rect", classes,
            attribute("x", box.x) + attribute("y", box.y) + attribute("width", box.width) +
                attribute("height", box.height) + (round > 0 ? attribute("rx", round) : ""),
            tip);
}

void Svg::line(double x1, double y1, double x2, double y2, const std::string& classes) {
    element("line", classes,
            attribute("x1", x1) + attribute("y1", y1) + attribute("x2", x2) + attribute("y2", y2),
            "");
}

void Svg::circle(double x, double y, double r, const std::string& classes, const std::string& tip) {
    element("circle", classes, attribute("cx", x) + attribute("cy", y) + attribute("r", r), tip);
}

void Svg::path(const Points& points, const std::string& classes, const std::string& tip) {
    std::string d;
    bool down = false;
    for (const auto& [x, y] : points) {
        if (!std::isfinite(x) || !std::isfinite(y)) {
            down = false;
            continue;
        }
        d += (down ? " L" : " M") + fixed(x, 1) + " " + fixed(y, 1);
        down = true;
    }
    element("path", classes, " d='" + d + "'", tip);
}

void Svg::text(double x, double y, const std::string& text, const std::string& classes,
               Anchor anchor) {
    body_ += "<text" + attribute("x", x) + attribute("y", y);
    if (anchor != Anchor::start)
        body_ += anchor == Anchor::middle ? " text-anchor='middle'" : " text-anchor='end'";
    if (!classes.empty()) body_ += attribute("class", classes);
    body_ += '>';
    body_ += escaped(text);
    body_ += "</text>\n";
}

std::string Svg::around(const std::string& attributes, const std::string& inside) const {
    return std::string("<svg") + attributes + " viewBox='0 0 " + pixels(width_) + " " +
           pixels(height_) + "' role='img' aria-label='" + escaped(label_) + "'>\n" + inside +
           body_ + "</svg>\n";
}

std::string Svg::inline_text() const { return around("", ""); }

std::string Svg::file_text(const std::vector<Fill>& fills) const {
    return around(" xmlns='http://www.w3.org/2000/svg'" + attribute("width", width_) +
                      attribute("height", height_),
                  file_style(fills) + "<rect class='ground' width='100%' height='100%'/>\n");
}

}  // namespace wt::draw
