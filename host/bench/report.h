// A comparison for people and for programs.
#pragma once

#include <nlohmann/json_fwd.hpp>

#include <string>
#include <vector>

#include "host/bench/comparison.h"

namespace wt::bench {

enum class Sort { table, time, error, name };

std::vector<Row> sorted(std::vector<Row> rows, Sort);
// The device, its clocks and ceilings: the lines above the tables.
std::string heading(const Comparison&);
// One case's table, as a whole or as it comes: what stands above the rows, and each row. What it is
// fused of must have been compared before it.
std::string table(const Comparison&, const Compared&, Sort);
std::string table_head(const Comparison&, const BenchCase&);
std::string table_row(const Comparison&, const Compared&, const Row&);
// What is said before a problem that takes long: how much there is of it, and about how long its
// check takes on this machine. "" where it does not.
std::string patience_line(const BenchCase&, int cores);
// A line for each fused case: its time against the sum of its parts'. Empty when there is none.
std::string fusions(const Comparison&);

nlohmann::ordered_json to_json(const Comparison&);
// One page with everything in it: bars for every variant of every case, against the ceiling.
std::string to_html(const Comparison&, Sort);

}  // namespace wt::bench
