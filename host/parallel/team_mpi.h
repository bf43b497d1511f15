// The job over MPI. MPI is asked for MPI_THREAD_SERIALIZED only: whoever calls it holds mpi(), and
// nobody calls anything that blocks, so that a peer that is gone cannot hold a thread.
#pragma once

#ifndef OMPI_SKIP_MPICXX
#define OMPI_SKIP_MPICXX 1
#endif
#include <mpi.h>

#include <atomic>
#include <chrono>
#include <functional>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include "host/parallel/team.h"

namespace wt {

class MpiTeam : public Team {
public:
    explicit MpiTeam(const TeamOptions& options);
    ~MpiTeam() override;
    MpiTeam(const MpiTeam&) = delete;
    MpiTeam& operator=(const MpiTeam&) = delete;

    std::string machines() const override;
    std::unique_ptr<Exchange> exchange() override;
    std::vector<float> gather(const std::vector<float>& mine) override;
    std::string broadcast(const std::string& of_rank_0) override;
    std::vector<float> broadcast(const std::vector<float>& of_rank_0) override;
    void barrier() override;
    double message_rate() override;
    void same(const std::string& what, const std::string& text) override;
    void vote(int number) override;
    int verdict() override;
    void begin_steps() override;
    int stop_asked() const override;
    std::string stop_notice() const override;
    void set_advice(const std::string& text) override;

    const TeamOptions& options() const { return options_; }
    std::mutex& mpi() { return mpi_; }
    MPI_Comm data() const { return data_; }  // for the exchange alone
    // For the result of every call: throws Error, with the advice.
    void check(int mpi_result);
    // Throws Error: `rank` lives and has not sent `what` for options().stuck_after.
    [[noreturn]] void stuck(int rank, const std::string& what);
    // Asked once a second; text ends the job. One at a time; empty takes it away.
    void watch(std::function<std::string()> trouble);

protected:
    void end_all(const std::string& message, int status) override;

private:
    using Clock = std::chrono::steady_clock;
    struct Pulse {
        int failed;  // 0: a sign of life
        int status;
        char text[1016];
    };
    struct Peer {
        std::string machine;
        int pid = 0;
        bool here = false;  // in this process's own world of process ids
        Clock::time_point heard;
        MPI_Request receiving = MPI_REQUEST_NULL, sending = MPI_REQUEST_NULL;
        Pulse in{}, out{};
        std::string failure;  // its message, once it has failed
        int gone = 0;         // how often it was looked for in vain
    };

    struct Ending {
        std::string message;
        int status = 0;
        std::string who = {};  // printed before it
        explicit operator bool() const { return !message.empty(); }
    };

    void get_acquainted();
    void finish(MPI_Request& request);
    void broadcast_bytes(void* data, size_t bytes, int root);
    std::string broadcast_from(int root, const std::string& text);
    std::string with_advice(const std::string& text);
    std::string name(int rank) const;
    // The rest is the pulse thread's.
    void beat();
    void exchange_pulses(bool send);
    Clock::duration period() const;  // of signs of life
    Clock::time_point notice_own_stop();
    void look_for_the_lost();
    void heed_early_stop();
    void heed_termination();
    static bool has_ended(const Peer& p);
    [[noreturn]] void end(const Ending& e);

    TeamOptions options_;
    std::mutex mpi_;
    MPI_Comm data_ = MPI_COMM_NULL, control_ = MPI_COMM_NULL, pulse_ = MPI_COMM_NULL;
    std::vector<Peer> peers_;  // by rank
    int ballot_ = 0, result_ = 0;
    MPI_Request vote_ = MPI_REQUEST_NULL;
    std::mutex state_;  // of the next three
    std::string advice_;
    std::function<std::string()> trouble_;
    Ending failure_;  // of this process's own
    std::atomic<bool> leaving_{false}, stop_{false}, in_steps_{false};
    Clock::time_point terminated_;  // when SIGTERM was seen
    Clock::time_point awake_{};     // when notice_own_stop was called last
    Clock::time_point resumed_{};   // when this process last went on after a stop so long that
                                    // others may have given it up
    std::thread thread_;
};

}  // namespace wt
