#include "host/bench/predicted.h"

#include <algorithm>
#include <cstdio>

#include "host/model/counted_results.h"
#include "host/model/step_prediction.h"

namespace wt::bench {

namespace {

using model::CountedResults;
using model::MeasuredResults;
using model::Prediction;

const std::string& name_of(Precision p) { return precision_names()[static_cast<size_t>(p)]; }

std::string format(const char* form, auto... values) {
    char text[256];
    std::snprintf(text, sizeof text, form, values...);
    return text;
}

std::string head(const BenchCase& c, const std::string& precision, double floor_us, bool measured) {
    std::string s = format("\n%s %s, %s", c.op.c_str(), c.name.c_str(), precision.c_str());
    if (c.flops > 0) s += format(", %.4g GFLOP", c.flops / 1e9);
    s += format(", %.4g MB, floor %.1f us\n", c.bytes / 1e6, floor_us);
    if (c.problem != c.name) s += "  " + c.problem + "\n";
    return s + format("  %-18s %10s %6s %6s %8s %8s %8s %8s %8s %7s%s  %s\n", "variant", "us",
                      "floor", "bound", "tensor", "issue", "shared", "L2", "HBM", "rest",
                      measured ? "  measured  ratio" : "", "plan");
}

std::string row(const BenchCase::Entry& v, const Prediction& p, double seen, bool measured) {
    std::string s = format("  %-18s ", v.name.c_str());
    if (!v.refuses.empty()) return s + "skipped: " + v.refuses + "\n";
    if (!p.known) return s + "no model\n";
    s += format("%10.1f %5.0f%% %6s %8.1f ", p.us, 100 * p.floor_us / p.us, p.bound.c_str(),
                p.tensor);
    s += p.issue_known ? format("%8.1f", p.issue) : format("%8s", "?");
    s += format(" %8.1f %8.1f %8.1f %7.1f", p.shared, p.l2, p.memory,
                p.epilogue + p.fence + p.launch);
    if (measured)
        s += seen > 0 ? format(" %9.1f %6.2f", seen, seen / p.us) : format(" %9s %6s", "-", "-");
    s += "  " + p.plan;
    if (p.counted) s += p.plan.empty() ? "counted" : "; counted";
    if (!p.issue_known) s += p.plan.empty() ? "issue: not known" : "; issue: not known";
    return s + "\n";
}

}  // namespace

Predicted predicted(const PredictWish& wish, const std::vector<BenchCase>& cases) {
    const model::Gpu gpu = model::gpu_of(wish.gpu);
    const MeasuredResults measured = MeasuredResults::read(wish.measured, gpu.name);
    const CountedResults counted =
        wish.counted.empty() ? CountedResults{} : CountedResults::read(wish.counted, gpu);
    int taken = 0;
    const std::string& precision = name_of(wish.precision);
    Predicted out{.text = model::heading(gpu, measured) +
                          "us; rest: epilogues, fences, gap and fill of the pipeline\n",
                  .json = {{"predicted", true},
                           {"gpu", model::to_json(gpu)},
                           {"net", wish.net.empty() ? Json(nullptr) : Json(wish.net)},
                           {"batch", wish.batch ? Json(wish.batch) : Json(nullptr)},
                           {"precision", precision}}};
    Json problems = Json::array();
    for (const BenchCase& c : cases) {
        std::string rows;
        Json variants = Json::array();
        double floor_us = 0;
        for (size_t i = 0; i < c.variants.size(); ++i) {
            const BenchCase::Entry& v = c.variants[i];
            Prediction p = model::predict(gpu, c.op, v.name, c.whole_problem);
            floor_us = std::max(floor_us, p.floor_us);  // Winograd's has its own, lower one
            const bool wanted = wish.automatic ? i == c.automatic
                                               : wish.variants.empty() ||
                                                     std::ranges::find(wish.variants, v.name) !=
                                                         wish.variants.end();
            if (v.baseline || !wanted) continue;
            if (const auto counts = counted.of(c.op, c.whole_problem, v.name); counts && p.known) {
                model::take(gpu, *counts, p);
                ++taken;
            }
            const double seen = measured.kernel_us(c.op, c.whole_problem, precision, v.name);
            rows += row(v, p, seen, !measured.empty());
            Json j{{"variant", v.name}};
            if (v.refuses.empty())
                j.update(model::to_json(p, seen));
            else
                j["refuses"] = v.refuses;
            variants.push_back(j);
        }
        if (rows.empty()) continue;
        out.text += head(c, precision, floor_us, !measured.empty()) + rows;
        problems.push_back({{"name", c.name},
                            {"op", c.op},
                            {"problem", c.problem},
                            {"flops", c.flops},
                            {"bytes", c.bytes},
                            {"floor_us", floor_us},
                            {"automatic", c.variants[c.automatic].name},
                            {"variants", variants}});
    }
    out.json["problems"] = problems;
    if (!wish.counted.empty())
        out.text += "\ncounted: of " + std::to_string(taken) +
                    (taken == 1 ? " variant" : " variants") +
                    ", L2 and shared memory are those of the counters in " + wish.counted +
                    (taken ? "" : ", which are of other problems (--batch, --precision)") + "\n";
    if (wish.step) {
        const Layout layout(model::step_config(wish.net, wish.batch, precision));
        const model::StepPrediction step = model::predict_step(gpu, layout);
        out.text += "\n" + wish.net + ", batch " + std::to_string(wish.batch) + ": " +
                    model::sum_text(step, measured) + "its kernels: bin/summary " + wish.net +
                    " --steps --predict " + gpu.name + " --batch " + std::to_string(wish.batch) +
                    " --precision " + precision + "\n";
        out.json["step"] = model::to_json(step, measured);
    }
    return out;
}

}  // namespace wt::bench
