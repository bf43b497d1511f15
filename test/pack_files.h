// Tar archives and MATLAB 5 files for the tests of bin/pack and its fuzzer.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <initializer_list>
#include <string>
#include <vector>

#include "data/ilsvrc_devkit.h"

namespace wt::test {

using Bytes = std::vector<uint8_t>;

// What a tar archive has before a member's bytes, and the padding behind them.
inline void add_member(Bytes& tar, const std::string& name, const Bytes& body, char type = '0') {
    char h[512] = {};
    std::snprintf(h, 100, "%s", name.c_str());
    std::snprintf(h + 100, 8, "0000644");
    std::snprintf(h + 124, 12, "%011zo", body.size());
    std::snprintf(h + 136, 12, "%011o", 0u);
    h[156] = type;
    std::memcpy(h + 257,
                "ustar\0"
                "00",
                8);
    std::memset(h + 148, ' ', 8);
    unsigned sum = 0;
    for (const char c : h) sum += static_cast<uint8_t>(c);
    std::snprintf(h + 148, 8, "%06o", sum);
    tar.insert(tar.end(), h, h + 512);
    tar.insert(tar.end(), body.begin(), body.end());
    tar.resize((tar.size() + 511) / 512 * 512);
}
inline void end_tar(Bytes& tar) { tar.resize(tar.size() + 1024); }

inline Bytes bytes_of(const std::string& s) { return Bytes(s.begin(), s.end()); }

// A MATLAB 5 element, padded to 8 bytes.
inline void element(Bytes& b, uint32_t type, const Bytes& data) {
    for (const uint32_t v : {type, static_cast<uint32_t>(data.size())})
        for (int s = 0; s < 32; s += 8) b.push_back(static_cast<uint8_t>(v >> s));
    b.insert(b.end(), data.begin(), data.end());
    b.resize((b.size() + 7) / 8 * 8);
}
inline Bytes little(std::initializer_list<int32_t> values) {
    Bytes b;
    for (const int32_t v : values)
        for (int s = 0; s < 32; s += 8) b.push_back(static_cast<uint8_t>(v >> s));
    return b;
}
// An array of class `kind` (4 char, 6 double) with one data element.
inline Bytes array(int kind, int32_t columns, uint32_t type, const Bytes& data) {
    Bytes b;
    element(b, 6, little({kind, 0}));
    element(b, 5, little({1, columns}));
    element(b, 1, {});
    element(b, type, data);
    return b;
}
inline Bytes text_array(const std::string& s) {
    Bytes wide;
    for (const char c : s) wide.insert(wide.end(), {static_cast<uint8_t>(c), 0});
    return array(4, static_cast<int32_t>(s.size()), 4, wide);
}

// What scipy.io.savemat(..., {"synsets": struct array}, do_compression=True) writes of them, with a
// field that is not looked at.
inline std::string synsets_mat(const std::vector<IlsvrcDevkit::Synset>& synsets,
                               bool extents = true) {
    Bytes body;
    element(body, 6, little({2, 0}));
    element(body, 5, extents ? little({static_cast<int32_t>(synsets.size()), 1}) : Bytes());
    element(body, 1, bytes_of("synsets"));
    element(body, 5, little({32}));
    Bytes names(4 * 32);
    int at = 0;
    for (const char* name : {"ILSVRC2012_ID", "gloss", "WNID", "words"})
        std::memcpy(&names[static_cast<size_t>(32 * at++)], name, std::strlen(name));
    element(body, 1, names);
    for (const auto& s : synsets) {
        element(body, 14,
                array(6, 1, 4, {static_cast<uint8_t>(s.id), static_cast<uint8_t>(s.id >> 8)}));
        element(body, 14, text_array("what it is"));
        element(body, 14, text_array(s.wnid));
        element(body, 14, text_array(s.words));
    }
    Bytes whole;
    element(whole, 14, body);
    uLongf size = compressBound(whole.size());
    Bytes packed(size);
    compress(packed.data(), &size, whole.data(), whole.size());
    packed.resize(size);
    std::string mat(124, ' ');
    mat += std::string("\x00\x01IM", 4);
    const Bytes tag = little({15, static_cast<int32_t>(packed.size())});
    mat.append(tag.begin(), tag.end());
    mat.append(packed.begin(), packed.end());
    return mat;
}

}  // namespace wt::test
