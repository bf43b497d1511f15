#include "host/vgpu/diagnosis/profile.h"

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <mutex>
#include <vector>

#include "host/vgpu/exec/grid.h"

namespace vgpu {
namespace {

struct Spent {
    double ms = 0;
    long times = 0;
};

// Everything measured; prints itself when the program ends.
struct Table {
    std::mutex mutex;
    std::vector<std::string> ranges{"(no range)"};
    std::map<std::string, int> index;
    std::map<std::pair<int, std::string>, Spent> spent;

    ~Table() {
        if (spent.empty()) return;
        std::vector<std::pair<double, std::string>> lines;
        double total = 0;
        for (const auto& [key, s] : spent) {
            char text[512];
            std::snprintf(text, sizeof text, "%9.1f %8ld %9.3f  %-24s %s", s.ms, s.times,
                          s.ms / s.times, ranges[key.first].c_str(), key.second.c_str());
            lines.emplace_back(s.ms, text);
            total += s.ms;
        }
        std::sort(lines.rbegin(), lines.rend());
        std::fprintf(stderr, "virtual GPUs: %.1f ms of work\n%9s %8s %9s  %-24s %s\n", total, "ms",
                     "times", "ms each", "range", "operation");
        for (const auto& [ms, text] : lines) std::fprintf(stderr, "%s\n", text.c_str());
    }
};

Table& table() {
    static Table t;
    return t;
}

thread_local std::vector<int> stack;

}  // namespace

bool profiling() {
    static const bool on = [] {
        const char* v = std::getenv("VGPU_PROFILE");
        return v && *v && *v != '0';
    }();
    return on;
}

void push_range(const char* name) {
    if (!profiling()) return;
    Table& t = table();
    std::lock_guard lock(t.mutex);
    const auto [at, fresh] = t.index.try_emplace(name, static_cast<int>(t.ranges.size()));
    if (fresh) t.ranges.push_back(name);
    stack.push_back(at->second);
}

void pop_range() {
    if (!stack.empty()) stack.pop_back();
}

int current_range() { return stack.empty() ? 0 : stack.back(); }

Timed::Timed(int range, const void* kernel, const char* other)
    : range_(range), kernel_(kernel), other_(other) {
    if (profiling()) start_ = std::chrono::steady_clock::now();
}

Timed::~Timed() {
    if (!profiling()) return;
    const std::chrono::duration<double, std::milli> took =
        std::chrono::steady_clock::now() - start_;
    Table& t = table();
    std::lock_guard lock(t.mutex);
    std::string name = kernel_ ? symbol_name(kernel_) : other_;
    // without the parameters
    if (const size_t open = name.find('('); open != std::string::npos && open > 0)
        name.resize(open);
    if (name.starts_with("void ")) name.erase(0, 5);
    Spent& s = t.spent[{range_, name}];
    s.ms += took.count();
    ++s.times;
}

}  // namespace vgpu
