// A trained network at work on images, on one GPU: probabilities of classes, and what the fully
// connected layers give.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "host/parallel/group.h"
#include "host/train/options.h"
#include "host/train/stored_model.h"

namespace wt {

struct PredictorOptions {
    int gpu = 0;
    int batch = 32;  // images at a time, at most
    int views = 1;   // 1: the centre; 10: corners and centre, mirrored too, probabilities averaged
    std::string features;  // a fully connected layer whose output is kept; "": none
    Precision precision = Precision::fp32;
    std::string kernels = "auto";
};

class Predictor {
public:
    // Throws UsageError for a layer that is no fully connected one, Error where weights do not fit.
    Predictor(StoredModel model, const PredictorOptions& options);

    const StoredModel& model() const { return model_; }
    int batch() const { return options_.batch; }
    size_t image_bytes() const;  // of an image as run() takes it
    int64_t feature_count() const { return feature_count_; }

    // Decodes and resizes a file to the stored size. Returns "" or why not.
    std::string read_image(const std::string& path, uint8_t* out) const;

    struct Results {
        std::vector<float> probabilities;  // images x classes
        // images x feature_count(): the layer's output with its activation, the mean of all views
        std::vector<float> features;
    };
    // images: `count` of image_bytes() each, count at most batch().
    Results run(const std::vector<uint8_t>& images, int count);

private:
    void add_view(int count, Results& sums);

    StoredModel model_;
    PredictorOptions options_;
    int64_t feature_count_ = 0;
    std::unique_ptr<Group> group_;
    PinnedBuffer<uint8_t> images_;
    PinnedBuffer<AugmentParams> draws_;
    PinnedBuffer<int> labels_;
};

}  // namespace wt
