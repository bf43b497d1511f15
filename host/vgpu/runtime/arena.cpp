#include "host/vgpu/runtime/arena.h"

#include <sys/mman.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#else
#define ASAN_POISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#define ASAN_UNPOISON_MEMORY_REGION(p, n) ((void)(p), (void)(n))
#endif

namespace vgpu {
namespace {

constexpr size_t kUnit = 256, kHuge = size_t(2) << 20;
constexpr size_t kRedzone = kSanitized ? 256 : 0;
constexpr size_t kQuarantine = kSanitized ? size_t(256) << 20 : 0;
constexpr size_t kGrowth = size_t(64) << 20;

size_t round_up(size_t n, size_t unit) { return (n + unit - 1) / unit * unit; }
void* pointer(uint64_t a) { return reinterpret_cast<void*>(a); }
uint64_t address(const void* p) { return reinterpret_cast<uint64_t>(p); }

// Fills new memory with NaNs, so that reading what was never written shows.
bool fills() {
    static const bool yes = [] {
        const char* s = std::getenv("VGPU_CHECK");
        return kSanitized || (s && *s && std::strcmp(s, "0") != 0);
    }();
    return yes;
}

}  // namespace

Arena::Arena(int device, size_t limit)
    : base_(kFirstAddress + device * kRange + kSkip), limit_(limit) {
    const uint64_t first = kFirstAddress + device * kRange;
    void* p = mmap(pointer(first), kRange, PROT_NONE,
                   MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED_NOREPLACE, -1, 0);
    if (p != pointer(first)) {
        std::fprintf(stderr,
                     "vgpu: cannot reserve addresses for virtual GPU %d (%s); is ulimit -v set?\n",
                     device, std::strerror(errno));
        std::exit(1);
    }
    madvise(p, kRange, MADV_DONTDUMP);
    top_ = mapped_ = base_;
}

void Arena::grow(uint64_t to) {
    if (to <= mapped_) return;
    const uint64_t end = round_up(to, kGrowth);
    mprotect(pointer(mapped_), end - mapped_, PROT_READ | PROT_WRITE);
    // Fewer page faults and TLB misses: a fault costs about 0.25 us per 4 KiB page.
    madvise(pointer(mapped_), end - mapped_, MADV_HUGEPAGE);
    ASAN_POISON_MEMORY_REGION(pointer(mapped_), end - mapped_);
    mapped_ = end;
}

// The smallest free block that holds `block` bytes at the alignment, else new addresses.
uint64_t Arena::take(size_t block, size_t alignment) {
    auto best = free_.end();
    for (auto it = free_.begin(); it != free_.end(); ++it) {
        const uint64_t at = round_up(it->first, alignment);
        if (at + block <= it->first + it->second &&
            (best == free_.end() || it->second < best->second))
            best = it;
    }
    uint64_t from, end;
    if (best != free_.end()) {
        from = best->first, end = from + best->second;
        dirty_ -= std::min(dirty_, block);
        free_.erase(best);
    } else {
        from = top_, end = round_up(top_, alignment) + block;
        if (end > base_ - kSkip + kRange) return 0;
        grow(end);
        top_ = end;
    }
    const uint64_t at = round_up(from, alignment);
    if (at > from) give_back(from, at - from);
    if (end > at + block) give_back(at + block, end - at - block);
    return at;
}

void Arena::give_back(uint64_t at, size_t block) {
    auto next = free_.lower_bound(at);
    if (next != free_.end() && at + block == next->first) {
        block += next->second;
        next = free_.erase(next);
    }
    if (next != free_.begin()) {
        auto before = std::prev(next);
        if (before->first + before->second == at) {
            before->second += block;
            return;
        }
    }
    free_.emplace(at, block);
}

// Freed pages stay with us, for the next allocation, until they pass a quarter of the device's
// memory.
void Arena::trim() {
    if (dirty_ <= std::max(limit_ / 4, size_t(256) << 20)) return;
    dirty_ = 0;
    for (auto [at, block] : free_) {
        const uint64_t from = round_up(at, 4096), to = (at + block) / 4096 * 4096;
        if (to > from) madvise(pointer(from), to - from, MADV_DONTNEED);
    }
}

void* Arena::allocate(size_t bytes) {
    if (bytes > limit_ || used_ > limit_ - bytes) return nullptr;
    const size_t block = round_up(bytes, kUnit) + kRedzone;
    const uint64_t at = take(block, bytes >= kHuge ? kHuge : kUnit);
    if (!at) return nullptr;
    live_.emplace(at, Live{bytes, block});
    used_ += bytes;
    ASAN_UNPOISON_MEMORY_REGION(pointer(at), bytes);
    if (fills()) std::memset(pointer(at), 0xFF, bytes);
    return pointer(at);
}

bool Arena::release(const void* p) {
    const auto it = live_.find(address(p));
    if (it == live_.end()) return false;
    const Live l = it->second;
    used_ -= l.asked;
    live_.erase(it);
    ASAN_POISON_MEMORY_REGION(p, l.block);
    quarantine_.emplace_back(address(p), l.block);
    quarantined_ += l.block;
    dirty_ += l.block;
    while (quarantined_ > kQuarantine) {
        give_back(quarantine_.front().first, quarantine_.front().second);
        quarantined_ -= quarantine_.front().second;
        quarantine_.pop_front();
    }
    trim();
    return true;
}

void Arena::release_all() {
    std::vector<uint64_t> all;
    for (const auto& [at, l] : live_) all.push_back(at);
    for (uint64_t at : all) release(pointer(at));
}

std::pair<uint64_t, size_t> Arena::find(const void* p) const {
    auto it = live_.upper_bound(address(p));
    if (it == live_.begin()) return {0, 0};
    --it;
    if (address(p) - it->first > it->second.asked) return {0, 0};
    return {it->first, it->second.asked};
}

bool Arena::contains(const void* p, size_t bytes) const {
    const auto [at, size] = find(p);
    return at && bytes <= size - (address(p) - at);
}

}  // namespace vgpu
