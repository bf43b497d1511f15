// Line charts as inline SVG, in the colours of a page (page.h).
#pragma once

#include <string>
#include <utility>
#include <vector>

namespace wt::draw {

struct Series {
    std::string name;
    std::vector<std::pair<double, double>> points;  // by x; a y that is not finite breaks the line
    int colour = 0;                                 // --s0 to --s7
    bool dots = false;                              // points are marked
    bool dashed = false;
};

// Where the names of the series stand, each with its line: nowhere, on the right, or over the
// chart, which is the higher for them (two in a row). Series without a name have none.
enum class Key { none, right, above };

struct Chart {
    std::string title, x_name;
    std::vector<Series> series;
    std::vector<std::pair<double, std::string>> marks;  // upright lines, each with a word
    double width = 460, height = 260;
    bool log2_x = false;  // x by powers of two, from the least to the largest, each x a tick
    double top = 0;       // of the y axis, what is higher is cut; 0: what the points need
    bool shares = false;  // y is a share: 0.2 is written as 20%
    Key key = Key::none;
};

// "" where no series has a point. The y axis begins at 0; so does the x axis.
std::string line_chart(const Chart& chart);
// The same as a file of its own, with colours that serve light and dark.
std::string line_chart_file(const Chart& chart);

// At most `most` points: means of runs of equal length. So a long run's chart stays small, and its
// noise is seen as a line.
std::vector<std::pair<double, double>> thinned(const std::vector<std::pair<double, double>>& points,
                                               size_t most = 400);

// Round numbers that divide [low, high] into two to ten parts.
std::vector<double> ticks(double low, double high);

}  // namespace wt::draw
