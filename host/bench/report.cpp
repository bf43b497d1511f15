#include "host/bench/report.h"

#include "host/json.h"

#include <algorithm>
#include <cstdarg>
#include <cstdio>

#include "kernels/variant.h"

namespace wt::bench {

namespace {

std::string format(const char* f, ...) __attribute__((format(printf, 1, 2)));
std::string format(const char* f, ...) {
    char s[512];
    va_list args;
    va_start(args, f);
    std::vsnprintf(s, sizeof s, f, args);
    va_end(args);
    return s;
}

// Products by the TFLOP/s on a GPU, by the GFLOP/s on a CPU.
const char* const kFlopUnit = kAutomaticUsesBaselines ? "GFLOP/s" : "TFLOP/s";
constexpr double kFlops = kAutomaticUsesBaselines ? 1e9 : 1e12;

std::string ceiling_text(const Ceiling& c, const char* unit, double scale) {
    return c.rate > 0 ? format("%.4g %s (%s)", c.rate / scale, unit, c.how.c_str())
                      : "not measured";
}

}  // namespace

std::vector<Row> sorted(std::vector<Row> rows, Sort sort) {
    const auto time = [](const Row& r) {
        return r.state == Row::State::timed ? r.timing.median_ms : 1e30;
    };
    std::stable_sort(rows.begin(), rows.end(), [&](const Row& a, const Row& b) {
        switch (sort) {
            case Sort::time: return time(a) < time(b);
            case Sort::error: return a.error_ratio < b.error_ratio;
            case Sort::name: return a.variant < b.variant;
            default: return false;
        }
    });
    return rows;
}

std::string heading(const Comparison& c) {
    std::string s = c.device;
    if (kAutomaticUsesBaselines)
        s += ": times are CPU times; products are checked with at most 2 samples";
    if (c.sms) s += format("; planned for %d SMs", c.sms);
    s += "\n";
    if (c.checked_only) return s;
    s += "clocks    " +
         (c.most ? format("SM up to %d MHz, memory up to %d MHz; driver %s", c.most->sm,
                          c.most->memory, c.driver.c_str())
                 : std::string("not known")) +
         "\n";
    s += "ceilings  matrix products " + ceiling_text(c.ceilings.matrix, kFlopUnit, kFlops) + "\n";
    s += "          copy " + ceiling_text(c.ceilings.copy, "GB/s", 1e9) + "\n";
    return s;
}

std::string table_head(const Comparison& c, const BenchCase& bench_case) {
    std::string s =
        format("\n%s %s, %s", bench_case.op.c_str(), bench_case.name.c_str(), c.precision.c_str());
    if (c.batch) s += format(", batch %d", c.batch);
    if (bench_case.flops > 0) s += format(", %.4g GFLOP", bench_case.flops / 1e9);
    s += format(", %.4g MB", bench_case.bytes / 1e6);
    const double least = c.ceilings.least_ms(bench_case);
    if (least > 0)
        s += format(", at least %.4g ms by %s", least,
                    c.ceilings.by_matrix(bench_case) ? "the matrix rate" : "the copy rate");
    s += "\n";
    if (bench_case.problem != bench_case.name) s += "  " + bench_case.problem + "\n";
    if (!bench_case.note.empty()) s += "  " + bench_case.note + "\n";
    if (!c.checked_only)
        s += format("  %-18s %10s %7s %10s %8s %9s %9s %9s%s\n", "variant", "ms", "spread",
                    bench_case.flops > 0 ? kFlopUnit : "GB/s", "ceiling", "baseline", "error",
                    "of plain", c.most ? "   MHz" : "");
    return s;
}

std::string table_row(const Comparison& c, const Compared& compared, const Row& r) {
    const BenchCase& bench_case = compared.bench_case;
    std::string s = format("  %-18s ", r.variant.c_str());
    switch (r.state) {
        case Row::State::skipped: return s + "skipped: " + r.why + "\n";
        case Row::State::wrong: return s + "WRONG, not timed: " + r.why + "\n";
        case Row::State::right:
            return s + "right" + (r.why.empty() ? "" : ", " + r.why) +
                   format(" (error %.2g, %.2g of the plain variant's)\n", r.error, r.error_ratio);
        case Row::State::timed: break;
    }
    const double ms = r.timing.median_ms, least = c.ceilings.least_ms(bench_case),
                 baseline = compared.best(true);
    s += format("%10.4f %6.1f%% ", ms, 100 * r.timing.spread);
    s += bench_case.flops > 0 ? format("%10.1f ", 1e3 * bench_case.flops / ms / kFlops)
                              : format("%10.1f ", bench_case.bytes / ms / 1e6);
    s += least > 0 ? format("%7.1f%% ", 100 * least / ms) : format("%8s ", "-");
    s += baseline > 0 ? format("%8.2fx ", baseline / ms) : format("%9s ", "-");
    s += format("%9.2g %9.2g", r.error, r.error_ratio);
    if (c.most) s += format(" %5d", r.timing.sm_mhz);
    return s + (r.timing.steady ? "\n" : "  noisy\n");
}

std::string table(const Comparison& c, const Compared& compared, Sort sort) {
    std::string s = table_head(c, compared.bench_case);
    for (const Row& r : sorted(compared.rows, sort)) s += table_row(c, compared, r);
    return s;
}

std::string patience_line(const BenchCase& bench_case, int cores) {
    // One core of a virtual GPU, about: what the plain variants compute, and what operands are made
    // and looked at with.
    constexpr double kPlainFlops = 1.5e9, kBytes = 1.2e8;
    if (!kAutomaticUsesBaselines) return "";
    const double seconds =
        (bench_case.check_flops / kPlainFlops + bench_case.check_bytes / kBytes) /
        std::max(cores, 1);
    if (seconds < 10) return "";
    return format(
        "  large: %.3g GB of operands and results; the plain variant's run and the check of it "
        "take about %.0f s where nothing else runs, and each further variant its own time\n",
        bench_case.check_bytes / 1e9, seconds);
}

std::string fusions(const Comparison& c) {
    std::string s;
    for (const Compared& fused : c.cases) {
        if (fused.bench_case.parts.empty()) continue;
        const double parts = c.parts_ms(fused.bench_case), own = fused.best(false),
                     vendor = fused.best(true);
        const double ms = own > 0 && (vendor == 0 || own < vendor) ? own : vendor;
        std::string names;
        for (const std::string& p : fused.bench_case.parts)
            names += (names.empty() ? "" : " + ") + p;
        s += format("  %-24s ", fused.bench_case.name.c_str());
        if (ms > 0 && parts > 0)
            s += format("%10.4f ms against %10.4f, %5.2fx: ", ms, parts, parts / ms);
        else
            s += ms > 0 ? "its parts were not timed: " : "no variant was timed: ";
        s += names + "\n";
    }
    return s.empty() ? s : "\nfused, against the fastest variants of what they do\n" + s;
}

Json to_json(const Comparison& c) {
    using json = Json;
    static const char* states[] = {"timed", "right", "wrong", "skipped"};
    const auto ceiling = [](const Ceiling& x, const char* unit, double scale) {
        return x.rate > 0 ? json{{unit, x.rate / scale}, {"how", x.how}} : json(nullptr);
    };
    json j{{"device", c.device},
           {"virtual", kAutomaticUsesBaselines},
           {"net", c.net.empty() ? json(nullptr) : json(c.net)},
           {"batch", c.batch ? json(c.batch) : json(nullptr)},
           {"precision", c.precision},
           {"sms", c.sms ? json(c.sms) : json(nullptr)},
           {"driver", c.driver.empty() ? json(nullptr) : json(c.driver)},
           {"max_sm_mhz", c.most ? json(c.most->sm) : json(nullptr)},
           {"max_memory_mhz", c.most ? json(c.most->memory) : json(nullptr)},
           {"matrix_ceiling", ceiling(c.ceilings.matrix, "tflop_per_s", 1e12)},
           {"copy_ceiling", ceiling(c.ceilings.copy, "gb_per_s", 1e9)},
           {"complete", c.complete}};
    json problems = json::array();
    for (const Compared& p : c.cases) {
        const double least = c.ceilings.least_ms(p.bench_case), baseline = p.best(true);
        json problem{{"name", p.bench_case.name},
                     {"op", p.bench_case.op},
                     {"problem", p.bench_case.problem},
                     {"flops", p.bench_case.flops},
                     {"bytes", p.bench_case.bytes}};
        if (least > 0)
            problem["least_ms"] = least,
            problem["bound"] = c.ceilings.by_matrix(p.bench_case) ? "matrix" : "copy";
        problem["automatic"] = p.bench_case.variants[p.bench_case.automatic].name;
        if (!p.bench_case.parts.empty()) {
            problem["parts"] = p.bench_case.parts;
            problem["automatic_fuses"] = c.automatic_fuses(p.bench_case);
            if (const double parts = c.parts_ms(p.bench_case); parts > 0)
                problem["parts_ms"] = parts;
        }
        json rows = json::array();
        for (const Row& r : p.rows) {
            json row{{"variant", r.variant},
                     {"baseline", r.baseline},
                     {"state", states[static_cast<int>(r.state)]}};
            if (!r.why.empty()) row["why"] = r.why;
            if (r.state != Row::State::skipped)
                row["error"] = r.error, row["error_ratio"] = r.error_ratio;  // not finite: null
            if (r.state == Row::State::timed) {
                const double ms = r.timing.median_ms;
                row["ms"] = ms, row["spread"] = r.timing.spread,
                row["fastest_ms"] = r.timing.fastest_ms, row["samples"] = r.timing.samples;
                row["steady"] = r.timing.steady;
                if (p.bench_case.flops > 0) row["tflop_per_s"] = p.bench_case.flops / ms / 1e9;
                row["gb_per_s"] = p.bench_case.bytes / ms / 1e6;
                if (least > 0) row["of_ceiling"] = least / ms;
                if (baseline > 0) row["of_baseline"] = baseline / ms;
                if (r.timing.sm_mhz) row["sm_mhz"] = r.timing.sm_mhz;
            }
            rows.push_back(row);
        }
        problem["variants"] = rows;
        problems.push_back(problem);
    }
    j["problems"] = problems;
    j["wrong"] = c.wrong();
    return j;
}

}  // namespace wt::bench
