// The workers of a run that live in this process, one thread each, driven together: all of them, or
// one of a job's.
#pragma once

#include <condition_variable>
#include <exception>
#include <functional>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "host/parallel/exchange_peer.h"
#include "host/parallel/team.h"
#include "host/parallel/links.h"
#include "host/parallel/worker.h"

namespace wt {

class Group {
public:
    // configs[r].rank == r; with a job, the one of this process, and every process makes its group
    // at the same time. Checks that everything fits before anything is allocated, tries peer access
    // (without it exchange goes through the host's memory; LinkProbe::peer = false: it is not asked
    // for), and builds each worker on its own thread.
    explicit Group(std::vector<WorkerConfig> configs, Team* team = nullptr,
                   const LinkProbe& links = {});
    ~Group();
    Group(const Group&) = delete;
    Group& operator=(const Group&) = delete;

    int workers() const { return static_cast<int>(threads_.size()); }  // here
    Worker& worker(int i) { return *workers_[i]; }
    const Links& links() const { return links_; }  // between the devices here
    Team* team() const { return team_; }           // null: all workers are here
    bool first() const { return !team_ || team_->rank() == 0; }

    // Runs task(worker) on every worker's thread at once; returns when all are done. Rethrows the
    // first failure; after one the group only serves to be destroyed.
    void run(const std::function<void(Worker&)>& task);

    // A whole parameter or momentum in memory order, put together from or dealt out to the workers.
    // In a job all processes call them together; rank 0 gets and gives the values.
    std::vector<float> get_param(int i, bool momentum = false);
    std::vector<float> get_gradient(int i);
    void set_param(int i, const std::vector<float>& values, bool momentum = false);
    // The logits of the last step, a row for each sample of the whole batch; on rank 0, like
    // get_param.
    std::vector<float> get_logits();

private:
    void run_on_threads(const std::function<void(int rank)>& task);
    std::vector<float> gather(int i, const std::function<std::vector<float>(Worker&)>& own);
    void serve(int rank);
    void shut_down();

    Team* team_;
    Links links_;
    std::unique_ptr<Mailbox> mailbox_;
    std::vector<std::unique_ptr<Worker>> workers_;
    std::vector<std::thread> threads_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::function<void(int)> task_;
    long round_ = 0;   // counts the tasks given out
    int running_ = 0;  // threads that have not finished this round's task
    bool stop_ = false;
    std::exception_ptr failure_;
};

// Throws Error when the workers do not fit their devices: how much is needed, for what, and which
// batch fits.
void check_memory(const std::vector<WorkerConfig>& configs);

}  // namespace wt
