// SVG pictures, element by element: the one place where their markup is written. Coordinates are
// pixels of the picture's own, from its upper left corner; a page scales it to its width.
//
// Colours come from classes: s0 to s7 are those of series (a line's stroke, a shape's fill), muted,
// axis, bad, and what a picture adds of its own (Fill). A page's style has them (page.h), a file
// brings them along, without variables, which only browsers know. Both are light or dark as the
// reader's system is.
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace wt::draw {

// A class of a picture's own for shapes, with its colours on a light and on a dark ground.
struct Fill {
    const char *name, *light, *dark;
};

// "s0" to "s7", and from the start again.
std::string series_class(int colour);

// Rules of all pictures and these fills, for a file's <style>.
std::string file_style(const std::vector<Fill>& fills = {});

class Svg {
public:
    enum class Anchor { start, middle, end };
    struct Box {
        double x, y, width, height;
    };
    using Points = std::vector<std::pair<double, double>>;

    // `label`: what the picture shows, for those who do not see it.
    Svg(double width, double height, std::string label);

    // `classes`: with blanks between. `tip`: shown under the pointer; "": nothing.
    void rect(const Box& box, const std::string& classes, const std::string& tip = "",
              double round = 0);
    void line(double x1, double y1, double x2, double y2, const std::string& classes = "axis");
    void circle(double x, double y, double r, const std::string& classes,
                const std::string& tip = "");
    // A line through the points; where one is not finite it is broken.
    void path(const Points& points, const std::string& classes, const std::string& tip = "");
    void text(double x, double y, const std::string& text, const std::string& classes = "",
              Anchor anchor = Anchor::start);

    // For a page.
    std::string inline_text() const;
    // A file of its own, on its own ground; on a page it does no harm.
    std::string file_text(const std::vector<Fill>& fills = {}) const;

private:
    void element(const std::string& name, const std::string& classes, const std::string& attributes,
                 const std::string& tip);
    std::string around(const std::string& attributes, const std::string& inside) const;
    double width_, height_;
    std::string label_, body_;
};

}  // namespace wt::draw
