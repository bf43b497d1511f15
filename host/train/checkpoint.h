// A run's state on disk: weights, momentum, position, and all that its result depends on, in one
// safetensors file. Independent of how many workers wrote it. Weights alone (what others publish)
// can be read too.
//
// Tensors "conv1.weight" ... "fc8.bias" in file order (OIHW, fp32), momentum as
// "conv1.weight.momentum".
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/parallel/group.h"
#include "host/train/run_folder.h"
#include "host/train/run_record.h"
#include "host/train/safetensors.h"

namespace wt {

struct Position {
    std::string net;
    int64_t step = 0;  // steps done
    uint64_t seed = 1;
    int64_t global_batch = 0;
    std::string schedule;                // Schedule::state
    double seconds = 0;                  // of training so far
    std::vector<std::string> arguments;  // the command line's flags
    Best best;                           // of the evaluations so far
    bool evaluation_due = false;         // the run was stopped before this step's was done
    RunRecord record;                    // what its result depends on
};

std::string checkpoint_path(const std::string& run_directory);

// Written aside and renamed: whatever happens, the file is whole, old or new. Throws Error when it
// cannot be written; the old one is kept. In a job all processes call it; rank 0 writes, and is
// done when they return.
void save_checkpoint(const std::string& path, Group& group, const NetSpec& net,
                     const Position& position);

// What a checkpoint's metadata say. Throws Error, with `path` in it, for those of no checkpoint.
Position position_of(const Metadata& metadata, const std::string& path);
Position read_position(const std::string& path);

// Fills the workers from `file`, which rank 0 of a job has opened for all (elsewhere it is null).
// Throws Error when a tensor is missing or of another shape: a checkpoint of another network.
// Without `with_momentum`, weights alone. Layers that are frozen now take none; those that were
// when the file was written have none there, and begin with 0.
void load_weights(const SafetensorsFile* file, Group& group, const NetSpec& net,
                  bool with_momentum);

}  // namespace wt
