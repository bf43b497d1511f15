#include "host/parallel/memory_plan.h"

#include "host/cuda/device.h"

namespace wt {

size_t MemoryPlan::total() const {
    size_t n = 0;
    for (const Entry& e : entries_) n += e.bytes;
    return n;
}

std::string MemoryPlan::text() const {
    static const char* names[] = {"weights", "activations", "gradients", "workspace", "input"};
    std::string s;
    for (int u = 0; u < 5; ++u) {
        size_t n = 0;
        for (const Entry& e : entries_)
            if (static_cast<int>(e.use) == u) n += e.bytes;
        if (n) s += (s.empty() ? "" : ", ") + std::string(names[u]) + " " + human_bytes(n);
    }
    return s;
}

}  // namespace wt
