#include "host/parallel/team_mpi.h"

#include <signal.h>
#include <sys/types.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <exception>
#include <fstream>

#include "host/parallel/exchange_mpi.h"
#include "host/parallel/stop_signals.h"
#ifdef WT_NCCL
#include "host/parallel/exchange_nccl.h"
#endif

namespace wt {

namespace {

using namespace std::chrono_literals;
using Seconds = std::chrono::duration<double>;

volatile sig_atomic_t user_signal = 0;

void catch_user_signal() {
    struct sigaction a {};
    a.sa_handler = [](int) { user_signal = 1; };
    a.sa_flags = SA_RESTART;
    sigaction(SIGUSR1, &a, nullptr);
}

// What every rank tells the others at the start.
struct Card {
    char machine[256], processes[64];  // the second names the world of process ids
    char boot[64];
    int pid;
};

void copy_text(char* to, size_t size, const std::string& text) {
    std::strncpy(to, text.c_str(), size - 1);
    to[size - 1] = 0;
}

Card own_card() {
    Card c{};
    gethostname(c.machine, sizeof c.machine - 1);
    if (readlink("/proc/self/ns/pid", c.processes, sizeof c.processes - 1) < 0) c.processes[0] = 0;
    std::string boot;
    std::getline(std::ifstream("/proc/sys/kernel/random/boot_id"), boot);
    copy_text(c.boot, sizeof c.boot, boot);
    c.pid = getpid();
    return c;
}

// Seconds from mpirun's SIGTERM to its SIGKILL. The parameter comes from mpirun's command line or
// from the environment.
double grace() {
    const char* s = std::getenv("OMPI_MCA_odls_base_sigkill_timeout");
    return s && std::atof(s) > 0 ? std::atof(s) : 1;
}

}  // namespace

MpiTeam::MpiTeam(const TeamOptions& options) : options_(options) {
    // Messages within a machine go through shared memory. The other way, reading the peer's memory,
    // is what containers forbid.
    setenv("OMPI_MCA_btl_vader_single_copy_mechanism", "none", 0);
    // Nobody here waits in MPI: what it would yield to is what we do ourselves, with mpi() held.
    setenv("OMPI_MCA_mpi_yield_when_idle", "0", 1);
    int threads = 0;
    if (MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &threads) != MPI_SUCCESS ||
        threads < MPI_THREAD_SERIALIZED)
        throw Error(
            "--comm " + options_.comm +
            ": this MPI does not let several threads use it in turn (MPI_THREAD_SERIALIZED)");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);  // which the copies inherit
    for (MPI_Comm* c : {&data_, &control_, &pulse_}) check(MPI_Comm_dup(MPI_COMM_WORLD, c));
    check(MPI_Comm_rank(MPI_COMM_WORLD, &rank_));
    check(MPI_Comm_size(MPI_COMM_WORLD, &ranks_));
    get_acquainted();
    user_signal = 0;
    catch_user_signal();
    catch_stop_signals();
    expect_launcher();
    on_stop_signal(OnStop::note);
    awake_ = Clock::now();  // here: the thread may be stopped before it first runs
    thread_ = std::thread([this] { beat(); });
}

MpiTeam::~MpiTeam() {
    leaving_ = true;
    // the others are not coming: nothing to wait for
    const bool failed = std::uncaught_exceptions() > 0;
    try {
        if (!failed) barrier();
    } catch (...) {
    }
    stop_ = true;
    thread_.join();
    if (failed) return;
    std::lock_guard lock(mpi_);
    for (Peer& p : peers_) {
        if (p.receiving != MPI_REQUEST_NULL)
            MPI_Cancel(&p.receiving), MPI_Wait(&p.receiving, MPI_STATUS_IGNORE);
        if (p.sending != MPI_REQUEST_NULL) MPI_Request_free(&p.sending);
    }
    for (MPI_Comm* c : {&data_, &control_, &pulse_}) MPI_Comm_free(c);
    MPI_Finalize();
}

