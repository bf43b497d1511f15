// Problems as text: "n=128 h=27 w=27 c=96 k=256 r=5 s=5 pad=2 dtype=bf16", by the fields that each
// operation's folder lists (kernels/fields.h). A text has every field that a variant's time may
// depend on, and reads back as the same problem.
#pragma once

#include <set>
#include <string>

#include "kernels/fields.h"

namespace wt {

enum class FieldSet {
    all,
    without_precision,  // bin/compare has a flag of its own for those
};

// Fields that have their usual value (no padding, one group, rows without a gap) are left out.
std::string problem_text(const ProblemFields& fields, const void* problem, FieldSet which);

// Sets the fields that the text has (commas or blanks between them) and what follows from them; the
// others get their defaults. Returns the keys of those that it has. Throws UsageError: an unknown
// field (naming the nearest), a value that is out of range, a field that comes twice, no such
// problem.
std::set<std::string> parse_problem(const ProblemFields& fields, const std::string& text,
                                    void* problem);

// A line for each field: "r=5  1 to 256  height of a filter".
std::string problem_help(const ProblemFields& fields);

template <class Problem>
std::string text_of(const Problem& p, FieldSet which = FieldSet::all) {
    return problem_text(fields_of(p), &p, which);
}

template <class Problem>
Problem problem_of(const std::string& text) {
    Problem p{};
    parse_problem(fields_of(p), text, &p);
    return p;
}

}  // namespace wt
