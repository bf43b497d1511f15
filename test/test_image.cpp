// Image files that are made to do harm, and ones that are merely odd: nothing is decoded that was
// not checked, the same whatever memory held before.
#include <doctest/doctest.h>

#include <cstdlib>
#include <functional>

#include "data/image.h"
#include "data/image_structure.h"
#include "test/data_files.h"
#include "test/jpeg_bytes.h"

using namespace wt;
using namespace wt::test;

namespace {

// Each decoder of this build.
const std::vector<std::pair<const char*, std::function<std::string(const Bytes&, Image&)>>>
    kDecoders = {{jpeg_decoder(), decode_image}, {"stb_image", decode_image_stb}};

void check_refused(const Bytes& file, const std::string& part) {
    for (const auto& [name, decode] : kDecoders) {
        Image image;
        const std::string why = decode(file, image);
        CHECK_MESSAGE((has(why, part) && !has(why, "\n")),
                      (std::string(name) + ": '" + why + "' lacks '" + part + "'"));
    }
}

// All pixels within `tolerance` of `value` in each decoder.
void check_grey(const Bytes& file, int width, int height, int value, int tolerance) {
    for (const auto& [name, decode] : kDecoders) {
        Image image;
        const std::string why = decode(file, image);
        CHECK_MESSAGE(why == "", std::string(name));
        if (!why.empty()) continue;
        CHECK(image.width == width);
        CHECK(image.height == height);
        REQUIRE(image.rgb.size() == size_t(width) * height * 3);
        for (const uint8_t v : image.rgb) REQUIRE(std::abs(v - value) <= tolerance);
    }
}

const std::vector<FrameComponent> kGreyFrame = {{1, 0x11, 0}};
const std::vector<FrameComponent> kYcc420 = {{1, 0x22, 0}, {2, 0x11, 0}, {3, 0x11, 0}};

}  // namespace

TEST_CASE("image: what the checks let pass decodes to what it says") {
    // A flat 128 is exact: all coefficients are 0. Tolerance: YCbCr's rounding.
    check_grey(flat_jpeg(2), 16, 8, 128, 0);
    check_grey(flat_jpeg(5, 3), 40, 8, 128, 1);
    check_grey(flat_progressive_jpeg(9), 72, 8, 128, 0);
    SUBCASE("CMYK: 128 * 128 / 255") { check_grey(flat_jpeg(2, 4), 16, 8, 64, 0); }
    SUBCASE("restart markers, and one too many behind the last unit") {
        for (const bool one_more : {false, true}) {
            Bytes b = jpeg_start();
            add(b, restart_interval(1), frame(0xC0, 24, 8, kGreyFrame), zero_tables(),
                scan({{1, 0}}));
            add(b, zeros(1), Bytes{0xFF, 0xD0}, zeros(1), Bytes{0xFF, 0xD1}, zeros(1));
            if (one_more) append(b, {0xFF, 0xD2});
            append(b, jpeg_end());
            check_grey(b, 24, 8, 128, 0);
        }
    }
    SUBCASE("components in scans of their own, subsampled") {
        Bytes b = jpeg_start();
        add(b, frame(0xC1, 17, 17, kYcc420), zero_tables());  // 3x3, 2x2 and 2x2 blocks
        add(b, scan({{2, 0}}), zeros(1), scan({{1, 0}}), zeros(3), scan({{3, 0}}), zeros(1),
            jpeg_end());
        check_grey(b, 17, 17, 128, 1);
    }
    SUBCASE("garbage between segments, fill bytes, a comment, EXIF, no Se in a baseline scan") {
        Bytes b = jpeg_start();
        add(b, Bytes{1, 2, 3, 0xFF, 0xFF}, segment(0xFE, {'h', 'i', 0xFF, 0xD9}),
            segment(0xE1, {'E', 'x', 'i', 'f', 0, 0}), Bytes{9, 9});
        add(b, frame(0xC0, 8, 8, kGreyFrame), zero_tables(), scan({{1, 0}}, 0, 0, 0), zeros(1),
            Bytes{0xFF}, jpeg_end());
        check_grey(b, 8, 8, 128, 0);
    }
}