void MpiTeam::get_acquainted() {
    const Card mine = own_card();
    std::vector<Card> all(ranks_);
    check(MPI_Allgather(&mine, sizeof mine, MPI_BYTE, all.data(), sizeof mine, MPI_BYTE, control_));
    peers_.resize(ranks_);
    for (int r = 0; r < ranks_; ++r) {
        const bool same_machine =
            !std::strcmp(all[r].machine, mine.machine) && !std::strcmp(all[r].boot, mine.boot);
        peers_[r].machine = all[r].machine;
        peers_[r].pid = all[r].pid;
        peers_[r].here = same_machine && !std::strcmp(all[r].processes, mine.processes);
        peers_[r].heard = Clock::now();
        if (r == rank_) local_rank_ = local_ranks_ - 1;
        if (same_machine && r != rank_) ++local_ranks_;
    }
}

std::string MpiTeam::machines() const {
    std::vector<std::pair<std::string, int>> count;
    for (const Peer& p : peers_) {
        const auto at = std::find_if(count.begin(), count.end(),
                                     [&](const auto& c) { return c.first == p.machine; });
        if (at == count.end())
            count.emplace_back(p.machine, 1);
        else
            ++at->second;
    }
    std::string s;
    for (const auto& [machine, n] : count)
        s += (s.empty() ? "" : ", ") + std::to_string(n) + " on machine " + machine;
    return s;
}

std::string MpiTeam::name(int rank) const {
    return "rank " + std::to_string(rank) + " (process " + std::to_string(peers_[rank].pid) +
           " on " + peers_[rank].machine + ")";
}

std::unique_ptr<Exchange> MpiTeam::exchange() {
#ifdef WT_NCCL
    if (options_.comm == "nccl") return std::make_unique<NcclExchange>(*this);
#endif
    return std::make_unique<MpiExchange>(*this);
}

// ---- what all ranks do together -----------------------------------------------------------------

void MpiTeam::check(int result) {
    if (result == MPI_SUCCESS) return;
    char text[MPI_MAX_ERROR_STRING] = "";
    int length = 0;
    MPI_Error_string(result, text, &length);
    throw Error(with_advice(std::string("MPI reports ") + text +
                            ": the connection to another rank was lost"));
}

// Waits without blocking in MPI: who fails meanwhile ends the process from the pulse thread.
void MpiTeam::finish(MPI_Request& request) {
    const auto start = Clock::now();
    for (;;) {
        int done = 0;
        {
            std::lock_guard lock(mpi_);
            check(MPI_Test(&request, &done, MPI_STATUS_IGNORE));
        }
        if (done) return;
        // MPI moves long messages only while it is called: often, but where somebody is waited for.
        std::this_thread::sleep_for(Clock::now() - start < 50ms ? 20us : 1000us);
    }
}

void MpiTeam::barrier() {
    MPI_Request request;
    {
        std::lock_guard lock(mpi_);
        check(MPI_Ibarrier(control_, &request));
    }
    finish(request);
}

double MpiTeam::message_rate() {
    constexpr int kBytes = 4 << 20, kTimes = 5;
    std::vector<char> out(kBytes), in(kBytes);
    Clock::time_point start;
    for (int i = 0; i <= kTimes; ++i) {
        if (i == 1) start = Clock::now();  // the first opens the connection
        MPI_Request receive, send;
        {
            std::lock_guard lock(mpi_);
            check(MPI_Irecv(in.data(), kBytes, MPI_BYTE, (rank_ + ranks_ - 1) % ranks_, 1, control_,
                            &receive));
            check(
                MPI_Isend(out.data(), kBytes, MPI_BYTE, (rank_ + 1) % ranks_, 1, control_, &send));
        }
        finish(receive);
        finish(send);
    }
    return 1e-9 * kBytes * kTimes / std::max(1e-9, Seconds(Clock::now() - start).count());
}

