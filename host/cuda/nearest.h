// The nearest of the names that would have been right, for messages about the one that was given.
#pragma once

#include <algorithm>
#include <string>
#include <string_view>
#include <vector>

namespace wt {

// Edits that turn a into b: insertions, deletions, substitutions and swaps of neighbours, each once
// (Damerau-Levenshtein, "optimal string alignment"). Case does not count.
inline size_t edit_distance(std::string_view a, std::string_view b) {
    auto lower = [](char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; };
    std::vector<size_t> before(b.size() + 1), above(b.size() + 1), row(b.size() + 1);
    for (size_t j = 0; j <= b.size(); ++j) above[j] = j;
    for (size_t i = 1; i <= a.size(); ++i) {
        row[0] = i;
        for (size_t j = 1; j <= b.size(); ++j) {
            const bool same = lower(a[i - 1]) == lower(b[j - 1]);
            row[j] = std::min({above[j] + 1, row[j - 1] + 1, above[j - 1] + (same ? 0 : 1)});
            if (i > 1 && j > 1 && lower(a[i - 1]) == lower(b[j - 2]) &&
                lower(a[i - 2]) == lower(b[j - 1]))
                row[j] = std::min(row[j], before[j - 2] + 1);
        }
        std::swap(before, above);
        std::swap(above, row);
    }
    return above[b.size()];
}

// The candidate with the fewest edits (the first of equals), or "" when none is near: at most 2
// edits, and for long names a third of their length. A name that the given one begins counts as one
// edit away.
inline std::string nearest(std::string_view given, const std::vector<std::string>& candidates) {
    std::string best;
    size_t best_distance = std::max<size_t>(2, given.size() / 3) + 1;
    for (const auto& c : candidates) {
        size_t d = edit_distance(given, c);
        if (given.size() >= 3 && c.starts_with(given)) d = std::min<size_t>(d, 1);
        if (d < best_distance && d < std::max(given.size(), c.size())) best = c, best_distance = d;
    }
    return best;
}

// One line: "unknown net 'alexnett': must be one of alexnet, owt, mini; nearest is alexnet".
inline std::string unknown_name(std::string_view what, std::string_view given,
                                const std::vector<std::string>& allowed) {
    std::string s = "unknown " + std::string(what) + " '" + std::string(given) + "': must be ";
    if (allowed.size() != 1) s += "one of ";
    for (size_t i = 0; i < allowed.size(); ++i) s += (i ? ", " : "") + allowed[i];
    if (const std::string n = nearest(given, allowed); !n.empty()) s += "; nearest is " + n;
    return s;
}

}  // namespace wt
