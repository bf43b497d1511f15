// What an image file is made of, checked before a decoder sees it. Decoders trust their input in
// places: stb_image writes behind a Huffman table that counts more than 256 codes, decodes with
// tables that no segment has filled, reads colours behind a palette's end, and its inflate copies
// bytes that it has not written.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace wt {

// A damaged header must not ask for gigabytes; photographs have a tenth of this.
constexpr int64_t kMostPixels = 200'000'000;

// Thrown by the walks, caught by the functions below.
struct RefusedImage {
    std::string reason;
};

// "" when `walk` comes to its end, or the reason that it throws.
template <class Walk>
std::string refusal_of(Walk&& walk) {
    try {
        walk();
    } catch (const RefusedImage& r) {
        return r.reason;
    }
    return "";
}

struct JpegStructure {
    int width = 0, height = 0;
    int components = 0;  // 1 grey, 3 YCbCr or RGB, 4 CMYK or YCCK
    // The file with nothing in it but what was checked: tables, frame and scans in their order,
    // JFIF's and Adobe's segments. Comments, EXIF, thumbnails, garbage between segments and what
    // lies behind the end are left out.
    std::vector<uint8_t> checked;
};

// Walks the whole file to its end-of-image marker. Returns "" or the reason why it cannot be
// decoded:
//   - it is cut off, or a scan has fewer bits than it has blocks to code
//   - a segment has another length than its contents need; a Huffman table counts more than 256
//     codes or more than fit its code lengths; a sampling factor, table number or component that
//     there cannot be, or is not there
//   - a scan before its frame, or with tables that nothing has defined; a component that no scan
//     codes; progressive scans that refine what is not there yet; restart markers that are not
//     where the interval puts them
//   - more than 200 million pixels or 100 scans
//   - arithmetic coding, lossless and hierarchical JPEG, 12 bits, two components: kinds that no
//     photograph has
// A four-component file without Adobe's marker gets one that says "CMYK": it is read as Adobe
// writes it.
std::string read_jpeg_structure(const std::vector<uint8_t>& file, JpegStructure& to);

// The entropy-coded data of what read_jpeg_structure has checked, read as a decoder does: "" when
// each block has its bits, codes and coefficients are ones that there are, and restart markers come
// where an interval ends. For stb_image, which fills what is missing with grey and computes with
// what is out of range; libjpeg-turbo looks itself.
std::string read_jpeg_data(const std::vector<uint8_t>& checked);

struct PngStructure {
    int width = 0, height = 0;
    // The image as a PNG that has its header, its palette (filled up to 256 colours with black) and
    // one data chunk, whose contents are unpacked (zlib's "stored") and of the right size. Nothing
    // else: transparency is dropped.
    std::vector<uint8_t> checked;
};

// Walks the whole file to its end chunk. Returns "" or the reason why it cannot be decoded: cut
// off; a chunk's checksum; a header, palette or order of chunks that there cannot be; data that do
// not unpack, or to fewer bytes than the image has; more than 200 million pixels or 600 MB.
std::string read_png_structure(const std::vector<uint8_t>& file, PngStructure& to);

}  // namespace wt
