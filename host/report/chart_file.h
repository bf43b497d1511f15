// A chart that a script describes, drawn as all charts of the project are: bin/report --chart.
#pragma once

#include <string>

#include "host/draw/chart.h"

namespace wt {

// The chart of a JSON text:
//
//   {"title": "error, %", "x": "epochs",
//    "series": [{"name": "with LRN", "points": [[1, 60.5], [2, null]], "colour": 0, "dots": true,
//                "dashed": false}],
//    "marks": [[12.5, "lr 0.001"]]}
//
// `name`, `colour` (its place among the series), `dots`, `dashed` and `marks` may be missing; a
// null breaks a line. Throws Error, in one line that begins with `what` (the file's name), where
// the text is no such description or has no point.
draw::Chart parse_chart(const std::string& text, const std::string& what);

// The chart as an SVG of its own, under a key: a colour and a name for each series.
std::string keyed_chart_file(const draw::Chart& chart);

}  // namespace wt
