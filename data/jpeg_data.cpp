// The entropy-coded data of a JPEG, read as a decoder reads them but for what becomes of the
// coefficients.
#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>

#include "data/image_structure.h"

namespace wt {
namespace {

[[noreturn]] void refuse(const char* what) {
    throw RefusedImage{std::string("JPEG that cannot be decoded (") + what + ")"};
}

// Bits up to the next marker, FF 00 being a byte of data.
class Bits {
public:
    Bits(const uint8_t* p, const uint8_t* end) : p_(p), end_(end) {}

    // The next 16 bits, zeros behind the end.
    uint32_t peek16() {
        if (count_ < 32) fill();  // as much as a code and its value have
        return uint32_t(count_ >= 16 ? buffer_ >> (count_ - 16) : buffer_ << (16 - count_)) &
               0xFFFF;
    }
    void skip(int n) {
        if (n > count_) refuse("its data end early");
        count_ -= n;
    }
    uint32_t take(int n) {  // n up to 16
        if (count_ < n) fill();
        skip(n);
        return uint32_t(buffer_ >> count_) & ((1u << n) - 1);
    }
    // Over the restart marker that must come next, but for the bits that fill up the last byte.
    void restart() {
        fill();
        if (count_ >= 8) refuse("data left over before a restart marker");
        count_ = 0;
        p_ = marker() + 1;
    }
    // The marker at which these bits end, without its FF.
    const uint8_t* marker() {
        while (!at_marker()) p_ += *p_ == 0xFF ? 2 : 1;
        while (*p_ == 0xFF) ++p_;
        return p_;
    }

private:
    // The structure's walk has seen a marker behind every scan, so there is always one more byte.
    bool at_marker() {
        if (*p_ != 0xFF) return false;
        const uint8_t* next = p_ + 1;
        while (*next == 0xFF) ++next;
        if (*next != 0) return true;
        p_ = next - 1;
        return false;
    }
    void fill() {
        while (count_ <= 32) {
            if (end_ - p_ >= 4) {
                uint32_t four;
                std::memcpy(&four, p_, 4);
                const uint32_t no_ff = ~four;
                if (((no_ff - 0x01010101u) & four & 0x80808080u) == 0) {
                    buffer_ = buffer_ << 32 | __builtin_bswap32(four);
                    count_ += 32;
                    p_ += 4;
                    continue;
                }
            }
            if (at_marker()) return;
            buffer_ = buffer_ << 8 | *p_;
            count_ += 8;
            p_ += *p_ == 0xFF ? 2 : 1;
        }
    }
    const uint8_t *p_, *end_;
    uint64_t buffer_ = 0;
    int count_ = 0;
};

class Huffman {
public:
    // 16 counts, then the symbols.
    void fill(const uint8_t* p) {
        const uint8_t* symbols = p + 16;
        by_start_.fill({0, 0});
        end_.fill(0);
        uint32_t code = 0;  // as 16 bits, the rest zeros
        for (int bits = 1; bits <= 16; ++bits) {
            first_[size_t(bits)] = code;
            symbols_of_[size_t(bits)] = int(symbols - p - 16);
            for (int i = 0; i < p[bits - 1]; ++i, code += 1u << (16 - bits), ++symbols)
                for (uint32_t c = code; bits <= kStart && c < code + (1u << (16 - bits));
                     c += 1u << (16 - kStart))
                    by_start_[c >> (16 - kStart)] = {uint8_t(bits), *symbols};
            end_[size_t(bits)] = code;
        }
        std::copy(p + 16, symbols, symbols_.begin());
    }
    int decode(Bits& in) const {
        const Entry e = next(in);
        in.skip(e.bits);
        return e.symbol;
    }
    // Skips the value behind the code too: its size is in the symbol's lower half.
    int decode_with_value(Bits& in) const {
        const Entry e = next(in);
        in.skip(e.bits + (e.symbol & 15));
        return e.symbol;
    }

private:
    static constexpr int kStart = 10;  // codes of so many bits are looked up
    struct Entry {
        uint8_t bits, symbol;
    };
    Entry next(Bits& in) const {
        const uint32_t next = in.peek16();
        const Entry e = by_start_[next >> (16 - kStart)];
        return e.bits ? e : longer(next);
    }
    Entry longer(uint32_t next) const {
        for (int bits = kStart + 1; bits <= 16; ++bits)
            if (next < end_[size_t(bits)]) {
                const uint32_t i = (next - first_[size_t(bits)]) >> (16 - bits);
                return {uint8_t(bits), symbols_[size_t(symbols_of_[size_t(bits)]) + i]};
            }
        refuse("bad Huffman code");
    }
    std::array<Entry, 1 << kStart> by_start_{};
    std::array<uint32_t, 17> first_{}, end_{};  // of the codes of each length, as 16 bits
    std::array<int, 17> symbols_of_{};
    std::array<uint8_t, 256> symbols_{};
};

struct Component {
    int id = 0, h = 1, v = 1;
    int64_t blocks_wide = 0, blocks_high = 0, stride = 0;
    std::vector<uint64_t> not_zero;  // progressive: a bit for each coefficient of a block
    const Huffman* dc = nullptr;
    const Huffman* ac = nullptr;
    int predicted = 0;
};

class Reader {
public:
    void read(const std::vector<uint8_t>& checked);

private:
    void huffman_tables(const uint8_t* body, const uint8_t* end);
    void frame(const uint8_t* body);
    const uint8_t* scan(const uint8_t* body);
    void block(Bits& in, Component& c, int64_t at);
    void dc(Bits& in, Component& c);
    void ac(Bits& in, const Huffman& table, uint64_t* not_zero);
    void refine(Bits& in, const Huffman& table, uint64_t& not_zero);

