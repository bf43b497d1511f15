#include "host/train/predictor.h"

#include <algorithm>
#include <cstring>

#include "data/image.h"
#include "data/resize.h"
#include "data/sampling.h"
#include "host/cuda/nearest.h"
#include "host/train/checkpoint.h"
#include "host/train/init_weights.h"
#include "host/train/predictions.h"
#include "host/train/tune.h"

namespace wt {

Predictor::Predictor(StoredModel model, const PredictorOptions& options)
    : model_(std::move(model)), options_(options) {
    WorkerConfig c;
    c.net = model_.net;
    c.device = options_.gpu;
    c.batch = options_.batch;
    c.dtype = options_.precision == Precision::bf16 ? DType::bf16 : DType::f32;
    c.tf32 = options_.precision == Precision::tf32;
    c.kernels = KernelSettings::parse(options_.kernels);
    c.image_h = c.image_w = model_.stored;
    c.image_c = model_.channels;
    c.training = false;
    std::vector<WorkerConfig> configs{c};
    choose_kernels(configs, 0.3);
    group_ = std::make_unique<Group>(configs);
    Normalisation n;
    for (size_t i = 0; i < 3; ++i) {
        n.mean[i] = model_.mean[i];
        n.inv_std[i] = 1.f / model_.std_dev[i];
    }
    group_->run([&](Worker& w) { w.set_normalisation(n); });
    const SafetensorsFile& file = *model_.origin.file;
    if (model_.origin.position)
        load_weights(&file, *group_, model_.net, false);
    else
        read_weights(&file, *group_, model_.net, {});

    if (!options_.features.empty()) {
        std::vector<std::string> names;
        for (const HeadOp& op : group_->worker(0).layout().head) {
            names.push_back(op.layer->name);
            if (op.layer->name == options_.features) feature_count_ = op.layer->out;
        }
        if (feature_count_ == 0)
            throw UsageError(unknown_name("fully connected layer", options_.features, names));
    }
    images_ = PinnedBuffer<uint8_t>(image_bytes() * static_cast<size_t>(options_.batch));
    draws_ = PinnedBuffer<AugmentParams>(static_cast<size_t>(options_.batch));
    labels_ = PinnedBuffer<int>(static_cast<size_t>(options_.batch));
    std::fill_n(labels_.data(), options_.batch, -1);
}

size_t Predictor::image_bytes() const {
    return size_t(model_.stored) * static_cast<size_t>(model_.stored * model_.channels);
}

std::string Predictor::read_image(const std::string& path, uint8_t* out) const {
    std::vector<uint8_t> bytes;
    Image image;
    std::string wrong = read_file(path, bytes);
    if (wrong.empty()) wrong = decode_image(bytes, image);
    if (!wrong.empty()) return wrong;
    if (model_.channels == 3) {
        resize_short_side(image.rgb.data(), image.height, image.width, 3, model_.stored, out);
        return "";
    }
    // BT.601's luma, as most programs make grey of colours.
    std::vector<uint8_t> grey(image.rgb.size() / 3);
    for (size_t i = 0; i < grey.size(); ++i) {
        const uint8_t* p = &image.rgb[3 * i];
        grey[i] = static_cast<uint8_t>((299 * p[0] + 587 * p[1] + 114 * p[2] + 500) / 1000);
    }
    resize_short_side(grey.data(), image.height, image.width, 1, model_.stored, out);
    return "";
}

Predictor::Results Predictor::run(const std::vector<uint8_t>& images, int count) {
    std::memcpy(images_.data(), images.data(), image_bytes() * static_cast<size_t>(count));
    Results sums;
    sums.probabilities.resize(static_cast<size_t>(count) * model_.classes.size());
    sums.features.resize(static_cast<size_t>(count * feature_count_));
    const int views = view_count(options_.views, model_.mirrors);
    for (int v = 0; v < views; ++v) {
        std::fill_n(draws_.data(), options_.batch,
                    view_of(v, options_.views, model_.stored, model_.stored, model_.net.input.h));
        add_view(count, sums);
    }
    for (float& p : sums.probabilities) p /= static_cast<float>(views);
    for (float& f : sums.features) f /= static_cast<float>(views);
    return sums;
}

void Predictor::add_view(int count, Results& sums) {
    Worker& w = group_->worker(0);
    group_->run([&](Worker& worker) {
        worker.wait(worker.evaluate({images_.data(), draws_.data(), labels_.data()}));
    });
    const size_t classes = model_.classes.size();
    const std::vector<float> logits = w.get_logits();
    for (size_t i = 0; i < static_cast<size_t>(count); ++i)
        add_probabilities(&logits[i * classes], classes, &sums.probabilities[i * classes]);
    if (feature_count_ == 0) return;
    const std::vector<float> output = w.get_fc_output(options_.features);
    for (size_t i = 0; i < sums.features.size(); ++i) sums.features[i] += output[i];
}

}  // namespace wt
