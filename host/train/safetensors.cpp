#include "host/train/safetensors.h"

#include "host/cuda/check.h"
#include "host/cuda/nearest.h"
#include "host/json.h"
#include "host/train/atomic_file.h"

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstring>
#include <limits>
#include <memory>
#include <set>
#include <unistd.h>

namespace wt {
namespace {

using json = nlohmann::json;  // sorts keys: a header may have many

static_assert(std::endian::native == std::endian::little,
              "tensors are written as they lie in memory");

constexpr uint64_t kMaxHeader = 100'000'000;  // the reference implementation's bound
constexpr size_t kPiece = 1 << 16;            // floats converted at a time

[[noreturn]] void bad(const std::string& path, const std::string& what) {
    throw Error(path + ": not a valid safetensors file: " + what);
}
[[noreturn]] void bad(const std::string& path, const std::string& tensor, const std::string& what) {
    bad(path, "tensor " + tensor + ": " + what);
}

std::string text(std::span<const int64_t> shape) {
    std::string s = "[";
    for (size_t i = 0; i < shape.size(); ++i) s += (i ? "," : "") + std::to_string(shape[i]);
    return s + "]";
}

// Of the shape's elements times `bytes`; false when it does not fit 63 bits or an extent is
// negative.
bool size_in_bytes(std::span<const int64_t> shape, uint64_t bytes, uint64_t& out) {
    constexpr uint64_t kMost = std::numeric_limits<int64_t>::max();
    bool zero = false;
    out = bytes;
    for (const int64_t d : shape) {
        if (d < 0) return false;
        if (d == 0) zero = true;
    }
    if (zero) {
        out = 0;
        return true;
    }
    for (const int64_t d : shape) {
        if (out > kMost / static_cast<uint64_t>(d)) return false;
        out *= static_cast<uint64_t>(d);
    }
    return true;
}

uint64_t bytes_of(const std::string& dtype) {
    static const std::map<std::string, uint64_t> sizes = {
        {"F64", 8}, {"I64", 8}, {"U64", 8},     {"F32", 4},     {"I32", 4},
        {"U32", 4}, {"F16", 2}, {"BF16", 2},    {"I16", 2},     {"U16", 2},
        {"I8", 1},  {"U8", 1},  {"F8_E4M3", 1}, {"F8_E5M2", 1}, {"BOOL", 1}};
    const auto it = sizes.find(dtype);
    return it == sizes.end() ? 0 : it->second;
}

float from_bf16(uint16_t h) { return std::bit_cast<float>(static_cast<uint32_t>(h) << 16); }

float from_f16(uint16_t h) {
    const uint32_t sign = (h & 0x8000u) << 16, exponent = (h >> 10) & 31, fraction = h & 0x3ffu;
    // infinity, NaN
    if (exponent == 31) return std::bit_cast<float>(sign | 0x7f800000u | fraction << 13);
    if (exponent != 0) return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
    const float v = static_cast<float>(fraction) * 0x1p-24f;  // subnormal or zero, exact
    return sign ? -v : v;
}

void read_bytes(const RegularFile& file, const std::string& path, uint64_t at, void* to, size_t n) {
    for (size_t have = 0; have < n;) {
        const ssize_t got = pread(file.fd(), static_cast<char*>(to) + have, n - have,
                                  static_cast<off_t>(at + have));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0)
            throw Error("cannot read " + path + ": " +
                        (got < 0 ? std::strerror(errno) : "it ends early"));
        have += static_cast<size_t>(got);
    }
}

// nlohmann keeps the last of two equal keys; here a name given twice is a fault. Only the names of
// tensors and of metadata matter, both found at known depths.
json parse_header(const std::string& path, const std::string& header) {
    std::vector<std::set<std::string>> keys;
    std::string twice;
    const auto watch = [&](int, json::parse_event_t event, json& value) {
        if (event == json::parse_event_t::object_start) keys.emplace_back();
        if (event == json::parse_event_t::object_end && !keys.empty()) keys.pop_back();
        if (event == json::parse_event_t::key && !keys.empty() &&
            !keys.back().insert(value.get<std::string>()).second)
            twice = value.get<std::string>();
        return true;
    };
    json j;
    try {
        j = json::parse(header, watch);
    } catch (const json::exception& e) {
        bad(path, "the header is not JSON");
    }
    if (!j.is_object()) bad(path, "the header is not a JSON object");
    if (!twice.empty()) bad(path, "'" + twice + "' is there twice");
    return j;
}

}  // namespace