std::vector<float> MpiTeam::gather(const std::vector<float>& mine) {
    constexpr size_t kChunk = size_t(1) << 26;  // elements: a count is an int
    const int64_t own = static_cast<int64_t>(mine.size());
    std::vector<int64_t> counts(ranks_);
    MPI_Request request;
    {
        std::lock_guard lock(mpi_);
        check(MPI_Igather(&own, 1, MPI_INT64_T, counts.data(), 1, MPI_INT64_T, 0, control_,
                          &request));
    }
    finish(request);
    std::vector<MPI_Request> requests;
    std::vector<float> all;
    {
        std::lock_guard lock(mpi_);
        const auto each_chunk = [&](size_t count, auto&& start) {
            for (size_t at = 0; at < count; at += kChunk) {
                requests.emplace_back();
                check(start(at, static_cast<int>(std::min(kChunk, count - at)), &requests.back()));
            }
        };
        if (rank_ != 0) {
            each_chunk(mine.size(), [&](size_t at, int n, MPI_Request* r) {
                return MPI_Isend(mine.data() + at, n, MPI_FLOAT, 0, 0, control_, r);
            });
        } else {
            size_t total = 0;
            for (const int64_t n : counts) total += n;
            all.resize(total);
            std::copy(mine.begin(), mine.end(), all.begin());
            float* to = all.data() + own;
            for (int from = 1; from < ranks_; to += counts[from++])
                each_chunk(counts[from], [&](size_t at, int n, MPI_Request* r) {
                    return MPI_Irecv(to + at, n, MPI_FLOAT, from, 0, control_, r);
                });
        }
    }
    for (MPI_Request& r : requests) finish(r);
    return all;
}

void MpiTeam::broadcast_bytes(void* data, size_t bytes, int root) {
    constexpr size_t kChunk = size_t(1) << 28;  // a count is an int
    for (size_t at = 0; at < bytes; at += kChunk) {
        MPI_Request request;
        {
            std::lock_guard lock(mpi_);
            check(MPI_Ibcast(static_cast<std::byte*>(data) + at,
                             static_cast<int>(std::min(kChunk, bytes - at)), MPI_BYTE, root,
                             control_, &request));
        }
        finish(request);
    }
}

std::string MpiTeam::broadcast_from(int root, const std::string& text) {
    uint64_t size = text.size();
    broadcast_bytes(&size, sizeof size, root);
    std::string all = text;
    all.resize(size);
    broadcast_bytes(all.data(), size, root);
    return all;
}

std::string MpiTeam::broadcast(const std::string& of_rank_0) {
    return broadcast_from(0, of_rank_0);
}

std::vector<float> MpiTeam::broadcast(const std::vector<float>& of_rank_0) {
    uint64_t size = of_rank_0.size();
    broadcast_bytes(&size, sizeof size, 0);
    std::vector<float> all = of_rank_0;
    all.resize(size);
    broadcast_bytes(all.data(), size * sizeof(float), 0);
    return all;
}

void MpiTeam::same(const std::string& what, const std::string& text) {
    const std::string expected = broadcast(text);
    int mine = expected == text ? ranks_ : rank_, first = 0;  // the first rank that differs
    MPI_Request request;
    {
        std::lock_guard lock(mpi_);
        check(MPI_Iallreduce(&mine, &first, 1, MPI_INT, MPI_MIN, control_, &request));
    }
    finish(request);
    if (first == ranks_) return;
    throw Error("the " + what + " of " + name(first) + " is '" + broadcast_from(first, text) +
                "', that of rank 0 '" + expected + "'");
}

void MpiTeam::vote(int number) {
    ballot_ = number;
    std::lock_guard lock(mpi_);
    check(MPI_Iallreduce(&ballot_, &result_, 1, MPI_INT, MPI_MAX, control_, &vote_));
}

int MpiTeam::verdict() {
    if (vote_ != MPI_REQUEST_NULL) finish(vote_);
    return result_;
}

// ---- how it ends --------------------------------------------------------------------------------

void MpiTeam::begin_steps() { in_steps_ = true; }

int MpiTeam::stop_asked() const {
    return stop_status() ? stop_status() : user_signal ? 128 + SIGINT : 0;
}

std::string MpiTeam::stop_notice() const {
    if (!std::getenv("OMPI_COMM_WORLD_SIZE") || std::getenv("OMPI_MCA_odls_base_sigkill_timeout"))
        return {};
    // Twice: mpirun lets the time pass before SIGTERM and again before SIGKILL.
    return "Ctrl-C of mpirun leaves 1 s for the last checkpoint: kill -USR1 of mpirun leaves what "
           "it takes; so does mpirun --mca odls_base_sigkill_timeout 60, but takes 120 s to end";
}

void MpiTeam::set_advice(const std::string& text) {
    std::lock_guard lock(state_);
    advice_ = text;
}

