// Pages that are one file: no script, no font, no picture from elsewhere; light or dark as the
// reader's system is, and readable from 400 pixels of width.
#pragma once

#include <string>

namespace wt::draw {

// &, <, > and quotes as HTML and SVG write them.
std::string escaped(const std::string& text);

// "0.0123", "1.5e+06": so many significant digits. "12.0": so many places.
std::string number(double v, int digits = 3);
std::string fixed(double v, int places);

// The page around a body, with the style that all pages share (colours are --text, --muted, --line,
// --bad, and --s0 to --s7 of series; style.h) and `style` of its own behind it. A wide picture or
// table in <div class='scroll'> keeps its size on a narrow screen.
std::string page(const std::string& title, const std::string& style, const std::string& body);

// A picture's bytes as a data: address.
std::string png_address(const std::string& png);
std::string jpeg_address(const std::string& jpeg);

}  // namespace wt::draw