void write_safetensors(const std::string& path, std::span<const NamedTensor> tensors,
                       const std::map<std::string, std::string>& metadata,
                       const std::string& noun) {
    Json header = Json::object();
    if (!metadata.empty()) header["__metadata__"] = metadata;
    uint64_t at = 0;
    for (const auto& t : tensors) {
        uint64_t bytes = 0;
        if (t.name.empty() || t.name == "__metadata__" || header.contains(t.name))
            throw Error("cannot write " + path + ": bad tensor name '" + t.name +
                        "', empty, reserved or there twice");
        if (!size_in_bytes(t.shape, sizeof(float), bytes))
            throw Error("cannot write " + path + ": tensor " + t.name + " has the shape " +
                        text(t.shape));
        header[t.name] = {{"dtype", "F32"}, {"shape", t.shape}, {"data_offsets", {at, at + bytes}}};
        at += bytes;
    }
    std::string head = json_text(header);
    // tensors begin 8-byte aligned, as the reference writer does
    head.append((8 - head.size() % 8) % 8, ' ');
    const uint64_t length = head.size();

    AtomicFile file(path, sizeof length + length + at, noun);
    file.write(&length, sizeof length);
    file.write(head.data(), head.size());
    for (const auto& t : tensors) {
        uint64_t bytes = 0;
        size_in_bytes(t.shape, sizeof(float), bytes);
        file.write(t.data, bytes);
    }
    file.commit();
}

SafetensorsFile SafetensorsFile::open(const std::string& path) {
    SafetensorsFile s;
    s.path_ = path;
    s.file_ = std::make_shared<const RegularFile>(path);
    if (!s.file_->wrong().empty()) throw Error("cannot read " + path + ": " + s.file_->wrong());
    s.size_ = static_cast<uint64_t>(s.file_->size());
    uint64_t length = 0;
    if (s.size_ < sizeof length)
        bad(path, "truncated: " + std::to_string(s.size_) + " bytes, a header needs more");
    read_bytes(*s.file_, path, 0, &length, sizeof length);
    if (length > kMaxHeader)
        bad(path, "header length " + std::to_string(length) + " is out of range");
    if (length > s.size_ - sizeof length)
        bad(path, "truncated: the header alone has " + std::to_string(length) +
                      " bytes, the file " + std::to_string(s.size_));
    std::string head(length, '\0');
    read_bytes(*s.file_, path, sizeof length, head.data(), length);
    const json header = parse_header(path, head);

    const uint64_t data = sizeof length + length;
    for (const auto& [name, value] : header.items()) {
        if (name == "__metadata__") {
            if (!value.is_object()) bad(path, "__metadata__ is not an object");
            for (const auto& [key, v] : value.items()) {
                if (!v.is_string()) bad(path, "__metadata__ '" + key + "' is not a text");
                s.metadata_[key] = v.get<std::string>();
            }
            continue;
        }
        Entry e;
        if (!value.is_object() || !value.contains("dtype") || !value["dtype"].is_string() ||
            !value.contains("shape") || !value["shape"].is_array() ||
            !value.contains("data_offsets") || !value["data_offsets"].is_array() ||
            value["data_offsets"].size() != 2)
            bad(path, name, "needs dtype, shape and two data_offsets");
        e.dtype = value["dtype"].get<std::string>();
        const uint64_t bytes = bytes_of(e.dtype);
        if (bytes == 0) bad(path, name, "unknown dtype '" + e.dtype + "'");
        for (const auto& d : value["shape"]) {
            if (!d.is_number_unsigned() ||
                d.get<uint64_t>() > uint64_t{std::numeric_limits<int64_t>::max()})
                bad(path, name, "its shape is not a list of whole numbers");
            e.shape.push_back(d.get<int64_t>());
        }
        for (const auto& o : value["data_offsets"])
            if (!o.is_number_unsigned()) bad(path, name, "its data_offsets are not whole numbers");
        e.begin = value["data_offsets"][0].get<uint64_t>();
        e.end = value["data_offsets"][1].get<uint64_t>();
        uint64_t want = 0;
        if (!size_in_bytes(e.shape, bytes, want) || e.begin > e.end || e.end - e.begin != want)
            bad(path, name,
                "data_offsets " + std::to_string(e.begin) + " to " + std::to_string(e.end) +
                    " do not hold the shape " + text(e.shape) + " of " + e.dtype);
        if (e.end > s.size_ - data)
            bad(path, name,
                "truncated: it ends at byte " + std::to_string(e.end) +
                    " of the data, the file has " + std::to_string(s.size_ - data));
        e.begin += data;
        e.end += data;
        s.tensors_.emplace(name, std::move(e));
    }

    uint64_t at = data;
    for (const auto& name : s.names()) {
        const Entry& e = s.tensors_.at(name);
        if (e.begin < at) bad(path, name, "overlaps the tensor before it");
        if (e.begin > at) bad(path, name, "bytes before it are no tensor's");
        at = e.end;
    }
    if (at != s.size_) bad(path, std::to_string(s.size_ - at) + " bytes after the last tensor");
    return s;
}

