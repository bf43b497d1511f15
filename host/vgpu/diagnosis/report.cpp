// What is said when a kernel goes wrong: where it was, which threads wait for what, which signal
// struck.
#include <signal.h>
#include <sys/mman.h>
#include <ucontext.h>

#include <algorithm>
#include <bit>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <map>
#include <tuple>

#include "host/vgpu/runtime/arena.h"
#include "host/vgpu/exec/core.h"

#ifdef VGPU_ASAN
#include <sanitizer/common_interface_defs.h>
#endif

namespace vgpu {
namespace {

std::string triple(const uint3& v) {
    return '(' + std::to_string(v.x) + ',' + std::to_string(v.y) + ',' + std::to_string(v.z) + ')';
}

unsigned linear(const uint3& t, const dim3& b) { return t.x + b.x * (t.y + b.y * t.z); }

// "0-31,40" of a sorted list.
std::string ranges(const std::vector<unsigned>& v) {
    std::string s;
    for (size_t i = 0; i < v.size();) {
        size_t j = i;
        while (j + 1 < v.size() && v[j + 1] == v[j] + 1) ++j;
        if (!s.empty()) s += ',';
        s += std::to_string(v[i]);
        if (j > i) s += '-' + std::to_string(v[j]);
        i = j + 1;
    }
    return s;
}

std::string threads_text(const std::vector<unsigned>& v) {
    return (v.size() == 1 ? "thread " : "threads ") + ranges(v);
}

// An mbarrier that a thread waits for: what it lacks.
std::string barrier_text(const Block& b, const Wait& wait) {
    uint64_t state;
    std::memcpy(&state, b.shared + wait.count, 8);
    char text[160];
    std::snprintf(
        text, sizeof text,
        "mbarrier_wait for parity %d of the barrier at offset 0x%x (%u of %u arrivals and %d bytes to come)",
        wait.id, wait.count, pending(state), expected(state), outstanding(state));
    return text;
}

std::string waits_text(const Core& core, const Block& b, const Wait& wait) {
    const std::string at = " at " + describe_site(wait.site);
    char mask[16];
    if (wait.what) return wait.what + at;
    switch (wait.kind) {
        case Wait::block: return "__syncthreads" + at;
        case Wait::named:
            return "bar.sync " + std::to_string(wait.id) + ", " + std::to_string(wait.count) + at;
        case Wait::mbarrier: return barrier_text(b, wait) + at;
        case Wait::cluster:
            return "cluster_wait (" + std::to_string(core.cluster_barrier.arrived) + " of " +
                   std::to_string(core.live) + " threads have arrived)" + at;
        default:
            std::snprintf(mask, sizeof mask, "0x%08x", wait.count);
            return std::string("a warp operation of lanes ") + mask + at;
    }
}

}  // namespace

std::string where(const Context& c, const Grid& g) {
    const std::string name = symbol_name(g.kernel);
    return (name.starts_with("kernel ") ? "" : "kernel ") + name + ", grid " + triple(g.grid) +
           ", block " + triple(c.block) + ", thread " + triple(c.thread);
}

std::string describe_site(Site s) { return std::string(s.file) + ':' + std::to_string(s.line); }

void note_stuck(Core& core) {
    // Threads are numbered as in their block, x fastest; the blocks of a cluster one after another.
    // Those without a fiber have returned.
    std::map<std::tuple<unsigned, int, int, unsigned, std::string>,
             std::pair<Wait, std::vector<unsigned>>>
        groups;
    std::vector<bool> waits(size_t{core.cluster} * core.threads);
    const Fiber* first = nullptr;
    size_t lowest = ~size_t{0};
    for (unsigned i = 0; i < core.used; ++i) {
        const Fiber& f = core.fibers[i];
        if (f.wait.kind == Wait::none) continue;
        const unsigned t = linear(f.thread, context.block_dim), rank = f.block->rank;
        const size_t place = size_t{rank} * core.threads + t;
        waits[place] = true;
        if (place < lowest) lowest = place, first = &f;
        auto& group =
            groups[{rank, f.wait.kind, f.wait.id, f.wait.count, describe_site(f.wait.site)}];
        group.first = f.wait;
        group.second.push_back(t);
    }
    const auto of_block = [&](unsigned rank) {
        return core.cluster == 1 ? "" : "block " + triple(core.blocks[rank]->index) + ' ';
    };
    std::vector<std::string> lines;
    for (auto& [key, group] : groups) {
        auto& [wait, threads] = group;
        std::sort(threads.begin(), threads.end());
        const unsigned rank = std::get<0>(key);
        lines.push_back(of_block(rank) + threads_text(threads) +
                        (threads.size() == 1 ? " waits in " : " wait in ") +
                        waits_text(core, *core.blocks[rank], wait));
    }
    std::string text = "deadlock: ";
    for (unsigned rank = 0; rank < core.cluster; ++rank) {
        std::vector<unsigned> gone;
        for (unsigned t = 0; t < core.threads; ++t)
            if (!waits[size_t{rank} * core.threads + t]) gone.push_back(t);
        if (gone.empty()) continue;
        text = "deadlock, threads returned while others wait: ";
        lines.push_back(of_block(rank) + threads_text(gone) +
                        (gone.size() == 1 ? " has returned" : " have returned"));
    }
    constexpr size_t kInMessage = 4;  // the others only in the detail
    for (size_t i = 0; i < lines.size(); ++i) {
        if (i < kInMessage) text += (i ? "; " : "") + lines[i];
        if (lines.size() > kInMessage)
            core.detail += "  " + lines[i] + (i + 1 < lines.size() ? "\n" : "");
    }
    if (lines.size() > kInMessage)
        text += "; and " + std::to_string(lines.size() - kInMessage) + " more groups";
    context.thread = first->thread;
    context.block = first->block->index;
    note_failure(core, 719, text);
}

// ---- signals: AddressSanitizer handles them in its builds ------------------------------------

#ifndef VGPU_ASAN
namespace {

constexpr int kSignals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};
struct sigaction before[NSIG];
constexpr size_t kSignalStack = 64 * 1024;

// In a kernel: notes the signal and goes on, on the core's own stack, as if its fiber had switched
// there. Elsewhere: what was installed before.
void on_signal(int signal, siginfo_t* info, void* machine) {
    Core* core = context.core;
    if (!core || !core->running) {
        sigaction(signal, &before[signal], nullptr);
        return;  // the instruction runs again, and strikes again
    }
    core->running = false;
    core->signal = signal;
    core->signal_address = info->si_addr;
    auto& registers = static_cast<ucontext_t*>(machine)->uc_mcontext.gregs;
    registers[REG_RIP] = static_cast<greg_t>(std::bit_cast<uintptr_t>(&vgpu_jump));
    registers[REG_RDI] = static_cast<greg_t>(std::bit_cast<uintptr_t>(core->main_sp));
}

}  // namespace
#endif

