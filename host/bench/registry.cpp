#include "host/bench/registry.h"

#include <functional>
#include <optional>
#include <set>

#include "host/cuda/nearest.h"
#include "kernels/operations.h"

namespace wt::bench {

DType storage_of(Precision p) { return p == Precision::bf16 ? DType::bf16 : DType::f32; }

namespace {

// What can be done with an operation whose types are forgotten.
struct Operation {
    const char* name;
    const ProblemFields* fields;
    // What the text does not say of the precision, the argument does.
    std::function<BenchCase(const std::string& text, std::optional<Precision>, int sm)> from_text;
};

const std::vector<Operation>& operations() {
    static const std::vector<Operation> all = [] {
        std::vector<Operation> list;
        for_each_operation([&]<class P, class A>(Table<P, A> (*table)()) {
            const auto from_text = [table](const std::string& text,
                                           std::optional<Precision> precision, int sm) {
                P p{};
                const std::set<std::string> given = parse_problem(fields_of(p), text, &p);
                if constexpr (requires { p.dtype; })
                    if (precision && !given.contains("dtype")) p.dtype = storage_of(*precision);
                if constexpr (requires { p.tf32; })
                    if (precision && !given.contains("tf32"))
                        p.tf32 = *precision == Precision::tf32;
                BenchCase c = make_case("", p, table(), sm);
                // A type other than the precision's must be said: weights are exchanged as halves
                // of their bits.
                if constexpr (requires { p.dtype; })
                    if (precision && p.dtype != storage_of(*precision))
                        c.problem += std::string(" dtype=") + name_of(p.dtype);
                c.name = c.problem;
                return c;
            };
            list.push_back({A::operation, &fields_of(P{}), from_text});
        });
        return list;
    }();
    return all;
}

const Operation& operation_of(const std::string& name) {
    for (const Operation& o : operations())
        if (name == o.name) return o;
    throw UsageError(unknown_name("operation", name, operation_names()));
}

}  // namespace

const std::vector<std::string>& operation_names() {
    static const std::vector<std::string> names = [] {
        std::vector<std::string> n;
        for (const Operation& o : operations()) n.push_back(o.name);
        return n;
    }();
    return names;
}

const std::vector<std::string>& precision_names() {
    static const std::vector<std::string> names = {"fp32", "tf32", "bf16"};
    return names;
}

Precision precision_of(const std::string& name) {
    return name == "bf16" ? Precision::bf16 : name == "tf32" ? Precision::tf32 : Precision::fp32;
}

BenchCase problem_case(const std::string& op, const std::string& text, Precision precision,
                       int device) {
    return operation_of(op).from_text(text, precision, device_sm(device));
}

BenchCase problem_case(const std::string& op, const std::string& text, Precision precision,
                       Architecture architecture) {
    return operation_of(op).from_text(text, precision, architecture.sm);
}

BenchCase problem_case(const std::string& op, const std::string& text, int device) {
    return operation_of(op).from_text(text, {}, device_sm(device));
}

std::string problem_help(const std::string& op) {
    return wt::problem_help(*operation_of(op).fields);
}

}  // namespace wt::bench
