// Input files: opened where they are regular files (or links to one) and nowhere else. Opening a
// FIFO waits for a writer who may never come, and reading a device or a socket may never end, or do
// something to it; so whatever a program here reads is opened by this class, the data's files too.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include <sys/stat.h>

namespace wt {

// "" for a regular file, else "not a regular file (a FIFO)", "(a folder)" and so on.
std::string not_regular(const struct stat& info);

class RegularFile {
public:
    // Never waits and never throws: wrong() tells what came of it.
    explicit RegularFile(const std::string& path);
    ~RegularFile();
    RegularFile(const RegularFile&) = delete;
    RegularFile& operator=(const RegularFile&) = delete;

    // Why it is not open, in words; "" when it is.
    const std::string& wrong() const { return wrong_; }
    bool missing() const { return missing_; }  // there is nothing of this name
    int64_t size() const { return size_; }     // when it was opened
    int fd() const { return fd_; }
    int release();  // the descriptor, which is the caller's from here on

    // The next n bytes, or fewer where it ends. Throws Error when they cannot be read.
    size_t read(void* to, size_t n);
    // All from here to the end.
    std::string rest();

private:
    std::string path_, wrong_;
    bool missing_ = false;
    int64_t size_ = 0;
    int fd_ = -1;
};

// The whole file; throws Error "cannot read PATH: WHY" with `advice` behind it.
std::string read_whole(const std::string& path, const std::string& advice = "");

}  // namespace wt
