// One process at a time works in a run's folder: two would mix their logs and replace each other's
// checkpoints. DIR/lock is locked with flock, so the lock goes with the process however that ends;
// the file's text says who has it, and one that is left over means nothing.
#pragma once

#include <string>

namespace wt {

class RunLock {
public:
    // Takes the lock of a folder that is there. Throws Error, with one line that names the process
    // and how long it has been at work, where another has it. `lock` is flock, but in tests.
    explicit RunLock(const std::string& dir, int (*lock)(int fd, int how) = nullptr);
    ~RunLock();  // removes the file
    RunLock(const RunLock&) = delete;
    RunLock& operator=(const RunLock&) = delete;

    // Not empty where the file system has no locks: a line to say so; the run goes on without.
    const std::string& notice() const { return notice_; }

private:
    bool still_there() const;
    std::string path_, notice_;
    int fd_ = -1;
};

}  // namespace wt
