#include "data/image_structure.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <initializer_list>
#include <string_view>

namespace wt {
namespace {

// Many times what encoders make of a progressive file (ten). Each costs a pass over all blocks, and
// may have two bytes.
constexpr int kMostScans = 100;

// An APP14 segment that says "CMYK, not transformed".
constexpr uint8_t kAdobeCmyk[] = {0xFF, 0xEE, 0,   14, 'A', 'd', 'o', 'b',
                                  'e',  0,    100, 0,  0,   0,   0,   0};

enum Marker : uint8_t {
    kSof0 = 0xC0,
    kSof2 = 0xC2,
    kDht = 0xC4,
    kJpg = 0xC8,
    kDac = 0xCC,
    kRst0 = 0xD0,
    kRst7 = 0xD7,
    kSoi = 0xD8,
    kEoi = 0xD9,
    kSos = 0xDA,
    kDqt = 0xDB,
    kDri = 0xDD,
    kApp0 = 0xE0,
    kApp14 = 0xEE
};

int64_t ceil_div(int64_t a, int64_t b) { return (a + b - 1) / b; }

struct Component {
    int id = 0, h = 1, v = 1, quantisation = 0;
    int64_t blocks_wide = 0, blocks_high = 0;  // in a scan of its own
    // Progressive: the lowest bit of each coefficient that is known so far, -1 none. Else the first
    // alone counts.
    std::array<int, 64> known;
};

class Walk {
public:
    Walk(const std::vector<uint8_t>& file, JpegStructure& to) : b_(file), to_(to) {}
    void run();

private:
    [[noreturn]] void damaged(const std::string& what) const {
        throw RefusedImage{"damaged JPEG (" + what + " at byte " + std::to_string(segment_) + ")"};
    }
    [[noreturn]] void truncated() const {
        throw RefusedImage{"truncated JPEG (no end-of-image marker in " +
                           std::to_string(b_.size()) + " bytes)"};
    }
    [[noreturn]] static void not_read(const std::string& kind) {
        throw RefusedImage{"JPEG with " + kind + ", which is not read: convert it"};
    }
    void need(bool right, const char* what) const {
        if (!right) damaged(what);
    }
    bool tagged(std::string_view tag) const {
        return length_ >= tag.size() && std::memcmp(body_, tag.data(), tag.size()) == 0;
    }

    bool next_marker();
    void take_segment();
    void huffman_tables();
    void quantisation_tables();
    void restart_interval();
    void frame();
    void scan();
    void scan_order(const std::vector<Component*>& in, int first, int last, int high, int low);
    void scan_data(const std::vector<Component*>& in, bool every_block_has_bits);
    void keep(std::initializer_list<uint8_t> bytes) {
        to_.checked.insert(to_.checked.end(), bytes);
    }
    void keep_segment() {
        keep({0xFF, marker_, uint8_t((length_ + 2) >> 8), uint8_t(length_ + 2)});
        to_.checked.insert(to_.checked.end(), body_, body_ + length_);
    }

