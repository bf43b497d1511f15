// What `make gpu-report` has left in profiling/results (or another folder of such folders):
// measured times to stand beside predicted ones. Of each folder's compare.json and steps.json those
// runs count whose GPU has the predicted one's name in its own ("NVIDIA H200"), and that were no
// dry run on virtual GPUs. Where several folders have the same, the last by name counts, and they
// end with their date.
#pragma once

#include <map>
#include <string>
#include <vector>

namespace wt::model {

class MeasuredResults {
public:
    // Nothing where the folder is not there. Throws Error naming a file that is not as
    // profiling/report.py writes it.
    static MeasuredResults read(const std::string& folder, const std::string& gpu);

    // Of a variant at a problem, which may say its precision or not; us, 0: not measured.
    double kernel_us(const std::string& operation, const std::string& problem,
                     const std::string& precision, const std::string& variant) const;
    // Of one worker's training step, input and update included; us, 0: not measured.
    double step_us(const std::string& net, int batch, const std::string& precision) const;
    const std::vector<std::string>& files() const { return files_; }
    bool empty() const { return files_.empty(); }

private:
    std::map<std::string, double> kernels_, steps_;
    std::vector<std::string> files_;
};

}  // namespace wt::model
