#include "host/model/step_prediction.h"

#include <algorithm>
#include <cstdio>

#include "host/cuda/check.h"
#include "host/model/predict.h"
#include "host/model/side_by_side.h"

namespace wt::model {

WorkerConfig step_config(const std::string& net, int batch, const std::string& precision) {
    WorkerConfig c;
    c.net = make_net(net, {});
    c.batch = batch;
    c.sm = 90;
    c.dtype = precision == "bf16" ? DType::bf16 : DType::f32;
    c.tf32 = precision == "tf32";
    return c;
}

namespace {

// What a launch wants of the machine while others run.
SideBySide::Work work_of(const Gpu& g, const Launch& l, const Prediction& p) {
    constexpr int kOne = 1;  // SM: one warp's sum leaves the others
    if (l.operation.empty()) return {.us = p.us, .sms = kOne};
    if (!p.known) return {.us = p.floor_us, .sms = l.sms};
    const double sms = l.sms > 0 ? l.sms : g.sms, all = g.memory * g.stream_share,
                 rate = std::min(all, sms * g.sm_memory), bytes_us = p.memory * rate / all;
    const double on_sms = std::max({p.tensor + p.fence, p.issue, p.shared, p.l2,
                                    bytes_us * all / (sms * g.sm_memory)}) +
                          p.epilogue + p.launch;
    return {.us = p.us,
            .sms = l.sms > 0 ? l.sms : p.blocks,
            .memory = std::min(bytes_us, p.us),
            .on_sms = std::min(on_sms, p.us),
            .stays = l.variant.find("wgmma") != std::string::npos,
            .gap = std::min(p.launch, g.launch_us),
            .idle = p.idle};
}

}  // namespace

StepPrediction predict_step(const Gpu& gpu, const Layout& layout) {
    const WorkerConfig& c = layout.config;
    if (c.workers > 1)
        throw UsageError("a prediction is of one worker: bin/scaling is for " +
                         std::to_string(c.workers));
    StepPrediction step{.net = c.net.name,
                        .precision = c.dtype == DType::bf16 ? "bf16"
                                     : c.tf32               ? "tf32"
                                                            : "fp32",
                        .batch = c.batch,
                        .rows = {},
                        .without_model = {}};
    SideBySide order(static_cast<int>(gpu.sms), gpu.idle_share);
    std::vector<int> kernels;
    for (const Step& s : layout.training_steps) {
        const int stream = static_cast<int>(s.stream);
        if (const auto* r = std::get_if<Record>(&s.action)) order.record(stream, r->event);
        if (const auto* a = std::get_if<Await>(&s.action)) {
            // The batch came while the step before ran, as this step brings the next one.
            if (!(layout.overlap.input && a->event == Events::staged))
                order.await(stream, a->event);
        }
        const auto* l = std::get_if<Launch>(&s.action);
        if (!l) continue;
        StepPrediction::Row row{.stage = s.stage,
                                .name = l->name,
                                .operation = l->operation,
                                .variant = l->variant,
                                .problem = l->problem,
                                .prediction = {},
                                .sms = l->sms};
        Prediction& p = row.prediction;
        if (l->operation.empty()) {
            // The sum of the rows' losses, one warp; one worker's step has no copies.
            p.known = true;
            p.launch = gpu.launch_us;
            p.epilogue = gpu.small_us;
            p.us = p.launch + p.epilogue;
            p.bound = "launch";
        } else {
            p = predict(gpu, l->operation, l->variant, l->problem, l->sms);
            if (!p.known) step.without_model.push_back(l->name + "=" + l->variant);
        }
        kernels.push_back(order.kernel(stream, work_of(gpu, *l, p)));
        step.alone_us += p.known ? p.us : p.floor_us;
        step.floor_us += p.floor_us;
        step.rows.push_back(row);
    }
    order.run();
    for (size_t i = 0; i < kernels.size(); ++i) step.rows[i].begins = order.begin(kernels[i]);
    step.us = order.end();
    return step;
}

std::string heading(const Gpu& gpu, const MeasuredResults& measured) {
    std::string text = "predicted for " + gpu.name +
                       ": arithmetic by host/model/prediction.h, not a measurement\n";
    for (const std::string& file : measured.files()) text += "measured: " + file + "\n";
    return text;
}

std::string sum_text(const StepPrediction& step, const MeasuredResults& measured) {
    char line[256];
    std::snprintf(line, sizeof line, "step %.2f ms, %.0f images/s; floor %.2f ms, %.0f images/s\n",
                  step.us / 1e3, step.images_per_s(), step.floor_us / 1e3,
                  step.floor_images_per_s());
    std::string text = line;
    if (const double us = measured.step_us(step.net, step.batch, step.precision); us > 0) {
        std::snprintf(line, sizeof line, "measured %.2f ms, %.0f images/s: %.2f of predicted\n",
                      us / 1e3, step.batch / us * 1e6, us / step.us);
        text += line;
    }
    return text;
}

std::string to_text(const Gpu& gpu, const StepPrediction& step, const MeasuredResults& measured) {
    char line[256];
    const bool both = !measured.empty();
    std::string text = heading(gpu, measured);
    std::snprintf(line, sizeof line, "%s, batch %d, %s, one worker; us\n\n", step.net.c_str(),
                  step.batch, step.precision.c_str());
    text += line;
    std::snprintf(line, sizeof line, "%-26s %-18s %9s %8s%s %6s  %s\n", "", "variant", "predicted",
                  "floor", both ? "  measured  ratio" : "", "bound", "plan");
    text += line;
    for (const StepPrediction::Row& r : step.rows) {
        const Prediction& p = r.prediction;
        std::string plan = p.plan;
        if (r.sms > 0) plan += " on " + std::to_string(r.sms) + " SMs";
        if (!p.known) plan = "no model: the floor is counted";
        if (p.known && !p.issue_known)
            plan += plan.empty() ? "issue: not known" : "; issue: not known";
        const double us = p.known ? p.us : p.floor_us;
        std::snprintf(line, sizeof line, "%-26s %-18s %9.1f %8.1f", r.name.c_str(),
                      r.operation.empty() ? "sum" : r.variant.c_str(), us, p.floor_us);
        text += line;
        if (both) {
            const double seen =
                measured.kernel_us(r.operation, r.problem, step.precision, r.variant);
            if (seen > 0)
                std::snprintf(line, sizeof line, " %9.1f %6.2f", seen, seen / us);
            else
                std::snprintf(line, sizeof line, " %9s %6s", "-", "-");
            text += line;
        }
        std::snprintf(line, sizeof line, " %6s  %s\n", p.bound.c_str(), plan.c_str());
        text += line;
    }
    std::snprintf(line, sizeof line, "%-26s %-18s %9.1f %8.1f\n\n", "sum", "", step.alone_us,
                  step.floor_us);
    return text + line + sum_text(step, measured);
}

Json to_json(const Prediction& p, double measured_us) {
    if (!p.known) return {{"model", false}, {"floor_us", p.floor_us}};
    Json j{{"model", true},
           {"us", p.us},
           {"floor_us", p.floor_us},
           {"bound", p.bound},
           {"plan", p.plan},
           {"tensor_us", p.tensor},
           {"issue_us", p.issue_known ? Json(p.issue) : Json(nullptr)},
           {"shared_us", p.shared},
           {"l2_us", p.l2},
           {"hbm_us", p.memory},
           {"epilogue_us", p.epilogue},
           {"fence_us", p.fence},
           {"idle_us", p.idle},
           {"launch_us", p.launch}};
    if (p.counted) j["counted"] = true;
    if (measured_us > 0) {
        j["measured_us"] = measured_us;
        j["measured_of_predicted"] = measured_us / p.us;
    }
    return j;
}

Json to_json(const StepPrediction& step, const MeasuredResults& measured) {
    Json rows = Json::array();
    for (const StepPrediction::Row& r : step.rows) {
        Json row{{"name", r.name},
                 {"stage", name_of(r.stage)},
                 {"op", r.operation},
                 {"variant", r.variant},
                 {"problem", r.problem}};
        const double seen = r.operation.empty() ? 0
                                                : measured.kernel_us(r.operation, r.problem,
                                                                     step.precision, r.variant);
        row["begins_us"] = r.begins;
        if (r.sms > 0) row["sms"] = r.sms;
        row.update(to_json(r.prediction, seen));
        rows.push_back(row);
    }
    Json j{{"net", step.net},
           {"batch", step.batch},
           {"precision", step.precision},
           {"ms", step.us / 1e3},
           {"images_per_s", step.images_per_s()},
           {"sum_ms", step.alone_us / 1e3},
           {"floor_ms", step.floor_us / 1e3},
           {"without_model", step.without_model},
           {"passes", rows}};
    if (const double us = measured.step_us(step.net, step.batch, step.precision); us > 0)
        j["measured_ms"] = us / 1e3;
    return j;
}

Json to_json(const Gpu& gpu) {
    Json all = Json::array();
    for (const Constant& c : constants())
        all.push_back({{"name", c.name},
                       {"value", gpu.*c.member},
                       {"unit", c.unit},
                       {"what", c.what},
                       {"source", c.source}});
    return {{"name", gpu.name}, {"constants", all}};
}

}  // namespace wt::model