    Huffman tables_[2][4];
    std::vector<Component> components_;
    bool progressive_ = false;
    int width_ = 0, height_ = 0, h_max_ = 1, v_max_ = 1, interval_ = 0;
    int first_ = 0, last_ = 63, high_ = 0, low_ = 0;  // of the scan
    const uint8_t* end_ = nullptr;
    int64_t empty_blocks_ = 0;  // which follow without a bit of their own
};

void Reader::read(const std::vector<uint8_t>& checked) {
    end_ = checked.data() + checked.size();
    for (const uint8_t* p = checked.data() + 2; p[1] != 0xD9;) {
        const uint8_t marker = p[1];
        const uint8_t *body = p + 4, *end = p + 2 + (p[2] << 8 | p[3]);
        if (marker == 0xC4) huffman_tables(body, end);
        if (marker == 0xDD) interval_ = body[0] << 8 | body[1];
        if (marker >= 0xC0 && marker <= 0xC2) {
            progressive_ = marker == 0xC2;
            frame(body);
        }
        p = marker == 0xDA ? scan(body) : end;
    }
}

void Reader::huffman_tables(const uint8_t* body, const uint8_t* end) {
    while (body < end) {
        tables_[body[0] >> 4][body[0] & 15].fill(body + 1);
        int codes = 0;
        for (int bits = 1; bits <= 16; ++bits) codes += body[bits];
        body += 17 + codes;
    }
}

void Reader::frame(const uint8_t* body) {
    height_ = body[1] << 8 | body[2];
    width_ = body[3] << 8 | body[4];
    for (int i = 0; i < body[5]; ++i) {
        const uint8_t* p = body + 6 + 3 * i;
        components_.push_back({.id = p[0], .h = p[1] >> 4, .v = p[1] & 15, .not_zero = {}});
        h_max_ = std::max(h_max_, p[1] >> 4);
        v_max_ = std::max(v_max_, p[1] & 15);
    }
    const auto blocks = [](int pixels, int factor, int most) {
        return (int64_t(pixels) * factor + 8 * most - 1) / (8 * most);
    };
    for (Component& c : components_) {
        c.blocks_wide = blocks(width_, c.h, h_max_);
        c.blocks_high = blocks(height_, c.v, v_max_);
        c.stride = blocks(width_, 1, h_max_) * c.h;
        if (progressive_) c.not_zero.resize(size_t(c.stride * blocks(height_, 1, v_max_) * c.v));
    }
}

// Returns where the next marker is.
const uint8_t* Reader::scan(const uint8_t* body) {
    const int n = body[0];
    std::vector<Component*> in;
    for (int i = 0; i < n; ++i)
        for (Component& c : components_)
            if (c.id == body[1 + 2 * i]) {
                c.dc = &tables_[0][body[2 + 2 * i] >> 4];
                c.ac = &tables_[1][body[2 + 2 * i] & 15];
                in.push_back(&c);
            }
    first_ = body[1 + 2 * n];
    last_ = body[2 + 2 * n];
    high_ = body[3 + 2 * n] >> 4;
    low_ = body[3 + 2 * n] & 15;

    Bits bits(body + 4 + 2 * n, end_);
    // Alone, a component's blocks are those that its pixels need; together, whole units.
    const bool alone = n == 1;
    const int64_t wide = alone ? in[0]->blocks_wide : (width_ + 8 * h_max_ - 1) / (8 * h_max_);
    const int64_t high = alone ? in[0]->blocks_high : (height_ + 8 * v_max_ - 1) / (8 * v_max_);
    for (int64_t y = 0, done = 0; y < high; ++y)
        for (int64_t x = 0; x < wide; ++x, ++done) {
            if (done == 0 || (interval_ && done % interval_ == 0)) {
                if (done) bits.restart();
                empty_blocks_ = 0;
                for (Component* c : in) c->predicted = 0;
            }
            if (alone) {
                block(bits, *in[0], y * in[0]->stride + x);
                continue;
            }
            for (Component* c : in)
                for (int v = 0; v < c->v; ++v)
                    for (int h = 0; h < c->h; ++h)
                        block(bits, *c, (y * c->v + v) * c->stride + x * c->h + h);
        }
    return bits.marker() - 1;
}

void Reader::block(Bits& in, Component& c, int64_t at) {
    if (!progressive_) {
        dc(in, c);
        ac(in, *c.ac, nullptr);
    } else if (first_ == 0) {
        if (high_)
            in.take(1);
        else
            dc(in, c);
    } else if (high_) {
        refine(in, *c.ac, c.not_zero[size_t(at)]);
    } else {
        ac(in, *c.ac, &c.not_zero[size_t(at)]);
    }
}

// Samples of 8 bits have differences of 11 bits, and sums of 12.
void Reader::dc(Bits& in, Component& c) {
    const int size = c.dc->decode(in);
    if (size > 15) refuse("a coefficient out of range");
    const int value = int(in.take(size));
    c.predicted += size == 0 || value >> (size - 1) ? value : value - (1 << size) + 1;
    if (std::abs(c.predicted) > 32767 >> low_) refuse("a coefficient out of range");
}

void Reader::ac(Bits& in, const Huffman& table, uint64_t* not_zero) {
    if (empty_blocks_ > 0) {
        --empty_blocks_;
        return;
    }
    for (int k = std::max(first_, 1); k <= last_;) {
        const int symbol = table.decode_with_value(in), run = symbol >> 4, size = symbol & 15;
        if (size == 0 && run < 15) {
            // In a progressive scan it ends this block and more, in a sequential one this alone.
            if (progressive_) empty_blocks_ = (1 << run) - 1 + int(in.take(run));
            return;
        }
        k += run;
        if (size) {
            if (size + low_ > 15) refuse("a coefficient out of range");
            if (not_zero) *not_zero |= uint64_t(1) << std::min(k, 63);
        }
        ++k;
    }
}

// Bits of the coefficients that are not zero so far, and new ones among the zeros.
void Reader::refine(Bits& in, const Huffman& table, uint64_t& not_zero) {
    int k = first_;
    while (empty_blocks_ == 0 && k <= last_) {
        const int symbol = table.decode(in);
        int run = symbol >> 4;
        const int size = symbol & 15;
        if (size > 1) refuse("bad Huffman code");
        if (size == 0 && run < 15) {
            empty_blocks_ = (1 << run) + int(in.take(run));
            break;
        }
        if (size) in.take(1);  // its sign
        for (; k <= last_; ++k) {
            if (not_zero >> k & 1) {
                in.take(1);
            } else if (run-- == 0) {
                if (size) not_zero |= uint64_t(1) << k;
                ++k;
                break;
            }
        }
    }
    if (empty_blocks_ == 0) return;
    --empty_blocks_;
    for (; k <= last_; ++k)
        if (not_zero >> k & 1) in.take(1);
}

}  // namespace

std::string read_jpeg_data(const std::vector<uint8_t>& checked) {
    try {
        Reader().read(checked);
    } catch (const RefusedImage& r) {
        return r.reason;
    }
    return "";
}

}  // namespace wt
