// Buffers by number, with their sizes, before anything is allocated.
#pragma once

#include <cstddef>
#include <string>
#include <vector>

namespace wt {

// Where something lies in the planned buffers.
struct BufferRef {
    int buffer = -1;    // -1: nowhere
    size_t offset = 0;  // bytes
    explicit operator bool() const { return buffer >= 0; }
    bool operator==(const BufferRef&) const = default;
    BufferRef plus(size_t bytes) const { return {buffer, offset + bytes}; }
    // Buffers start there, so that rows that are a multiple of 16 bytes long do so in every
    // microbatch. Kernels that need it look at the leading dimensions themselves.
    bool on_16_bytes() const { return offset % 16 == 0; }
};

enum class Use { weights, activations, gradients, workspace, input };

class MemoryPlan {
public:
    struct Entry {
        std::string what;
        Use use;
        size_t bytes;
    };
    BufferRef add(std::string what, Use use, size_t bytes) {
        entries_.push_back({std::move(what), use, bytes});
        return {static_cast<int>(entries_.size()) - 1, 0};
    }
    const std::vector<Entry>& entries() const { return entries_; }
    size_t total() const;
    std::string text() const;  // "weights 712.0 MiB, activations 1.20 GiB, ..."

private:
    std::vector<Entry> entries_;
};

}  // namespace wt
