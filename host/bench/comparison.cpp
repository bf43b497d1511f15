#include "host/bench/comparison.h"

#include <algorithm>
#include <set>

#include "host/bench/verify.h"

namespace wt::bench {

namespace {

bool wanted(const Settings& s, const std::string& name) {
    return s.variants.empty() ||
           std::find(s.variants.begin(), s.variants.end(), name) != s.variants.end();
}

// A plain product of this size takes a second, for nothing that anybody asks.
bool too_slow(const BenchCase& bench_case, size_t variant) {
    return variant == 0 && bench_case.flops > (kAutomaticUsesBaselines ? 4e9 : 1e11);
}

}  // namespace

namespace {

// "" while the device works. An address that is not there, for one, leaves it useless to this
// process.
std::string why_lost(int device) {
    const DeviceGuard guard(device);
    (void)cudaGetLastError();  // one that stays is in the next call too
    const cudaError_t e = cudaDeviceSynchronize();
    return e == cudaSuccess ? "" : cudaGetErrorString(e);
}

// The comparison of one case.
class Comparer {
public:
    Comparer(const BenchCase& bench_case, Stopwatch& watch, const Settings& settings,
             const Progress& progress)
        : watch_(watch), settings_(settings), progress_(progress), c_{bench_case, {}, {}} {
        for (size_t i = 0; i < bench_case.variants.size(); ++i) {
            const BenchCase::Entry& v = bench_case.variants[i];
            if (!wanted(settings, v.name)) continue;
            if (settings.variants.empty() && !settings.fixed_plans && v.preference < 0) continue;
            Row row{.state = Row::State::skipped,
                    .variant = v.name,
                    .baseline = v.baseline,
                    .timing = {},
                    .why = v.refuses};
            c_.rows.push_back(row);
            number_.push_back(i);
        }
    }

    Compared run() {
        check();
        if (!settings_.check_only) {
            // Vendors' first: how much faster than theirs a variant is can be said once it is
            // timed.
            for (const bool baselines : {true, false})
                for (size_t r = 0; r < c_.rows.size(); ++r)
                    if (c_.rows[r].baseline == baselines) time(r);
        }
        tell(c_.rows.size());
        return std::move(c_);
    }

private:
    void check() {
        for (size_t r = 0; r < c_.rows.size(); ++r) {
            Row& row = c_.rows[r];
            if (row.why.empty() && c_.lost.empty())
                check(row, number_[r]);
            else if (row.why.empty())
                row.why = "the device is lost";
            if (settings_.check_only) tell(r + 1);
        }
        verifier_.reset();  // its memory
    }

    void check(Row& row, size_t variant) {
        begins("checking", row);
        try {
            if (!verifier_) verifier_ = std::make_unique<Verifier>(c_.bench_case, settings_.device);
            const Verdict verdict = verifier_->check(variant);
            row.error = verdict.error;
            row.error_ratio = verdict.ratio;
            row.why = verdict.wrong;
            row.state = verdict.wrong.empty() ? Row::State::right : Row::State::wrong;
        } catch (const std::exception& e) {
            fails(row, e);
        }
    }

    void time(size_t r) {
        Row& row = c_.rows[r];
        const size_t variant = number_[r];
        if (row.state == Row::State::right && !c_.lost.empty())
            row.why = "the device was lost before it was timed";
        else if (row.state == Row::State::right && too_slow(c_.bench_case, variant) &&
                 settings_.variants.empty())
            row.why = "too slow to time unless it is named";
        else if (row.state == Row::State::right) {
            begins("timing", row);
            try {
                if (!ready_) ready_ = c_.bench_case.prepare(settings_.device);
                ready_->operands.reset();
                row.timing = watch_.measure([&](cudaStream_t s) { ready_->launch(variant, s); },
                                            settings_.patience);
                row.state = Row::State::timed;
            } catch (const std::exception& e) {
                fails(row, e);
            }
        }
        done_.insert(r);
        while (done_.contains(told_)) tell(told_ + 1);
    }

    void fails(Row& row, const std::exception& e) {
        row.state = Row::State::wrong;
        row.why = e.what();
        c_.lost = why_lost(settings_.device);
    }
    void begins(const char* doing, const Row& row) const {
        if (progress_.begins) progress_.begins(doing, row.variant);
    }
    // Looks only at the rows before `end`.
    void tell(size_t end) {
        for (; told_ < end; ++told_)
            if (progress_.row) progress_.row(c_, c_.rows[told_]);
    }

