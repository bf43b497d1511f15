// A network's weights in a safetensors file, whoever has written it: under this project's names
// (conv1.weight) or, for net owt, torchvision's (features.0.weight). Stored as fp32, fp16 or bf16,
// in file order (params.h).
#pragma once

#include <string>
#include <vector>

#include "host/net/params.h"
#include "host/train/safetensors.h"

namespace wt {

enum class Naming { own, torchvision };

// By the names in the file. Throws Error, one line with the names that were expected, where they
// are neither.
Naming naming_of(const SafetensorsFile& file);

// The classes that a file's last layer of this network has: the extent of fc8.bias; 0 where there
// is none.
int classes_in(const SafetensorsFile& file, const NetSpec& net);

class WeightsFile {
public:
    // Checks every name, shape and type before anything is read. `except`: layers of which nothing
    // is read, and which may be missing or of another shape. `file` must outlive this. Throws Error
    // with one line that names the file and the tensor: missing, one too many, of another shape or
    // type.
    WeightsFile(const SafetensorsFile& file, const NetSpec& net,
                const std::vector<std::string>& except = {});

    Naming naming() const { return naming_; }
    // Whether the last layer is there for another number of classes, and is not read for that
    // reason. It is then for the caller to refuse it or to fill the layer anew.
    bool other_classes() const { return other_classes_; }
    int classes() const { return classes_; }  // of the file

    // Whether the layer's parameters are to be read: not excepted, not of another number of
    // classes.
    bool has(const Layer& layer) const;
    // In file order. Throws Error where a value is not finite.
    std::vector<float> read(const Param& param) const;

private:
    std::string name_of(const Param& param) const;
    void check(const Param& param);

    const SafetensorsFile& file_;
    const NetSpec& net_;
    std::vector<std::string> except_;
    Naming naming_;
    bool other_classes_ = false;
    int classes_ = 0;
};

// "conv1,fc8" as a list of layers of `net` that have weights. Throws UsageError with the names that
// there are where one is unknown, and where one is given twice or none at all.
std::vector<std::string> layer_list(const std::string& flag, const std::string& text,
                                    const NetSpec& net);

}  // namespace wt
