// What the virtual GPU says when a kernel goes wrong: always the kernel, its grid, block and
// thread.
#include <doctest/doctest.h>

#include <sys/wait.h>
#include <unistd.h>

#include <cstdio>
#include <string>
#include <vector>

#include "test/vgpu_run.h"

using namespace wt::test;

namespace {

__global__ void some_return() {
    if (threadIdx.x >= 40) return;
    __syncthreads();
}

__global__ void two_places() {
    if (threadIdx.x < 32)
        __syncthreads();
    else
        __syncthreads();
}

template <int N>
__global__ void barrier_for_too_many() {
    if (blockIdx.x == 1 && threadIdx.x < N) vgpu::bar_sync(3, N + 32);
}

__global__ void barrier_counts_differ() { vgpu::bar_sync(1, threadIdx.x < 32 ? 64 : 96); }

__global__ void everyone_elsewhere() { vgpu::bar_sync(1 + threadIdx.x / 32, 96); }

__global__ void lane_missing(int* out) {
    if (threadIdx.x % 32 != 5) out[threadIdx.x] = __shfl_sync(0xffffffffu, 1, 0);
}

__global__ void mask_lacks_caller(int* out) { out[threadIdx.x] = __shfl_sync(0xfffffffeu, 1, 0); }

__global__ void traps() {
    if (blockIdx.y == 1 && threadIdx.x == 9) __trap();
}

__global__ void asserts(int limit) {
    assert(static_cast<int>(threadIdx.x) < limit && "below the limit");
}

[[maybe_unused]] __global__ void writes_to(int* p) {
    if (blockIdx.x == 2 && threadIdx.x == 3) *p = 1;
}

[[maybe_unused]] __global__ void divides(int* p, int by) {
    p[threadIdx.x] = 7 / (static_cast<int>(threadIdx.x) - by);
}

[[maybe_unused]] __attribute__((noinline)) int endless(volatile int* p, int depth) {
    volatile int frame[256];
    frame[depth % 256] = *p;
    return depth < *p ? endless(p, depth + 1) + frame[depth % 256] : 0;
}
[[maybe_unused]] __global__ void overflows(int* p) { p[1] = endless(p, 0); }

__global__ void fine(int* out) { out[blockIdx.x * blockDim.x + threadIdx.x] = 1; }

[[maybe_unused]] __global__ void past_shared(int* out) {
    volatile int* s = static_cast<int*>(vgpu::shared_memory());
    s[threadIdx.x] = 1;
    __syncthreads();
    if (threadIdx.x == 37) out[0] = s[threadIdx.x + 64];
}

[[maybe_unused]] __global__ void shifts_too_far(int* p) {
    if (threadIdx.x == 3) p[1] = 1 << p[0];
}

void still_works() {
    std::vector<int> out(512);
    const auto failure = run({8, 64}, fine, out.data());
    REQUIRE_MESSAGE(!failure, failure.message);
    for (int v : out) CHECK(v == 1);
}

}  // namespace

TEST_CASE("vgpu: a barrier that some threads have left") {
    for (uint64_t seed : {0, 4}) {
        const auto f = run({3, 64, 0, static_cast<uint64_t>(seed)}, some_return);
        CHECK(f.code == 719);
        CHECK_MESSAGE(has(f.message, "kernel some_return, grid (3,1,1), block ("), f.message);
        CHECK_MESSAGE(has(f.message, "thread (0,0,0): deadlock"), f.message);
        CHECK_MESSAGE(
            has(f.message, "threads 0-39 wait in __syncthreads at test/vgpu_only_failures.cu:"),
            f.message);
        CHECK_MESSAGE(has(f.message, "threads 40-63 have returned"), f.message);
        still_works();
    }
}

TEST_CASE("vgpu: barriers in two branches") {
    const auto f = run({1, 64}, two_places);
    CHECK(f.code == 719);
    CHECK_MESSAGE(
        has(f.message,
            "kernel two_places, grid (1,1,1), block (0,0,0), thread (32,0,0): divergent barriers"),
        f.message);
    still_works();
}

TEST_CASE("vgpu: named barriers that nobody completes") {
    const auto f = run({2, 96}, barrier_for_too_many<64>);
    CHECK(f.code == 719);
    CHECK_MESSAGE(has(f.message, "barrier_for_too_many<64>, grid (2,1,1), block (1,0,0)"),
                  f.message);
    CHECK_MESSAGE(has(f.message, "threads 0-63 wait in bar.sync 3, 96 at"), f.message);
    const auto g = run({1, 96}, barrier_counts_differ);
    CHECK_MESSAGE(has(g.message, "is for 64 threads"), g.message);
    still_works();
}

