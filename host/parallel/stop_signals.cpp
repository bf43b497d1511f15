#include "host/parallel/stop_signals.h"

#include <signal.h>
#include <time.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstdint>

namespace wt {
namespace {

constexpr int64_t kSameEvent = 100'000'000, kSameHangup = 5'000'000'000;  // nanoseconds

// A handler may touch lock-free atomics.
std::atomic<int> noted{0};
std::atomic<int64_t> noted_at{0};
std::atomic<bool> noting{false}, has_launcher{false}, launcher_ends{false};
static_assert(std::atomic<int64_t>::is_always_lock_free);

int64_t now() {
    timespec t{};
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec * int64_t{1'000'000'000} + t.tv_nsec;
}

void on_signal(int signal, siginfo_t* info, void*) {
    const int error = errno;
    const bool launcher = has_launcher && info->si_code == SI_USER && info->si_pid == getppid();
    if (launcher && signal == SIGTERM) launcher_ends = true;
    if (!noting) _exit(128 + signal);
    const int before = noted;
    if (before == 0 || (before == SIGPIPE && signal != SIGPIPE)) {
        noted_at = now();
        noted = signal;
    } else {
        const int64_t passed = now() - noted_at;
        const bool same = signal == SIGPIPE || launcher || passed < kSameEvent ||
                          (signal == SIGHUP && passed < kSameHangup);
        if (!same) _exit(128 + signal);
    }
    errno = error;
}

}  // namespace

void catch_stop_signals() {
    static const bool once = [] {
        struct sigaction action {};
        action.sa_sigaction = on_signal;
        action.sa_flags = SA_RESTART | SA_SIGINFO;
        for (const int signal : {SIGINT, SIGTERM, SIGHUP, SIGPIPE}) {
            struct sigaction before {};
            sigaction(signal, nullptr, &before);
            if (signal == SIGHUP && before.sa_handler == SIG_IGN) continue;
            sigaction(signal, &action, nullptr);
        }
        return true;
    }();
    static_cast<void>(once);
}

void on_stop_signal(OnStop what) { noting = what == OnStop::note; }

void expect_launcher() {
    has_launcher = true;
    // A peer that is gone shows as a broken connection too: whoever is lost is noticed otherwise.
    signal(SIGPIPE, SIG_IGN);
}

int stop_signal() { return noted; }
int stop_status() { return noted ? 128 + noted : 0; }
bool stopped_by_launcher() { return launcher_ends; }

const char* stop_name(int status) {
    switch (status - 128) {
        case SIGHUP: return "SIGHUP";
        case SIGINT: return "SIGINT";
        case SIGPIPE: return "SIGPIPE";
        case SIGTERM: return "SIGTERM";
        default: return "a signal";
    }
}

}  // namespace wt
