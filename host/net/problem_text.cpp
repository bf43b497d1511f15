#include "host/net/problem_text.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>

#include "host/cuda/check.h"
#include "host/cuda/nearest.h"

namespace wt {

namespace {

std::string number(double v) {
    char text[32];
    std::snprintf(text, sizeof text, "%.9g", v);
    return text;
}

std::string value_text(const Field& f, double v) {
    return f.words.empty() ? number(v) : f.words[static_cast<size_t>(v)];
}

// What `complete` makes of a derived field that is not given.
double derived_value(const ProblemFields& fields, const Field& f, const void* problem) {
    std::vector<std::byte> other(fields.usual.size());
    std::memcpy(other.data(), problem, other.size());
    f.set(other.data(), f.unset);
    fields.complete(other.data());
    return f.get(other.data());
}

bool left_out(const ProblemFields& fields, const Field& f, const void* problem) {
    if (f.shown) return false;
    const double v = f.get(problem);
    if (f.derived) return v == derived_value(fields, f, problem);
    return v == f.get(fields.usual.data()) && v == f.get(fields.defaults.data());
}

std::string range_of(const Field& f) {
    if (f.words.empty()) return number(f.least) + " to " + number(f.most);
    std::string all;
    for (const char* w : f.words) all += (all.empty() ? "" : ", ") + std::string(w);
    return all;
}

double value_of(const Field& f, const std::string& given) {
    if (!f.words.empty()) {
        const auto at = std::find(f.words.begin(), f.words.end(), given);
        if (at == f.words.end())
            throw UsageError("--problem: " +
                             unknown_name(f.key, given, {f.words.begin(), f.words.end()}));
        return static_cast<double>(at - f.words.begin());
    }
    char* end = nullptr;
    const double v = std::strtod(given.c_str(), &end);
    const bool whole = f.type != Field::Type::f32;
    const std::string must = "--problem " + std::string(f.key) + "=" + given + ": must be a " +
                             (whole ? "whole " : "") + "number from " + number(f.least) + " to " +
                             number(f.most);
    if (given.empty() || *end || !(v >= f.least && v <= f.most) || (whole && v != std::floor(v)))
        throw UsageError(must);
    return v;
}

}  // namespace

std::string problem_text(const ProblemFields& fields, const void* problem, FieldSet which) {
    std::string text;
    for (const Field& f : fields.fields) {
        if (f.precision && which == FieldSet::without_precision) continue;
        if (left_out(fields, f, problem)) continue;
        text +=
            (text.empty() ? "" : " ") + std::string(f.key) + "=" + value_text(f, f.get(problem));
    }
    return text;
}

std::set<std::string> parse_problem(const ProblemFields& fields, const std::string& text,
                                    void* problem) {
    std::vector<std::string> keys;
    for (const Field& f : fields.fields) keys.push_back(f.key);
    std::memcpy(problem, fields.defaults.data(), fields.defaults.size());
    std::set<std::string> given;
    for (size_t at = 0; at < text.size();) {
        const size_t end = std::min(text.find_first_of(", ", at), text.size());
        const std::string part = text.substr(at, end - at);
        at = end + 1;
        if (part.empty()) continue;
        const size_t eq = part.find('=');
        if (eq == std::string::npos)
            throw UsageError("--problem " + part + ": must be FIELD=VALUE");
        const std::string key = part.substr(0, eq);
        const auto f = std::find_if(fields.fields.begin(), fields.fields.end(),
                                    [&](const Field& x) { return key == x.key; });
        if (f == fields.fields.end())
            throw UsageError("--problem: " + unknown_name("field", key, keys));
        if (!given.insert(key).second)
            throw UsageError("--problem: " + key + " is given twice, " + part + " the second time");
        f->set(problem, value_of(*f, part.substr(eq + 1)));
    }
    if (const std::string why = fields.complete(problem); !why.empty())
        throw UsageError("--problem " + text + ": " + why);
    return given;
}

std::string problem_help(const ProblemFields& fields) {
    std::string help;
    for (const Field& f : fields.fields) {
        const std::string shown =
            std::string(f.key) + "=" + value_text(f, f.get(fields.defaults.data()));
        char line[256];
        std::snprintf(line, sizeof line, "  %-16s %-16s %s\n", shown.c_str(), range_of(f).c_str(),
                      f.meaning);
        help += line;
    }
    return help;
}

}  // namespace wt
