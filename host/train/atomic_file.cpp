#include "host/train/atomic_file.h"

#include "host/cuda/check.h"
#include "host/cuda/regular_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace wt {

namespace {

// Where a path leads, through symbolic links, whether or not there is anything; errno is set where
// that cannot be told, and the result is empty.
std::string followed(std::string path) {
    for (int links = 0; links < 40; ++links) {
        struct stat info {};
        if (lstat(path.c_str(), &info) != 0) return errno == ENOENT ? path : std::string();
        if (!S_ISLNK(info.st_mode)) return path;
        char to[4096];
        const ssize_t n = readlink(path.c_str(), to, sizeof to);
        if (n < 0) return {};
        const std::string target(to, static_cast<size_t>(n));
        const size_t slash = path.rfind('/');
        path = target.starts_with('/') || slash == std::string::npos
                   ? target
                   : path.substr(0, slash + 1) + target;
    }
    errno = ELOOP;
    return {};
}

// "" where there is nothing or a regular file.
std::string wrong_kind(const std::string& path) {
    struct stat info {};
    return stat(path.c_str(), &info) == 0 ? not_regular(info) : "";
}

// A device or a FIFO: something that takes bytes and is no file.
bool takes_bytes(const std::string& path) {
    struct stat info {};
    return stat(path.c_str(), &info) == 0 && (S_ISCHR(info.st_mode) || S_ISFIFO(info.st_mode));
}

// Never waits for somebody to read a FIFO: one that nobody reads cannot be written to.
int open_stream(const std::string& path) {
    const int fd = open(path.c_str(), O_WRONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd < 0)
        throw Error("cannot write " + path + ": " +
                    (errno == ENXIO ? "nobody reads it" : std::strerror(errno)));
    fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) & ~O_NONBLOCK);
    return fd;
}

// 0, or errno of what went wrong.
int write_all(int fd, const void* bytes, size_t n) {
    const char* p = static_cast<const char*>(bytes);
    while (n > 0) {
        const ssize_t w = ::write(fd, p, n);
        if (w < 0 && errno == EINTR) continue;
        if (w <= 0) return w < 0 ? errno : ENOSPC;
        p += w;
        n -= static_cast<size_t>(w);
    }
    return 0;
}

}  // namespace

AtomicFile::AtomicFile(std::string path, uint64_t needed, std::string noun)
    : path_(std::move(path)), noun_(std::move(noun)), needed_(needed) {
    if (const std::string wrong = wrong_kind(path_); !wrong.empty())
        throw Error("cannot write " + path_ + ": " + wrong);
    target_ = followed(path_);
    if (target_.empty()) fail(errno);
    aside_ = target_ + ".tmp";
    // One that was left behind is written anew; what is no file of that name is not touched.
    if (const std::string wrong = wrong_kind(aside_); !wrong.empty())
        throw Error("cannot write " + aside_ + ": " + wrong);
    fd_ = open(aside_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0666);
    if (fd_ < 0) fail(errno);
}

AtomicFile::~AtomicFile() {
    if (fd_ < 0) return;
    close(fd_);
    unlink(aside_.c_str());
}

void AtomicFile::fail(int error) {
    if (fd_ >= 0) {
        close(fd_);
        fd_ = -1;
        unlink(aside_.c_str());
    }
    struct stat st;
    const bool old = stat(path_.c_str(), &st) == 0;
    const std::string needed = needed_ ? " (" + std::to_string(needed_) + " bytes needed)" : "";
    throw Error("cannot write " + path_ + ": " + std::strerror(error) + needed +
                (old ? "; the previous " + noun_ + " is kept" : ""));
}

void AtomicFile::write(const void* bytes, size_t n) {
    if (const int error = write_all(fd_, bytes, n)) fail(error);
}

void AtomicFile::commit() {
    // fsync and close report what a delayed allocation could not place.
    if (fsync(fd_) != 0) fail(errno);
    if (close(fd_) != 0) {
        const int error = errno;
        fd_ = -1;
        unlink(aside_.c_str());
        fail(error);
    }
    fd_ = -1;
    // What has come to lie there since is looked at again; rename replaces the name that links lead
    // to, never a link.
    const std::string wrong = wrong_kind(target_);
    if (!wrong.empty() || rename(aside_.c_str(), target_.c_str()) != 0) {
        const int error = errno;
        unlink(aside_.c_str());
        if (!wrong.empty()) throw Error("cannot write " + path_ + ": " + wrong);
        fail(error);
    }
    sync_folder_of(target_);
}

void sync_folder_of(const std::string& path) {
    const size_t slash = path.rfind('/');
    const std::string dir = slash == std::string::npos ? "." : path.substr(0, slash + 1);
    if (const int d = open(dir.c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); d >= 0) {
        fsync(d);
        close(d);
    }
}

void atomic_write_file(const std::string& path, std::string_view bytes, const std::string& noun) {
    if (takes_bytes(path)) {
        const int fd = open_stream(path);
        const int error = write_all(fd, bytes.data(), bytes.size());
        if (close(fd) != 0 || error)
            throw Error("cannot write " + path + ": " + std::strerror(error ? error : errno));
        return;
    }
    AtomicFile f(path, bytes.size(), noun);
    f.write(bytes.data(), bytes.size());
    f.commit();
}

bool replaces_file(const std::string& path) { return !takes_bytes(path); }

void check_output(const std::string& path) {
    if (!takes_bytes(path)) {
        AtomicFile(path, 0, "file");
        return;
    }
    // Not opened: the reader of a FIFO would take that for all that comes.
    if (access(path.c_str(), W_OK) != 0)
        throw Error("cannot write " + path + ": " + std::strerror(errno));
}

}  // namespace wt
