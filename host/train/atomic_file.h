// Files that are whole or not there: written aside in the same directory, synced, then renamed.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace wt {

// Writes PATH.tmp, syncs it, renames it to PATH and syncs the directory. Killed at any moment, PATH
// is the old file or the new one. When the file cannot be written (full disk, quota, no right) the
// aside is removed, PATH keeps what it had, and the Error is "cannot write PATH: REASON (N bytes
// needed)", with "; the previous file is kept" when there is one.
//
// Only a regular file is ever replaced. PATH may be a symbolic link: what it leads to is replaced,
// or made, and the link stays. A folder, a device, a FIFO or a socket is refused: "cannot write
// PATH: not a regular file (a FIFO)".
class AtomicFile {
public:
    // `needed`: the size of the whole, for the message; `noun`: what PATH is ("checkpoint").
    AtomicFile(std::string path, uint64_t needed, std::string noun);
    ~AtomicFile();  // not committed: removes the aside
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;

    void write(const void* bytes, size_t n);
    void commit();

private:
    [[noreturn]] void fail(int error);
    std::string path_;    // as given
    std::string target_;  // the file that it leads to
    std::string aside_, noun_;
    uint64_t needed_;
    int fd_ = -1;
};

// What was done to the names in this file's folder reaches the disk. Some file systems cannot,
// which is no failure.
void sync_folder_of(const std::string& path);

// For reports, which may go to a device or a pipe (/dev/stdout, a FIFO that somebody reads): that
// is written to as it is. Everything else as by AtomicFile.
void atomic_write_file(const std::string& path, std::string_view bytes,
                       const std::string& noun = "file");

// Whether atomic_write_file replaces a file there, or makes one, rather than writing to what is no
// file.
bool replaces_file(const std::string& path);

// Throws the Error that atomic_write_file would, where it is clear beforehand that it cannot write
// there; so that nobody computes for an hour first. Leaves nothing behind.
void check_output(const std::string& path);

}  // namespace wt
