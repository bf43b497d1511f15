// A training run from start to end: data, workers, schedule, evaluation, checkpoints, log.
//
// The run's folder is its own: another process at work there is an error (run_lock.h), and so are
// the checkpoints of another run, unless this one goes on with it (resume) or takes its place
// (overwrite). They are only removed when all else has been found good, and before the new log
// begins, so that no checkpoint ever lies beside another run's log. Which checkpoints there are is
// told in run_folder.h. Evaluating alone only reads.
//
// A signal to stop (host/parallel/stop_signals.h) ends the step under way, or the evaluation, which
// then counts for nothing and is done when the run goes on; then the checkpoint is written, also
// where the terminal is gone and nothing can be said. In a job all ranks stop after the same step.
#pragma once

#include "host/parallel/team.h"
#include "host/train/options.h"

namespace wt {

// Returns the program's exit status: 0, or 128 and the number of the signal that stopped it. Throws
// UsageError or Error with one line for what the user can mend. In a job every process calls it,
// for its own worker, and failures end all of them; rank 0 speaks, and writes the log and the
// checkpoint.
int run_training(const TrainOptions& options, Team* team = nullptr);

}  // namespace wt
