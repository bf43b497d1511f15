#include "host/cuda/regular_file.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <utility>

#include "host/cuda/check.h"

namespace wt {

std::string not_regular(const struct stat& info) {
    if (S_ISREG(info.st_mode)) return {};
    const char* what = S_ISDIR(info.st_mode)    ? "a folder"
                       : S_ISFIFO(info.st_mode) ? "a FIFO"
                       : S_ISSOCK(info.st_mode) ? "a socket"
                                                : "a device";
    return "not a regular file (" + std::string(what) + ")";
}

RegularFile::RegularFile(const std::string& path) : path_(path) {
    // Looked at first, as opening alone does something to some devices. What has taken its place
    // since then is opened without waiting, and looked at again before anything is read.
    struct stat info {};
    if (stat(path.c_str(), &info) != 0) {
        wrong_ = std::strerror(errno);
        missing_ = errno == ENOENT;
        return;
    }
    wrong_ = not_regular(info);
    if (!wrong_.empty()) return;
    fd_ = open(path.c_str(), O_RDONLY | O_NONBLOCK | O_NOCTTY | O_CLOEXEC);
    if (fd_ < 0 || fstat(fd_, &info) != 0)
        wrong_ = std::strerror(errno);
    else
        wrong_ = not_regular(info);
    if (!wrong_.empty()) {
        if (fd_ >= 0) close(release());
        return;
    }
    size_ = info.st_size;
    // Some file systems would heed it in reads too.
    fcntl(fd_, F_SETFL, fcntl(fd_, F_GETFL) & ~O_NONBLOCK);
}

RegularFile::~RegularFile() {
    if (fd_ >= 0) close(fd_);
}

int RegularFile::release() { return std::exchange(fd_, -1); }

size_t RegularFile::read(void* to, size_t n) {
    size_t have = 0;
    while (have < n) {
        const ssize_t got = ::read(fd_, static_cast<char*>(to) + have, n - have);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) throw Error("cannot read " + path_ + ": " + std::strerror(errno));
        if (got == 0) break;
        have += static_cast<size_t>(got);
    }
    return have;
}

std::string RegularFile::rest() {
    std::string all;
    for (char piece[1 << 16];;) {
        const size_t got = read(piece, sizeof piece);
        all.append(piece, got);
        if (got < sizeof piece) return all;
    }
}

std::string read_whole(const std::string& path, const std::string& advice) {
    RegularFile file(path);
    if (!file.wrong().empty())
        throw Error("cannot read " + path + ": " + file.wrong() +
                    (advice.empty() ? "" : ": " + advice));
    return file.rest();
}

}  // namespace wt
