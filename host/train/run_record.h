// What the weights in a file mean, and what the run that made them depends on: all that a later
// command must know to compute with them as that run did. A part of a checkpoint's metadata:
//
//   settings       {"--lr": "0.01", ...}: settings_of(options), every flag with a bearing on the
//                  result
//   classes        ["ankle boot", ...] in the order of the last layer's units
//   normalisation  {"mean": [R,G,B], "std": [R,G,B]}, 0..255 units: less the mean, over the std
//   input          {"stored": side of stored images, "channels": 1 or 3, "pca": 9 numbers, row by
//                  row}
//   data           {"train": images, "held_out": images, "mean": [R,G,B] as measured}
//   total_steps    of the run, as its flags had it
//   command        the command line of the part of the run that wrote the file
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

namespace wt {

struct RunRecord {
    std::map<std::string, std::string> settings;
    std::vector<std::string> classes;
    std::vector<float> mean, std_dev;  // three each
    int stored = 0, channels = 0;
    std::vector<float> pca;  // DataSplits::pca; empty where it was not measured
    int64_t train_images = 0, held_out_images = 0;
    std::vector<float> data_mean;  // empty where it was not measured
    int64_t total_steps = 0;
    std::string command;

    // Files of versions that wrote weights and position only say nothing of classes and
    // normalisation.
    bool whole() const { return !classes.empty() && mean.size() == 3; }
};

using Metadata = std::map<std::string, std::string>;

// Nothing of a record that is not whole.
void write_record(const RunRecord& record, Metadata& metadata);
// What is not there stays empty. Throws Error, with `path` in it, where it is not understood.
RunRecord read_record(const Metadata& metadata, const std::string& path);

}  // namespace wt