// As fuzzers found them, each in its least form: the first wrote behind a table, the others decoded
// with tables that nothing had filled.
TEST_CASE("image: hostile JPEGs are refused before a decoder sees them") {
    SUBCASE("a Huffman table of 4080 codes") {
        Bytes b = jpeg_start();
        add(b, frame(0xC0, 16, 8, kGreyFrame), huffman(0, 0, Bytes(16, 255), Bytes(255)),
            scan({{1, 0}}), zeros(2), jpeg_end());
        check_refused(b, "Huffman table");
    }
    SUBCASE("one of 257 that fit their lengths") {
        Bytes b = jpeg_start(), counts(16);
        counts[14] = 255, counts[15] = 2;
        add(b, frame(0xC0, 16, 8, kGreyFrame), huffman(0, 0, counts, Bytes(257)), scan({{1, 0}}),
            zeros(2), jpeg_end());
        check_refused(b, "Huffman table of more than 256 codes");
    }
    SUBCASE("a progressive scan without its table") {
        Bytes b = jpeg_start();
        add(b, frame(0xC2, 16, 8, kGreyFrame), huffman(0, 0, {1}, {0}), scan({{1, 0x01}}, 0, 0),
            zeros(1));
        add(b, scan({{1, 0x01}}, 1, 63), zeros(1), jpeg_end());
        check_refused(b, "scan before its Huffman table");
    }
    SUBCASE("a scan before its tables") {
        Bytes b = jpeg_start();
        add(b, frame(0xC0, 16, 8, kGreyFrame), scan({{1, 0x00}}), zeros(2), zero_tables(),
            jpeg_end());
        check_refused(b, "scan before its Huffman table");
    }
    SUBCASE("a component that names a quantisation table that is not there") {
        Bytes b = jpeg_start();
        add(b, frame(0xC0, 16, 8, {{1, 0x11, 3}}), zero_tables(), scan({{1, 0x00}}), zeros(2),
            jpeg_end());
        check_refused(b, "scan before its quantisation table");
    }
    SUBCASE("a component without a scan") {
        Bytes b = jpeg_start();
        add(b, frame(0xC0, 16, 16, kYcc420), zero_tables(), scan({{1, 0}}), zeros(1),
            scan({{2, 0}}), zeros(1), jpeg_end());
        check_refused(b, "a component that no scan codes");
    }
    SUBCASE("progressive scans out of order") {
        const auto with = [](const std::vector<Bytes>& scans) {
            Bytes b = jpeg_start();
            add(b, frame(0xC2, 8, 8, kGreyFrame), zero_tables());
            for (const Bytes& s : scans) add(b, s, zeros(1));
            append(b, jpeg_end());
            return b;
        };
        const Bytes dc = scan({{1, 0}}, 0, 0, 0x01), dc_bit = scan({{1, 0}}, 0, 0, 0x10),
                    ac = scan({{1, 0}}, 1, 63, 0x00);
        check_refused(with({ac, dc}), "before the DC coefficients");
        check_refused(with({dc_bit}), "out of order");
        check_refused(with({dc, dc}), "out of order");
        check_refused(with({dc, scan({{1, 0}}, 1, 63, 0x21)}), "out of order");
        check_refused(with({dc, scan({{1, 0}}, 1, 63, 0x20)}), "wrong bits");
        check_refused(with({scan({{1, 0}}, 0, 63, 0)}), "wrong band");
        check_refused(with({dc, scan({{1, 0}}, 63, 1, 0)}), "wrong band");
        check_refused(with({dc, scan({{1, 0}}, 1, 64, 0)}), "wrong band");
        std::vector<Bytes> many{dc};
        for (int i = 0; i < 101; ++i)
            many.push_back(scan({{1, 0}}, 1 + i % 63, 1 + i % 63, i < 63 ? 0x02 : 0x21));
        check_refused(with(many), "more than 100 scans");
    }
    SUBCASE("restart markers: none, one too few, out of order, without an interval") {
        const auto with = [](int interval, const Bytes& data) {
            Bytes b = jpeg_start();
            add(b, restart_interval(interval), frame(0xC0, 24, 8, kGreyFrame), zero_tables(),
                scan({{1, 0}}), data, jpeg_end());
            return b;
        };
        check_refused(with(1, {0, 0, 0}), "restart markers do not fit");
        check_refused(with(1, {0, 0xFF, 0xD0, 0}), "restart markers do not fit");
        check_refused(with(1, {0, 0xFF, 0xD1, 0, 0xFF, 0xD0, 0}), "out of order");
        check_refused(with(0, {0, 0xFF, 0xD0, 0}), "restart markers do not fit");
    }
    SUBCASE("144 million pixels in a few bytes") {
        Bytes b = jpeg_start();
        add(b, frame(0xC2, 65407, 2208, kGreyFrame), zero_tables(), scan({{1, 0x00}}, 0, 0),
            zeros(500), jpeg_end());
        check_refused(b, "truncated JPEG (500 bytes of data for 65407x2208 pixels)");
    }
}

