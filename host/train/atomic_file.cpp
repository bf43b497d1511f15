#include "host/train/atomic_file.h"

#include "host/cuda/check.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace wt {

AtomicFile::AtomicFile(std::string path, uint64_t needed, std::string noun)
    : path_(std::move(path)), aside_(path_ + ".tmp"), noun_(std::move(noun)), needed_(needed) {
    fd_ = open(aside_.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0666);
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
    throw Error("cannot write " + path_ + ": " + std::strerror(error) + " (" + std::to_string(needed_) +
                " bytes needed)" + (old ? "; the previous " + noun_ + " is kept" : ""));
}

void AtomicFile::write(const void* bytes, size_t n) {
    const char* p = static_cast<const char*>(bytes);
    while (n > 0) {
        const ssize_t w = ::write(fd_, p, n);
        if (w < 0 && errno == EINTR) continue;
        if (w < 0) fail(errno);
        if (w == 0) fail(ENOSPC);
        p += w;
        n -= static_cast<size_t>(w);
    }
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
    if (rename(aside_.c_str(), path_.c_str()) != 0) {
        const int error = errno;
        unlink(aside_.c_str());
        fail(error);
    }
    sync_folder_of(path_);
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
    AtomicFile f(path, bytes.size(), noun);
    f.write(bytes.data(), bytes.size());
    f.commit();
}

}  // namespace wt
