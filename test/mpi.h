// Tests of several processes: commands under mpirun, whatever user runs them and however few cores
// there are.
#pragma once

#include "test/device_data.h"
#include "test/program.h"
#include "test/text.h"

namespace wt::test {

inline std::string mpirun(int ranks) {
    // Open MPI leaves some at its end
    const std::string leaks = kSanitized ? "ASAN_OPTIONS=detect_leaks=0 " : "";
    return leaks + WT_MPIRUN + " --allow-run-as-root --oversubscribe -np " + std::to_string(ranks) +
           " ";
}

// This program under mpirun, running one test case that the ordinary run skips.
inline std::string case_under_mpirun(int ranks, const std::string& name) {
    return mpirun(ranks) + program("unit") + " --no-skip -tc='" + name + "'";
}

}  // namespace wt::test
