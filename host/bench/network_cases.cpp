#include "host/bench/network_cases.h"

#include <algorithm>

#include "host/cuda/nearest.h"
#include "host/parallel/layout.h"

namespace wt::bench {

namespace {

// Cases by name, each once.
class CaseList {
public:
    CaseList(Precision precision, Architecture architecture)
        : precision_(precision), architecture_(architecture) {}

    bool has(const std::string& name) const { return index(name) < cases.size(); }
    // Adds a case before `position`, or at the end.
    void add(const std::string& name, const std::string& operation, const std::string& problem,
             std::vector<std::string> parts = {}, size_t position = SIZE_MAX) {
        if (has(name)) return;
        BenchCase c = problem_case(operation, problem, precision_, architecture_);
        c.name = name;
        c.parts = std::move(parts);
        cases.insert(cases.begin() + std::min(position, cases.size()), std::move(c));
    }
    // Adds the fused case behind the last of its parts.
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
            if (const auto* l = std::get_if<Launch>(&s.action);
                l && !l->operation.empty() && (l->span == SpanKind::exchange) == exchanges)
                add(l->name, l->operation, l->problem);
    }
    std::vector<BenchCase> cases;

private:
    size_t index(const std::string& name) const {
        return static_cast<size_t>(
            std::find_if(cases.begin(), cases.end(),
                         [&](const BenchCase& c) { return c.name == name; }) -
            cases.begin());
    }
    Precision precision_;
    Architecture architecture_;
};

}  // namespace

std::vector<BenchCase> network_cases(const std::string& net, int batch, Precision precision,
                                     int device) {
    return network_cases(net, batch, precision, Architecture{device_sm(device)});
}

std::vector<BenchCase> network_cases(const std::string& net, int batch, Precision precision,
                                     Architecture architecture) {
    WorkerConfig c;
    c.net = make_net(net, {});
    c.batch = batch;
    c.sm = architecture.sm;
    c.dtype = storage_of(precision);
    c.kernels.fuse = Fuse::off;  // the parts; Layout::fusions has what could be done in one
    c.tf32 = precision == Precision::tf32;
    CaseList list(precision, architecture);
    const Layout alone(c);
    list.add(alone.training_steps, false);
    for (const Fusion& f : alone.fusions) list.add(f);
    c.workers = 2;  // what two workers exchange; here within one device
    list.add(Layout(c).training_steps, true);
    return std::move(list.cases);
}

std::vector<BenchCase> select(std::vector<BenchCase> cases, const std::string& op,
                              const std::string& layer) {
    std::vector<std::string> names;
    std::vector<BenchCase> chosen;
    for (BenchCase& c : cases) {
        if (!op.empty() && c.op != op) continue;
        for (const std::string& n : {c.layer(), c.name})
            if (std::find(names.begin(), names.end(), n) == names.end()) names.push_back(n);
        if (layer.empty() || c.layer() == layer || c.name == layer) chosen.push_back(std::move(c));
    }
    if (chosen.empty() && !names.empty()) {
        const std::string near = nearest(layer, names);
        // all operations of all layers would be too many to list
        std::vector<std::string> layers;
        for (const std::string& n : names)
            if (n.find('.') == std::string::npos) layers.push_back(n);
        throw UsageError(unknown_name("layer", layer, layers) +
                         (near.find('.') != std::string::npos ? "; nearest is " + near : ""));
    }
    if (chosen.empty()) throw UsageError("this network has no " + op);
    return chosen;
}

}  // namespace wt::bench
