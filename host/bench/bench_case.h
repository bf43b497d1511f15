// An operation at a problem with its table of variants, whatever their types: what bin/compare
// lists, verifies and times, and the tuner chooses from.
//
//   const BenchCase one = make_case("conv2.wgrad", problem, conv_wgrad_variants(), sm);
//   const std::unique_ptr<Prepared> ready = one.prepare(device);
//   ready->launch(1, stream);      // variant 1 of the table
#pragma once

#include <algorithm>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "host/bench/fill.h"
#include "host/net/problem_text.h"
#include "kernels/variant.h"

namespace wt::bench {

// Operands on a device, and the table's variants ready to run on them.
struct Prepared {
    explicit Prepared(int device) : operands(device) {}
    Operands operands;
    std::function<void(size_t variant, cudaStream_t)> launch;
};

struct BenchCase {
    std::string
        name;        // LAYER.OP as in bin/train --kernels: "conv2.wgrad"; of --problem: the problem
    std::string op;  // "conv_wgrad"
    std::string problem;        // "n=128 h=27 ...": what --problem takes
    std::string whole_problem;  // the same with what says the precision
    double flops = 0, bytes = 0;
    DType dtype = DType::f32;
    bool tf32 = false;
    // elements of its largest tensor, of products and updates; 0: not asked for
    double largest = 0;
    double check_flops = 0, check_bytes = 0;  // of the problem that is checked
    std::string note;                         // what its check leaves out; "" : nothing
    // a fused operation: the names of the cases whose work it does
    std::vector<std::string> parts;
    struct Entry {
        std::string name;
        bool baseline;
        std::string refuses;  // "", or why it cannot compute this on this device
        int preference = 0;   // on this device (kernels/variant.h)
    };
    std::vector<Entry> variants;
    size_t automatic = 0;  // which one `--kernels auto` takes
    // For `--kernels tune`: which one is taken where nothing is measured, and which are worth
    // measuring.
    std::function<size_t(KernelChoice)> chosen;
    std::function<std::vector<std::string>(KernelChoice)> candidates;

    std::function<std::unique_ptr<Prepared>(int device)> prepare;
    // The same for as few samples as a plain variant can be waited for on a CPU; on a GPU the
    // problem itself.
    std::function<std::unique_ptr<Prepared>(int device)> prepare_check;

