#include "data/ilsvrc_devkit.h"

#include <zlib.h>

#include <algorithm>
#include <charconv>
#include <cstring>

#include "data/tar_index.h"
#include "host/cuda/check.h"
#include "host/cuda/regular_file.h"

namespace wt {
namespace {

constexpr size_t kMost = size_t(256) << 20;  // of anything unpacked here; the devkit has 5 MB

// Of zlib's or gzip's form. Returns "" or what is wrong.
std::string inflate_all(const char* bytes, size_t n, bool gzip, std::string& out) {
    z_stream z{};
    if (inflateInit2(&z, gzip ? 15 + 16 : 15) != Z_OK) return "zlib cannot start";
    z.next_in = reinterpret_cast<Bytef*>(const_cast<char*>(bytes));
    z.avail_in = static_cast<uInt>(n);
    out.clear();
    char piece[1 << 16];
    int state = Z_OK;
    while (state == Z_OK && out.size() <= kMost) {
        z.next_out = reinterpret_cast<Bytef*>(piece);
        z.avail_out = sizeof piece;
        state = inflate(&z, Z_NO_FLUSH);
        out.append(piece, sizeof piece - z.avail_out);
    }
    inflateEnd(&z);
    return state == Z_STREAM_END ? "" : "compressed data that are damaged or cut off";
}

// MATLAB's "MAT-File Format", level 5: elements of a tag (type, bytes) and data, padded to 8 bytes.
enum Mat : uint32_t {
    miINT8 = 1,
    miUINT8,
    miINT16,
    miUINT16,
    miINT32,
    miUINT32,
    miDOUBLE = 9,
    miMATRIX = 14,
    miCOMPRESSED,
    miUTF8
};
enum MatClass : uint8_t { mxSTRUCT = 2 };

struct Element {
    uint32_t type = 0;
    const char* data = nullptr;
    size_t bytes = 0;
};

struct Reader {
    const char *at, *end;
    bool next(Element& e) {
        uint32_t tag[2];
        if (end - at < 8) return false;
        std::memcpy(tag, at, 8);
        if (tag[0] >> 16) {  // small: four bytes of data in the tag
            e = {.type = tag[0] & 0xffff, .data = at + 4, .bytes = tag[0] >> 16};
            if (e.bytes > 4) return false;
            at += 8;
            return true;
        }
        e = {.type = tag[0], .data = at + 8, .bytes = tag[1]};
        if (e.bytes > static_cast<size_t>(end - at) - 8) return false;
        const size_t padded = e.type == miCOMPRESSED ? e.bytes : (e.bytes + 7) / 8 * 8;
        at += 8 + std::min(padded, static_cast<size_t>(end - at) - 8);
        return true;
    }
};

// An array's class, its extents and what is behind its name.
struct Array {
    uint8_t kind = 0;
    std::vector<int32_t> dims;
    Reader rest{nullptr, nullptr};
    bool open(const Element& e) {
        Reader r{e.data, e.data + e.bytes};
        Element flags, extents, name;
        if (e.type != miMATRIX || !r.next(flags) || flags.bytes < 4 || !r.next(extents) ||
            extents.bytes % 4 || extents.bytes > 64 || !r.next(name))
            return false;
        kind = static_cast<uint8_t>(flags.data[0]);
        dims.resize(extents.bytes / 4);
        if (!dims.empty()) std::memcpy(dims.data(), extents.data, extents.bytes);
        rest = r;
        return true;
    }
};

bool read_text(const Element& e, std::string& text) {
    Array a;
    Element data;
    if (!a.open(e)) return false;
    text.clear();
    if (!a.rest.next(data)) return true;  // an empty array has none
    if (data.type == miUINT16 || data.type == miINT16)
        for (size_t i = 0; i + 1 < data.bytes; i += 2)
            text += data.data[i + 1] ? '?' : data.data[i];
    else
        text.assign(data.data, data.bytes);
    return true;
}

bool read_number(const Element& e, double& number) {
    Array a;
    Element data;
    if (!a.open(e) || !a.rest.next(data)) return false;
    const auto as = [&]<class T>(T value) {
        if (data.bytes < sizeof value) return false;
        std::memcpy(&value, data.data, sizeof value);
        number = static_cast<double>(value);
        return true;
    };
    switch (data.type) {
        case miINT8: return as(int8_t{});
        case miUINT8: return as(uint8_t{});
        case miINT16: return as(int16_t{});
        case miUINT16: return as(uint16_t{});
        case miINT32: return as(int32_t{});
        case miUINT32: return as(uint32_t{});
        case miDOUBLE: return as(double{});
        default: return false;
    }
}

// The names of a struct's fields, each in as many bytes.
bool read_fields(Reader& r, std::vector<std::string>& fields) {
    Element length, names;
    if (!r.next(length) || length.bytes < 4 || !r.next(names)) return false;
    int32_t each = 0;
    std::memcpy(&each, length.data, 4);
    if (each < 1 || each > 1024 || names.bytes % static_cast<size_t>(each)) return false;
    for (size_t at = 0; at < names.bytes; at += static_cast<size_t>(each))
        fields.emplace_back(names.data + at, strnlen(names.data + at, static_cast<size_t>(each)));
    return true;
}

}  // namespace

std::string parse_synsets(const std::string& mat, std::vector<IlsvrcDevkit::Synset>& synsets) {
    if (mat.size() < 136 || mat.compare(126, 2, "IM") != 0)
        return "not a MATLAB 5 file of a little-endian machine";
    Reader file{mat.data() + 128, mat.data() + mat.size()};
    Element e;
    std::string unpacked;
    if (!file.next(e)) return "cut off";
    if (e.type == miCOMPRESSED) {
        if (std::string wrong = inflate_all(e.data, e.bytes, false, unpacked); !wrong.empty())
            return wrong;
        Reader inside{unpacked.data(), unpacked.data() + unpacked.size()};
        if (!inside.next(e)) return "cut off";
    }
    Array a;
    std::vector<std::string> fields;
    if (!a.open(e) || a.kind != mxSTRUCT || !read_fields(a.rest, fields))
        return "not an array of structs";
    const auto place = [&](const char* name) {
        return std::find(fields.begin(), fields.end(), name) - fields.begin();
    };
    const auto id = place("ILSVRC2012_ID"), wnid = place("WNID"), words = place("words");
    const auto none = static_cast<std::ptrdiff_t>(fields.size());
    if (id == none || wnid == none || words == none)
        return "without the fields ILSVRC2012_ID, WNID and words";
    int64_t count = 1;
    for (const int32_t d : a.dims) {
        count *= d;
        if (d < 0 || count > 1'000'000) return "more synsets than there can be";
    }
    for (int64_t i = 0; i < count; ++i) {
        IlsvrcDevkit::Synset s;
        for (std::ptrdiff_t f = 0; f < none; ++f) {
            double number = 0;
            if (!a.rest.next(e)) return "cut off";
            if ((f == id && !read_number(e, number)) || (f == wnid && !read_text(e, s.wnid)) ||
                (f == words && !read_text(e, s.words)))
                return "a synset that is not understood";
            if (f == id) {
                if (!(number >= 1 && number <= 1e6)) return "a synset that is not understood";
                s.id = static_cast<int>(number);
            }
        }
        synsets.push_back(std::move(s));
    }
    return "";
}

IlsvrcDevkit read_ilsvrc_devkit(const std::string& path) {
    const std::string packed = read_whole(path);
    std::string tar;
    if (const std::string wrong = inflate_all(packed.data(), packed.size(), true, tar);
        !wrong.empty())
        throw Error(path + ": " + wrong);
    const auto members = index_tar(path, tar.size(), [&](uint64_t offset, void* out, size_t n) {
        if (offset > tar.size() || n > tar.size() - offset) return false;
        std::memcpy(out, tar.data() + offset, n);
        return true;
    });
    const auto contents = [&](const std::string& end) {
        for (const TarMember& m : members)
            if (m.name.ends_with(end)) return tar.substr(m.offset, m.size);
        throw Error(path + " has no " + end +
                    ": not ILSVRC2012's development kit for tasks 1 and 2");
    };
    IlsvrcDevkit kit;
    if (const std::string wrong = parse_synsets(contents("data/meta.mat"), kit.synsets);
        !wrong.empty())
        throw Error(path + ": meta.mat is " + wrong);
    // Those behind the challenge's own are what WordNet has above them.
    std::erase_if(kit.synsets, [](const IlsvrcDevkit::Synset& s) { return s.id > 1000; });
    std::sort(kit.synsets.begin(), kit.synsets.end(),
              [](const auto& a, const auto& b) { return a.id < b.id; });
    const std::string truth = contents("ILSVRC2012_validation_ground_truth.txt");
    const char* at = truth.data();
    const char* const end = at + truth.size();
    while (at < end) {
        if (*at == '\n' || *at == '\r' || *at == ' ') {
            ++at;
            continue;
        }
        int id = 0;
        const auto r = std::from_chars(at, end, id);
        if (r.ec != std::errc())
            throw Error(path + ": its ground truth of the validation images is not understood");
        kit.validation.push_back(id);
        at = r.ptr;
    }
    return kit;
}

}  // namespace wt
