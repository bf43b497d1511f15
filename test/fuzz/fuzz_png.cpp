// PNG. Checksums are put right after each mutation, and some mutations are of the unpacked rows:
// else most inputs would be refused for those.
#include <zlib.h>

#include <algorithm>
#include <cstring>

#include "test/fuzz/image_target.h"

using namespace wt;

extern "C" size_t LLVMFuzzerMutate(uint8_t* data, size_t size, size_t max_size);

namespace {

constexpr size_t kSignature = 8;

uint32_t big_endian(const uint8_t* p) {
    return uint32_t(p[0]) << 24 | uint32_t(p[1]) << 16 | uint32_t(p[2]) << 8 | p[3];
}
void put(uint32_t v, uint8_t* p) {
    for (int i = 0; i < 4; ++i) p[i] = uint8_t(v >> (24 - 8 * i));
}

// Calls f(chunk, its length) for each whole chunk; f returns false to stop.
template <class F>
void each_chunk(uint8_t* file, size_t size, F&& f) {
    for (size_t at = kSignature; at + 12 <= size;) {
        const size_t length = big_endian(file + at);
        if (length > size - at - 12 || !f(file + at, length)) return;
        at += length + 12;
    }
}

// Mutates what the first data chunk unpacks to. False where there is nothing to unpack, or no room.
bool mutate_rows(uint8_t* file, size_t& size, size_t max_size) {
    uint8_t* chunk = nullptr;
    size_t length = 0;
    each_chunk(file, size, [&](uint8_t* c, size_t n) {
        if (std::memcmp(c + 4, "IDAT", 4) != 0) return true;
        chunk = c;
        length = n;
        return false;
    });
    if (!chunk) return false;
    std::vector<uint8_t> rows(1 << 16);
    uLongf n = rows.size();
    if (uncompress(rows.data(), &n, chunk + 8, length) != Z_OK || n == 0) return false;
    n = LLVMFuzzerMutate(rows.data(), n, rows.size());
    uLongf packed_size = compressBound(n);
    std::vector<uint8_t> packed(packed_size);
    compress2(packed.data(), &packed_size, rows.data(), n, 1);
    if (size - length + packed_size > max_size) return false;
    uint8_t* after = chunk + 8 + length;
    std::memmove(chunk + 8 + packed_size, after, size_t(file + size - after));
    std::memcpy(chunk + 8, packed.data(), packed_size);
    put(uint32_t(packed_size), chunk);
    size = size - length + packed_size;
    return true;
}

}  // namespace

extern "C" size_t LLVMFuzzerCustomMutator(uint8_t* file, size_t size, size_t max_size,
                                          unsigned seed) {
    if (seed % 3 != 0 || !mutate_rows(file, size, max_size))
        size = LLVMFuzzerMutate(file, size, max_size);
    each_chunk(file, size, [](uint8_t* c, size_t n) {
        put(uint32_t(crc32(0, c + 4, uInt(n + 4))), c + 8 + n);
        return true;
    });
    return size;
}

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    constexpr uint8_t signature[kSignature] = {0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
    std::vector<uint8_t> file(data, data + size);
    file.resize(std::max(size, kSignature));
    std::copy(std::begin(signature), std::end(signature), file.begin());
    PngStructure png;
    if (!read_png_structure(file, png).empty()) {
        Image image;
        if (decode_image(file, image).empty()) fuzz::fault("decoded what the checks refuse");
        return 0;
    }
    if (int64_t(png.width) * png.height <= fuzz::kPixels) fuzz::decode_twice(decode_image, file);
    return 0;
}
