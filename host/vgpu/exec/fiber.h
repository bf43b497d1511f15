// Fibers: a stack with a guard page, and a switch that saves only the six callee-saved registers
// (about 11 ns; no system call, MXCSR is not touched). Fibers of one pool stay on one OS thread.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <vector>

#include "host/vgpu/include/vgpu/sync.h"

#if defined(__SANITIZE_ADDRESS__)
#define VGPU_ASAN 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define VGPU_ASAN 1
#endif
#endif

namespace vgpu {

// What a waiting thread waits for: for the report when nothing can go on.
struct Wait {
    enum Kind : uint8_t { none, block, named, warp, mbarrier, cluster } kind = none;
    uint8_t id = 0;  // named barrier; parity (mbarrier)
    // threads (block, named), lane mask (warp), offset in shared memory (mbarrier)
    unsigned count = 0;
    Site site;
    const char* what = nullptr;  // the operation's name, where the kind does not say it
};

struct Block;

struct alignas(64) Fiber {   // what a switch touches lies in one or two cache lines
    void* sp = nullptr;      // where to go on
    Fiber* next = nullptr;   // in the list it is in
    Block* block = nullptr;  // of the thread it holds
    uint3 thread{};          // that thread
    Wait wait;
    uint64_t gave_up = 0;   // Core::progress when its last mbarrier_try_wait was told to give up
    bool give_up = false;   // as it is being told
    char* stack = nullptr;  // lowest usable byte; the guard page lies below
    void* fake_stack = nullptr;  // AddressSanitizer's
};

// A first-in first-out list through Fiber::next.
struct FiberList {
    Fiber* head = nullptr;
    Fiber* tail = nullptr;
    void push(Fiber* f) {
        f->next = nullptr;
        (head ? tail->next : head) = f;
        tail = f;
    }
    Fiber* pop() {
        Fiber* f = head;
        if (f) head = f->next;
        return f;
    }
    void append(FiberList& o) {
        if (!o.head) return;
        (head ? tail->next : head) = o.head;
        tail = o.tail;
        o.head = nullptr;
    }
};

// The fibers of one OS thread, made as they are needed, at most one for each thread of a cluster.
class FiberPool {
public:
    static constexpr unsigned kMax = 1024;  // of a block: stacks are reserved so many at a time
    FiberPool() = default;
    ~FiberPool();
    FiberPool(const FiberPool&) = delete;
    FiberPool& operator=(const FiberPool&) = delete;

    // Fiber i, its stack empty and set to call entry().
    Fiber* fresh(unsigned i, void (*entry)());
    Fiber& operator[](unsigned i) { return chunks_[i / kMax].fibers[i % kMax]; }
    size_t stack_bytes() const { return stack_; }
    // Whether the address lies in the guard page below this fiber's stack.
    bool in_guard(const Fiber& f, const void* address) const;

private:
    struct Chunk {
        std::unique_ptr<Fiber[]> fibers;
        char* base;
    };
    void reserve();
    std::vector<Chunk> chunks_;
    size_t stack_ = 0;
};

extern "C" {
// Saves the running context in *save and goes on at `to`.
void vgpu_switch(void** save, void* to);
// Goes on at `to` and forgets the running context.
[[noreturn]] void vgpu_jump(void* to);
}

}  // namespace vgpu
