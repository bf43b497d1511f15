// A discrete-event simulation: tasks that need other tasks to be over and resources (a GPU's
// compute stream, a link) to themselves. Among tasks that can start, the one that was added first
// does.
#pragma once

#include <string>
#include <vector>

namespace wt::model {

class Simulation {
public:
    using Resource = int;
    using Id = int;

    Resource resource(std::string name);

    // Takes `seconds` of each of the resources, together; is over `latency` after that. Without
    // resources it only delays.
    Id add(std::string name, std::vector<Resource> resources, double seconds, std::vector<Id> needs,
           double latency = 0);

    // Runs all tasks. Returns when the last one is over.
    double run();

    struct Task {
        std::string name;
        std::vector<Resource> resources;
        double seconds, latency;
        std::vector<Id> needs;
        double start = -1, end = -1;
    };
    const std::vector<Task>& tasks() const { return tasks_; }
    const std::vector<std::string>& resources() const { return resources_; }
    double busy(Resource) const;  // seconds, after run()

private:
    std::vector<Task> tasks_;
    std::vector<std::string> resources_;
};

}  // namespace wt::model
