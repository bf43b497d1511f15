// Which variant each layer's pass runs: --kernels auto|own|baseline|LAYER.PASS=VARIANT,...
#pragma once

#include <map>
#include <string>

#include "host/cuda/check.h"
#include "host/cuda/nearest.h"
#include "kernels/variant.h"

namespace wt {

// A variant chosen for a problem, ready to launch.
template <class Problem, class Args>
struct Bound {
    Problem problem;
    const Variant<Problem, Args>* variant = nullptr;

    size_t workspace() const { return variant->workspace_bytes(problem); }
    void operator()(const Args& args) const { variant->launch(problem, args); }
};

// PASS is fprop, dgrad, wgrad for conv and fc layers; forward, backward for norm, pool, relu, tanh.
struct KernelSettings {
    KernelChoice choice = KernelChoice::automatic;
    std::map<std::string, std::string> by_pass;  // "conv2.wgrad" -> variant

    // Throws UsageError for text that is no such setting. Names are checked when they are bound.
    static KernelSettings parse(const std::string& text);

    // Chooses for layer.pass on a device of architecture `sm`. Throws UsageError when the variant that was
    // asked for does not exist or refuses.
    template <class Problem, class Args>
    Bound<Problem, Args> bind(const std::string& layer_pass, Table<Problem, Args> table, const Problem& problem, int sm) const {
        const auto asked = by_pass.find(layer_pass);
        if (asked == by_pass.end()) return {problem, &choose(table, problem, choice, sm)};
        const auto* v = find(table, asked->second);
        if (!v) {
            std::vector<std::string> names;
            for (const auto& t : table) names.push_back(t.name);
            throw UsageError("--kernels " + layer_pass + ": " + unknown_name("variant", asked->second, names));
        }
        std::string why = v->refuses(problem);
        if (why.empty() && v->sm && v->sm != sm) why = "needs compute capability " + std::to_string(v->sm / 10);
        if (!why.empty()) throw UsageError("--kernels " + layer_pass + "=" + asked->second + ": " + why);
        return {problem, v};
    }
};

}  // namespace wt
