// JPEG files put together segment by segment, right or wrong ones, for tests and the fuzzers'
// corpora.
//
//   Bytes b = jpeg_start();
//   add(b, frame(0xC0, 16, 8, {{1, 0x11, 0}}), huffman(0, 0, {1}, {0}), huffman(1, 0, {1}, {0}));
//   add(b, scan({{1, 0x00}}), zeros(2), jpeg_end());          // two blocks of two zero bits each:
//   grey 128
#pragma once

#include <cstdint>
#include <vector>

namespace wt::test {

using Bytes = std::vector<uint8_t>;

inline void append(Bytes& to, const Bytes& more) { to.insert(to.end(), more.begin(), more.end()); }
template <class... Parts>
void add(Bytes& to, const Parts&... parts) {
    (append(to, parts), ...);
}

inline Bytes segment(uint8_t marker, const Bytes& body) {
    Bytes b{0xFF, marker, uint8_t((body.size() + 2) >> 8), uint8_t(body.size() + 2)};
    append(b, body);
    return b;
}

// Quantisation table `number` of ones.
inline Bytes quantisation(int number) {
    Bytes body{uint8_t(number)};
    body.insert(body.end(), 64, 1);
    return segment(0xDB, body);
}

// kind 0: DC, 1: AC. `counts`: codes of 1, 2, ... bits.
inline Bytes huffman(int kind, int number, Bytes counts, const Bytes& symbols) {
    counts.resize(16);
    counts.insert(counts.begin(), uint8_t(kind << 4 | number));
    append(counts, symbols);
    return segment(0xC4, counts);
}

inline Bytes restart_interval(int units) {
    return segment(0xDD, {uint8_t(units >> 8), uint8_t(units)});
}

struct FrameComponent {
    uint8_t id, sampling, quantisation;
};
inline Bytes frame(uint8_t marker, int w, int h, const std::vector<FrameComponent>& components) {
    Bytes body{8,          uint8_t(h >> 8),           uint8_t(h), uint8_t(w >> 8),
               uint8_t(w), uint8_t(components.size())};
    for (const auto& c : components) append(body, {c.id, c.sampling, c.quantisation});
    return segment(marker, body);
}

struct ScanComponent {
    uint8_t id, tables;
};
// The scan's header; its data follow. `bits`: high << 4 | low.
inline Bytes scan(const std::vector<ScanComponent>& components, int first = 0, int last = 63,
                  int bits = 0) {
    Bytes body{uint8_t(components.size())};
    for (const auto& c : components) append(body, {c.id, c.tables});
    append(body, {uint8_t(first), uint8_t(last), uint8_t(bits)});
    return segment(0xDA, body);
}

inline Bytes zeros(size_t n) { return Bytes(n, 0); }
// Start of image and quantisation table 0.
inline Bytes jpeg_start() {
    Bytes b{0xFF, 0xD8};
    append(b, quantisation(0));
    return b;
}
inline Bytes jpeg_end() { return {0xFF, 0xD9}; }

// Tables 0 whose one code, a zero bit, stands for 0: no difference (DC), no more coefficients (AC).
inline Bytes zero_tables() {
    Bytes b = huffman(0, 0, {1}, {0});
    append(b, huffman(1, 0, {1}, {0}));
    return b;
}

// All grey (128): `components` of them, each 1x1, `units` blocks in each (8 * units wide).
inline Bytes flat_jpeg(int units = 2, int components = 1) {
    Bytes b = jpeg_start();
    std::vector<FrameComponent> in_frame;
    std::vector<ScanComponent> in_scan;
    for (int i = 0; i < components; ++i) {
        in_frame.push_back({uint8_t(i + 1), 0x11, 0});
        in_scan.push_back({uint8_t(i + 1), 0x00});
    }
    add(b, frame(0xC0, 8 * units, 8, in_frame), zero_tables(), scan(in_scan));
    add(b, zeros(size_t(units * components + 3) / 4), jpeg_end());
    return b;
}

// The same in one component, progressive: DC from bit 1 up, its bit 0, then all AC coefficients.
inline Bytes flat_progressive_jpeg(int units = 2) {
    Bytes b = jpeg_start();
    const Bytes bits = zeros(size_t(units + 7) / 8);
    add(b, frame(0xC2, 8 * units, 8, {{1, 0x11, 0}}), zero_tables(), scan({{1, 0x00}}, 0, 0, 0x01),
        bits);
    add(b, scan({{1, 0x00}}, 0, 0, 0x10), bits, scan({{1, 0x00}}, 1, 63, 0x00), bits, jpeg_end());
    return b;
}

}  // namespace wt::test
