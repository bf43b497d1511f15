// The colours of pages and pictures, on a light and on a dark ground.
#pragma once

#include <functional>
#include <string>

namespace wt::draw {

struct Colour {
    const char *name, *light, *dark;
};
// --s0 to --s7 are of series.
inline constexpr Colour kColours[] = {
    {"ground", "#fff", "#14171a"},  {"text", "#1b1f24", "#e6e9ec"}, {"muted", "#5d6670", "#98a2ad"},
    {"line", "#d5dae0", "#333a42"}, {"bad", "#b42318", "#ff7b6b"},  {"s0", "#2f6fde", "#6ea0ff"},
    {"s1", "#c2410c", "#fb923c"},   {"s2", "#2f855a", "#68d391"},   {"s3", "#8b3fc7", "#c792ff"},
    {"s4", "#b7791f", "#f6c453"},   {"s5", "#0e7490", "#5bd0e8"},   {"s6", "#be185d", "#ff85b8"},
    {"s7", "#5d6670", "#98a2ad"}};

// Rules of an SVG picture's classes (svg.h); `of` says how a colour is written.
std::string picture_rules(const std::function<std::string(const Colour&)>& of);

}  // namespace wt::draw
