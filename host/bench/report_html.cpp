#include "host/bench/report.h"
namespace wt::bench {
std::string to_html(const Comparison&, Sort) { return ""; }
}
