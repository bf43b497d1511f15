#include "data/image_structure.h"

#include <zlib.h>

#include <algorithm>
#include <cstring>
#include <memory>
#include <new>
#include <string_view>

namespace wt {
namespace {

constexpr size_t kSignature = 8;
constexpr int64_t kMostBytes = 3 * kMostPixels;
constexpr int64_t kBestRatio = 1032;  // of deflate: more cannot come out of a byte

uint32_t big_endian(const uint8_t* p) {
    return uint32_t(p[0]) << 24 | uint32_t(p[1]) << 16 | uint32_t(p[2]) << 8 | p[3];
}

void put(uint32_t v, uint8_t* p) {
    for (int i = 0; i < 4; ++i) p[i] = uint8_t(v >> (24 - 8 * i));
}
[[noreturn]] void damaged(const std::string& what) {
    throw RefusedImage{"damaged PNG (" + what + ")"};
}

struct Header {
    int bits = 0, colour = 0;
    bool interlaced = false;
    int channels() const { return colour == 2 ? 3 : colour == 4 ? 2 : colour == 6 ? 4 : 1; }
    // Bytes of `height` rows of `width` pixels, each behind its filter's number; none where there
    // are no pixels.
    int64_t rows(int64_t width, int64_t height) const {
        return width == 0 ? 0 : height * (1 + (width * channels() * bits + 7) / 8);
    }
};

class Walk {
public:
    Walk(const std::vector<uint8_t>& file, PngStructure& to) : b_(file), to_(to) {}
    void run();

private:
    void header(const uint8_t* p, size_t length);
    void palette(size_t length);
    int64_t raw_bytes() const;
    void keep(const char* name, const std::vector<uint8_t>& body);
    void keep_data();