// Whose memory a bad address would be. The arenas' own books are under the runtime's lock, so no
// more is said.
static std::string owner_text(const Core& core) {
    const int owner = owner_of(core.signal_address);
    if (owner < 0) return {};
    const std::string whose =
        " in device " + std::to_string(owner) + "'s range, where nothing is allocated";
    return owner == core.grid->device
               ? whose
               : whose + " (the kernel runs on device " + std::to_string(core.grid->device) + ')';
}

static bool behind_shared(const Core& core) {
    for (const auto& b : core.blocks)
        if (core.signal_address >= b->shared + kSharedMax &&
            core.signal_address < b->shared + kSharedMax + 4096)
            return true;
    return false;
}

// The block of the cluster whose shared memory that was.
static const Block* exited_block(const Core& core) {
    for (const auto& b : core.blocks)
        if (b->shielded && core.signal_address >= b->shared &&
            core.signal_address < b->shared + kSharedMax)
            return b.get();
    return nullptr;
}

void describe_signal(Core& core) {
    char address[32];
    std::snprintf(address, sizeof address, "%p", core.signal_address);
    switch (core.signal) {
        case SIGSEGV:
        case SIGBUS:
            core.failed = 700;
            if (core.fibers.in_guard(*core.current, core.signal_address))
                core.what =
                    "stack overflow: a thread has " +
                    std::to_string(core.fibers.stack_bytes() / 1024) +
                    " KiB of stack; VGPU_STACK=" + std::to_string(core.fibers.stack_bytes() / 512) +
                    "K gives twice that";
            else if (const Block* gone = exited_block(core))
                core.what = "access to the shared memory of block " + triple(gone->index) +
                            " of the cluster, which has exited (a cluster barrier keeps it)";
            else if (behind_shared(core))
                core.what = "access beyond the largest shared memory a block may have";
            else
                core.what = std::string("illegal access at address ") + address + owner_text(core);
            break;
        case SIGFPE: core.failed = 719, core.what = "integer division by zero or overflow"; break;
        default: core.failed = 719, core.what = "illegal instruction or trap"; break;
    }
}

