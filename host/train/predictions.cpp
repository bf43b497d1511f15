#include "host/train/predictions.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <limits>
#include <numeric>

#include "data/npy.h"
#include "host/cuda/check.h"
#include "host/train/atomic_file.h"

namespace wt {

namespace {

constexpr size_t kTop = 5;

}  // namespace

std::string csv_field(const std::string& text) {
    if (text.find_first_of(",\"\r\n") == std::string::npos) return text;
    std::string s = "\"";
    for (const char c : text) s += c == '"' ? std::string("\"\"") : std::string(1, c);
    return s + "\"";
}

void add_probabilities(const float* logits, size_t classes, float* sums) {
    const float top = *std::max_element(logits, logits + classes);
    double total = 0;
    for (size_t k = 0; k < classes; ++k) total += std::exp(double(logits[k]) - top);
    for (size_t k = 0; k < classes; ++k)
        sums[k] += static_cast<float>(std::exp(double(logits[k]) - top) / total);
}

void check_predictions_name(const std::string& path) {
    if (!path.ends_with(".npy") && !path.ends_with(".csv"))
        throw UsageError(
            "--predictions " + path +
            ": must be a file that ends in .npy (logits) or .csv (the likeliest classes)");
}

Predictions::Predictions(std::string path, std::vector<std::string> classes)
    : path_(std::move(path)), classes_(std::move(classes)), npy_(path_.ends_with(".npy")) {
    check_predictions_name(path_);
    std::error_code none;
    if (std::filesystem::exists(path_, none) && !std::filesystem::is_regular_file(path_, none))
        throw Error("--predictions " + path_ + ": it is no regular file; give another name");
    // whether the folder is there and can be written to
    const AtomicFile probe(path_, 0, "file");
    if (npy_) return;
    rows_ = "image,class";
    for (size_t k = 1; k <= std::min(kTop, classes_.size()); ++k) {
        const std::string n = std::to_string(k);
        rows_.append(",top").append(n).append(",probability").append(n);
    }
    rows_ += '\n';
}

void Predictions::add(const std::string& image, int label, const float* logits) {
    ++images_;
    npy_ ? add_npy(label, logits) : add_csv(image, label, logits);
}

void Predictions::add_npy(int label, const float* logits) {
    const std::vector<float> nothing(label < 0 ? classes_.size() : 0,
                                     std::numeric_limits<float>::quiet_NaN());
    const float* row = label < 0 ? nothing.data() : logits;
    rows_.append(reinterpret_cast<const char*>(row), classes_.size() * sizeof(float));
}

void Predictions::add_csv(const std::string& image, int label, const float* logits) {
    if (label < 0) return;
    std::vector<size_t> order(classes_.size());
    std::iota(order.begin(), order.end(), 0);
    const size_t top = std::min(kTop, order.size());
    std::partial_sort(
        order.begin(), order.begin() + static_cast<std::ptrdiff_t>(top), order.end(),
        [&](size_t a, size_t b) { return logits[a] != logits[b] ? logits[a] > logits[b] : a < b; });
    std::vector<float> probabilities(classes_.size());
    add_probabilities(logits, classes_.size(), probabilities.data());
    rows_ += csv_field(image) + "," + csv_field(classes_[static_cast<size_t>(label)]);
    for (size_t k = 0; k < top; ++k) {
        char number[32];
        std::snprintf(number, sizeof number, ",%.6f", probabilities[order[k]]);
        rows_ += "," + csv_field(classes_[order[k]]) + number;
    }
    rows_ += '\n';
}

std::string Predictions::summary() const {
    return npy_ ? "logits of " + std::to_string(images_) + " images x " +
                      std::to_string(classes_.size()) + " classes, in the data set's order"
                : "the likeliest classes of " + std::to_string(images_) + " images";
}

void Predictions::write() const {
    atomic_write_file(path_, npy_ ? npy_header("<f4", {static_cast<int64_t>(images_),
                                                       static_cast<int64_t>(classes_.size())}) +
                                        rows_
                                  : rows_);
}

}  // namespace wt
