// A training run from start to end: data, workers, schedule, evaluation, checkpoints, log.
#pragma once

#include "host/parallel/team.h"
#include "host/train/options.h"

namespace wt {

// Returns the program's exit status: 0, or 130 after an interrupt (a checkpoint is then written). Throws
// UsageError or Error with one line for what the user can mend. In a job every process calls it, for its own worker, and
// failures end all of them; rank 0 speaks, and writes the log and the checkpoint.
int run_training(const TrainOptions& options, Team* team = nullptr);

}  // namespace wt
