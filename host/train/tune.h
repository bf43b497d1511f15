// `--kernels tune`: measured choices for the workers of a run, and the file they are kept in.
#pragma once

#include <string>
#include <vector>

#include "host/parallel/team.h"
#include "host/parallel/layout.h"

namespace wt {

// Gives every configuration the choices that are known for its device: those of the program's own
// table, and with `--kernels tune` those of the file and what is measured now, `seconds` for each
// variant, which is printed and written to the file. In a job rank 0 does so for all, so that all
// compute in the same way; throws Error where their devices differ.
void choose_kernels(std::vector<WorkerConfig>& configs, double seconds = 0.3, Team* team = nullptr);

// Takes what is in the file, where it is of this device and these kernels. A file that cannot be
// read is no error: returns one line that says what is wrong with it, or nothing.
std::string load_tuning(const std::string& path, Tuning& tuning);
// Throws Error when the file cannot be written.
void save_tuning(const std::string& path, const Tuning& tuning);

// $XDG_CACHE_HOME/weirdtrick/tuned-DEVICE.json, or under ~/.cache. "" when there is no such place.
std::string tuning_path(const std::string& device);

}  // namespace wt