std::vector<std::string> SafetensorsFile::names() const {
    std::vector<std::string> names;
    for (const auto& [name, e] : tensors_) names.push_back(name);
    std::stable_sort(names.begin(), names.end(), [&](const std::string& a, const std::string& b) {
        const Entry &x = tensors_.at(a), &y = tensors_.at(b);
        return x.begin != y.begin ? x.begin < y.begin : x.end < y.end;
    });
    return names;
}

const SafetensorsFile::Entry& SafetensorsFile::entry(const std::string& name) const {
    const auto it = tensors_.find(name);
    if (it != tensors_.end()) return it->second;
    const std::string n = nearest(name, names());
    throw Error(path_ + ": no tensor " + name + (n.empty() ? "" : "; nearest is " + n));
}

const std::vector<int64_t>& SafetensorsFile::shape(const std::string& name) const {
    return entry(name).shape;
}

const std::string& SafetensorsFile::dtype(const std::string& name) const {
    return entry(name).dtype;
}

std::vector<float> SafetensorsFile::read(const std::string& name) const {
    const Entry& e = entry(name);
    if (e.dtype != "F32" && e.dtype != "F16" && e.dtype != "BF16")
        throw Error(path_ + ": tensor " + name + " has dtype " + e.dtype +
                    ": must be F32, F16 or BF16");
    struct stat now {};
    if (fstat(file_->fd(), &now) != 0 || static_cast<uint64_t>(now.st_size) != size_)
        throw Error(path_ + ": changed while it was read");
    if (e.dtype == "F32") {
        std::vector<float> v((e.end - e.begin) / sizeof(float));
        read_bytes(*file_, path_, e.begin, v.data(), v.size() * sizeof(float));
        return v;
    }
    std::vector<float> v((e.end - e.begin) / sizeof(uint16_t));
    std::vector<uint16_t> piece(std::min(v.size(), kPiece));
    for (size_t i = 0; i < v.size(); i += kPiece) {
        const size_t n = std::min(kPiece, v.size() - i);
        read_bytes(*file_, path_, e.begin + i * sizeof(uint16_t), piece.data(),
                   n * sizeof(uint16_t));
        std::transform(piece.data(), piece.data() + n, v.data() + i,
                       e.dtype == "F16" ? from_f16 : from_bf16);
    }
    return v;
}

std::vector<float> SafetensorsFile::read(const std::string& name,
                                         std::span<const int64_t> shape) const {
    const Entry& e = entry(name);
    if (!std::equal(e.shape.begin(), e.shape.end(), shape.begin(), shape.end()))
        throw Error(path_ + ": tensor " + name + " has the shape " + text(e.shape) +
                    ", needed is " + text(shape) + ": is it of another net or number of classes?");
    return read(name);
}

}  // namespace wt
