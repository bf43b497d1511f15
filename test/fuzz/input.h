// An input taken apart, and put into files that readers can open.
#pragma once

#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <string>
#include <vector>

#include "host/cuda/check.h"
#include "test/fuzz/filled_memory.h"

namespace wt::fuzz {

class Input {
public:
    Input(const uint8_t* data, size_t size) : at_(data), end_(data + size) {}
    uint8_t byte() { return at_ == end_ ? 0 : *at_++; }
    size_t size16() {
        const size_t high = byte();
        return high << 8 | byte();
    }
    std::vector<uint8_t> bytes(size_t n) {
        n = std::min(n, size_t(end_ - at_));
        const std::vector<uint8_t> b(at_, at_ + n);
        at_ += n;
        return b;
    }
    std::vector<uint8_t> rest() { return bytes(size_t(end_ - at_)); }
    std::string text() {
        const std::vector<uint8_t> b = rest();
        return std::string(b.begin(), b.end());
    }

private:
    const uint8_t *at_, *end_;
};

// A folder of this process's own, in memory where that is mounted; left to the system when the
// process ends.
class Folder {
public:
    Folder() {
        const bool in_memory = std::filesystem::is_directory("/dev/shm");
        path_ = std::string(in_memory ? "/dev/shm" : "/tmp") + "/fuzz.XXXXXX";
        if (!mkdtemp(path_.data())) fault("cannot make a folder");
    }
    ~Folder() {
        std::error_code ignored;
        std::filesystem::remove_all(path_, ignored);
    }
    Folder(const Folder&) = delete;
    Folder& operator=(const Folder&) = delete;
    const std::string& path() const { return path_; }
    void write(const std::string& name, const std::vector<uint8_t>& bytes) const {
        std::FILE* f = std::fopen((path_ + "/" + name).c_str(), "wb");
        if (!f || std::fwrite(bytes.data(), 1, bytes.size(), f) != bytes.size())
            fault("cannot write a file");
        std::fclose(f);
    }
    void remove(const std::string& name) const { std::remove((path_ + "/" + name).c_str()); }

private:
    std::string path_;
};

// Runs f. Error, and UsageError which is one, are answers when they have one line; whatever else is
// thrown is a fault.
template <class F>
void answers(F&& f) {
    try {
        f();
    } catch (const Error& e) {
        if (std::string(e.what()).empty()) fault("an error without a word");
    } catch (const std::exception& e) {
        std::fprintf(stderr, "%s\n", e.what());
        fault("an exception that is no Error");
    }
}

}  // namespace wt::fuzz
