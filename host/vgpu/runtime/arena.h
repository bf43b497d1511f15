// One device's memory: a range of addresses of its own, and an allocator over it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <deque>
#include <map>
#include <utility>

namespace vgpu {

// Device d owns [kFirstAddress + d TiB, + 1 TiB): an address says its owner. The ranges lie above
// what AddressSanitizer reserves (0x10007fff8000) and below where Linux may put a program (from
// 0x555555554000), its heap and its libraries. Allocations start kSkip into the range so that the
// upper half of a pointer (16730...) is an unlikely value of an int beside another int: kernel
// arguments are searched for pointers word by word (launch.cpp).
inline constexpr uint64_t kFirstAddress = 0x4100'0000'0000, kRange = uint64_t(1) << 40,
                          kSkip = 0x5A'0000'0000;
inline constexpr int kMaxDevices = 16;

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kSanitized = true;
#else
inline constexpr bool kSanitized = false;
#endif

// Not thread-safe: the runtime's lock protects it.
class Arena {
public:
    Arena(int device, size_t limit);

    void* allocate(size_t bytes);  // null when the limit is passed; bytes > 0
    bool release(const void* p);   // false when p is not the start of a live allocation
    void release_all();

    // The live allocation that contains p, or whose end p is; {0, 0} when there is none.
    std::pair<uint64_t, size_t> find(const void* p) const;
    // Whether [p, p + bytes) lies inside one live allocation.
    bool contains(const void* p, size_t bytes) const;
    // Whether p lies where memory of this device has ever been.
    bool touched(uint64_t p) const { return p >= base_ && p < top_; }

    size_t used() const { return used_; }
    size_t limit() const { return limit_; }

private:
    struct Live {
        size_t asked, block;
    };
    uint64_t take(size_t block, size_t alignment);
    void give_back(uint64_t at, size_t block);
    void grow(uint64_t to);
    void trim();

    // [base_, top_) has been handed out, [base_, mapped_) is accessible
    uint64_t base_, top_, mapped_;
    size_t limit_, used_ = 0;
    size_t dirty_ = 0;  // freed since the last trim: about as many bytes of pages we still hold
    std::map<uint64_t, Live> live_;
    std::map<uint64_t, size_t> free_;  // neighbours are merged
    std::deque<std::pair<uint64_t, size_t>>
        quarantine_;  // sanitizer builds: freed, not yet reusable
    size_t quarantined_ = 0;
};

// The device whose range holds p, whether or not it exists; -1 for host memory.
inline int owner_of(const void* p) {
    const uint64_t a = reinterpret_cast<uint64_t>(p);
    return a >= kFirstAddress && a < kFirstAddress + kMaxDevices * kRange
               ? static_cast<int>((a - kFirstAddress) / kRange)
               : -1;
}

}  // namespace vgpu