TEST_CASE("image: other damage to a JPEG's segments") {
    const auto with = [](const Bytes& middle) {
        Bytes b = jpeg_start();
        add(b, middle, frame(0xC0, 8, 8, kGreyFrame), zero_tables(), scan({{1, 0}}), zeros(1),
            jpeg_end());
        return b;
    };
    check_refused(with(segment(0xDB, {0x04})), "quantisation table of an unknown kind");
    check_refused(with(segment(0xDB, {0x00, 1, 1})), "quantisation table cut short");
    check_refused(with(segment(0xC4, {0x00, 1})), "Huffman table cut short");
    check_refused(with(huffman(0, 4, {1}, {0})), "Huffman table of an unknown number");
    check_refused(with(huffman(2, 0, {1}, {0})), "Huffman table of an unknown number");
    check_refused(with(huffman(0, 0, {2}, {0, 1})), "more codes than its lengths allow");
    check_refused(with(huffman(0, 0, {0, 2}, {0})), "Huffman table cut short");
    check_refused(with(segment(0xDD, {0, 1, 2})), "restart interval of a wrong length");
    check_refused(with({0xFF, 0xFE, 0, 1}), "segment of length 1");
    check_refused(with({0xFF, 0xFE, 0xFF, 0xFF}), "truncated JPEG");
    check_refused(with(scan({{1, 0}})), "scan before its frame");
    check_refused(with(frame(0xC0, 8, 8, kGreyFrame)), "second frame");
    const auto framed = [](const Bytes& sof, const Bytes& sos = scan({{1, 0}})) {
        Bytes b = jpeg_start();
        add(b, sof, zero_tables(), sos, zeros(8), jpeg_end());
        return b;
    };
    check_refused(framed(frame(0xC0, 0, 8, kGreyFrame)), "claims 0x8 pixels");
    check_refused(framed(frame(0xC0, 8, 0, kGreyFrame)), "claims 8x0 pixels");
    check_refused(framed(frame(0xC0, 8, 8, {{1, 0x15, 0}})), "sampling factor");
    check_refused(framed(frame(0xC0, 8, 8, {{1, 0x01, 0}})), "sampling factor");
    check_refused(framed(frame(0xC0, 8, 8, {{1, 0x31, 0}, {2, 0x21, 0}, {3, 0x11, 0}})),
                  "that do not divide");
    check_refused(framed(frame(0xC0, 8, 8, {{1, 0x11, 4}})), "unknown number");
    check_refused(framed(frame(0xC0, 8, 8, {{1, 0x11, 0}, {1, 0x11, 0}, {2, 0x11, 0}})),
                  "two components of one name");
    check_refused(framed(frame(0xC0, 8, 8, {{1, 0x11, 0}, {2, 0x11, 0}})),
                  "2 colour components, which is not read");
    check_refused(framed(frame(0xC3, 8, 8, kGreyFrame)), "lossless coding, which is not read");
    check_refused(framed(frame(0xC5, 8, 8, kGreyFrame)), "hierarchical coding, which is not read");
    check_refused(framed(frame(0xC9, 8, 8, kGreyFrame)), "arithmetic coding, which is not read");
    Bytes twelve = frame(0xC1, 8, 8, kGreyFrame);
    twelve[4] = 12;
    check_refused(framed(twelve), "12 bits a sample, which is not read");
    check_refused(framed(frame(0xC0, 8, 8, kGreyFrame), scan({{7, 0}})),
                  "a component that the frame lacks");
    check_refused(framed(frame(0xC0, 8, 8, kYcc420), scan({{1, 0}, {1, 0}})),
                  "names a component twice");
    check_refused(framed(frame(0xC0, 8, 8, kGreyFrame), scan({{1, 0}, {2, 0}})),
                  "wrong number of components");
    check_refused(framed(frame(0xC0, 8, 8, kGreyFrame), segment(0xDA, {1, 1, 0, 0, 63})),
                  "scan of a wrong length");
    check_refused(framed(frame(0xC0, 8, 8, {{1, 0x44, 0}, {2, 0x11, 0}, {3, 0x11, 0}}),
                         scan({{1, 0}, {2, 0}, {3, 0}})),
                  "more than ten blocks");
    Bytes no_frame = jpeg_start();
    append(no_frame, jpeg_end());
    check_refused(no_frame, "no frame");
}

