#include "host/vgpu/exec/fiber.h"

#include <sys/mman.h>

#include <cstdio>
#include <cstdlib>
#include <new>
#include <string>

#ifdef VGPU_ASAN
#include <sanitizer/asan_interface.h>
#endif

// System V x86-64: rbx, rbp, r12-r15 and the stack pointer are the callee's to keep; everything
// else the compiler has already saved around the call.
asm(R"(
    .text
    .p2align 4
    .globl vgpu_switch
    .type vgpu_switch, @function
vgpu_switch:
    pushq %rbp
    pushq %rbx
    pushq %r12
    pushq %r13
    pushq %r14
    pushq %r15
    movq %rsp, (%rdi)
    movq %rsi, %rdi
    .globl vgpu_jump
    .type vgpu_jump, @function
vgpu_jump:
    movq %rdi, %rsp
    popq %r15
    popq %r14
    popq %r13
    popq %r12
    popq %rbx
    popq %rbp
    ret
    .size vgpu_switch, .-vgpu_switch
    .size vgpu_jump, .-vgpu_jump
)");

namespace vgpu {
namespace {

constexpr size_t kPage = 4096;

// VGPU_STACK: a thread's stack: "65536", "256K", "1M".
size_t stack_size() {
#ifdef VGPU_ASAN
    size_t bytes = 256 * 1024;  // frames are several times larger
#else
    size_t bytes = 128 * 1024;
#endif
    if (const char* text = std::getenv("VGPU_STACK"); text && *text) {
        char* end = nullptr;
        const double asked = std::strtod(text, &end) * (*end == 'K' || *end == 'k'   ? 1024.0
                                                        : *end == 'M' || *end == 'm' ? 1048576.0
                                                                                     : 1.0);
        if (*end && end[1] == 0) ++end;
        if (*end == 0 && asked >= 16 * 1024 && asked <= 64 * 1048576.0)
            bytes = static_cast<size_t>(asked);
        else
            std::fprintf(stderr, "vgpu: VGPU_STACK=%s: must be a size from 16K to 64M; %zuK now\n",
                         text, bytes / 1024);
    }
    return (bytes + kPage - 1) / kPage * kPage;
}

}  // namespace

void FiberPool::reserve() {
    static const size_t size = stack_size();  // said once where it is wrong
    stack_ = size;
    void* p = mmap(nullptr, kMax * (stack_ + kPage), PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED) throw std::bad_alloc();
    chunks_.push_back({std::unique_ptr<Fiber[]>(new Fiber[kMax]), static_cast<char*>(p)});
}

FiberPool::~FiberPool() {
    for (Chunk& c : chunks_) {
#ifdef VGPU_ASAN
        for (unsigned i = 0; i < kMax; ++i)  // what is mapped here next is not poisoned
            if (c.fibers[i].stack) ASAN_UNPOISON_MEMORY_REGION(c.fibers[i].stack, stack_);
#endif
        munmap(c.base, kMax * (stack_ + kPage));
    }
}

Fiber* FiberPool::fresh(unsigned i, void (*entry)()) {
    while (i / kMax >= chunks_.size()) reserve();
    Chunk& c = chunks_[i / kMax];
    Fiber& f = c.fibers[i % kMax];
    if (!f.stack) {
        char* stack = c.base + i % kMax * (stack_ + kPage) + kPage;
        // Where the kernel's limit of mappings is met (very many cores), stacks go on without guard
        // pages.
        if (mprotect(stack, stack_, PROT_READ | PROT_WRITE) != 0 &&
            mprotect(c.base, kMax * (stack_ + kPage), PROT_READ | PROT_WRITE) != 0)
            throw std::bad_alloc();
        f.stack = stack;
    }
#ifdef VGPU_ASAN
    ASAN_UNPOISON_MEMORY_REGION(f.stack, stack_);
    f.fake_stack = nullptr;
#endif
    // Tops are staggered: at equal offsets in their pages, all stacks would fight for the same
    // cache sets.
    void** sp = reinterpret_cast<void**>(f.stack + stack_ - i * 320 % kPage / 64 * 64);
    *--sp = nullptr;  // keeps the stack aligned at entry, and ends backtraces
    *--sp = reinterpret_cast<void*>(entry);  // vgpu_jump returns to it
    for (int r = 0; r < 6; ++r) *--sp = nullptr;
    f.sp = sp;
    f.wait = {};
    return &f;
}

bool FiberPool::in_guard(const Fiber& f, const void* address) const {
    const char* a = static_cast<const char*>(address);
    return f.stack && a < f.stack && a >= f.stack - kPage;
}

}  // namespace vgpu
