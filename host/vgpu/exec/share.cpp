#include "host/vgpu/exec/share.h"

#include <sched.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <cstdlib>

namespace vgpu {

namespace {

// struct sched_attr of linux/sched/types.h, which cannot be included beside <sched.h>.
struct SchedulingAttributes {
    uint32_t size, policy;
    uint64_t flags;
    int32_t nice;
    uint32_t priority;
    uint64_t runtime, deadline, period;
};

// The longest turn of this thread, and of those that it starts. Kernels before 6.12 take no notice.
void ask_for_short_turns() {
    constexpr uint64_t kTurnNs = 100'000;  // the least that there is
    SchedulingAttributes a{};
    if (syscall(SYS_sched_getattr, 0, &a, sizeof a, 0) != 0 || a.policy != SCHED_OTHER) return;
    a.runtime = kTurnNs;
    syscall(SYS_sched_setattr, 0, &a, 0);
}

}  // namespace

void share_cores(char** argv) {
    ask_for_short_turns();
    if (std::getenv("OMP_WAIT_POLICY") || std::getenv("GOMP_SPINCOUNT")) return;
    setenv("OMP_WAIT_POLICY", "passive", 1);
    execv("/proc/self/exe", argv);
    // It could not be started again: threads that spin are slow, but right.
}

}  // namespace vgpu
