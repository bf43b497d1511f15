// Counters for people and for programs.
#include <algorithm>
#include <cstdio>

#include "host/bench/counters.h"
#include "host/draw/page.h"
#include "host/printable.h"

namespace wt::bench {

namespace {

std::string format(const char* form, auto... values) {
    char text[256];
    std::snprintf(text, sizeof text, form, values...);
    return text;
}

std::string count_text(double n) { return grouped(static_cast<int64_t>(n)); }
std::string megabytes(double bytes) { return format("%.4g MB", bytes / 1e6); }

// A kernel's counters, as rows of a name and what there is to say.
using Rows = std::vector<std::pair<std::string, std::string>>;

std::string instructions_text(const CountedKernel& k) {
    std::string s = count_text(k.instructions) + " of warps, " +
                    count_text(k.instructions / std::max(k.warps, 1.0)) +
                    format(" a warp, %.1f of 32 lanes: ", k.lanes);
    double rest = 0;
    for (const auto& [name, count] : k.classes) {
        const double percent = 100 * count / std::max(k.instructions, 1.0);
        if (percent < 1)
            rest += percent;
        else
            s += name + format(" %.3g%%, ", percent);
    }
    s += format("others %.2g%%", rest);
    return s;
}

std::string access_text(const CountedKernel& k, const CountedAccess& a) {
    if (a.rows > 0)
        return count_text(a.requests) +
               format(" copies, %.4g rows and %.6g bytes each: ", a.rows / a.requests,
                      a.bytes / a.requests) +
               megabytes(a.bytes) + "; L2 " + megabytes(32 * a.units);
    std::string s = count_text(a.requests) + format(" requests, %.2f ", a.units / a.requests) +
                    a.unit + format(" each, at least %.2f", a.least / a.requests);
    if (a.unit == "wavefronts")
        return s + (a.units > a.least ? "; " + count_text(a.units - a.least) + " conflicts"
                                      : "; no conflicts");
    if (a.what == "global loads")
        return s + "; L2 " + megabytes(32 * k.block_sectors) + " where L1 keeps a block's, " +
               megabytes(32 * a.units) + " where it keeps none";
    return s + "; L2 " + megabytes(32 * a.units);
}

std::string synchronization_text(const CountedKernel& k) {
    std::string s;
    for (const auto& [name, count] : k.classes)
        if (name == "barrier" || name == "mbarrier" || name == "cluster" || name == "fence" ||
            name == "warp")
            s += (s.empty() ? "" : ", ") + name + " " + count_text(count);
    return s;
}

Rows rows_of(const CountedKernel& k, double problem_flops) {
    Rows rows{{"instructions", instructions_text(k)}};
    for (const CountedAccess& a : k.accesses) rows.emplace_back(a.what, access_text(k, a));
    for (const CountedMatrix& m : k.matrix) {
        std::string s =
            count_text(m.warps) + " " + m.what + ": " + format("%.4g GFLOP", m.flops / 1e9);
        if (problem_flops > 0) s += format(", %.3f of the problem's", m.flops / problem_flops);
        if (m.shared_bytes > 0) s += "; reads " + megabytes(m.shared_bytes) + " of shared memory";
        rows.emplace_back("matrix", s);
    }
    if (const std::string s = synchronization_text(k); !s.empty()) rows.emplace_back("together", s);
    for (const CountedLine& l : k.worst)
        rows.emplace_back("worst",
                          l.place + " " + l.access.what + ": " +
                              format("%.2f ", l.access.units / l.access.requests) + l.access.unit +
                              format(" each, at least %.2f; ", l.access.least / l.access.requests) +
                              count_text(l.access.units - l.access.least) + " too many");
    return rows;
}

std::string head(const CountedCase& c) {
    const BenchCase& b = *c.bench_case;
    std::string s = b.op + " " + b.name + ", " + c.precision;
    if (b.flops > 0) s += format(", %.4g GFLOP", b.flops / 1e9);
    return s + format(", %.4g MB", b.bytes / 1e6);
}

// At blanks, in lines of so many characters that begin under the first.
std::string wrapped(const std::string& text, size_t width, size_t indent) {
    std::string s;
    for (size_t at = 0; at < text.size();) {
        size_t end = text.size();
        if (end - at > width)
            if (const size_t blank = text.rfind(' ', at + width);
                blank != std::string::npos && blank > at)
                end = blank;
        s += (at ? std::string(indent, ' ') : "") + text.substr(at, end - at) + "\n";
        at = end + 1;
    }
    return s;
}

// Every variant in a line, to compare by.
std::string summary(const CountedCase& c) {
    std::string s = format("  %-22s %14s %10s %14s %10s\n", "variant", "instructions", "L2 MB",
                           "wavefronts", "matrix");
    for (const CountedVariant& v : c.variants) {
        if (!v.why.empty()) {
            s += format("  %-22s ", v.variant.c_str()) + (v.failed ? "FAILED: " : "not counted: ") +
                 v.why + "\n";
            continue;
        }
        s += format("  %-22s %14s %10.4g %14s ", v.variant.c_str(),
                    count_text(v.instructions()).c_str(), v.l2_bytes() / 1e6,
                    count_text(v.shared_wavefronts()).c_str());
        s += v.flops() > 0 ? format("%7.4g GF\n", v.flops() / 1e9) : format("%10s\n", "-");
    }
    return s;
}

Json to_json(const CountedAccess& a) {
    Json j{{"what", a.what},   {"unit", a.unit},   {"requests", a.requests}, {"lanes", a.lanes},
           {"units", a.units}, {"least", a.least}, {"bytes", a.bytes}};
    if (a.rows > 0) j["rows"] = a.rows;
    return j;
}

Json to_json(const CountedKernel& k) {
    Json classes = Json::object(), accesses = Json::array(), matrix = Json::array(),
         worst = Json::array();
    for (const auto& [name, count] : k.classes) classes[name] = count;
    for (const CountedAccess& a : k.accesses) accesses.push_back(to_json(a));
    for (const CountedMatrix& m : k.matrix)
        matrix.push_back({{"what", m.what},
                          {"warps", m.warps},
                          {"flops", m.flops},
                          {"shared_bytes", m.shared_bytes}});
    for (const CountedLine& l : k.worst) {
        Json line{{"place", l.place}};
        line.update(to_json(l.access));
        worst.push_back(line);
    }
    return {{"kernel", k.name},
            {"shape", k.shape},
            {"blocks", k.blocks},
            {"warps", k.warps},
            {"instructions", k.instructions},
            {"lanes", k.lanes},
            {"classes", classes},
            {"accesses", accesses},
            {"block_sectors", k.block_sectors},
            {"matrix", matrix},
            {"worst", worst}};
}

std::string section(const CountedCase& c) {
    std::string s = "<section>\n<h2>" + draw::escaped(c.bench_case->name) +
                    "</h2>\n<p class='muted'>" +
                    draw::escaped(head(c) + "; " + c.bench_case->problem) + "</p>\n";
    for (const CountedVariant& v : c.variants) {
        if (!v.why.empty()) {
            s += "<p class='" + std::string(v.failed ? "bad" : "muted") + "'>" +
                 draw::escaped(v.variant + (v.failed ? " failed: " : ": not counted, ") + v.why) +
                 "</p>\n";
            continue;
        }
        s += "<h3>" + draw::escaped(v.variant) + "</h3>\n";
        for (const CountedKernel& k : v.kernels) {
            s += "<p class='muted'>" + draw::escaped(k.name + ", " + k.shape) + "</p>\n<table>\n";
            for (const auto& [name, text] : rows_of(k, c.bench_case->flops))
                s += "<tr><td>" + draw::escaped(name) + "</td><td>" + draw::escaped(text) +
                     "</td></tr>\n";
            s += "</table>\n";
        }
    }
    return s + "</section>\n";
}

}  // namespace

std::string counters_heading() {
    return "counted on virtual GPUs in the PTX that nvcc made (host/vgpu/README.md, \"Counters\"); "
           "nothing is timed\n";
}

std::string to_text(const CountedCase& c) {
    std::string s = "\n" + head(c) + "\n";
    if (c.bench_case->problem != c.bench_case->name) s += "  " + c.bench_case->problem + "\n";
    s += summary(c);
    for (const CountedVariant& v : c.variants)
        for (const CountedKernel& k : v.kernels) {
            s += "\n  " + v.variant + ": " + k.name + ", " + k.shape + "\n";
            for (const auto& [name, text] : rows_of(k, c.bench_case->flops))
                s += format("    %-21s", name.c_str()) + wrapped(text, 95, 25);
        }
    return s;
}

Json to_json(const CountedCase& c) {
    Json variants = Json::array();
    for (const CountedVariant& v : c.variants) {
        Json j{{"variant", v.variant}};
        if (!v.why.empty()) {
            j[v.failed ? "failed" : "not_counted"] = v.why;
        } else {
            Json kernels = Json::array();
            for (const CountedKernel& k : v.kernels) kernels.push_back(to_json(k));
            j["instructions"] = v.instructions();
            j["l2_bytes"] = v.l2_bytes();
            j["shared_wavefronts"] = v.shared_wavefronts();
            j["matrix_flops"] = v.flops();
            j["kernels"] = kernels;
        }
        variants.push_back(j);
    }
    return {{"name", c.bench_case->name},
            {"op", c.bench_case->op},
            {"problem", c.bench_case->problem},
            {"whole_problem", c.bench_case->whole_problem},
            {"flops", c.bench_case->flops},
            {"bytes", c.bench_case->bytes},
            {"variants", variants}};
}

std::string counters_page(const std::vector<CountedCase>& all, const std::string& title) {
    std::string s = "<h1>" + draw::escaped(title) + "</h1>\n<p class='muted'>" +
                    draw::escaped(counters_heading()) + "</p>\n";
    for (const CountedCase& c : all) s += section(c);
    return draw::page(title, "table td:first-child { white-space: nowrap; }", s);
}

}  // namespace wt::bench
