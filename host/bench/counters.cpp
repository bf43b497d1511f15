// Running variants with kernels that count.
#include "host/bench/counters.h"

#include <algorithm>

#include "kernels/common/machine.h"

#ifdef VGPU
#include "host/vgpu/ptx_exec/counters.h"
#endif

namespace wt::bench {

#ifndef VGPU

std::string why_no_counters() {
    return "--counters: this program runs on real GPUs, whose own counters profiling/ncu.sh reads; "
           "`make PTX=1` builds build/vgpu-ptx90/bin/compare, which counts without one";
}

CountedCase count_case(const BenchCase&, const Settings&, const std::string&,
                       const std::function<void(const std::string&)>&) {
    throw UsageError(why_no_counters());
}

#else

namespace counters = vgpu::ptx_exec;
using counters::Access;
using counters::AccessCounters;

std::string why_no_counters() {
    if (counters::can_count()) return "";
    return "--counters: this build does not count: `make PTX=1` (it needs nvcc) builds "
           "build/vgpu-ptx90/bin/compare, which does";
}

namespace {

// What two cores count in about ten seconds, in floating-point operations. Each load of a plain
// product is looked at; a wgmma is one loop over a tile.
double most_flops(const BenchCase& c, size_t variant) {
    const std::string& name = c.variants[variant].name;
    if (name.find("wgmma") != std::string::npos) return 1e11;
    if (name.find("mma") != std::string::npos) return 2e10;
    return variant == 0 ? 1e9 : 5e9;
}

std::string too_large(const BenchCase& c, size_t variant) {
    const double most = most_flops(c, variant);
    if (c.flops <= most) return "";
    char text[160];
    std::snprintf(text, sizeof text,
                  "too large: %.3g GFLOP, and at most %.3g of this variant are counted: give a "
                  "smaller --batch or --problem",
                  c.flops / 1e9, most / 1e9);
    return text;
}

std::string text_of(const dim3& d) {
    std::string s = std::to_string(d.x);
    if (d.y > 1 || d.z > 1) s += " x " + std::to_string(d.y);
    if (d.z > 1) s += " x " + std::to_string(d.z);
    return s;
}

std::string without_parameters(std::string name) {
    if (name.starts_with("void ")) name.erase(0, 5);
    // The last list in brackets at the outermost level, behind the template's arguments.
    int depth = 0;
    size_t end = name.size();
    for (size_t i = 0; i < name.size(); ++i) {
        if (name[i] == '<') ++depth;
        if (name[i] == '>') --depth;
        if (name[i] == '(' && depth == 0 && i > 0 && name.compare(i, 11, "(anonymous ") != 0) {
            end = i;
            break;
        }
    }
    name.resize(end);
    for (const std::string& drop : {std::string("(anonymous namespace)::"), std::string("wt::")})
        for (size_t at; (at = name.find(drop)) != std::string::npos;) name.erase(at, drop.size());
    return name;
}

CountedAccess access_of(Access what, const AccessCounters& c) {
    return {.what = counters::name_of(what),
            .unit = counters::in_shared(what) ? "wavefronts" : "sectors",
            .requests = static_cast<double>(c.requests),
            .lanes = static_cast<double>(c.lanes),
            .units = static_cast<double>(c.units),
            .least = static_cast<double>(c.least),
            .bytes = static_cast<double>(c.bytes),
            .rows = static_cast<double>(c.rows)};
}

// The lines that take most beyond what their bytes need; none where nothing is wasted.
std::vector<CountedLine> worst_of(const counters::KernelCounters& k) {
    std::vector<CountedLine> lines;
    for (const auto& l : k.lines)
        if (l.counters.units > l.counters.least)
            lines.push_back({.place = l.file + ":" + std::to_string(l.line),
                             .access = access_of(l.access, l.counters)});
    std::stable_sort(lines.begin(), lines.end(), [](const auto& a, const auto& b) {
        return a.access.units - a.access.least > b.access.units - b.access.least;
    });
    constexpr size_t kShown = 4;
    if (lines.size() > kShown) lines.resize(kShown);
    return lines;
}

CountedKernel kernel_of(const counters::KernelCounters& k) {
    CountedKernel out;
    out.name = without_parameters(k.name);
    out.shape = std::to_string(k.blocks) + (k.blocks == 1 ? " block of " : " blocks of ") +
                text_of(k.block) + " threads";
    if (const unsigned n = k.cluster.x * k.cluster.y * k.cluster.z; n > 1)
        out.shape += ", in clusters of " + std::to_string(n);
    out.blocks = static_cast<double>(k.blocks);
    out.warps = static_cast<double>(k.warps);
    out.instructions = static_cast<double>(k.all_instructions());
    out.lanes = static_cast<double>(k.thread_instructions) / std::max(out.instructions, 1.0);
    for (size_t i = 0; i < counters::kClasses; ++i)
        if (k.instructions[i])
            out.classes.emplace_back(counters::name_of(static_cast<counters::Class>(i)),
                                     static_cast<double>(k.instructions[i]));
    std::stable_sort(out.classes.begin(), out.classes.end(),
                     [](const auto& a, const auto& b) { return a.second > b.second; });
    for (size_t i = 0; i < counters::kAccesses; ++i)
        if (k.access[i].requests)
            out.accesses.push_back(access_of(static_cast<Access>(i), k.access[i]));
    out.block_sectors = static_cast<double>(k.block_sectors);
    for (const auto& m : k.matrix)
        out.matrix.push_back({.what = m.name,
                              .warps = static_cast<double>(m.warps),
                              .flops = m.flops,
                              .shared_bytes = static_cast<double>(m.shared_bytes)});
    out.worst = worst_of(k);
    return out;
}

// Launches from construction on count, and are planned as on a GPU: kernels that move memory have a
// thread a block on a CPU otherwise (kernels/common/machine.h).
struct Window {
    Window() {
        plan_overrides.stream_threads = 256;
        counters::start_counting();
    }
    ~Window() {
        if (open) counters::stop_counting();
        plan_overrides.stream_threads = before;
    }
    std::vector<counters::KernelCounters> close() {
        open = false;
        return counters::stop_counting();
    }
    bool open = true;
    int before = plan_overrides.stream_threads;
};

void count(const BenchCase& bench_case, size_t variant, int device, CountedVariant& out) {
    try {
        const std::unique_ptr<Prepared> ready = bench_case.prepare(device);
        ready->operands.reset();
        ready->operands.stream().synchronize();
        Window window;
        ready->launch(variant, ready->operands.stream().get());
        ready->operands.stream().synchronize();
        for (const auto& k : window.close()) out.kernels.push_back(kernel_of(k));
        if (out.kernels.empty()) out.why = "it launches no kernel: a copy of the runtime's";
    } catch (const std::exception& e) {
        out.why = e.what();
        out.failed = true;
    }
}

}  // namespace

CountedCase count_case(const BenchCase& bench_case, const Settings& settings,
                       const std::string& precision,
                       const std::function<void(const std::string&)>& begins) {
    CountedCase counted{.bench_case = &bench_case, .precision = precision, .variants = {}};
    for (size_t i = 0; i < bench_case.variants.size(); ++i) {
        const BenchCase::Entry& v = bench_case.variants[i];
        const bool named = std::ranges::find(settings.variants, v.name) != settings.variants.end();
        if (!settings.variants.empty() && !named) continue;
        if (settings.variants.empty() && !settings.fixed_plans && v.preference < 0) continue;
        CountedVariant row{.variant = v.name, .why = v.refuses, .kernels = {}};
        if (row.why.empty() && v.baseline) row.why = "a vendor's library, which has no PTX here";
        if (row.why.empty()) row.why = too_large(bench_case, i);
        if (row.why.empty()) {
            begins(v.name);
            count(bench_case, i, settings.device, row);
        }
        counted.variants.push_back(std::move(row));
    }
    return counted;
}

#endif

namespace {

double sum(const CountedVariant& v, auto of) {
    double all = 0;
    for (const CountedKernel& k : v.kernels) all += of(k);
    return all;
}

}  // namespace

double CountedVariant::l2_bytes() const {
    return sum(*this, [](const CountedKernel& k) {
        double sectors = k.block_sectors;
        for (const CountedAccess& a : k.accesses)
            if (a.unit == "sectors" && a.what != "global loads") sectors += a.units;
        return 32 * sectors;
    });
}

double CountedVariant::shared_wavefronts() const {
    return sum(*this, [](const CountedKernel& k) {
        double all = 0;
        for (const CountedAccess& a : k.accesses)
            if (a.unit == "wavefronts") all += a.units;
        for (const CountedMatrix& m : k.matrix) all += m.shared_bytes / 128;
        return all;
    });
}

double CountedVariant::flops() const {
    return sum(*this, [](const CountedKernel& k) {
        double all = 0;
        for (const CountedMatrix& m : k.matrix) all += m.flops;
        return all;
    });
}

double CountedVariant::instructions() const {
    return sum(*this, [](const CountedKernel& k) { return k.instructions; });
}

}  // namespace wt::bench
