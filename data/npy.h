// Headers of NumPy's array files (.npy, format version 1.0): what `numpy.load(mmap_mode="r")`
// reads.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace wt {

struct NpyHeader {
    std::string type;            // as NumPy writes it: "|u1", "<f4", "<i8"
    std::vector<int64_t> shape;  // C order
    size_t data = 0;             // where the elements begin, in bytes from the file's start
};

// The header of an array in C order. A multiple of 64 bytes, and at least `bytes` of them: a header
// that is to be replaced later, by one of fewer rows, takes the same room.
std::string npy_header(const std::string& type, const std::vector<int64_t>& shape,
                       size_t bytes = 0);

// Of a file's first bytes (4 KiB are enough for every header that NumPy writes of plain arrays).
// Returns "" or, in words, why this is no such file.
std::string parse_npy_header(const std::string& start, NpyHeader& header);

}  // namespace wt