TEST_CASE("image: a JPEG whose data end early, or are no codes, gives a reason of its own format") {
    // A PNG before it, whose reason must not be the JPEG's.
    Image image;
    CHECK(has(decode_image_stb({0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'}, image),
              "truncated PNG"));
    Bytes no_codes = jpeg_start();
    add(no_codes, frame(0xC0, 8, 8, kGreyFrame), zero_tables(), scan({{1, 0}}), Bytes(4, 0xFE),
        jpeg_end());
    check_refused(no_codes, "JPEG that cannot be decoded (");
    for (const auto& [name, decode] : kDecoders) CHECK(!has(decode(no_codes, image), "png"));
    // 40 blocks of four bits each need 20 bytes. stb_image alone would fill the rest with grey.
    const auto ends = [](size_t bytes) {
        Bytes b = jpeg_start();
        add(b, frame(0xC0, 8 * 40, 8, kGreyFrame), huffman(0, 0, {0, 1}, {0}));
        add(b, huffman(1, 0, {0, 1}, {0}), scan({{1, 0}}), zeros(bytes), jpeg_end());
        return b;
    };
    check_refused(ends(19), "JPEG that cannot be decoded (");
    check_grey(ends(20), 320, 8, 128, 0);
    // Within a coefficient of 15 bits: stb_image alone shifts by 39 then (found by a fuzzer).
    Bytes within = jpeg_start(), one_of_16_bits(16);
    one_of_16_bits[15] = 1;
    add(within, frame(0xC0, 8, 8, kGreyFrame), huffman(0, 0, {1}, {15}));
    add(within, huffman(1, 0, one_of_16_bits, {15}), scan({{1, 0}}), zeros(4), jpeg_end());
    check_refused(within, "JPEG that cannot be decoded (");
    SUBCASE("stb_image is spared what it would compute with") {
        const auto why = [&](const Bytes& tables, const Bytes& data, int interval = 0) {
            Bytes b = jpeg_start();
            if (interval) append(b, restart_interval(interval));
            add(b, frame(0xC0, 24, 8, kGreyFrame), tables, scan({{1, 0}}), data, jpeg_end());
            return decode_image_stb(b, image);
        };
        Bytes large = huffman(0, 0, {1}, {15});
        append(large, huffman(1, 0, {1}, {0}));
        CHECK(has(why(large, Bytes{0x7F, 0xFE, 0x00}), "its data end early"));
        // A zero bit, 15 ones (32767), a zero bit, and the same again.
        CHECK(has(why(large, {0x7F, 0xFF, 0x00, 0x3F, 0xFF, 0x00, 0x80, 0, 0, 0}),
                  "a coefficient out of range"));
        CHECK(has(why(huffman(0, 0, {1}, {16}), zeros(9)), "before its Huffman table"));
        Bytes sixteen = huffman(0, 0, {1}, {16});
        append(sixteen, huffman(1, 0, {1}, {0}));
        CHECK(has(why(sixteen, zeros(9)), "a coefficient out of range"));
        CHECK(has(why(zero_tables(), {0, 0, 0xFF, 0xD0, 0, 0xFF, 0xD1, 0}, 1),
                  "data left over before a restart marker"));
    }
}

TEST_CASE("image: PNG chunks") {
    const auto chunk = [](const char* name, const Bytes& body) {
        Bytes b;
        put32(b, uint32_t(body.size()));
        b.insert(b.end(), name, name + 4);
        append(b, body);
        put32(b, uint32_t(crc32(0, &b[4], uInt(b.size() - 4))));
        return b;
    };
    const auto header = [&](int w, int h, int bits, int colour, int interlaced = 0) {
        Bytes b;
        put32(b, uint32_t(w)), put32(b, uint32_t(h));
        append(b, {uint8_t(bits), uint8_t(colour), 0, 0, uint8_t(interlaced)});
        return chunk("IHDR", b);
    };
    const auto packed = [](const Bytes& raw) {
        uLongf n = compressBound(raw.size());
        Bytes b(n);
        compress(b.data(), &n, raw.data(), raw.size());
        b.resize(n);
        return b;
    };
    const auto file = [](const std::vector<Bytes>& chunks) {
        Bytes b{0x89, 'P', 'N', 'G', '\r', '\n', 0x1A, '\n'};
        for (const Bytes& c : chunks) append(b, c);
        return b;
    };
    const Bytes end = chunk("IEND", {}), grey = header(2, 2, 8, 0),
                rows = packed({0, 7, 7, 0, 7, 7});
    const Bytes data = chunk("IDAT", rows);
    check_grey(file({grey, data, end}), 2, 2, 7, 0);
    SUBCASE("data in several chunks, one of them empty, and more of it than needed") {
        const Bytes more = packed({0, 7, 7, 0, 7, 7, 0, 7, 7});
        for (const Bytes& b : {rows, more}) {
            const auto half = b.begin() + int(b.size() / 2);
            check_grey(file({grey, chunk("IDAT", {b.begin(), half}), chunk("IDAT", {}),
                             chunk("tEXt", {'x'}), chunk("IDAT", {half, b.end()}), end}),
                       2, 2, 7, 0);
        }
    }
    SUBCASE("interlaced") {
        check_grey(file({header(2, 2, 8, 0, 1), chunk("IDAT", packed({0, 7, 0, 7, 0, 7, 7})), end}),
                   2, 2, 7, 0);
    }
    SUBCASE("a palette with fewer colours than the pixels name: black") {
        const Bytes head = header(2, 2, 8, 3), palette = chunk("PLTE", {9, 9, 9});
        check_grey(file({head, palette, data, end}), 2, 2, 0, 0);
        check_refused(file({head, data, end}), "no palette");
        check_refused(file({head, data, palette, end}),
                      "palette of 3 bytes, a second one or one behind the data");
        check_refused(file({head, palette, palette, data, end}),
                      "palette of 3 bytes, a second one");
        check_refused(file({head, chunk("PLTE", Bytes(4)), data, end}), "palette of 4 bytes");
        check_refused(file({head, chunk("PLTE", Bytes(771)), data, end}), "palette of 771 bytes");
    }
    SUBCASE("data that copy from where nothing was written: distance code 30, of no distance") {
        // A fixed-code block: literal 7, then length 3 at distance code 30 of 5 bits.
        check_refused(file({grey, chunk("IDAT", {0x78, 0x01, 0x63, 0x07, 0x3e, 0x00}), end}),
                      "damaged PNG (its data do not unpack: ");
    }
    SUBCASE("data that are short, no zlib stream, or could never be enough") {
        check_refused(file({grey, chunk("IDAT", packed({0, 7, 7, 0, 7})), end}),
                      "truncated PNG (data for 5 of 6 bytes)");
        check_refused(file({grey, chunk("IDAT", {1, 2, 3}), end}), "its data do not unpack");
        check_refused(file({grey, end}), "truncated PNG (data for 0 of 6 bytes)");
        check_refused(file({header(10000, 10000, 8, 0), data, end}), "truncated PNG (data for");
    }
    SUBCASE("headers that there cannot be") {
        for (const auto& [bits, colour] :
             {std::pair{3, 0}, {16, 3}, {4, 2}, {8, 1}, {8, 5}, {8, 7}, {1, 6}, {0, 0}})
            check_refused(file({header(2, 2, bits, colour), data, end}),
                          "header of an unknown kind");
        check_refused(file({header(2, 2, 8, 0, 2), data, end}), "header of an unknown kind");
        check_refused(file({header(0, 2, 8, 0), data, end}), "claims 0x2 pixels");
        check_refused(file({header(-1, 2, 8, 0), data, end}), "claims 4294967295x2 pixels");
        check_refused(file({header(60000, 60000, 8, 0), data, end}), "claims 60000x60000 pixels");
        check_refused(file({header(14000, 14000, 16, 6), data, end}), "claims 1568");
        check_refused(file({data, grey, end}), "no header in its first chunk");
        check_refused(file({grey, grey, data, end}), "second header");
        check_refused(file({chunk("IHDR", Bytes(12)), data, end}), "header of 12 bytes");
        check_refused(file({chunk("CgBI", Bytes(4)), grey, data, end}),
                      "no header in its first chunk");
    }
    SUBCASE("a filter that there is not") {
        check_refused(file({grey, chunk("IDAT", packed({0, 7, 7, 5, 7, 7})), end}),
                      "PNG that cannot be decoded (");
    }
}
