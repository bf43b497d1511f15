// A job of several processes, one worker each, started by mpirun: who takes part, what they agree
// on, and how it ends when one of them is lost.
//
// Every process sends its peers a sign of life once a second, from a thread that does nothing else.
// A rank whose process is gone, or that has been silent for TeamOptions::lost_after seconds
// (stopped, hung, cut off), is lost: the others end at once, with exit status 1 and one line that
// says which rank it was, where the last whole checkpoint is and how to go on. An error on one rank
// ends the others in the same way, with that rank's message.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <vector>

#include "host/parallel/exchange.h"
#include "host/parallel/links.h"

namespace wt {

struct TeamOptions {
    std::string comm = "mpi";  // what the exchange runs over: mpi, nccl
    std::string program = "train";
    double lost_after = 20;  // seconds without a sign of life
    // seconds that a step may wait for a rank that is alive; 0: for ever
    double stuck_after = 600;
};

class Team {
public:
    virtual ~Team() = default;  // waits for the others to get there
    int rank() const { return rank_; }
    int ranks() const { return ranks_; }
    int local_rank() const { return local_rank_; }  // among those on this machine
    int local_ranks() const { return local_ranks_; }

    // "2 on machine a, 2 on machine b".
    virtual std::string machines() const = 0;

    // Before exchange(): how GPUs of different processes may reach each other. Only NCCL uses their
    // peer access.
    void use_links(const LinkProbe& links) { links_ = links; }
    const LinkProbe& links() const { return links_; }

    // The exchange of this process's worker. One at a time.
    virtual std::unique_ptr<Exchange> exchange() = 0;

    // Every rank calls these in the same order, from one thread.
    virtual std::vector<float> gather(
        const std::vector<float>&
            mine) = 0;  // on rank 0 everybody's, one after another; else empty
    virtual std::string broadcast(const std::string& of_rank_0) = 0;
    virtual std::vector<float> broadcast(const std::vector<float>& of_rank_0) = 0;
    virtual void barrier() = 0;
    // GB/s of messages from the rank before this one, while every rank sends to the next.
    virtual double message_rate() = 0;
    // Throws Error, on every rank, where `text` is not the same on all: "the WHAT of rank 1 is ...,
    // that of rank 0 ...".
    virtual void same(const std::string& what, const std::string& text) = 0;
    // The largest number that a rank has given: what is given to vote() is answered by verdict(),
    // so that the answer's way is hidden. 0 where there was no vote.
    virtual void vote(int number) = 0;
    virtual int verdict() = 0;

    // Until steps begin, a signal to stop (stop_signals.h) ends this process, and with it the
    // others, at once; from then on it is for the run to stop, with this exit status (0: nothing
    // was asked). SIGUSR1, which mpirun passes on to all ranks at once, stops a run as Ctrl-C does.
    virtual void begin_steps() = 0;
    virtual int stop_asked() const = 0;
    // A line on how little time the launcher leaves for stopping, where more can be had; or "".
    virtual std::string stop_notice() const = 0;

    // Told with every message about a lost rank: where the last whole checkpoint is, and how to go
    // on.
    virtual void set_advice(const std::string& text) = 0;

    // Ends this process and, with it, the others. `message` is printed by one rank if several fail
    // with the same.
    [[noreturn]] void fail(const std::string& message, int status) {
        end_all(message, status);
        std::abort();
    }

protected:
    virtual void end_all(const std::string& message, int status) = 0;  // does not return
    int rank_ = 0, ranks_ = 1, local_rank_ = 0, local_ranks_ = 1;

private:
    LinkProbe links_;
};

// Joins the job. Throws UsageError where this build has no MPI (or no NCCL), saying how to get it.
std::unique_ptr<Team> join_team(const TeamOptions& options);

// How many processes the launcher started, and which of them this is, as far as its environment
// tells; else -1. To be asked before join_team, whose MPI_Init cannot be undone.
int launched_ranks();
int launched_rank();

}  // namespace wt