    const std::vector<uint8_t>& b_;
    JpegStructure& to_;
    size_t at_ = 2, segment_ = 0;  // the next byte; where the segment in hand began
    uint8_t marker_ = 0;
    const uint8_t* body_ = nullptr;  // the segment behind its length
    size_t length_ = 0;
    bool has_table_[2][4] = {};  // Huffman: DC, AC
    bool has_quantisation_[4] = {};
    int interval_ = 0, scans_ = 0, h_max_ = 1, v_max_ = 1;
    bool progressive_ = false, adobe_ = false;
    std::vector<Component> components_;
};

// Garbage between segments is common in the wild and harmless: the next FF that is followed by a
// marker.
bool Walk::next_marker() {
    for (;;) {
        while (at_ < b_.size() && b_[at_] != 0xFF) ++at_;
        while (at_ + 1 < b_.size() && b_[at_ + 1] == 0xFF) ++at_;
        if (at_ + 1 >= b_.size()) truncated();
        segment_ = at_;
        marker_ = b_[at_ + 1];
        at_ += 2;
        if (marker_ == kEoi) return false;
        // No length follows these.
        if (marker_ > 1 && !(marker_ >= kRst0 && marker_ <= kSoi)) return true;
    }
}

void Walk::take_segment() {
    if (at_ + 2 > b_.size()) truncated();
    const size_t length = size_t(b_[at_]) << 8 | b_[at_ + 1];
    if (length < 2) damaged("segment of length " + std::to_string(length));
    if (at_ + length > b_.size()) truncated();
    body_ = b_.data() + at_ + 2;
    length_ = length - 2;
    at_ += length;
}

void Walk::run() {
    to_ = {};
    to_.checked.reserve(b_.size() + sizeof kAdobeCmyk);
    keep({0xFF, kSoi});
    while (next_marker()) {
        take_segment();
        if (marker_ == kDht)
            huffman_tables();
        else if (marker_ == kDqt)
            quantisation_tables();
        else if (marker_ == kDri)
            restart_interval();
        else if (marker_ == kSos)
            scan();
        else if (marker_ == kDac)
            not_read("arithmetic coding");
        else if (marker_ >= 0xC0 && marker_ <= 0xCF && marker_ != kJpg)
            frame();
        else if (scans_ == 0 && marker_ == kApp0 && tagged(std::string_view("JFIF", 5)))
            keep_segment();
        else if (scans_ == 0 && marker_ == kApp14 && length_ >= 12 && tagged("Adobe")) {
            adobe_ = true;
            keep_segment();
        }
    }
    if (components_.empty()) damaged("no frame before the end");
    for (const Component& c : components_)
        need(c.known[0] >= 0, "a component that no scan codes before the end");
    keep({0xFF, kEoi});
    if (components_.size() == 4 && !adobe_)
        to_.checked.insert(to_.checked.begin() + 2, std::begin(kAdobeCmyk), std::end(kAdobeCmyk));
}

void Walk::huffman_tables() {
    for (size_t at = 0; at < length_;) {
        need(length_ - at >= 17, "Huffman table cut short");
        const uint8_t* p = body_ + at;
        const int kind = p[0] >> 4, number = p[0] & 15;
        need(kind <= 1 && number <= 3, "Huffman table of an unknown number");
        int codes = 0, next_code = 0;
        for (int bits = 1; bits <= 16; ++bits) {
            codes += p[bits];
            next_code += p[bits];
            // A code of ones alone is reserved.
            need(p[bits] == 0 || next_code < 1 << bits,
                 "Huffman table with more codes than its lengths allow");
            next_code *= 2;
        }
        need(codes <= 256, "Huffman table of more than 256 codes");
        at += 17 + size_t(codes);
        need(at <= length_, "Huffman table cut short");
        has_table_[kind][number] = true;
    }
    keep_segment();
}

void Walk::quantisation_tables() {
    for (size_t at = 0; at < length_;) {
        const int wide = body_[at] >> 4, number = body_[at] & 15;
        need(wide <= 1 && number <= 3, "quantisation table of an unknown kind");
        at += 1 + 64 * size_t(1 + wide);
        need(at <= length_, "quantisation table cut short");
        has_quantisation_[number] = true;
    }
    keep_segment();
}

void Walk::restart_interval() {
    need(length_ == 2, "restart interval of a wrong length");
    interval_ = body_[0] << 8 | body_[1];
    keep_segment();
}

void Walk::frame() {
    if (marker_ > 0xC8) not_read("arithmetic coding");
    if (marker_ == 0xC3) not_read("lossless coding");
    if (marker_ > kSof2) not_read("hierarchical coding");
    need(components_.empty(), "second frame");
    need(length_ >= 6, "frame cut short");
    progressive_ = marker_ == kSof2;
    if (body_[0] != 8) not_read(std::to_string(body_[0]) + " bits a sample");
    to_.height = body_[1] << 8 | body_[2];
    to_.width = body_[3] << 8 | body_[4];
    to_.components = body_[5];
    if (to_.width == 0 || to_.height == 0 || int64_t(to_.width) * to_.height > kMostPixels)
        throw RefusedImage{"claims " + std::to_string(to_.width) + "x" +
                           std::to_string(to_.height) + " pixels"};
    if (to_.components != 1 && to_.components != 3 && to_.components != 4)
        not_read(std::to_string(to_.components) + " colour components");
    need(length_ == 6 + 3 * size_t(to_.components), "frame of a wrong length");
    for (int i = 0; i < to_.components; ++i) {
        const uint8_t* p = body_ + 6 + 3 * i;
        Component c{.id = p[0], .h = p[1] >> 4, .v = p[1] & 15, .quantisation = p[2], .known = {}};
        c.known.fill(-1);
        need(c.h >= 1 && c.h <= 4 && c.v >= 1 && c.v <= 4, "sampling factor outside 1 to 4");
        need(c.quantisation <= 3, "quantisation table of an unknown number");
        for (const Component& other : components_)
            need(other.id != c.id, "two components of one name");
        h_max_ = std::max(h_max_, c.h), v_max_ = std::max(v_max_, c.v);
        components_.push_back(c);
    }
    for (Component& c : components_) {
        need(h_max_ % c.h == 0 && v_max_ % c.v == 0, "sampling factors that do not divide");
        c.blocks_wide = ceil_div(int64_t(to_.width) * c.h, 8 * h_max_);
        c.blocks_high = ceil_div(int64_t(to_.height) * c.v, 8 * v_max_);
    }
    keep_segment();
}

void Walk::scan() {
    need(!components_.empty(), "scan before its frame");
    need(++scans_ <= kMostScans, "more than 100 scans");
    need(length_ >= 1 && body_[0] >= 1 && body_[0] <= components_.size(),
         "scan of a wrong number of components");
    const int n = body_[0];
    need(length_ == 4 + 2 * size_t(n), "scan of a wrong length");
    int first = body_[1 + 2 * n], last = body_[2 + 2 * n], high = body_[3 + 2 * n] >> 4,
        low = body_[3 + 2 * n] & 15;
    // Some encoders leave these 0, and nobody looks at them.
    if (!progressive_) {
        first = 0;
        last = 63;
        high = low = 0;
    }
    const bool dc = first == 0 && high == 0, ac = last > 0;  // which Huffman tables it uses
    keep({0xFF, kSos, 0, uint8_t(6 + 2 * n), uint8_t(n)});
    std::vector<Component*> in;
    for (int i = 0; i < n; ++i) {
        const int id = body_[1 + 2 * i], dc_table = body_[2 + 2 * i] >> 4,
                  ac_table = body_[2 + 2 * i] & 15;
        const auto c = std::find_if(components_.begin(), components_.end(),
                                    [&](const auto& x) { return x.id == id; });
        need(c != components_.end(), "scan of a component that the frame lacks");
        need(std::find(in.begin(), in.end(), &*c) == in.end(), "scan that names a component twice");
        in.push_back(&*c);
        need(has_quantisation_[c->quantisation], "scan before its quantisation table");
        need(!dc || (dc_table <= 3 && has_table_[0][dc_table]), "scan before its Huffman table");
        need(!ac || (ac_table <= 3 && has_table_[1][ac_table]), "scan before its Huffman table");
        keep({uint8_t(id), uint8_t((dc ? dc_table : 0) << 4 | (ac ? ac_table : 0))});
    }
    keep({uint8_t(first), uint8_t(last), uint8_t(high << 4 | low)});
    scan_order(in, first, last, high, low);
    scan_data(in, dc);
}

// Progressive scans: DC or AC, each bit once and from the top.
void Walk::scan_order(const std::vector<Component*>& in, int first, int last, int high, int low) {
    if (progressive_) {
        need(first <= last && last <= 63 && (first > 0 || last == 0), "scan of a wrong band");
        need(first == 0 || in.size() == 1, "scan of several components' AC coefficients");
        need(low <= 13 && (high == 0 || high == low + 1), "scan of wrong bits");
    }
    for (Component* c : in) {
        need(first == 0 || c->known[0] >= 0, "scan of AC coefficients before the DC coefficients");
        for (int k = first; k <= last; ++k) {
            need(c->known[size_t(k)] == (high == 0 ? -1 : high), "scan out of order");
            c->known[size_t(k)] = low;
        }
    }
}

// Entropy-coded data: FF 00 is a data byte, FF D0..D7 are restarts; every other marker ends them.
void Walk::scan_data(const std::vector<Component*>& in, bool every_block_has_bits) {
    int64_t units = in[0]->blocks_wide * in[0]->blocks_high, blocks = units;
    if (in.size() > 1) {
        int each = 0;
        for (const Component* c : in) each += c->h * c->v;
        need(each <= 10, "scan of more than ten blocks a unit");
        units = ceil_div(to_.width, 8 * h_max_) * ceil_div(to_.height, 8 * v_max_);
        blocks = units * each;
    }
    const int64_t restarts = interval_ ? (units - 1) / interval_ : 0;
    const size_t begin = at_;
    size_t end = 0;
    int64_t found = 0;
    for (;;) {
        const void* ff = at_ < b_.size() ? std::memchr(&b_[at_], 0xFF, b_.size() - at_) : nullptr;
        if (!ff) truncated();
        at_ = size_t(static_cast<const uint8_t*>(ff) - b_.data());
        while (at_ + 1 < b_.size() && b_[at_ + 1] == 0xFF) ++at_;
        if (at_ + 1 >= b_.size()) truncated();
        const uint8_t next = b_[at_ + 1];
        const bool restart = next >= kRst0 && next <= kRst7;
        if (next != 0 && !restart) break;
        if (restart) {
            need(next == kRst0 + found % 8, "scan with restart markers out of order");
            if (found == restarts) end = at_;
            ++found;
        }
        at_ += 2;
    }
    // Some encoders write one more, behind the last unit.
    if (found != restarts + 1 || end + 2 != at_)
        end = at_;
    else
        --found;
    need(found == restarts, "scan whose restart markers do not fit its size");
    if (every_block_has_bits && blocks > 8 * int64_t(end - begin))
        throw RefusedImage{"truncated JPEG (" + std::to_string(end - begin) +
                           " bytes of data for " + std::to_string(to_.width) + "x" +
                           std::to_string(to_.height) + " pixels)"};
    to_.checked.insert(to_.checked.end(), b_.begin() + int64_t(begin), b_.begin() + int64_t(end));
}

}  // namespace

std::string read_jpeg_structure(const std::vector<uint8_t>& file, JpegStructure& to) {
    return refusal_of([&] { Walk(file, to).run(); });
}

}  // namespace wt
