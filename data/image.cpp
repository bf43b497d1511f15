#include "data/image.h"

#include <unistd.h>
#include <zlib.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <memory>
#include <string_view>

#include "host/cuda/regular_file.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#define STB_IMAGE_STATIC
#define STB_IMAGE_IMPLEMENTATION
#define STBI_ONLY_JPEG
#define STBI_ONLY_PNG
#define STBI_NO_STDIO
#define STBI_MAX_DIMENSIONS 65500
#include <stb/stb_image.h>
#pragma GCC diagnostic pop

namespace wt {
namespace {

bool starts_with(const std::vector<uint8_t>& b, std::string_view magic) {
    return b.size() >= magic.size() && std::memcmp(b.data(), magic.data(), magic.size()) == 0;
}
// A damaged header must not ask for gigabytes; photographs have a tenth of this.
constexpr int64_t kMostPixels = 200'000'000;

constexpr std::string_view kJpeg("\xFF\xD8\xFF", 3), kPng("\x89PNG\r\n\x1A\n", 8);

uint32_t big_endian(const uint8_t* p) {
    return uint32_t(p[0]) << 24 | uint32_t(p[1]) << 16 | uint32_t(p[2]) << 8 | p[3];
}

std::string not_an_image(const std::vector<uint8_t>& start) {
    if (start.empty()) return "empty file";
    return "neither JPEG nor PNG";
}

// Walks a JPEG's segments to the end-of-image marker. A search for FF D9 is not enough: EXIF thumbnails have
// one of their own.
std::string check_jpeg(const std::vector<uint8_t>& b, int& components, bool& adobe) {
    components = 0, adobe = false;
    size_t at = 2;
    bool in_scan = false;
    for (;;) {
        if (in_scan) {  // entropy-coded data: FF 00 is a data byte, FF D0..D7 are restarts
            const void* ff = at < b.size() ? std::memchr(&b[at], 0xFF, b.size() - at) : nullptr;
            if (!ff) break;
            at = static_cast<const uint8_t*>(ff) - b.data();
            while (at + 1 < b.size() && b[at + 1] == 0xFF) ++at;
            if (at + 1 >= b.size()) break;
            if (b[at + 1] == 0 || (b[at + 1] >= 0xD0 && b[at + 1] <= 0xD7)) {
                at += 2;
                continue;
            }
            in_scan = false;
        }
        // Garbage between segments is common in the wild and harmless: look for the next FF.
        while (at < b.size() && b[at] != 0xFF) ++at;
        while (at + 1 < b.size() && b[at + 1] == 0xFF) ++at;
        if (at + 1 >= b.size()) break;
        const uint8_t marker = b[at + 1];
        at += 2;
        if (marker == 0xD9) return "";
        if (marker == 0 || marker == 0x01 || (marker >= 0xD0 && marker <= 0xD8)) continue;  // no length follows
        if (at + 2 > b.size()) break;
        const size_t length = size_t(b[at]) << 8 | b[at + 1];
        if (length < 2 || at + length > b.size()) break;
        const bool is_frame = marker >= 0xC0 && marker <= 0xCF && marker != 0xC4 && marker != 0xC8 && marker != 0xCC;
        if (is_frame && length >= 8) components = b[at + 7];
        if (marker == 0xEE && length >= 14 && std::memcmp(&b[at + 2], "Adobe", 5) == 0) adobe = true;
        at += length;
        in_scan = marker == 0xDA;
    }
    return "truncated JPEG (no end-of-image marker in " + std::to_string(b.size()) + " bytes)";
}

// stb checks no checksums: a flipped bit would train as garbage.
std::string check_png(const std::vector<uint8_t>& b) {
    for (size_t at = kPng.size(); at + 12 <= b.size();) {
        const size_t length = big_endian(&b[at]);
        if (length > b.size() - at - 12) break;
        if (uint32_t(crc32(0, &b[at + 4], uInt(length + 4))) != big_endian(&b[at + 8 + length]))
            return "damaged PNG (checksum of the chunk at byte " + std::to_string(at) + ")";
        if (std::memcmp(&b[at + 4], "IEND", 4) == 0) return "";
        at += length + 12;
    }
    return "truncated PNG (no end chunk in " + std::to_string(b.size()) + " bytes)";
}

}  // namespace

std::string decode_image(std::vector<uint8_t> b, Image& image) {
    const bool jpeg = starts_with(b, kJpeg);
    if (!jpeg && !starts_with(b, kPng)) return not_an_image(b);
    int components = 0;
    bool adobe = false;
    if (std::string wrong = jpeg ? check_jpeg(b, components, adobe) : check_png(b); !wrong.empty()) return wrong;
    if (components == 4 && !adobe) {
        // An APP14 segment that says "CMYK, not transformed", right behind the start-of-image marker.
        static constexpr uint8_t app14[] = {0xFF, 0xEE, 0, 14, 'A', 'd', 'o', 'b', 'e', 0, 100, 0, 0, 0, 0, 0};
        b.insert(b.begin() + 2, std::begin(app14), std::end(app14));
    }
    int width = 0, height = 0, channels = 0;
    if (stbi_info_from_memory(b.data(), int(b.size()), &width, &height, &channels) &&
        int64_t(width) * height > kMostPixels)
        return "claims " + std::to_string(width) + "x" + std::to_string(height) + " pixels";
    const std::unique_ptr<stbi_uc, void (*)(void*)> pixels(
        stbi_load_from_memory(b.data(), int(b.size()), &width, &height, &channels, 3), stbi_image_free);
    if (!pixels) return std::string(jpeg ? "JPEG" : "PNG") + " that cannot be decoded (" + stbi_failure_reason() + ")";
    image.height = height, image.width = width;
    image.rgb.assign(pixels.get(), pixels.get() + size_t(height) * width * 3);
    return "";
}

std::string read_file(const std::string& path, std::vector<uint8_t>& bytes) {
    const RegularFile file(path);
    if (!file.wrong().empty()) return file.wrong();
    if (file.size() > (int64_t(1) << 30)) return "larger than 1 GiB";
    bytes.resize(size_t(file.size()));
    size_t have = 0;
    while (have < bytes.size()) {
        const ssize_t got = ::read(file.fd(), &bytes[have], bytes.size() - have);
        if (got < 0 && errno == EINTR) continue;
        if (got < 0) return std::strerror(errno);
        if (got == 0) break;
        have += size_t(got);
    }
    bytes.resize(have);
    return "";
}

std::string glance_at_image(const std::string& path) {
    const RegularFile file(path);
    if (!file.wrong().empty()) return file.wrong();
    std::vector<uint8_t> start(16), tail(size_t(std::min<int64_t>(file.size(), 4096)));
    const ssize_t got = ::pread(file.fd(), start.data(), start.size(), 0);
    start.resize(size_t(std::max<ssize_t>(got, 0)));
    const bool jpeg = starts_with(start, kJpeg);
    if (!jpeg && !starts_with(start, kPng)) return not_an_image(start);
    const ssize_t got_tail = ::pread(file.fd(), tail.data(), tail.size(), file.size() - int64_t(tail.size()));
    tail.resize(size_t(std::max<ssize_t>(got_tail, 0)));
    const std::string_view seen(reinterpret_cast<const char*>(tail.data()), tail.size());
    if (seen.find(jpeg ? std::string_view("\xFF\xD9", 2) : std::string_view("IEND")) != seen.npos) return "";
    // Seldom: much behind the end, or no end. The whole file decides.
    std::vector<uint8_t> all;
    if (std::string wrong = read_file(path, all); !wrong.empty()) return wrong;
    int components;
    bool adobe;
    return jpeg ? check_jpeg(all, components, adobe) : check_png(all);
}

}  // namespace wt
