// One step of a group, recorded: host/cuda/timeline.h.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "host/cuda/timeline.h"
#include "host/parallel/group.h"

namespace wt {

class StepTimeline {
public:
    // Waits until the group has nothing left to do; what is submitted from here on is recorded,
    // without graphs.
    explicit StepTimeline(Group& group);
    ~StepTimeline() { stop(); }
    // Waits until it is done.
    StepPicture read();
    int64_t bytes_sent() const;  // by all workers here to others, since the beginning

private:
    void stop();
    Group& group_;
    int64_t sent_before_ = 0;
    std::vector<std::unique_ptr<Timeline>> timelines_;
    std::vector<Timeline*> all_;
};

// Throws Error unless both files of write_timeline can be written. Leaves nothing behind.
void check_timeline_paths(const std::string& svg);

// To `svg` (which ends in .svg), and the trace to a .json beside it, whose name is the answer.
std::string write_timeline(const StepPicture& picture, const std::string& svg,
                           const std::string& title);

// To FOLDER/timeline.svg, for the run's page (host/report).
void write_timeline_of_run(const StepPicture& picture, const std::string& folder,
                           const std::string& title);

}  // namespace wt
