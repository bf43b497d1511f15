// A training step of one worker, predicted: the kernels of its list (host/parallel/step.h), one
// after the other on each of its streams (side_by_side.h). With the input on a stream of its own
// the step is one of many: it begins with its batch there, and prepares the next one's.
#pragma once

#include <string>
#include <vector>

#include "host/json.h"
#include "host/model/measured_results.h"
#include "host/model/prediction.h"
#include "host/parallel/layout.h"

namespace wt::model {

struct StepPrediction {
    struct Row {
        Stage stage;
        std::string name, operation, variant, problem;  // of loss.sum: only the name
        Prediction prediction;
        int sms = 0;        // that it is planned for; 0: all
        double begins = 0;  // us after the step's begin
    };
    std::string net, precision;
    int batch = 0;
    std::vector<Row> rows;
    double us = 0;                      // of the step
    double alone_us = 0, floor_us = 0;  // sums over its kernels
    // Kernels without a model count with their floor; they are these.
    std::vector<std::string> without_model;

    double images_per_s() const { return batch / us * 1e6; }
    double floor_images_per_s() const { return batch / floor_us * 1e6; }
};

// What a configuration for `net` has to say of a step that `gpu` would run.
WorkerConfig step_config(const std::string& net, int batch, const std::string& precision);
// Throws UsageError where several workers share the step: bin/scaling is for that.
StepPrediction predict_step(const Gpu& gpu, const Layout& layout);

// With measured times and their ratios to the predicted ones where there are some.
std::string to_text(const Gpu& gpu, const StepPrediction& step, const MeasuredResults& measured);
// "step 3.61 ms, 71001 images/s; floor ..." in a line, and one of what was measured.
std::string sum_text(const StepPrediction& step, const MeasuredResults& measured);
Json to_json(const Prediction& p, double measured_us = 0);
Json to_json(const StepPrediction& step, const MeasuredResults& measured);
// All constants with their sources.
Json to_json(const Gpu& gpu);
// "predicted for h200: ...", to stand above any such table.
std::string heading(const Gpu& gpu, const MeasuredResults& measured);

}  // namespace wt::model