void MpiTeam::watch(std::function<std::string()> trouble) {
    std::lock_guard lock(state_);
    trouble_ = std::move(trouble);
}

std::string MpiTeam::with_advice(const std::string& text) {
    std::lock_guard lock(state_);
    return advice_.empty() ? text : text + "; " + advice_;
}

void MpiTeam::stuck(int rank, const std::string& what) {
    char seconds[32];
    std::snprintf(seconds, sizeof seconds, "%g", options_.stuck_after);
    throw Error(
        with_advice(name(rank) + " is alive but has not sent " + what + " for " + seconds + " s"));
}

// The pulse thread ends the process, as it alone speaks with the others about it.
void MpiTeam::end_all(const std::string& message, int status) {
    {
        std::lock_guard lock(state_);
        failure_ = {message, status, rank_ == 0 ? "" : name(rank_) + ": "};
    }
    std::this_thread::sleep_for(5s);  // it ends us before
    std::fprintf(stderr, "%s: %s\n", options_.program.c_str(), message.c_str());
    std::_Exit(status);
}

// Returns whether the process is known to have ended.
bool MpiTeam::has_ended(const Peer& p) { return p.here && kill(p.pid, 0) != 0 && errno == ESRCH; }

MpiTeam::Clock::duration MpiTeam::period() const {
    return std::chrono::duration_cast<Clock::duration>(
        Seconds(std::min(1.0, options_.lost_after / 5)));
}

// The time. A gap since the last call is this process's own: it was stopped, and heard nobody.
// Others count from the last sign of life that they have heard, which was sent up to a period
// before the stop, or two on a busy machine.
MpiTeam::Clock::time_point MpiTeam::notice_own_stop() {
    const auto now = Clock::now(), before = std::exchange(awake_, now);
    if (now - before > 2s)
        for (Peer& p : peers_) p.heard += now - before;
    if (Seconds(now - before) > Seconds(options_.lost_after) - 2 * period()) resumed_ = now;
    return now;
}

void MpiTeam::beat() {
    const Seconds every = period();
    Clock::time_point next = Clock::now();
    while (!stop_) {
        const auto now = notice_own_stop();
        const bool due = now >= next;
        if (due) next = now + std::chrono::duration_cast<Clock::duration>(every);
        try {
            exchange_pulses(due);
        } catch (const Error& e) {  // over TCP this comes first, and does not say who it was
            for (int i = 0; i < 4; ++i) {
                look_for_the_lost();
                std::this_thread::sleep_for(50ms);
            }
            end({e.what(), 1});
        }
        Ending mine;
        std::function<std::string()> trouble;
        {
            std::lock_guard lock(state_);
            mine = failure_;
            if (due) trouble = trouble_;
        }
        if (mine) end(mine);
        if (trouble)
            if (const std::string text = trouble(); !text.empty()) end({with_advice(text), 1});
        look_for_the_lost();
        if (!in_steps_ && stop_status()) heed_early_stop();
        if (stopped_by_launcher()) heed_termination();
        std::this_thread::sleep_for(50ms);
    }
}

void MpiTeam::exchange_pulses(bool send) {
    int status = 0;
    {
        std::lock_guard lock(mpi_);
        for (int r = 0; r < ranks_; ++r) {
            if (r == rank_) continue;
            Peer& p = peers_[r];
            for (;;) {  // all that have come
                int done = 0;
                if (p.receiving != MPI_REQUEST_NULL) {
                    check(MPI_Test(&p.receiving, &done, MPI_STATUS_IGNORE));
                    if (!done) break;
                    p.heard = Clock::now();
                    if (p.in.failed) p.failure = p.in.text, status = std::max(status, p.in.status);
                }
                check(MPI_Irecv(&p.in, sizeof(Pulse), MPI_BYTE, r, 0, pulse_, &p.receiving));
            }
            int sent = 1;
            if (p.sending != MPI_REQUEST_NULL)
                check(MPI_Test(&p.sending, &sent, MPI_STATUS_IGNORE));
            if (send && sent)
                check(MPI_Isend(&p.out, sizeof(Pulse), MPI_BYTE, r, 0, pulse_, &p.sending));
        }
    }
    if (!status) return;
    std::lock_guard lock(state_);
    if (!failure_) std::_Exit(status);  // the rank that has failed says why
}