    Stopwatch& watch_;
    const Settings& settings_;
    const Progress& progress_;
    Compared c_;
    std::vector<size_t> number_;  // of each row's variant in the table
    std::unique_ptr<Verifier> verifier_;
    std::unique_ptr<Prepared> ready_;
    std::set<size_t> done_;  // rows that are final
    size_t told_ = 0;
};

}  // namespace

Compared compare(const BenchCase& bench_case, Stopwatch& watch, const Settings& settings,
                 const Progress& progress) {
    return Comparer(bench_case, watch, settings, progress).run();
}

double Compared::best(bool baselines) const {
    double ms = 0;
    for (const Row& r : rows)
        if (r.state == Row::State::timed && r.baseline == baselines &&
            (ms == 0 || r.timing.median_ms < ms))
            ms = r.timing.median_ms;
    return ms;
}

int Comparison::wrong() const {
    int n = 0;
    for (const Compared& c : cases)
        for (const Row& r : c.rows) n += r.state == Row::State::wrong;
    return n;
}

std::string Comparison::skipped(const std::vector<std::string>& names) const {
    std::string all;
    for (const std::string& name : names) {
        std::string why;
        bool ran = false;
        for (const Compared& c : cases)
            for (const Row& r : c.rows) {
                if (r.variant != name) continue;
                ran = ran || r.state != Row::State::skipped;
                if (why.empty()) why = c.bench_case.name + ": " + r.why;
            }
        if (!ran)
            all += (all.empty() ? "" : "; ") + name + " was skipped" +
                   (why.empty() ? "" : " (" + why + ")");
    }
    return all;
}

double Comparison::parts_ms(const BenchCase& bench_case) const {
    double sum = 0;
    for (const std::string& part : bench_case.parts) {
        double ms = 0;
        for (const Compared& c : cases)
            if (c.bench_case.name == part)
                for (const bool baselines : {false, true})
                    if (const double b = c.best(baselines); b > 0 && (ms == 0 || b < ms)) ms = b;
        if (ms == 0) return 0;
        sum += ms;
    }
    return sum;
}

bool Comparison::automatic_fuses(const BenchCase& bench_case) const {
    const BenchCase::Entry& fused = bench_case.variants[bench_case.automatic];
    if (bench_case.parts.empty() || !fused.refuses.empty()) return false;
    for (const std::string& part : bench_case.parts)
        for (const Compared& c : cases) {
            if (c.bench_case.name != part) continue;
            const BenchCase::Entry& apart = c.bench_case.variants[c.bench_case.automatic];
            if (apart.baseline && !fused.baseline) return false;
            if (c.bench_case.op == bench_case.op && fused.preference < apart.preference)
                return false;
        }
    return true;
}

// ---- ceilings -----------------------------------------------------------------------------------

double Ceilings::least_ms(const BenchCase& bench_case) const {
    const double flops =
        bench_case.flops > 0 && matrix.rate > 0 ? bench_case.flops / matrix.rate : 0;
    const double bytes = copy.rate > 0 ? bench_case.bytes / copy.rate : 0;
    return 1e3 * std::max(flops, bytes);
}
bool Ceilings::by_matrix(const BenchCase& bench_case) const {
    return bench_case.flops > 0 && matrix.rate > 0 &&
           (copy.rate == 0 || bench_case.flops / matrix.rate >= bench_case.bytes / copy.rate);
}

namespace {

// The fastest variant at `large`, of those that are right at `sample`. The plain one is no
// candidate.
Ceiling ceiling(Stopwatch& watch, int device, const BenchCase& sample, const BenchCase& large,
                double work, const std::string& what) {
    Settings s;
    s.device = device;
    s.check_only = true;
    Ceiling best;
    const std::unique_ptr<Prepared> ready = large.prepare(device);
    for (const Row& row : compare(sample, watch, s).rows) {
        if (row.state != Row::State::right || row.variant == large.variants[0].name) continue;
        for (size_t i = 0; i < large.variants.size(); ++i) {
            if (large.variants[i].name != row.variant || !large.variants[i].refuses.empty())
                continue;
            const Timing t = watch.measure([&](cudaStream_t stream) { ready->launch(i, stream); });
            if (const double rate = work / t.median_ms * 1e3; rate > best.rate)
                best = {rate, large.op + " " + row.variant + ", " + what};
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
    const BenchCase product =
        problem_case("gemm", "m=" + e + ",n=" + e + ",k=" + e, precision, device);
    c.matrix = ceiling(watch, device, problem_case("gemm", "m=256,n=256,k=256", precision, device),
                       product, product.flops, e + " cubed");
    const std::string cols = ",cols=" + std::to_string(1 << 20);  // 4 MiB a row
    const BenchCase copy = problem_case("exchange_copy", "rows=" + std::to_string(rows) + cols,
                                        Precision::fp32, device);
    c.copy = ceiling(watch, device,
                     problem_case("exchange_copy", "rows=1" + cols, Precision::fp32, device), copy,
                     copy.bytes, std::to_string(4 * rows) + " MiB read and written");
    return c;
}

}  // namespace wt::bench