TEST_CASE("vgpu: a long report has one line of message and the rest in its detail") {
    const auto f = run({1, 192}, everyone_elsewhere);
    CHECK_MESSAGE(has(f.message, "deadlock: threads 0-31 wait in bar.sync 1, 96 at "), f.message);
    CHECK_MESSAGE(has(f.message, "and 2 more groups"), f.message);
    CHECK(!has(f.message, "\n"));
    CHECK_MESSAGE(has(f.detail, "threads 160-191 wait in bar.sync 6, 96 at "), f.detail);
}

TEST_CASE("vgpu: lanes that do not come") {
    std::vector<int> out(64);
    const auto f = run({1, 64}, lane_missing, out.data());
    CHECK(f.code == 719);
    CHECK_MESSAGE(has(f.message, "wait in a warp operation of lanes 0xffffffff at"), f.message);
    CHECK_MESSAGE(has(f.message, "threads 5,37 have returned"), f.message);
    const auto g = run({1, 64}, mask_lacks_caller, out.data());
    CHECK_MESSAGE(has(g.message, "thread (0,0,0): a shuffle at"), g.message);
    CHECK_MESSAGE(has(g.message, "0xfffffffe lacks the calling lane 0"), g.message);
    still_works();
}

TEST_CASE("vgpu: trap and assert") {
    const auto f = run({dim3(1, 2), 32}, traps);
    CHECK(f.code == 719);
    CHECK_MESSAGE(
        has(f.message, "kernel traps, grid (1,2,1), block (0,1,0), thread (9,0,0): __trap()"),
        f.message);
    const auto g = run({2, dim3(8, 8)}, asserts, 5);
    CHECK(g.code == 710);
    CHECK_MESSAGE(
        has(g.message, "kernel asserts, grid (2,1,1), block (0,0,0), thread (5,0,0): assertion `"),
        g.message);
    CHECK_MESSAGE(has(g.message, "below the limit"), g.message);
    still_works();
}

TEST_CASE("vgpu: launches that cannot be") {
    int out[1];
    CHECK(run({1, 1025}, fine, out).code == 9);
    CHECK(run({1, 0}, fine, out).code == 9);
    CHECK(run({dim3(1, 65536), 1}, fine, out).code == 9);
    const auto f = run({1, 1, 300 * 1024}, fine, out);
    CHECK(f.code == 9);
    CHECK_MESSAGE(has(f.message, "kernel fine"), f.message);
}

#ifndef __SANITIZE_ADDRESS__

TEST_CASE("vgpu: faults end the grid, not the program") {
    int* const nowhere = reinterpret_cast<int*>(0x123450);
    for (int round = 0; round < 3; ++round) {
        const auto f = run({5, 64}, writes_to, nowhere);
        CHECK(f.code == 700);
        CHECK_MESSAGE(
            has(f.message,
                "kernel writes_to, grid (5,1,1), block (2,0,0), thread (3,0,0): illegal access at address 0x123450"),
            f.message);
    }
    std::vector<int> out(64);
    const auto g = run({1, 64}, divides, out.data(), 11);
    CHECK(g.code == 719);
    CHECK_MESSAGE(has(g.message, "thread (11,0,0): integer division by zero"), g.message);
    int deep[2] = {1 << 28, 0};
    const auto h = run({1, 2}, overflows, deep);
    CHECK(h.code == 700);
    CHECK_MESSAGE(has(h.message, "thread (0,0,0): stack overflow: a thread has"), h.message);
    CHECK_MESSAGE(has(h.message, "VGPU_STACK="), h.message);
    still_works();
}

#else

// What a child process that runs the kernel says before the sanitizer ends it.
template <class Kernel>
std::string last_words(const Shape& shape, Kernel kernel, int argument) {
    int ends[2];
    REQUIRE(pipe(ends) == 0);
    const pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        dup2(ends[1], 2);
        int out[64] = {argument};
        std::fputs(run(shape, kernel, static_cast<int*>(out)).message.c_str(), stderr);
        _exit(0);
    }
    close(ends[1]);
    std::string text;
    char part[4096];
    for (ssize_t n; (n = read(ends[0], part, sizeof part)) > 0;)
        text.append(part, static_cast<size_t>(n));
    close(ends[0]);
    int status = 0;
    waitpid(child, &status, 0);
    CHECK(status != 0);
    return text;
}

TEST_CASE("vgpu: the sanitizers' reports name the kernel") {
    const std::string address = last_words({1, 64, 64 * sizeof(int)}, past_shared, 0);
    CHECK_MESSAGE(has(address, "AddressSanitizer: use-after-poison"), address);
    CHECK_MESSAGE(
        has(address, "in kernel past_shared, grid (1,1,1), block (0,0,0), thread (37,0,0)"),
        address);
    const std::string undefined = last_words({1, 64}, shifts_too_far, 40);
    CHECK_MESSAGE(has(undefined, "shift exponent 40 is too large"), undefined);
    CHECK_MESSAGE(
        has(undefined, "in kernel shifts_too_far, grid (1,1,1), block (0,0,0), thread (3,0,0)"),
        undefined);
}

#endif
