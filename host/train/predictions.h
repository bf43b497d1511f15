// What a network says of each held-out image, for other programs: a row an image, in the data set's
// order.
//
//   FILE.npy  the logits, fp32, images x classes; a row of NaN for an image that could not be read
//   FILE.csv  image, its class, and the five likeliest classes with their probabilities (softmax);
//             no row for an image that could not be read
#pragma once

#include <string>
#include <vector>

namespace wt {

class Predictions {
public:
    // Throws UsageError unless `path` ends in .npy or .csv, and Error where no file can be written
    // there: before a long evaluation, not after it. `classes`: of the last layer's units.
    Predictions(std::string path, std::vector<std::string> classes);

    // The next image. `logits`: one a class. `label`: its class; -1: it could not be read.
    void add(const std::string& image, int label, const float* logits);
    // Writes the file aside and renames it; throws Error when it cannot be written.
    void write() const;
    std::string summary() const;  // "logits of 20 images x 5 classes"

private:
    void add_npy(int label, const float* logits);
    void add_csv(const std::string& image, int label, const float* logits);

    std::string path_;
    std::vector<std::string> classes_;
    bool npy_;
    size_t images_ = 0;
    std::string rows_;
};

// A field of a CSV file (RFC 4180): quoted where it has to be.
std::string csv_field(const std::string& text);

// softmax(logits[classes]) is added to sums[classes].
void add_probabilities(const float* logits, size_t classes, float* sums);

// Throws UsageError, naming the flag, unless the file's name ends as one of the two.
void check_predictions_name(const std::string& path);

}  // namespace wt