void MpiTeam::look_for_the_lost() {
    const auto now = notice_own_stop();  // it may have been in the midst of the messages before
    for (int r = 0; r < ranks_; ++r) {
        if (r == rank_) continue;
        // Thrice: what it may have said at its end must be heard first. Just after a long stop of
        // our own it is they who have lost this rank, and have said so.
        if (has_ended(peers_[r]) && resumed_ != Clock::time_point{} &&
            Seconds(now - resumed_).count() < options_.lost_after)
            std::_Exit(1);
        if (has_ended(peers_[r]) && ++peers_[r].gone >= 3)
            end({with_advice(name(r) + " was lost: its process is gone"), 1});
        if (Seconds(now - peers_[r].heard).count() > options_.lost_after) {
            char text[64];
            std::snprintf(text, sizeof text, " was lost: no sign of life for %g s",
                          options_.lost_after);
            end({with_advice(name(r) + text), 1});
        }
    }
}

// Nothing has been trained: all end at once, with the status of the signal, and one rank says why.
void MpiTeam::heed_early_stop() {
    if (leaving_) return;
    const int status = stop_status();
    end({std::string("stopped by ") + stop_name(status) + ": no step was under way", status});
}

// mpirun ends a job with SIGTERM: because it has lost a rank, or because somebody pressed Ctrl-C.
// Shortly before it kills, the step under way, and the checkpoint that stop_asked() leads to, have
// had their time. Whoever was lost is missed long before.
void MpiTeam::heed_termination() {
    const auto now = Clock::now();
    if (terminated_ == Clock::time_point{}) terminated_ = now;
    const double time =
        // rank 0 speaks for all if it can
        std::max(grace() - 0.5, 0.3) + (rank_ == 0 ? 0 : 0.25);
    if (leaving_ || Seconds(now - terminated_).count() < time) return;
    end({with_advice("mpirun ended the job: it was interrupted, or a rank was lost"), 1});
}

// Says it to the others and, unless a rank before this one has the same to say, to the user; ends
// the process.
void MpiTeam::end(const Ending& e) {
    {
        std::lock_guard lock(state_);
        failure_ = e;
    }
    // Whether a rank before this one has said it, and whether one may still be about to.
    bool said = false, others = false;
    const auto look = [&] {
        others = false;
        for (int r = 0; r < rank_; ++r) {
            const Peer& p = peers_[r];
            said = said || (!p.failure.empty() && e.message.starts_with(p.failure.substr(0, 900)));
            others = others || !(has_ended(p) ||
                                 Seconds(Clock::now() - p.heard).count() > options_.lost_after);
        }
    };
    const auto print = [&] {
        std::fflush(stdout);
        std::fprintf(stderr, "%s: %s%s\n", options_.program.c_str(), e.who.c_str(),
                     e.message.c_str());
    };
    try {
        exchange_pulses(false);
    } catch (const Error&) {
    }
    look();
    if (!said && !others) print(), said = true;
    std::vector<bool> told(ranks_);
    for (const auto until = Clock::now() + 400ms; Clock::now() < until;
         std::this_thread::sleep_for(10ms)) {
        try {
            exchange_pulses(false);
            std::lock_guard lock(mpi_);
            bool all = true;
            for (int r = 0; r < ranks_; ++r) {
                Peer& p = peers_[r];
                if (r == rank_ || has_ended(p)) continue;
                int sent = 1;
                if (p.sending != MPI_REQUEST_NULL)
                    check(MPI_Test(&p.sending, &sent, MPI_STATUS_IGNORE));
                if (sent && !told[r]) {
                    p.out = {1, e.status, {}};
                    copy_text(p.out.text, sizeof p.out.text, e.message);
                    check(MPI_Isend(&p.out, sizeof(Pulse), MPI_BYTE, r, 0, pulse_, &p.sending));
                    told[r] = true;
                    sent = 0;
                }
                all = all && told[r] && sent;
            }
            look();
            if (all && said) break;
        } catch (const Error&) {  // who cannot be told will notice
        }
    }
    if (!said) print();
    std::_Exit(e.status);
}

}  // namespace wt
