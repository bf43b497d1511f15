// The file that a run's weights come from, opened once: what is read of it later is of the same
// file, also where a run that is at work has put another in its place since.
#pragma once

#include <optional>
#include <string>

#include "host/parallel/team.h"
#include "host/train/checkpoint.h"
#include "host/train/safetensors.h"

namespace wt {

struct Origin {
    std::string path;
    std::optional<SafetensorsFile> file;  // in a job rank 0's alone
    std::optional<Position> position;     // none: weights alone
    RunRecord weights;         // of weights alone: what they say of themselves, if anything
    bool torchvision = false;  // has the names of torchvision's AlexNet, net owt

    // Nothing where no record is there.
    const RunRecord& record() const;
};

// A checkpoint of a run (`must_go_on`, throws Error where the file is none), or any file of
// weights. In a job rank 0 reads for all.
Origin open_origin(const std::string& path, bool must_go_on, Team* team = nullptr);

}  // namespace wt