    std::string layer() const { return name.substr(0, name.find('.')); }
};

// Elements of the largest tensor of a problem that `small` makes smaller.
inline double largest_tensor(const ConvProblem& p) {
    return double(std::max({p.x_count(), p.y_count(), p.w_count()}));
}
inline double largest_tensor(const ConvPoolProblem& p) {
    return double(std::max({p.x_count(), p.y_count(), p.w_count()}));
}
inline double largest_tensor(const GemmProblem& p) {
    const double a = double(p.layout == GemmLayout::tn ? p.k : p.m) * p.lda,
                 b = double(p.layout == GemmLayout::nt ? p.n : p.k) * p.ldb;
    return std::max({a, b, double(p.m) * p.ldc});
}
inline double largest_tensor(const SgdProblem& p) { return double(p.total); }
template <class P>
double largest_tensor(const P&) {
    return 0;
}

// On virtual GPUs the plain variants take seconds a sample: the check makes do with two. But not of
// tensors that 32-bit offsets do not reach the end of, or such a fault would never show, as long as
// a plain variant can be waited for.
inline constexpr double kFarElements = 2147483648.0, kPatientFlops = 4e11;
inline ConvProblem small(ConvProblem p, int samples) { return p.n = std::min(p.n, samples), p; }
inline ConvPoolProblem small(ConvPoolProblem p, int samples) {
    return p.n = std::min(p.n, samples), p;
}
inline GemmProblem small(GemmProblem p, int samples) {
    int& batch = p.layout == GemmLayout::tn ? p.k : p.m;
    return batch = std::min(batch, samples), p;
}
inline SgdProblem small(SgdProblem p, int) {
    return p.total = std::min(p.total, int64_t(1) << 20), p;
}
template <class P>
P small(const P& p, int) {
    return p;
}

// Or with as many as it takes for whatever can do the problem to do the check: Winograd needs some.
template <class P, class A>
P check_problem(const P& problem, Table<P, A> table) {
    double flops = 0;
    if constexpr (requires { problem.flops(); }) flops = problem.flops();
    if (largest_tensor(problem) > kFarElements && flops <= kPatientFlops) return problem;
    for (int samples = 2; samples < 128; samples *= 2) {
        const P check = small(problem, samples);
        const auto does = [&](const auto& v) {
            return v.refuses(check).empty() || !v.refuses(problem).empty();
        };
        if (std::all_of(table.begin(), table.end(), does)) return check;
    }
    return small(problem, 2);
}

template <class P, class A>
std::unique_ptr<Prepared> prepare(const P& problem, Table<P, A> table, int device) {
    const DeviceGuard guard(device);
    auto ready = std::make_unique<Prepared>(device);
    A args{};
    fill(problem, args, ready->operands);
    ready->launch = [problem, table, args, operands = &ready->operands](size_t i,
                                                                        cudaStream_t stream) {
        A a = args;
        if constexpr (requires { a.workspace; })
            a.workspace = operands->workspace(table[i].workspace_bytes(problem));
        a.stream = stream;
        table[i].launch(problem, a);
    };
    return ready;
}

// `sm` is the device's, 0: a virtual GPU's. `table` stays where it is.
template <class P, class A>
BenchCase make_case(std::string name, const P& problem, Table<P, A> table, int sm) {
#ifdef VGPU
    const P check = check_problem(problem, table);
#else
    const P check = problem;
#endif
    BenchCase c;
    c.name = std::move(name);
    c.op = A::operation;
    c.problem = text_of(problem, FieldSet::without_precision);
    c.whole_problem = text_of(problem);
    if constexpr (requires { problem.flops(); }) c.flops = problem.flops();
    c.bytes = bytes_of<A>(problem);
    c.largest = largest_tensor(problem);
    if constexpr (requires { problem.flops(); }) c.check_flops = check.flops();
    c.check_bytes = bytes_of<A>(check);
    if (c.largest > kFarElements && largest_tensor(check) <= kFarElements)
        c.note = "too much for a CPU to check whole: offsets beyond 2^31 are not exercised";
    if constexpr (requires { problem.dtype; }) c.dtype = problem.dtype;
    if constexpr (requires { problem.tf32; }) c.tf32 = problem.tf32 && problem.dtype == DType::f32;
    for (const auto& v : table) {
        std::string why = v.refuses(problem);
        if (why.empty()) why = v.refuses(check);
        if (why.empty() && v.sm && sm && v.sm != sm)
            why = "needs compute capability " + std::to_string(v.sm / 10) + "." +
                  std::to_string(v.sm % 10);
        c.variants.push_back({.name = v.name,
                              .baseline = v.baseline,
                              .refuses = why,
                              .preference = v.preference.on(sm)});
    }
    c.chosen = [problem, table, sm](KernelChoice choice) {
        return static_cast<size_t>(&choose(table, problem, choice, sm) - table.data());
    };
    c.candidates = [table, sm, entries = c.variants](KernelChoice choice) {
        std::vector<std::string> names;
        for (size_t i = 0; i < table.size(); ++i) {
            const auto& v = table[i];
            if (!entries[i].refuses.empty() || !allowed(v, choice, sm)) continue;
            // On a CPU a tile's times say nothing.
            if (sm == 0 && v.preference.on(sm) < 0) continue;
            // Made for the other kind of device, and slow on this one.
            if (v.preference.on(sm) == 0 && (v.preference.gpu || v.preference.cpu)) continue;
            names.push_back(v.name);
        }
        return names;
    };
    c.automatic = c.chosen(KernelChoice::automatic);
    c.prepare = [problem, table](int device) { return bench::prepare(problem, table, device); };
    c.prepare_check = [check, table](int device) { return bench::prepare(check, table, device); };
    return c;
}

}  // namespace wt::bench
