#include "data/image.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <cerrno>
#include <cstring>
#include <filesystem>
#include <string_view>

#include "data/image_decoders.h"
#include "data/image_structure.h"
#include "host/cuda/regular_file.h"

namespace wt {
namespace {

bool starts_with(const std::vector<uint8_t>& b, std::string_view magic) {
    return b.size() >= magic.size() && std::memcmp(b.data(), magic.data(), magic.size()) == 0;
}

constexpr std::string_view kJpeg("\xFF\xD8\xFF", 3), kPng("\x89PNG\r\n\x1A\n", 8);

std::string not_an_image(const std::vector<uint8_t>& start) {
    if (start.empty()) return "empty file";
    return "neither JPEG nor PNG";
}

// `turbo`: JPEG through libjpeg-turbo.
std::string decode(const std::vector<uint8_t>& file, bool turbo, Image& image) {
    if (starts_with(file, kPng)) {
        PngStructure png;
        if (std::string wrong = read_png_structure(file, png); !wrong.empty()) return wrong;
        image.height = png.height;
        image.width = png.width;
        return decode_png_stb(png.checked, image);
    }
    if (!starts_with(file, kJpeg)) return not_an_image(file);
    JpegStructure jpeg;
    if (std::string wrong = read_jpeg_structure(file, jpeg); !wrong.empty()) return wrong;
    image.height = jpeg.height;
    image.width = jpeg.width;
#ifdef WT_TURBO
    if (turbo) return decode_jpeg_turbo(jpeg.checked, jpeg.components, image);
#endif
    (void)turbo;
    if (std::string wrong = read_jpeg_data(jpeg.checked); !wrong.empty()) return wrong;
    return decode_jpeg_stb(jpeg.checked, image);
}

// What is wrong with a file as a whole, short of decoding it.
std::string check_whole(const std::vector<uint8_t>& file, bool is_jpeg) {
    JpegStructure jpeg;
    PngStructure png;
    return is_jpeg ? read_jpeg_structure(file, jpeg) : read_png_structure(file, png);
}

}  // namespace

std::string decode_image(const std::vector<uint8_t>& file, Image& image) {
    return decode(file, true, image);
}

std::string decode_image_stb(const std::vector<uint8_t>& file, Image& image) {
    return decode(file, false, image);
}

const char* jpeg_decoder() {
#ifdef WT_TURBO
    return "libjpeg-turbo";
#else
    return "stb_image";
#endif
}

bool is_image_name(const std::string& path) {
    std::string end = std::filesystem::path(path).extension().string();
    for (char& c : end) c = static_cast<char>(std::tolower(static_cast<unsigned char>(c)));
    return end == ".jpg" || end == ".jpeg" || end == ".png";
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
    const ssize_t got_tail =
        ::pread(file.fd(), tail.data(), tail.size(), file.size() - int64_t(tail.size()));
    tail.resize(size_t(std::max<ssize_t>(got_tail, 0)));
    const std::string_view seen(reinterpret_cast<const char*>(tail.data()), tail.size());
    if (seen.find(jpeg ? std::string_view("\xFF\xD9", 2) : std::string_view("IEND")) != seen.npos)
        return "";
    // Seldom: much behind the end, or no end. The whole file decides.
    std::vector<uint8_t> all;
    if (std::string wrong = read_file(path, all); !wrong.empty()) return wrong;
    return check_whole(all, jpeg);
}

}  // namespace wt
