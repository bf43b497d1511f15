// A training run from start to end: data, workers, schedule, evaluation, checkpoints, log.
#pragma once

#include "host/train/options.h"

namespace wt {

// Returns the program's exit status: 0, or 130 after an interrupt (a checkpoint is then written). Throws
// UsageError or Error with one line for what the user can mend.
int run_training(const TrainOptions& options);

}  // namespace wt
