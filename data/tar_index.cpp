#include "data/tar_index.h"

#include <charconv>
#include <cstring>

#include "host/cuda/check.h"

namespace wt {
namespace {

constexpr uint64_t kBlock = 512;
constexpr uint64_t kMostText = 1 << 20;  // of a long name or of pax records: no real one comes near

struct Header {  // POSIX.1-1988, ustar
    char name[100], mode[8], uid[8], gid[8], size[12], mtime[12], checksum[8], type, link[100],
        magic[6], version[2], user[32], group[32], major[8], minor[8], prefix[155], rest[12];
};
static_assert(sizeof(Header) == kBlock);

template <size_t N>
std::string text_of(const char (&field)[N]) {
    return std::string(field, strnlen(field, N));
}

// Octal digits, or GNU's base 256 for what they cannot hold.
template <size_t N>
bool number_of(const char (&field)[N], uint64_t& n) {
    n = 0;
    if (static_cast<uint8_t>(field[0]) & 0x80) {
        for (size_t i = 1; i < N; ++i) n = n << 8 | static_cast<uint8_t>(field[i]);
        return (static_cast<uint8_t>(field[0]) & 0x7f) == 0 && n >> 62 == 0;
    }
    size_t i = 0;
    while (i < N && field[i] == ' ') ++i;
    const size_t first = i;
    for (; i < N && field[i] >= '0' && field[i] <= '7'; ++i) n = n * 8 + (field[i] - '0');
    return i > first && (i == N || field[i] == ' ' || field[i] == '\0');
}

bool checksum_holds(const Header& h) {
    uint64_t want = 0;
    if (!number_of(h.checksum, want)) return false;
    const auto* bytes = reinterpret_cast<const uint8_t*>(&h);
    uint64_t sum = 0;
    for (size_t i = 0; i < kBlock; ++i) {
        const bool own = i >= offsetof(Header, checksum) && i < offsetof(Header, type);
        sum += own ? ' ' : bytes[i];
    }
    return sum == want;
}

bool is_zero(const Header& h) {
    const auto* bytes = reinterpret_cast<const char*>(&h);
    for (size_t i = 0; i < kBlock; ++i)
        if (bytes[i]) return false;
    return true;
}

// "LENGTH KEY=VALUE\n" records of a pax header: the path and the size of the member behind it.
bool read_pax(const std::string& text, std::string& name, uint64_t& size, bool& has_size) {
    for (size_t at = 0; at < text.size();) {
        size_t length = 0;
        const auto r = std::from_chars(&text[at], text.data() + text.size(), length);
        if (r.ec != std::errc() || length < 5 || at + length > text.size() || *r.ptr != ' ')
            return false;
        const size_t key = static_cast<size_t>(r.ptr - text.data()) + 1;
        const size_t equals = text.find('=', key);
        if (equals == text.npos || equals + 2 > at + length) return false;
        const std::string value = text.substr(equals + 1, at + length - 1 - (equals + 1));
        if (text.compare(key, equals - key, "path") == 0) name = value;
        if (text.compare(key, equals - key, "size") == 0) {
            const auto n = std::from_chars(value.data(), value.data() + value.size(), size);
            if (n.ec != std::errc() || n.ptr != value.data() + value.size()) return false;
            has_size = true;
        }
        at += length;
    }
    return true;
}

}  // namespace

std::vector<TarMember> index_tar(const std::string& path, uint64_t size, const ReadAt& read) {
    std::vector<TarMember> members;
    std::string long_name;
    uint64_t long_size = 0;
    bool has_long_size = false;
    for (uint64_t at = 0; at < size;) {
        Header h;
        const std::string place = " (at byte " + std::to_string(at) + ")";
        if (size - at < kBlock || !read(at, &h, kBlock))
            throw Error(path + ": the archive is cut off" + place);
        if (is_zero(h)) break;  // two of them end an archive; a reader is content with one
        uint64_t bytes = 0;
        if (!checksum_holds(h) || !number_of(h.size, bytes))
            throw Error(path +
                        (at == 0 ? ": not a tar archive" : ": the archive is damaged" + place));
        if (has_long_size) bytes = long_size;
        const uint64_t begin = at + kBlock;
        if (bytes > size - begin) throw Error(path + ": the archive is cut off" + place);
        const auto text = [&] {
            if (bytes > kMostText) throw Error(path + ": a name that is too long" + place);
            std::string s(bytes, '\0');
            if (!read(begin, s.data(), bytes)) throw Error(path + ": cannot be read" + place);
            return s;
        };
        switch (h.type) {
            case 'L': {  // GNU: the name of the next member
                long_name = text();
                long_name.resize(strnlen(long_name.data(), long_name.size()));
                break;
            }
            case 'x':
                if (!read_pax(text(), long_name, long_size, has_long_size))
                    throw Error(path + ": the archive is damaged" + place);
                break;
            case 'g': break;  // pax records for all members: comments, most of the time
            case '0':
            case '\0': {
                std::string name = long_name;
                if (name.empty()) {
                    const std::string prefix = text_of(h.prefix);
                    const bool ustar = std::memcmp(h.magic, "ustar\0", 6) == 0;
                    name =
                        ustar && !prefix.empty() ? prefix + "/" + text_of(h.name) : text_of(h.name);
                }
                members.push_back({.name = std::move(name), .offset = begin, .size = bytes});
                [[fallthrough]];
            }
            default:  // folders, links, devices
                long_name.clear();
                has_long_size = false;
        }
        at = begin + (bytes + kBlock - 1) / kBlock * kBlock;
    }
    return members;
}

}  // namespace wt
