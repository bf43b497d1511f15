// Small data sets written to a temporary folder, for the tests of data/.
#pragma once

#include <zlib.h>

#include <cstdint>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include "test/temp_dir.h"
#include "test/text.h"

namespace wt::test {

using Bytes = std::vector<uint8_t>;

inline void write_file(const std::string& path, const Bytes& bytes) {
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    std::ofstream(path, std::ios::binary)
        .write(reinterpret_cast<const char*>(bytes.data()), std::streamsize(bytes.size()));
}

inline Bytes read_bytes(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return Bytes(std::istreambuf_iterator<char>(in), {});
}

inline void write_gz(const std::string& path, const Bytes& bytes) {
    std::filesystem::create_directories(std::filesystem::path(path).parent_path());
    gzFile f = gzopen(path.c_str(), "wb");
    REQUIRE(f != nullptr);
    CHECK(gzwrite(f, bytes.data(), unsigned(bytes.size())) == int(bytes.size()));
    gzclose(f);
}

inline void put32(Bytes& b, uint32_t v) {
    for (int s = 24; s >= 0; s -= 8) b.push_back(uint8_t(v >> s));
}

// Pixel p of image i is i * 7 + p * 3; label i is i % 10.
inline Bytes idx_images(int n, int h, int w) {
    Bytes b{0, 0, 8, 3};
    put32(b, n), put32(b, h), put32(b, w);
    for (int i = 0; i < n; ++i)
        for (int p = 0; p < h * w; ++p) b.push_back(uint8_t(i * 7 + p * 3));
    return b;
}
inline Bytes idx_labels(int n) {
    Bytes b{0, 0, 8, 1};
    put32(b, n);
    for (int i = 0; i < n; ++i) b.push_back(uint8_t(i % 10));
    return b;
}

inline void write_idx_set(const std::string& dir, int train, int test, int side = 28) {
    write_file(dir + "/train-images-idx3-ubyte", idx_images(train, side, side));
    write_file(dir + "/train-labels-idx1-ubyte", idx_labels(train));
    write_gz(dir + "/t10k-images-idx3-ubyte.gz", idx_images(test, side, side));
    write_gz(dir + "/t10k-labels-idx1-ubyte.gz", idx_labels(test));
}

// A PNG of `rows` raw bytes a row (as PNG packs them), one filter byte 0 put before each.
inline Bytes png(int w, int h, int bits, int colour_type, const Bytes& rows,
                 const Bytes& palette = {}) {
    Bytes b{0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
    const auto chunk = [&](const char* name, const Bytes& body) {
        put32(b, uint32_t(body.size()));
        const size_t from = b.size();
        b.insert(b.end(), name, name + 4);
        b.insert(b.end(), body.begin(), body.end());
        put32(b, uint32_t(crc32(0, &b[from], uInt(b.size() - from))));
    };
    Bytes head;
    put32(head, w), put32(head, h);
    for (int v : {bits, colour_type, 0, 0, 0}) head.push_back(uint8_t(v));
    chunk("IHDR", head);
    if (!palette.empty()) chunk("PLTE", palette);
    Bytes raw;
    const size_t stride = rows.size() / h;
    for (int y = 0; y < h; ++y) {
        raw.push_back(0);
        raw.insert(raw.end(), rows.begin() + y * stride, rows.begin() + (y + 1) * stride);
    }
    uLongf size = compressBound(raw.size());
    Bytes packed(size);
    compress(packed.data(), &size, raw.data(), raw.size());
    packed.resize(size);
    chunk("IDAT", packed);
    chunk("IEND", {});
    return b;
}

// One colour all over, RGB.
inline Bytes flat_png(int w, int h, int r, int g, int b) {
    Bytes rows;
    for (int i = 0; i < w * h; ++i) rows.insert(rows.end(), {uint8_t(r), uint8_t(g), uint8_t(b)});
    return png(w, h, 8, 2, rows);
}

// Runs f and returns the message it throws as E, or says what it did instead.
template <class E, class F>
std::string message(F&& f) {
    try {
        f();
    } catch (const E& e) {
        const std::string text = e.what();
        CHECK(text.find('\n') == text.npos);
        return text;
    } catch (const std::exception& e) {
        return std::string("another exception: ") + e.what();
    }
    return "no exception";
}

}  // namespace wt::test
