#include "host/bench/comparison.h"

#include <algorithm>

#include "host/bench/verify.h"

namespace wt::bench {

namespace {

bool wanted(const Settings& s, const std::string& name) {
    return s.variants.empty() || std::find(s.variants.begin(), s.variants.end(), name) != s.variants.end();
}

// A plain product of this size takes a second, for nothing that anybody asks.
bool too_slow(const Job& job, size_t variant) { return variant == 0 && job.flops > (kAutomaticUsesBaselines ? 4e9 : 1e11); }

}  // namespace

Compared compare(const Job& job, Stopwatch& watch, const Settings& settings) {
    Compared c{job, {}};
    std::unique_ptr<Verifier> verifier;  // made for the first that is to be checked
    std::vector<size_t> right;           // rows
    for (size_t i = 0; i < job.variants.size(); ++i) {
        const Job::Entry& v = job.variants[i];
        if (!wanted(settings, v.name)) continue;
        Row row{Row::State::skipped, v.name, v.baseline, {}, 0, 0, v.refuses};
        if (v.refuses.empty()) {
            if (!verifier) verifier = std::make_unique<Verifier>(job, settings.device);
            const Verdict verdict = verifier->check(i);
            row.error = verdict.error, row.error_ratio = verdict.ratio, row.why = verdict.wrong;
            row.state = verdict.wrong.empty() ? Row::State::right : Row::State::wrong;
        }
        c.rows.push_back(row);
    }
    verifier.reset();  // its memory
    if (settings.check_only) return c;
    std::unique_ptr<Prepared> ready;
    for (Row& row : c.rows) {
        if (row.state != Row::State::right) continue;
        const auto at = std::find_if(job.variants.begin(), job.variants.end(), [&](const auto& v) { return v.name == row.variant; });
        const size_t i = static_cast<size_t>(at - job.variants.begin());
        if (too_slow(job, i) && settings.variants.empty()) {
            row.why = "too slow to time unless it is named";
            continue;
        }
        if (!ready) ready = job.prepare(settings.device);
        ready->operands.reset();
        row.timing = watch.measure([&](cudaStream_t s) { ready->launch(i, s); }, settings.patience);
        row.state = Row::State::timed;
    }
    return c;
}

size_t fastest(const Job& job, Stopwatch& watch, const Settings& settings, bool baselines) {
    Settings s = settings;
    s.variants.clear();
    for (size_t i = 0; i < job.variants.size(); ++i)
        if ((baselines || !job.variants[i].baseline) && !too_slow(job, i)) s.variants.push_back(job.variants[i].name);
    size_t best = job.automatic;
    double ms = 0;
    for (const Row& row : compare(job, watch, s).rows)
        if (row.state == Row::State::timed && (ms == 0 || row.timing.median_ms < ms)) {
            ms = row.timing.median_ms;
            for (size_t i = 0; i < job.variants.size(); ++i)
                if (job.variants[i].name == row.variant) best = i;
        }
    return best;
}

double Compared::best(bool baselines) const {
    double ms = 0;
    for (const Row& r : rows)
        if (r.state == Row::State::timed && r.baseline == baselines && (ms == 0 || r.timing.median_ms < ms)) ms = r.timing.median_ms;
    return ms;
}

int Comparison::wrong() const {
    int n = 0;
    for (const Compared& c : jobs)
        for (const Row& r : c.rows) n += r.state == Row::State::wrong;
    return n;
}

double Comparison::parts_ms(const Job& job) const {
    double sum = 0;
    for (const std::string& part : job.parts) {
        double ms = 0;
        for (const Compared& c : jobs)
            if (c.job.name == part)
                for (const bool baselines : {false, true})
                    if (const double b = c.best(baselines); b > 0 && (ms == 0 || b < ms)) ms = b;
        if (ms == 0) return 0;
        sum += ms;
    }
    return sum;
}

bool Comparison::automatic_fuses(const Job& job) const {
    const Job::Entry& fused = job.variants[job.automatic];
    if (job.parts.empty() || !fused.refuses.empty()) return false;
    for (const std::string& part : job.parts)
        for (const Compared& c : jobs) {
            if (c.job.name != part) continue;
            if (c.job.variants[c.job.automatic].baseline && !fused.baseline) return false;
            if (c.job.op == job.op && job.automatic < c.job.automatic) return false;
        }
    return true;
}

// ---- ceilings --------------------------------------------------------------------------------------

double Ceilings::least_ms(const Job& job) const {
    const double flops = job.flops > 0 && matrix.rate > 0 ? job.flops / matrix.rate : 0;
    const double bytes = copy.rate > 0 ? job.bytes / copy.rate : 0;
    return 1e3 * std::max(flops, bytes);
}
bool Ceilings::by_matrix(const Job& job) const {
    return job.flops > 0 && matrix.rate > 0 && (copy.rate == 0 || job.flops / matrix.rate >= job.bytes / copy.rate);
}

namespace {

// The fastest variant at `large`, of those that are right at `sample`. The plain one is no candidate.
Ceiling ceiling(Stopwatch& watch, int device, const Job& sample, const Job& large, double work, const std::string& what) {
    Settings s;
    s.device = device;
    s.check_only = true;
    Ceiling best;
    const std::unique_ptr<Prepared> ready = large.prepare(device);
    for (const Row& row : compare(sample, watch, s).rows) {
        if (row.state != Row::State::right || row.variant == large.variants[0].name) continue;
        for (size_t i = 0; i < large.variants.size(); ++i) {
            if (large.variants[i].name != row.variant || !large.variants[i].refuses.empty()) continue;
            const Timing t = watch.measure([&](cudaStream_t stream) { ready->launch(i, stream); });
            if (const double rate = work / t.median_ms * 1e3; rate > best.rate) best = {rate, large.op + " " + row.variant + ", " + what};
        }
    }
    return best;
}

}  // namespace

Ceilings measure_ceilings(Stopwatch& watch, int device, Precision precision) {
#ifdef __SANITIZE_ADDRESS__
    const int edge = 128, rows = 1;  // no figure to go by, but soon there
#elif defined(VGPU)
    const int edge = 1024, rows = 16;
#else
    const int edge = 8192, rows = 256;
#endif
    const std::string e = std::to_string(edge);
    Ceilings c;
    const Job product = problem_job("gemm", "m=" + e + ",n=" + e + ",k=" + e, precision, device);
    c.matrix = ceiling(watch, device, problem_job("gemm", "m=256,n=256,k=256", precision, device), product, product.flops,
                       e + " cubed");
    const std::string cols = ",cols=" + std::to_string(1 << 20);  // 4 MiB a row
    const Job copy = problem_job("exchange_copy", "rows=" + std::to_string(rows) + cols, Precision::fp32, device);
    c.copy = ceiling(watch, device, problem_job("exchange_copy", "rows=1" + cols, Precision::fp32, device), copy, copy.bytes,
                     std::to_string(4 * rows) + " MiB read and written");
    return c;
}

}  // namespace wt::bench
