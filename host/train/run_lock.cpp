#include "host/train/run_lock.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <chrono>
#include <cstring>
#include <ctime>
#include <thread>

#include "host/cuda/check.h"
#include "host/cuda/regular_file.h"
#include "host/json.h"
#include "host/train/progress.h"

namespace wt {
namespace {

std::string host_name() {
    char name[256] = "";
    gethostname(name, sizeof name - 1);
    return name;
}

// "process 71 on host a, at work there for 0:42". Its text may be a moment late, or still that of
// a process that was killed: then it is read again.
std::string owner(const std::string& path) {
    for (int tries = 0; tries < 20; ++tries) {
        if (tries) std::this_thread::sleep_for(std::chrono::milliseconds(50));
        RegularFile file(path);
        const Json j = try_parse_json(file.wrong().empty() ? file.rest() : "");
        if (!j.is_object() || !j.contains("pid") || !j["pid"].is_number_integer() ||
            !j.contains("host") || !j["host"].is_string())
            continue;
        const long pid = j["pid"].get<long>();
        const std::string host = j["host"].get<std::string>();
        if (host == host_name() && kill(static_cast<pid_t>(pid), 0) != 0 && errno == ESRCH)
            continue;
        const Json started = j.value("started", Json());
        const double seconds =
            started.is_number() ? std::time(nullptr) - started.get<double>() : -1;
        return "process " + std::to_string(pid) + " on " + host + " is at work in it" +
               (seconds >= 0 ? ", for " + duration_text(seconds) + " so far" : "");
    }
    return "another process is at work in it";
}

}  // namespace

RunLock::RunLock(const std::string& dir, int (*lock)(int, int)) : path_(dir + "/lock") {
    if (!lock) lock = flock;
    for (;;) {
        // Not waiting, should it be a FIFO. Written, as NFS locks only what is open for that.
        fd_ = open(path_.c_str(), O_RDWR | O_CREAT | O_NONBLOCK | O_CLOEXEC, 0666);
        struct stat info {};
        if (fd_ < 0 || fstat(fd_, &info) != 0)
            throw Error("cannot write " + path_ + ": " + std::strerror(errno) +
                        ": give another --out");
        if (const std::string other = not_regular(info); !other.empty()) {
            close(fd_);
            throw Error("cannot write " + path_ + ": " + other + ": move it away");
        }
        int result;
        while ((result = lock(fd_, LOCK_EX | LOCK_NB)) != 0 && errno == EINTR) {
        }
        if (result != 0) {
            const int error = errno;
            close(fd_);
            if (error == EWOULDBLOCK)
                throw Error(dir + ": " + owner(path_) +
                            ": wait until it ends, or give another --out");
            fd_ = -1;
            notice_ = dir + " cannot be locked (" + std::strerror(error) +
                      "): see to it that no other run works in it";
            return;
        }
        if (still_there()) break;
        close(fd_);  // its owner has removed it between our opening and locking it
    }
    const Json mine = {{"pid", getpid()},
                       {"host", host_name()},
                       {"started", static_cast<int64_t>(std::time(nullptr))}};
    const std::string text = json_text(mine) + "\n";
    // On a full disk the text is missing from another's message, and the lock holds.
    if (ftruncate(fd_, 0) != 0 || pwrite(fd_, text.data(), text.size(), 0) < 0) return;
}

// Whether the name is still that of the file that is locked.
bool RunLock::still_there() const {
    struct stat named {
    }, locked{};
    return stat(path_.c_str(), &named) == 0 && fstat(fd_, &locked) == 0 &&
           named.st_dev == locked.st_dev && named.st_ino == locked.st_ino;
}

RunLock::~RunLock() {
    if (fd_ < 0) return;
    if (still_there()) unlink(path_.c_str());
    close(fd_);
}

}  // namespace wt
