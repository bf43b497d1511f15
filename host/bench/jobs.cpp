#include "host/bench/jobs.h"

#include <algorithm>
#include <functional>
#include <optional>
#include <set>

#include "host/cuda/nearest.h"
#include "host/parallel/layout.h"
#include "kernels/operations.h"

namespace wt::bench {

namespace {

DType storage_of(Precision p) { return p == Precision::bf16 ? DType::bf16 : DType::f32; }

// ---- operations -----------------------------------------------------------------------------------

// What can be done with an operation whose types are forgotten.
struct Operation {
    const char* name;
    const ProblemFields* fields;
    // What the text does not say of the precision, the argument does.
    std::function<Job(const std::string& text, std::optional<Precision>, int sm)> from_text;
};

const std::vector<Operation>& operations() {
    static const std::vector<Operation> all = [] {
        std::vector<Operation> list;
        for_each_operation([&]<class P, class A>(Table<P, A> (*table)()) {
            const auto from_text = [table](const std::string& text, std::optional<Precision> precision, int sm) {
                P p{};
                const std::set<std::string> given = parse_problem(fields_of(p), text, &p);
                if constexpr (requires { p.dtype; })
                    if (precision && !given.contains("dtype")) p.dtype = storage_of(*precision);
                if constexpr (requires { p.tf32; })
                    if (precision && !given.contains("tf32")) p.tf32 = *precision == Precision::tf32;
                Job j = make_job("", p, table(), sm);
                // A type other than the precision's must be said: weights are exchanged as halves of their bits.
                if constexpr (requires { p.dtype; })
                    if (precision && p.dtype != storage_of(*precision)) j.problem += std::string(" dtype=") + name_of(p.dtype);
                j.name = j.problem;
                return j;
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

// ---- a network's -----------------------------------------------------------------------------------

// The jobs of a list of names, each once.
class Jobs {
public:
    Jobs(Precision precision, int device) : precision_(precision), device_(device) {}

    bool has(const std::string& name) const { return index(name) < jobs.size(); }
    // Before `position`, or at the end.
    void add(const std::string& name, const std::string& operation, const std::string& problem, std::vector<std::string> parts = {}, size_t position = SIZE_MAX) {
        if (has(name)) return;
        Job j = problem_job(operation, problem, precision_, device_);
        j.name = name;
        j.parts = std::move(parts);
        jobs.insert(jobs.begin() + std::min(position, jobs.size()), std::move(j));
    }
    // Behind the last of its parts.
    void add(const Fusion& f) {
        size_t behind = 0;
        std::vector<std::string> parts;
        for (const Fusion::Part& p : f.parts) {
            add(p.name, p.operation, p.problem);
            behind = std::max(behind, index(p.name) + 1);
            parts.push_back(p.name);
        }
        add(f.fused.name, f.fused.operation, f.fused.problem, parts, behind);
    }
    void add(const StepList& steps, bool exchanges) {
        for (const Step& s : steps)
            if (const auto* l = std::get_if<Launch>(&s.action); l && !l->operation.empty() && (l->span == SpanKind::exchange) == exchanges)
                add(l->name, l->operation, l->problem);
    }
    std::vector<Job> jobs;

private:
    size_t index(const std::string& name) const {
        return static_cast<size_t>(std::find_if(jobs.begin(), jobs.end(), [&](const Job& j) { return j.name == name; }) - jobs.begin());
    }
    Precision precision_;
    int device_;
};

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

std::vector<Job> network_jobs(const std::string& net, int batch, Precision precision, int device) {
    WorkerConfig c;
    c.net = make_net(net, {});
    c.batch = batch;
    c.device = device;
    c.dtype = storage_of(precision);
    c.kernels.fuse = Fuse::off;  // the parts; Layout::fusions has what could be done in one
    c.tf32 = precision == Precision::tf32;
    Jobs j(precision, device);
    const Layout alone(c);
    j.add(alone.training_steps, false);
    for (const Fusion& f : alone.fusions) j.add(f);
    c.workers = 2;  // what two workers exchange; here within one device
    j.add(Layout(c).training_steps, true);
    return std::move(j.jobs);
}

Job problem_job(const std::string& op, const std::string& text, Precision precision, int device) {
    return operation_of(op).from_text(text, precision, device_sm(device));
}

Job problem_job(const std::string& op, const std::string& text, int device) { return operation_of(op).from_text(text, {}, device_sm(device)); }

std::string problem_help(const std::string& op) { return wt::problem_help(*operation_of(op).fields); }

std::vector<Job> select(std::vector<Job> jobs, const std::string& op, const std::string& layer) {
    std::vector<std::string> names;
    std::vector<Job> chosen;
    for (Job& j : jobs) {
        if (!op.empty() && j.op != op) continue;
        for (const std::string& n : {j.layer(), j.name})
            if (std::find(names.begin(), names.end(), n) == names.end()) names.push_back(n);
        if (layer.empty() || j.layer() == layer || j.name == layer) chosen.push_back(std::move(j));
    }
    if (chosen.empty() && !names.empty()) {
        const std::string near = nearest(layer, names);
        std::vector<std::string> layers;  // all passes of all layers would be too many to list
        for (const std::string& n : names)
            if (n.find('.') == std::string::npos) layers.push_back(n);
        throw UsageError(unknown_name("layer", layer, layers) + (near.find('.') != std::string::npos ? "; nearest is " + near : ""));
    }
    if (chosen.empty()) throw UsageError("this network has no " + op);
    return chosen;
}

}  // namespace wt::bench
