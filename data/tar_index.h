// What is in a tar archive, and where: ustar, with GNU's long names and POSIX's (pax) names and
// sizes. Members are then read at their offsets by any number of threads, without unpacking; an
// archive in an archive (ILSVRC's training images) is indexed in the same way.
#pragma once

#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace wt {

struct TarMember {
    std::string name;
    uint64_t offset = 0, size = 0;  // of the contents, from the archive's start
};

// Reads `n` bytes at `offset` of the archive to `out`. False where there are fewer.
using ReadAt = std::function<bool(uint64_t offset, void* out, size_t n)>;

// The regular files of an archive of `size` bytes, in its order. Throws Error, with `path` in it,
// where it is no tar archive or is cut off.
std::vector<TarMember> index_tar(const std::string& path, uint64_t size, const ReadAt& read);

}  // namespace wt
