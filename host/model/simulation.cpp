#include "host/model/simulation.h"

#include <algorithm>
#include <queue>
#include <set>
#include <stdexcept>
#include <utility>

namespace wt::model {

Simulation::Resource Simulation::resource(std::string name) {
    resources_.push_back(std::move(name));
    return static_cast<Resource>(resources_.size()) - 1;
}

Simulation::Id Simulation::add(std::string name, std::vector<Resource> resources, double seconds,
                               std::vector<Id> needs, double latency) {
    const Id id = static_cast<Id>(tasks_.size());
    std::erase_if(needs, [](Id n) { return n < 0; });  // "nothing before it"
    for (Id n : needs)
        if (n >= id) throw std::logic_error("a task needs one that is added after it");
    tasks_.push_back({.name = std::move(name),
                      .resources = std::move(resources),
                      .seconds = seconds,
                      .latency = latency,
                      .needs = std::move(needs)});
    return id;
}

double Simulation::run() {
    const int n = static_cast<int>(tasks_.size());
    std::vector<int> missing(n);
    std::vector<std::vector<Id>> then(n);
    std::set<Id>
        ready;  // could start but for their resources; in the order in which they were added
    for (Id i = 0; i < n; ++i) {
        missing[i] = static_cast<int>(tasks_[i].needs.size());
        for (Id need : tasks_[i].needs) then[need].push_back(i);
        if (!missing[i]) ready.insert(i);
    }
    std::vector<char> taken(resources_.size());
    enum What { frees, ends };
    using Event = std::pair<double, std::pair<What, Id>>;
    std::priority_queue<Event, std::vector<Event>, std::greater<>> events;
    double now = 0, last = 0;
    int over = 0;
    while (over < n) {
        for (auto it = ready.begin(); it != ready.end();) {
            Task& t = tasks_[*it];
            if (std::any_of(t.resources.begin(), t.resources.end(),
                            [&](Resource r) { return taken[r]; })) {
                ++it;
                continue;
            }
            for (Resource r : t.resources) taken[r] = 1;
            t.start = now;
            t.end = now + t.seconds + t.latency;
            events.push({now + t.seconds, {frees, *it}});
            events.push({t.end, {ends, *it}});
            it = ready.erase(it);
        }
        now = events.top().first;
        while (!events.empty() && events.top().first == now) {
            const auto [what, id] = events.top().second;
            events.pop();
            if (what == frees) {
                for (Resource r : tasks_[id].resources) taken[r] = 0;
                continue;
            }
            ++over;
            last = now;
            for (Id next : then[id])
                if (--missing[next] == 0) ready.insert(next);
        }
    }
    return last;
}

double Simulation::busy(Resource r) const {
    double sum = 0;
    for (const Task& t : tasks_)
        if (std::find(t.resources.begin(), t.resources.end(), r) != t.resources.end())
            sum += t.seconds;
    return sum;
}

}  // namespace wt::model
