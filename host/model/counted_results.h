// What compiled kernels do, counted without a GPU by bin/compare --counters --json, in place of a
// prediction's own estimates.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "host/model/prediction.h"

namespace wt::model {

// Of one variant at one problem, of all its kernels.
struct Counted {
    double instructions = 0;  // of warps, in PTX
    double l2_bytes = 0;      // to and from the SMs
    double shared_bytes = 0;  // wavefronts of 128 bytes, what wgmma reads and what TMA copies
    double flops = 0;         // of matrix instructions
};

class CountedResults {
public:
    // Throws Error where the file is none that bin/compare --counters --json wrote, or where its
    // kernels were planned for another number of SMs than `gpu` has.
    static CountedResults read(const std::string& path, const Gpu& gpu);

    bool empty() const { return all_.empty(); }
    // `problem` with what says the precision (BenchCase::whole_problem).
    std::optional<Counted> of(const std::string& operation, const std::string& problem,
                              const std::string& variant) const;

private:
    std::map<std::string, Counted> all_;
};

// The time in L2 and shared memory is that of the counted bytes. The SM that has most to do of a
// product has as much more of them as it has more to multiply. Instructions are taken only where
// nobody has counted those of the machine code, of which there are fewer than of PTX.
void take(const Gpu& gpu, const Counted& counted, Prediction& p);

}  // namespace wt::model