    const std::vector<uint8_t>& b_;
    PngStructure& to_;
    Header head_;
    std::vector<uint8_t> colours_;
    struct Span {
        const uint8_t* begin;
        size_t size;
    };
    std::vector<Span> data_;
};

void Walk::header(const uint8_t* p, size_t length) {
    if (length != 13) damaged("header of " + std::to_string(length) + " bytes");
    const uint32_t w = big_endian(p), h = big_endian(p + 4);
    head_ = {.bits = p[8], .colour = p[9], .interlaced = p[12] == 1};
    const bool deep = head_.bits == 8 || head_.bits == 16,
               shallow = head_.bits == 1 || head_.bits == 2 || head_.bits == 4;
    const bool right = head_.colour == 0 ? deep || shallow
                       : head_.colour == 3
                           ? shallow || head_.bits == 8
                           : deep && (head_.colour == 2 || head_.colour == 4 || head_.colour == 6);
    if (!right || p[10] != 0 || p[11] != 0 || p[12] > 1) damaged("header of an unknown kind");
    constexpr uint32_t most_side = 65500;  // as a JPEG's
    if (w == 0 || h == 0 || w > most_side || h > most_side || int64_t(w) * h > kMostPixels)
        throw RefusedImage{"claims " + std::to_string(w) + "x" + std::to_string(h) + " pixels"};
    to_.width = int(w);
    to_.height = int(h);
    if (raw_bytes() > kMostBytes)
        throw RefusedImage{"claims " + std::to_string(raw_bytes()) + " bytes of pixels"};
}

int64_t Walk::raw_bytes() const {
    const int64_t w = to_.width, h = to_.height;
    if (!head_.interlaced) return head_.rows(w, h);
    // Adam7: seven images, each with every so many pixels of the whole.
    constexpr int x0[7] = {0, 4, 0, 2, 0, 1, 0}, y0[7] = {0, 0, 4, 0, 2, 0, 1};
    constexpr int dx[7] = {8, 8, 4, 4, 2, 2, 1}, dy[7] = {8, 8, 8, 4, 4, 2, 2};
    int64_t sum = 0;
    for (int p = 0; p < 7; ++p)
        sum += head_.rows((w - x0[p] + dx[p] - 1) / dx[p], (h - y0[p] + dy[p] - 1) / dy[p]);
    return sum;
}

void Walk::keep(const char* name, const std::vector<uint8_t>& body) {
    std::vector<uint8_t>& out = to_.checked;
    const uint32_t n = uint32_t(body.size());
    out.insert(out.end(), {uint8_t(n >> 24), uint8_t(n >> 16), uint8_t(n >> 8), uint8_t(n)});
    out.insert(out.end(), name, name + 4);
    out.insert(out.end(), body.begin(), body.end());
    out.insert(out.end(), 4, 0);  // stb_image looks at no checksum
}

// The data chunks' contents, as zlib "stored" blocks: what they unpack to is written and counted
// here, not in stb_image.
void Walk::keep_data() {
    const int64_t want = raw_bytes();
    int64_t packed = 0;
    for (const Span& s : data_) packed += int64_t(s.size);
    const auto short_of = [&](int64_t got) {
        return RefusedImage{"truncated PNG (data for " + std::to_string(got) + " of " +
                            std::to_string(want) + " bytes)"};
    };
    if (packed * kBestRatio < want) throw short_of(packed * kBestRatio);

    constexpr int64_t block = 65535;
    const int64_t size = want + (want + block - 1) / block * 5 + 6;  // stays below 2^31
    std::vector<uint8_t>& out = to_.checked;
    const size_t begin = out.size();
    out.resize(begin + 8 + size_t(size) + 4);  // the last four, a checksum, stay zeros
    z_stream z{};
    if (inflateInit(&z) != Z_OK) throw std::bad_alloc();
    const std::unique_ptr<z_stream, int (*)(z_stream*)> closer(&z, inflateEnd);
    size_t span = 0;
    put(uint32_t(size), &out[begin]);
    std::memcpy(&out[begin + 4], "IDAT\x78\x01", 6);
    uint8_t* p = &out[begin + 10];
    for (int64_t at = 0; at < want; at += block) {
        const uint32_t n = uint32_t(std::min(block, want - at));
        const uint8_t head[5] = {uint8_t(at + n == want), uint8_t(n), uint8_t(n >> 8), uint8_t(~n),
                                 uint8_t(~n >> 8)};
        p = std::copy(std::begin(head), std::end(head), p);
        z.next_out = p;
        z.avail_out = n;
        while (z.avail_out > 0) {
            if (z.avail_in == 0 && span < data_.size()) {
                z.next_in = const_cast<uint8_t*>(data_[span].begin);
                z.avail_in = uInt(data_[span].size);
                ++span;
                continue;
            }
            const int code = inflate(&z, Z_NO_FLUSH);
            if (code == Z_OK) continue;
            if (code == Z_MEM_ERROR) throw std::bad_alloc();
            if (code == Z_DATA_ERROR || code == Z_NEED_DICT)
                damaged(std::string("its data do not unpack: ") +
                        (z.msg ? z.msg : "a dictionary is needed"));
            if (z.avail_out > 0) throw short_of(at + n - z.avail_out);
        }
        p += n;
    }
}

void Walk::run() {
    to_ = {};
    bool has_header = false, ended = false;
    for (size_t at = kSignature; !ended;) {
        if (b_.size() < 12 || at > b_.size() - 12) break;
        const size_t length = big_endian(&b_[at]);
        if (length > b_.size() - at - 12) break;
        const uint8_t* body = b_.data() + at + 8;
        if (uint32_t(crc32(0, &b_[at + 4], uInt(length + 4))) != big_endian(body + length))
            damaged("checksum of the chunk at byte " + std::to_string(at));
        const std::string_view name(reinterpret_cast<const char*>(&b_[at + 4]), 4);
        at += length + 12;
        const bool is_header = name == "IHDR";
        if (is_header == has_header)
            damaged(has_header ? "second header" : "no header in its first chunk");
        has_header = true;
        if (is_header) {
            header(body, length);
        } else if (name == "PLTE") {
            if (length == 0 || length % 3 || length > 768 || !colours_.empty() || !data_.empty())
                damaged("palette of " + std::to_string(length) +
                        " bytes, a second one or one behind the data");
            colours_.assign(body, body + length);
        } else if (name == "IDAT") {
            data_.push_back({body, length});
        }
        ended = name == "IEND";
    }
    if (!ended)
        throw RefusedImage{"truncated PNG (no end chunk in " + std::to_string(b_.size()) +
                           " bytes)"};
    if (head_.colour == 3 && colours_.empty()) damaged("no palette before the data");
    std::vector<uint8_t> head(13);
    put(uint32_t(to_.width), &head[0]);
    put(uint32_t(to_.height), &head[4]);
    head[8] = uint8_t(head_.bits);
    head[9] = uint8_t(head_.colour);
    head[12] = head_.interlaced;
    to_.checked.assign(b_.begin(), b_.begin() + kSignature);
    keep("IHDR", head);
    if (head_.colour == 3) {
        colours_.resize(768);
        keep("PLTE", colours_);
    }
    keep_data();
    keep("IEND", {});
}

}  // namespace

std::string read_png_structure(const std::vector<uint8_t>& file, PngStructure& to) {
    return refusal_of([&] { Walk(file, to).run(); });
}

}  // namespace wt
