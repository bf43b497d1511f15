// Which variant each operation of a layer (LAYER.OP, which the flag calls LAYER.PASS) runs, and
// which operations are fused: --kernels auto|own|baseline|tune|LAYER.PASS=VARIANT,... and --fuse
// auto|on|off.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <type_traits>

#include "host/cuda/check.h"
#include "host/cuda/nearest.h"
#include "host/net/problem_text.h"
#include "host/net/tuning.h"
#include "kernels/common/sm_limit.h"
#include "kernels/variant.h"

namespace wt {

// A variant chosen for a problem, ready to launch.
template <class Problem, class Args>
struct Bound {
    Problem problem;
    const Variant<Problem, Args>* variant = nullptr;
    int sms = 0;  // it plans for so many SMs at most; 0: for all

    size_t workspace() const {
        const SmLimit limit(sms);
        return variant->workspace_bytes(problem);
    }
    void operator()(const Args& args) const {
        const SmLimit limit(sms);
        variant->launch(problem, args);
    }
    explicit operator bool() const { return variant != nullptr; }
};

// One of the unfused operations that the fused one would replace.
template <class Problem, class Args>
struct Part {
    std::string layer_op;
    Table<Problem, Args> table;
    Problem problem;
    std::string name = {};  // for bin/compare, where it is not layer_op
};
template <class Problem, class Args>
Part(std::string, Table<Problem, Args>, Problem) -> Part<Problem, Args>;
template <class Problem, class Args>
Part(std::string, Table<Problem, Args>, Problem, std::string) -> Part<Problem, Args>;

// Operations that could be one: automatic, where that is no step back (see `fuses`); on, wherever a
// variant can.
enum class Fuse { automatic, on, off };

// OP is fprop, dgrad, wgrad for conv and fc layers; forward, backward for norm, pool, relu, tanh;
// fused ones of those are norm1.forward+pool1 and pool1.backward+norm1+relu1, as in bin/compare.
//
// An operation runs the variant that is named for it, else the one that was measured to be the
// fastest (tuning.h), else the most preferred of the table that fits (kernels/variant.h).
struct KernelSettings {
    KernelChoice choice = KernelChoice::automatic;
    Fuse fuse = Fuse::automatic;
    bool tune = false;
    std::map<std::string, std::string> by_layer_op;  // "conv2.wgrad" -> variant
    std::shared_ptr<Tuning> tuning;                  // of the device; null: nothing is known

    // Throws UsageError for text that is no such setting. Names are checked when they are bound.
    static KernelSettings parse(const std::string& text);

    bool names(const std::string& layer_op) const { return by_layer_op.contains(layer_op); }

    // Chooses for LAYER.OP on a device of architecture `sm`. Throws UsageError when the variant
    // that was asked for does not exist or refuses.
    template <class Problem, class Args>
    Bound<Problem, Args> bind(const std::string& layer_op, Table<Problem, Args> table,
                              const Problem& problem, int sm) const {
        const auto asked = by_layer_op.find(layer_op);
        if (asked == by_layer_op.end())
            return {problem, pick(layer_op, table, problem, sm).variant};
        const auto* v = find(table, asked->second);
        if (!v) {
            std::vector<std::string> names;
            for (const auto& t : table) names.push_back(t.name);
            throw UsageError("--kernels " + layer_op + ": " +
                             unknown_name("variant", asked->second, names));
        }
        const std::string why = refusal(*v, problem, sm);
        if (!why.empty())
            throw UsageError("--kernels " + layer_op + "=" + asked->second + ": " + why);
        return {problem, v};
    }

    // Whether an operation should compute `fused`, which does the work of all parts. Automatic:
    // when that was measured to take no longer than they do together. Where not all of that was
    // measured: when its variant is preferred no less than that of a part from the same table, and
    // no part would be a vendor's or one that is written for CPUs unless the fused one is either.
    // So on virtual GPUs what these compute stays apart where only a GPU's kernels would fuse it.
    template <class Problem, class Args, class... Parts>
    bool fuses(const std::string& layer_op, Table<Problem, Args> table, const Problem& fused,
               int sm, const Parts&... parts) const {
        if (fuse == Fuse::off) return false;
        const Pick<Problem, Args> f = candidate(layer_op, table, fused, sm);
        if (!f.variant || fuse == Fuse::on) return f.variant;
        bool worse = false, known = f.ms > 0;
        double together = 0;
        const auto look = [&](const auto& part) {
            const auto p = candidate(part.layer_op, part.table, part.problem, sm);
            if (!p.variant) return;
            if constexpr (std::is_same_v<decltype(p), const Pick<Problem, Args>>)
                worse |= f.variant->preference.on(sm) < p.variant->preference.on(sm);
            worse |=
                (p.variant->baseline || p.variant->cpu) && !f.variant->baseline && !f.variant->cpu;
            known &= p.ms > 0;
            together += p.ms;
        };
        (look(parts), ...);
        return known ? f.ms <= together : !worse;
    }

private:
    template <class Problem, class Args>
    struct Pick {
        const Variant<Problem, Args>* variant = nullptr;
        double ms = 0;  // 0: not measured
    };
    template <class Problem, class Args>
    static std::string refusal(const Variant<Problem, Args>& v, const Problem& problem, int sm) {
        std::string why = v.refuses(problem);
        if (why.empty() && v.sm && sm && v.sm != sm)
            why = "needs compute capability " + std::to_string(v.sm / 10) + "." +
                  std::to_string(v.sm % 10);
        return why;
    }
    // The choice for an operation that no variant is named for.
    template <class Problem, class Args>
    Pick<Problem, Args> pick(const std::string& layer_op, Table<Problem, Args> table,
                             const Problem& problem, int sm) const {
        if (tuning && choice != KernelChoice::baseline && !requires { Args::between_devices; }) {
            const std::string text = text_of(problem);
            const auto usable = [&]() -> Pick<Problem, Args> {
                const Tuning::Entry* e = tuning->find(Args::operation, text);
                const auto* v = e ? find(table, e->variant) : nullptr;
                return v && allowed(*v, choice, sm) && refusal(*v, problem, sm).empty()
                           ? Pick<Problem, Args>{v, e->ms}
                           : Pick<Problem, Args>{};
            };
            if (const auto known = usable(); known.variant) return known;
            if (tuning->measure) {
                tuning->set(Args::operation, text,
                            tuning->measure(layer_op, Args::operation, text, choice));
                ++tuning->measured;
                if (const auto known = usable(); known.variant) return known;
            }
        }
        return {&choose(table, problem, choice, sm)};
    }
    // What bind would take; null where nothing can compute the problem.
    template <class Problem, class Args>
    Pick<Problem, Args> candidate(const std::string& layer_op, Table<Problem, Args> table,
                                  const Problem& problem, int sm) const {
        const auto asked = by_layer_op.find(layer_op);
        if (asked == by_layer_op.end()) {
            const auto p = pick(layer_op, table, problem, sm);
            return refusal(*p.variant, problem, sm).empty() ? p : Pick<Problem, Args>{};
        }
        const auto* v = find(table, asked->second);
        return v && refusal(*v, problem, sm).empty() ? Pick<Problem, Args>{v}
                                                     : Pick<Problem, Args>{};
    }
};

}  // namespace wt