#ifdef VGPU_ASAN
// The sanitizers report and end the program; this says which kernel it was in.
static void say_kernel() {
    if (const Core* core = context.core; core && core->running)
        std::fprintf(stderr, "in %s\n", where(context, *core->grid).c_str());
}
// UBSan calls it for each report.
extern "C" void __ubsan_on_report() { say_kernel(); }
// A fake stack of some 10 MB a fiber is what detect_stack_use_after_return would cost.
extern "C" const char* __asan_default_options() { return "detect_stack_use_after_return=0"; }
#endif

void install_handlers() {
#ifdef VGPU_ASAN
    __sanitizer_set_death_callback(say_kernel);
#else
    // Others install handlers too (a test framework, for each test), so this is looked at before
    // every grid.
    struct sigaction now {};
    sigaction(SIGSEGV, nullptr, &now);
    if (now.sa_sigaction == on_signal) return;
    struct sigaction action {};
    action.sa_sigaction = on_signal;
    action.sa_flags = SA_SIGINFO | SA_ONSTACK;
    for (int s : kSignals) {
        struct sigaction old {};
        sigaction(s, &action, &old);
        if (old.sa_sigaction != on_signal) before[s] = old;
    }
#endif
}

void install_alternate_stack(Core&) {
#ifndef VGPU_ASAN
    void* p =
        mmap(nullptr, kSignalStack, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (p == MAP_FAILED) return;  // stack overflows then end the program
    stack_t s{};
    s.ss_sp = p;
    s.ss_size = kSignalStack;
    sigaltstack(&s, nullptr);
#endif
}

void remove_alternate_stack() {
#ifndef VGPU_ASAN
    stack_t old{}, off{};
    off.ss_flags = SS_DISABLE;
    sigaltstack(&off, &old);
    if (old.ss_sp && !(old.ss_flags & SS_DISABLE)) munmap(old.ss_sp, old.ss_size);
#endif
}

}  // namespace vgpu

// A failed assert in a kernel fails its grid; elsewhere it ends the program as glibc's own does.
extern "C" [[noreturn]] void __assert_fail(const char* expression, const char* file, unsigned line,
                                           const char* function) noexcept {
    if (vgpu::Core* core = vgpu::context.core; core && core->running) {
        vgpu::note_failure(*core, 710,
                           std::string("assertion `") + expression + "' failed at " + file + ':' +
                               std::to_string(line));
        vgpu::abandon(*core);
    }
    std::fprintf(stderr, "%s:%u: %s: Assertion `%s' failed.\n", file, line, function, expression);
    std::abort();
}
