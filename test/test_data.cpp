// Readers: IDX, CIFAR-10, folders of images, synthetic; their errors; resizing and colour
// statistics.
#include <doctest/doctest.h>

#include <cmath>

#include "data/dataset.h"
#include "data/image.h"
#include "data/resize.h"
#include "test/close.h"
#include "test/data_files.h"

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb/stb_image_write.h>
#pragma GCC diagnostic pop

using namespace wt;
using namespace wt::test;

namespace {

// 16x8, left half C 10 M 230 Y 200 K 20, right half C 200 M 40 Y 30 K 60; with an Adobe marker
// (transform 0).
const Bytes kCmyk = {
    0xff, 0xd8, 0xff, 0xee, 0x00, 0x0e, 0x41, 0x64, 0x6f, 0x62, 0x65, 0x00, 0x64, 0x00, 0x00, 0x00,
    0x00, 0x00, 0xff, 0xdb, 0x00, 0x43, 0x00, 0x0d, 0x09, 0x0a, 0x0b, 0x0a, 0x08, 0x0d, 0x0b, 0x0a,
    0x0b, 0x0e, 0x0e, 0x0d, 0x0f, 0x13, 0x20, 0x15, 0x13, 0x12, 0x12, 0x13, 0x27, 0x1c, 0x1e, 0x17,
    0x20, 0x2e, 0x29, 0x31, 0x30, 0x2e, 0x29, 0x2d, 0x2c, 0x33, 0x3a, 0x4a, 0x3e, 0x33, 0x36, 0x46,
    0x37, 0x2c, 0x2d, 0x40, 0x57, 0x41, 0x46, 0x4c, 0x4e, 0x52, 0x53, 0x52, 0x32, 0x3e, 0x5a, 0x61,
    0x5a, 0x50, 0x60, 0x4a, 0x51, 0x52, 0x4f, 0xff, 0xc0, 0x00, 0x14, 0x08, 0x00, 0x08, 0x00, 0x10,
    0x04, 0x43, 0x11, 0x00, 0x4d, 0x11, 0x00, 0x59, 0x11, 0x00, 0x4b, 0x11, 0x00, 0xff, 0xc4, 0x00,
    0x16, 0x00, 0x01, 0x01, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x07, 0x06, 0x05, 0xff, 0xc4, 0x00, 0x14, 0x10, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0xff, 0xda, 0x00, 0x0e, 0x04,
    0x43, 0x00, 0x4d, 0x00, 0x59, 0x00, 0x4b, 0x00, 0x00, 0x3f, 0x00, 0x48, 0x40, 0x24, 0x88, 0x40,
    0xa3, 0xa9, 0xa5, 0x8c, 0xff, 0xd9};

// 8x8, one component, grey value about 90.
const Bytes kGrey = {
    0xff, 0xd8, 0xff, 0xe0, 0x00, 0x10, 0x4a, 0x46, 0x49, 0x46, 0x00, 0x01, 0x01, 0x00, 0x00, 0x01,
    0x00, 0x01, 0x00, 0x00, 0xff, 0xdb, 0x00, 0x43, 0x00, 0x0d, 0x09, 0x0a, 0x0b, 0x0a, 0x08, 0x0d,
    0x0b, 0x0a, 0x0b, 0x0e, 0x0e, 0x0d, 0x0f, 0x13, 0x20, 0x15, 0x13, 0x12, 0x12, 0x13, 0x27, 0x1c,
    0x1e, 0x17, 0x20, 0x2e, 0x29, 0x31, 0x30, 0x2e, 0x29, 0x2d, 0x2c, 0x33, 0x3a, 0x4a, 0x3e, 0x33,
    0x36, 0x46, 0x37, 0x2c, 0x2d, 0x40, 0x57, 0x41, 0x46, 0x4c, 0x4e, 0x52, 0x53, 0x52, 0x32, 0x3e,
    0x5a, 0x61, 0x5a, 0x50, 0x60, 0x4a, 0x51, 0x52, 0x4f, 0xff, 0xc0, 0x00, 0x0b, 0x08, 0x00, 0x08,
    0x00, 0x08, 0x01, 0x01, 0x11, 0x00, 0xff, 0xc4, 0x00, 0x14, 0x00, 0x01, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x05, 0xff, 0xc4, 0x00, 0x14,
    0x10, 0x01, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00, 0x00,
    0x00, 0x00, 0xff, 0xda, 0x00, 0x08, 0x01, 0x01, 0x00, 0x00, 0x3f, 0x00, 0x21, 0xff, 0xd9};

Bytes jpeg(int w, int h, int seed = 0) {
    Bytes pixels(size_t(w) * h * 3), out;
    for (size_t i = 0; i < pixels.size(); ++i)
        pixels[i] = uint8_t((i / 3) % 256 + (i % 3) * 20 + seed);
    stbi_write_jpg_to_func(
        [](void* to, void* data, int n) {
            static_cast<Bytes*>(to)->insert(static_cast<Bytes*>(to)->end(),
                                            static_cast<uint8_t*>(data),
                                            static_cast<uint8_t*>(data) + n);
        },
        &out, w, h, 3, pixels.data(), 90);
    return out;
}

DataSplits open(const std::string& text, int net_input = 67) {
    DataSpec spec;
    spec.text = text;
    spec.net_input = net_input;
    return open_data(spec);
}

std::string open_error(const std::string& text, int net_input = 67) {
    return message<Error>([&] { open(text, net_input); });
}

Bytes load(const Dataset& d, int64_t i) {
    Bytes out(size_t(d.height) * d.width * d.channels);
    REQUIRE(d.load(i, out.data()));
    return out;
}

void check_pixel(const Image& image, int x, int r, int g, int b, int tolerance) {
    const uint8_t* p = &image.rgb[size_t(x) * 3];
    CHECK(std::abs(p[0] - r) <= tolerance);
    CHECK(std::abs(p[1] - g) <= tolerance);
    CHECK(std::abs(p[2] - b) <= tolerance);
}

// What resize_axis computes, from the formula, for one output of one axis.
double triangle(const std::vector<double>& in, int full, int o) {
    const int n = int(in.size());
    const double step = double(n) / full, support = std::max(1.0, step),
                 centre = (o + 0.5) * step - 0.5;
    double sum = 0, weights = 0;
    for (int i = 0; i < n; ++i) {
        const double w = std::max(0.0, 1 - std::abs(i - centre) / support);
        sum += w * in[i], weights += w;
    }
    return sum / weights;
}

}  // namespace

TEST_CASE("data: stored sizes") {
    CHECK(stored_size(227) == 256);
    CHECK(stored_size(224) == 256);
    CHECK(stored_size(67) == 76);
    CHECK(stored_size(24, 32) == 32);
    CHECK(stored_size(67, 28) == 72);
    CHECK(stored_size(24, 28) == 28);
    CHECK(stored_size(227, 28) == 244);
    for (int native : {0, 1, 2, 3, 28, 32, 300})
        for (int input : {1, 2, 24, 28, 67, 224, 227, 300})
            CHECK(stored_size(input, native) >= input);
}

TEST_CASE("data: resizing follows the triangle filter") {
    for (const auto& [h, w] : {std::pair{28, 28}, {5, 9}, {97, 40}, {200, 130}, {1, 1}})
        for (int channels : {1, 3})
            for (int side : {1, 13, 28, 72}) {
                Bytes src(size_t(h) * w * channels);
                for (size_t i = 0; i < src.size(); ++i) src[i] = uint8_t((i * 2654435761u) >> 24);
                Bytes got(size_t(side) * side * channels);
                resize_short_side(src.data(), h, w, channels, side, got.data());
                const int full_h =
                    std::max(side, int(std::lround(h * double(side) / std::min(h, w))));
                const int full_w =
                    std::max(side, int(std::lround(w * double(side) / std::min(h, w))));
                double worst = 0;
                for (int y : {0, side / 3, side - 1})
                    for (int x : {0, side / 2, side - 1})
                        for (int c = 0; c < channels; ++c) {
                            std::vector<double> line(w);
                            for (int i = 0; i < w; ++i) {
                                std::vector<double> column(h);
                                for (int j = 0; j < h; ++j)
                                    column[j] = src[(size_t(j) * w + i) * channels + c];
                                line[i] = triangle(column, full_h, (full_h - side) / 2 + y);
                            }
                            const double want = triangle(line, full_w, (full_w - side) / 2 + x);
                            worst = std::max(
                                worst, std::abs(got[(size_t(y) * side + x) * channels + c] - want));
                        }
                // Half a step of rounding, and fp32 sums of a few hundred values of at most 255.
                CHECK(worst <= 0.5 + 0.01);
            }
}

TEST_CASE("data: IDX files are read back") {
    TempDir dir;
    write_idx_set(dir.path(), 20, 10);
    SUBCASE("at their own size") {
        const DataSplits s = open("mnist:" + dir.path(), 28);
        CHECK(s.train->size() == 20);
        CHECK(s.held_out->size() == 10);
        CHECK(s.held_out_name == "test");
        CHECK(s.train->channels == 1);
        CHECK(s.train->classes.size() == 10);
        CHECK_FALSE(s.train->mirrors);
        for (const Dataset* d : {s.train.get(), s.held_out.get()})
            for (int64_t i = 0; i < d->size(); ++i) {
                CHECK(d->label(i) == i % 10);
                const Bytes image = load(*d, i);
                REQUIRE(image.size() == 28 * 28);
                for (size_t p = 0; p < image.size(); ++p)
                    REQUIRE(image[p] == uint8_t(i * 7 + p * 3));
            }
    }
    SUBCASE("enlarged, and as fashion") {
        const DataSplits s = open("fashion-mnist:" + dir.path(), 67);
        CHECK(s.train->height == 72);
        CHECK(s.train->mirrors);
        CHECK(s.train->classes[9] == "ankle boot");
        const Bytes image = load(*s.train, 3);
        CHECK(image[0] == 21);  // the corner is the corner
    }
    SUBCASE("colour statistics of a grey set") {
        const DataSplits s = open("mnist:" + dir.path(), 28);
        double sum = 0, squares = 0;
        for (int i = 0; i < 20; ++i)
            for (uint8_t p : load(*s.train, i)) sum += p, squares += double(p) * p;
        const double n = 20 * 28 * 28, mean = sum / n,
                     std_dev = std::sqrt(squares / n - mean * mean);
        for (int ch = 0; ch < 3; ++ch) {
            CHECK(s.mean[ch] == doctest::Approx(mean));
            CHECK(s.std_dev[ch] == doctest::Approx(std_dev));
            // grey noise only
            CHECK(std::abs(s.pca[ch][0]) == doctest::Approx(std_dev).epsilon(1e-5));
            CHECK(s.pca[ch][0] == doctest::Approx(s.pca[0][0]));
            CHECK(std::abs(s.pca[ch][1]) < 1e-2);
            CHECK(std::abs(s.pca[ch][2]) < 1e-2);
        }
    }
}

TEST_CASE("data: damaged IDX files say what, where and what to do") {
    TempDir dir;
    write_idx_set(dir.path(), 20, 10);
    const std::string images = dir / "train-images-idx3-ubyte",
                      labels = dir / "train-labels-idx1-ubyte";
    const std::string gz = dir / "t10k-images-idx3-ubyte.gz";
    const auto error = [&] { return open_error("mnist:" + dir.path()); };
    Bytes b = read_bytes(images);
    SUBCASE("truncated in the values") {
        b.resize(16 + 100);
        write_file(images, b);
        const std::string e = error();
        CHECK_MESSAGE((has(e, images) && has(e, "truncated") && has(e, "116") && has(e, "15696") &&
                       has(e, "20 images")),
                      e);
    }
    SUBCASE("truncated in the header") {
        b.resize(6);
        write_file(images, b);
        CHECK_MESSAGE(has(error(), "truncated: ends at byte 6"), error());
    }
    SUBCASE("empty") {
        write_file(images, {});
        CHECK_MESSAGE(has(error(), "truncated: ends at byte 0"), error());
    }
    SUBCASE("wrong magic number") {
        b[2] = 0xD;
        write_file(images, b);
        CHECK_MESSAGE(
            (has(error(), "00000d03") && has(error(), "00000803") && has(error(), images)),
            error());
    }
    SUBCASE("labels given for images") {
        write_file(images, read_bytes(labels));
        CHECK_MESSAGE(has(error(), "00000801, expected 00000803"), error());
    }
    SUBCASE("more data than the header says") {
        b.push_back(0);
        write_file(images, b);
        CHECK_MESSAGE(has(error(), "goes on behind byte 15696"), error());
    }
    SUBCASE("a count that would need gigabytes") {
        b[4] = 0x03;
        write_file(images, b);
        CHECK_MESSAGE(has(error(), "truncated"), error());
    }
    SUBCASE("a side that no image has") {
        b[8] = 0x7F;
        write_file(images, b);
        CHECK_MESSAGE(has(error(), "dimension 1 at byte 8"), error());
    }
    SUBCASE("counts differ") {
        write_file(labels, idx_labels(19));
        CHECK_MESSAGE((has(error(), "20 images") && has(error(), "19 labels")), error());
    }
    SUBCASE("a label out of range") {
        Bytes l = idx_labels(10);
        l[8 + 4] = 200;
        write_gz(dir / "t10k-labels-idx1-ubyte.gz", l);
        CHECK_MESSAGE((has(error(), "label 200 at byte 12") && has(error(), "expected 0 to 9")),
                      error());
    }
    SUBCASE("truncated gzip") {
        Bytes z = read_bytes(gz);
        z.resize(z.size() / 2);
        write_file(gz, z);
        CHECK_MESSAGE((has(error(), "truncated gzip") && has(error(), gz)), error());
    }
    SUBCASE("gzip without its last bytes") {
        Bytes z = read_bytes(gz);
        z.resize(z.size() - 3);
        write_file(gz, z);
        CHECK_MESSAGE(has(error(), "truncated gzip"), error());
    }
    SUBCASE("gzip whose checksum is wrong") {
        Bytes z = read_bytes(gz);
        z[z.size() - 6] ^= 0x10;  // of the CRC; the last four bytes are the length
        write_file(gz, z);
        CHECK_MESSAGE((has(error(), "damaged gzip") && has(error(), "incorrect data check")),
                      error());
    }
    SUBCASE("a file is missing") {
        std::filesystem::remove(labels);
        CHECK_MESSAGE((has(error(), labels) && has(error(), "missing")), error());
    }
    SUBCASE("no such folder") {
        CHECK(has(open_error("mnist:" + (dir / "nowhere")), "no such folder"));
    }
    SUBCASE("images of two sizes") {
        write_gz(gz, idx_images(10, 20, 20));
        CHECK_MESSAGE(has(error(), "20x20"), error());
    }
}

TEST_CASE("data: CIFAR-10 records") {
    TempDir dir;
    const auto batch = [](int n, int seed) {
        Bytes b;
        for (int i = 0; i < n; ++i) {
            b.push_back(uint8_t((i + seed) % 10));
            for (int ch = 0; ch < 3; ++ch)
                for (int p = 0; p < 1024; ++p) b.push_back(uint8_t(p + 50 * ch + seed));
        }
        return b;
    };
    for (int k = 1; k <= 5; ++k)
        write_file(dir / "data_batch_" + std::to_string(k) + ".bin", batch(3, k));
    write_file(dir / "test_batch.bin", batch(2, 9));
    SUBCASE("read back, planes interleaved") {
        const DataSplits s = open("cifar10:" + dir.path(), 24);
        CHECK(s.train->size() == 15);
        CHECK(s.train->height == 32);
        CHECK(s.train->classes[3] == "cat");
        CHECK(s.train->label(4) == (1 + 2) % 10);  // second record of the second file
        const Bytes image = load(*s.train, 4);
        for (int p = 0; p < 1024; ++p)
            for (int ch = 0; ch < 3; ++ch) REQUIRE(image[p * 3 + ch] == uint8_t(p + 50 * ch + 2));
        CHECK(s.held_out->label(1) == 0);
    }
    SUBCASE("names, and the archive's own folder") {
        write_file(dir / "outer/x", {});
        std::filesystem::rename(dir / "outer/x", dir / "x");
        std::string names;
        for (char c = 'a'; c < 'k'; ++c) names += std::string(1, c) + "\r\n";
        write_file(dir / "batches.meta.txt", Bytes(names.begin(), names.end()));
        std::filesystem::create_directory_symlink(dir.path(), dir / "outer/cifar-10-batches-bin");
        const DataSplits s = open("cifar10:" + (dir / "outer"), 24);
        CHECK(s.train->classes.front() == "a");
        CHECK(s.train->classes.back() == "j");
    }
    SUBCASE("truncated") {
        Bytes b = batch(3, 2);
        b.resize(b.size() - 10);
        write_file(dir / "data_batch_2.bin", b);
        const std::string e = open_error("cifar10:" + dir.path(), 24);
        CHECK_MESSAGE(
            (has(e, "data_batch_2.bin") && has(e, "record 2 at byte 6146 has 3063 of 3073")), e);
    }
    SUBCASE("missing, empty, not of this format") {
        write_file(dir / "data_batch_3.bin", {});
        CHECK(has(open_error("cifar10:" + dir.path(), 24), "record 0 at byte 0 has 0 of 3073"));
        write_file(dir / "data_batch_3.bin", Bytes(3073, 77));
        CHECK(has(open_error("cifar10:" + dir.path(), 24), "label 77 at byte 0"));
        std::filesystem::remove(dir / "data_batch_3.bin");
        CHECK(has(open_error("cifar10:" + dir.path(), 24), "data_batch_3.bin is missing"));
    }
}

TEST_CASE("data: every kind of image file becomes RGB") {
    Image image;
    SUBCASE("PNG") {
        CHECK(decode_image(png(2, 1, 8, 0, {10, 200}), image) == "");  // grey
        check_pixel(image, 1, 200, 200, 200, 0);
        CHECK(decode_image(png(2, 1, 8, 4, {10, 255, 200, 0}), image) == "");  // grey and alpha
        check_pixel(image, 1, 200, 200, 200, 0);
        CHECK(decode_image(png(1, 1, 8, 6, {1, 2, 3, 128}), image) == "");  // RGB and alpha
        check_pixel(image, 0, 1, 2, 3, 0);
        CHECK(decode_image(png(1, 1, 16, 2, {10, 99, 20, 99, 30, 99}), image) == "");  // 16 bits
        check_pixel(image, 0, 10, 20, 30, 0);
        // palette, 1 bit
        CHECK(decode_image(png(2, 1, 1, 3, {0x40}, {1, 2, 3, 250, 251, 252}), image) == "");
        check_pixel(image, 0, 1, 2, 3, 0);
        check_pixel(image, 1, 250, 251, 252, 0);
    }
    SUBCASE("grey JPEG") {
        CHECK(decode_image(kGrey, image) == "");
        CHECK(image.height == 8);
        check_pixel(image, 5, 90, 90, 90, 4);
    }
    SUBCASE("CMYK JPEG: (255 - C)(255 - K) / 255 and so on, with and without Adobe's marker") {
        // Tolerance: JPEG quantisation at this quality.
        CHECK(decode_image(kCmyk, image) == "");
        CHECK(image.width == 16);
        check_pixel(image, 3, 226, 23, 51, 5);
        check_pixel(image, 12, 42, 165, 172, 5);
        const Image adobe = image;
        Bytes plain = kCmyk;
        plain.erase(plain.begin() + 2, plain.begin() + 18);
        CHECK(decode_image(plain, image) == "");
        CHECK(image.rgb == adobe.rgb);
        Bytes ycck = kCmyk;
        ycck[17] = 2;  // the same numbers, declared transformed
        CHECK(decode_image(ycck, image) == "");
        CHECK(image.rgb != adobe.rgb);
    }
    SUBCASE("broken ones give a reason") {
        const Bytes good = jpeg(40, 30);
        CHECK(decode_image(good, image) == "");
        for (size_t keep : {good.size() - 2, good.size() / 2, size_t(30), size_t(3)}) {
            const std::string e = decode_image(Bytes(good.begin(), good.begin() + keep), image);
            CHECK_MESSAGE(has(e, "truncated JPEG"), e);
        }
        // A thumbnail's end-of-image marker inside a segment is not the end of the file.
        Bytes thumbnail{0xFF, 0xD8, 0xFF, 0xE1, 0, 8, 1, 2, 0xFF, 0xD9, 3, 4};
        thumbnail.insert(thumbnail.end(), good.begin() + 2, good.end());
        CHECK(decode_image(thumbnail, image) == "");
        thumbnail.resize(thumbnail.size() - 2);
        CHECK(has(decode_image(thumbnail, image), "truncated JPEG"));
        Bytes trailing = good;
        trailing.insert(trailing.end(), 100, 0);
        CHECK(decode_image(trailing, image) == "");

        Bytes p = flat_png(20, 20, 1, 2, 3);
        CHECK(has(decode_image(Bytes(p.begin(), p.end() - 12), image), "truncated PNG"));
        p[50] ^= 1;
        CHECK(has(decode_image(p, image), "damaged PNG"));
        CHECK(has(decode_image({'h', 'e', 'l', 'l', 'o'}, image), "neither JPEG nor PNG"));
        CHECK(decode_image({}, image) == "empty file");
        Bytes huge = kGrey;
        huge[94] = huge[95] = huge[96] = huge[97] = 0x7F;  // height and width in the frame header
        CHECK(decode_image(huge, image) == "claims 32639x32639 pixels");
    }
}

TEST_CASE("data: a folder of images") {
    TempDir dir;
    write_file(dir / "train/cat/1.JPG", jpeg(90, 80));
    write_file(dir / "train/cat/2.png", flat_png(100, 120, 200, 100, 50));
    write_file(dir / "train/cat/cmyk.jpeg", kCmyk);
    write_file(dir / "train/cat/notes.txt", {'x'});
    write_file(dir / "train/dog/a.jpg", kGrey);
    write_file(dir / "train/dog/misnamed.jpg", flat_png(76, 76, 9, 8, 7));
    write_file(dir / "train/.hidden/a.jpg", {});
    write_file(dir / "val/dog/b.jpg", jpeg(76, 76, 3));
    const auto error = [&] { return open_error("folder:" + dir.path()); };
    SUBCASE("used in sorted order, resized, cropped") {
        const DataSplits s = open("folder:" + dir.path());
        REQUIRE(s.train->size() == 5);
        CHECK(s.train->classes == std::vector<std::string>{"cat", "dog"});
        CHECK(s.train->height == 76);
        CHECK(s.train->bad_count() == 0);
        CHECK(s.train->label(2) == 0);
        CHECK(s.train->label(3) == 1);
        CHECK(s.held_out_name == "val");
        CHECK(s.held_out->label(0) == 1);
        const Bytes flat = load(*s.train, 1);
        for (size_t i = 0; i < flat.size(); i += 3) {
            REQUIRE(int(flat[i]) == 200);
            REQUIRE(int(flat[i + 2]) == 50);
        }
        CHECK(int(load(*s.train, 4)[1]) == 8);
        // At the stored size already: the pixels as they are.
        Image image;
        REQUIRE(decode_image(jpeg(76, 76, 3), image) == "");
        CHECK(load(*s.held_out, 0) == image.rgb);
    }
    SUBCASE("test/ instead of val/, and neither") {
        std::filesystem::rename(dir / "val", dir / "test");
        CHECK(open("folder:" + dir.path()).held_out_name == "test");
        std::filesystem::remove_all(dir / "test");
        const DataSplits s = open("folder:" + dir.path());
        CHECK(s.held_out == nullptr);
        CHECK(has(s.description, "nothing is held out"));
    }
    SUBCASE("broken images are left out, counted and listed") {
        Bytes cut = jpeg(90, 80);
        cut.resize(cut.size() / 2);
        write_file(dir / "train/dog/cut.jpg", cut);
        write_file(dir / "train/dog/text.jpg", {'h', 'e', 'l', 'l', 'o'});
        write_file(dir / "train/dog/empty.png", {});
        // Only decoding finds this one: its frame header claims no pixels.
        Bytes no_size = kGrey;
        no_size[94] = no_size[95] = no_size[96] = no_size[97] = 0;
        write_file(dir / "train/dog/zero.jpg", no_size);
        const DataSplits s = open("folder:" + dir.path());
        CHECK(s.train->size() == 6);
        CHECK(s.train->left_out == 3);
        CHECK(s.train->bad_count() == 4);  // the last by the statistics' reading
        Bytes out(76 * 76 * 3);
        CHECK_FALSE(s.train->load(5, out.data()));
        CHECK_FALSE(s.train->load(5, out.data()));
        CHECK(s.train->bad_count() == 4);
        const auto bad = s.train->bad_images();
        REQUIRE(bad.size() == 4);
        CHECK(bad[0].path == dir / "train/dog/cut.jpg");
        CHECK(has(bad[0].reason, "truncated JPEG"));
        CHECK(bad[1].reason == "empty file");
        CHECK(has(bad[2].reason, "neither JPEG nor PNG"));
        CHECK(bad[3].reason == "claims 0x0 pixels");
    }
    SUBCASE("many broken images: all counted, ten listed") {
        for (int i = 0; i < 15; ++i)
            write_file(dir / "train/dog/x" + std::to_string(i) + ".jpg", {'x'});
        const DataSplits s = open("folder:" + dir.path());
        CHECK(s.train->bad_count() == 15);
        CHECK(s.train->bad_images().size() == 10);
    }
    SUBCASE("an empty class folder") {
        std::filesystem::create_directory(dir / "train/eel");
        CHECK_MESSAGE((has(error(), dir / "train/eel") && has(error(), "empty class folder")),
                      error());
        write_file(dir / "train/eel/a.jpg", {'x'});
        CHECK_MESSAGE((has(error(), dir / "train/eel") && has(error(), "no readable image")),
                      error());
    }
    SUBCASE("a class that only val/ has") {
        write_file(dir / "val/eel/a.jpg", jpeg(10, 10));
        CHECK_MESSAGE((has(error(), dir / "val/eel") && has(error(), "training split lacks")),
                      error());
    }
    SUBCASE("held-out images alone, at a size that is given") {
        std::filesystem::remove_all(dir / "train");
        DataSpec spec{.text = "folder:" + dir.path(), .net_input = 67};
        spec.held_out_only = true;
        spec.stored = 80;
        const DataSplits s = open_data(spec);
        CHECK(s.train == nullptr);
        CHECK(s.any().classes == std::vector<std::string>{"dog"});
        CHECK(s.held_out->height == 80);
        CHECK(has(s.description, "1 val images, 1 classes, stored at 80"));
        std::filesystem::remove_all(dir / "val");
        CHECK(has(message<Error>([&] { open_data(spec); }), "neither val/ nor test/"));
    }
    SUBCASE("what has no image's name is counted") {
        const DataSplits s = open("folder:" + dir.path());
        REQUIRE(s.notices.size() == 2);
        CHECK(has(s.notices[0], "1 entry of " + (dir / "train") + " not named"));
        CHECK(has(s.notices[0], "notes.txt"));
        CHECK(s.notices[1] == (dir / "val") + " has 1 of the training split's 2 classes (not cat)");
    }
    SUBCASE("a small net keeps the size of small images") {
        write_file(dir / "small/train/a/1.png", flat_png(32, 32, 1, 2, 3));
        CHECK(open("folder:" + (dir / "small"), 24).train->height == 32);
        CHECK(open("folder:" + (dir / "small"), 67).train->height == 76);
        CHECK(open("folder:" + dir.path(), 24).train->height == 27);
    }
    SUBCASE("missing folders") {
        CHECK(has(open_error("folder:" + (dir / "nowhere")), "nowhere: no such folder"));
        CHECK(has(open_error("folder:" + (dir / "val")), "/train is missing"));
        std::filesystem::create_directories(dir / "other/train");
        CHECK(has(open_error("folder:" + (dir / "other")), "has no class folders"));
    }
}

TEST_CASE("data: colour statistics of a folder") {
    // Two flat images: mean, covariance and its one direction are known.
    TempDir dir;
    write_file(dir / "train/a/1.png", flat_png(80, 80, 100, 50, 30));
    write_file(dir / "train/a/2.png", flat_png(80, 80, 140, 70, 30));
    const DataSplits s = open("folder:" + dir.path());
    const float mean[3] = {120, 60, 30}, std_dev[3] = {20, 10, 1}, pca[3] = {20, 10, 0};
    for (int ch = 0; ch < 3; ++ch) {
        CHECK(s.mean[ch] == doctest::Approx(mean[ch]));
        CHECK(s.std_dev[ch] == doctest::Approx(std_dev[ch]));
        CHECK(std::abs(s.pca[ch][0]) == doctest::Approx(pca[ch]).epsilon(1e-4));
        CHECK(std::abs(s.pca[ch][1]) < 1e-3);
        CHECK(std::abs(s.pca[ch][2]) < 1e-3);
    }
    CHECK(s.pca[0][0] * s.pca[1][0] > 0);
}

TEST_CASE("data: synthetic images depend on seed, index and class only") {
    const DataSplits a = open("synthetic:7"), b = open("synthetic:7");
    CHECK(open("synthetic").train->classes.size() == 1000);
    CHECK(a.train->classes.size() == 7);
    CHECK(a.train->height == 76);
    CHECK(load(*a.train, 11) == load(*b.train, 11));
    CHECK(load(*a.train, 11) != load(*a.train, 11 + 7));  // same class, other noise
    CHECK(load(*a.train, 3) != load(*a.held_out, 3));
    // The mean of a class's images tells it from the next class's by much more than the noise.
    const auto distance = [&](int64_t i, int64_t j) {
        const Bytes x = load(*a.train, i), y = load(*a.train, j);
        double sum = 0;
        for (size_t k = 0; k < x.size(); ++k) sum += std::pow(double(x[k]) - y[k], 2);
        return std::sqrt(sum / double(x.size()));
    };
    CHECK(distance(0, 7) < 30);
    CHECK(distance(0, 1) > 45);
    // More of them are more of the same, and the held-out ones stay.
    DataSpec more{.text = "synthetic:7", .net_input = 67};
    more.train_images = 9000;
    const DataSplits many = open_data(more);
    CHECK(a.train->size() == 5120);
    CHECK(many.train->size() == 9000);
    more.text = "synthetic:7:60";  // told by the text
    CHECK(open_data(more).train->size() == 60);
    CHECK(load(*many.train, 11) == load(*a.train, 11));
    CHECK(load(*many.held_out, 3) == load(*a.held_out, 3));
    for (const int64_t i : {int64_t(5120 + 3), int64_t(8997)})
        CHECK(load(*many.train, i) != load(*many.held_out, i % 7));
    DataSpec other;
    other.text = "synthetic:7", other.net_input = 67, other.seed = 2;
    CHECK(load(*open_data(other).train, 11) != load(*a.train, 11));
}

TEST_CASE("data: bad --data texts") {
    const auto error = [](const std::string& text) {
        return message<UsageError>([&] { open(text); });
    };
    const std::string e = error("fashon-mnist");
    CHECK_MESSAGE(
        (has(e, "fashon-mnist") && has(e, "nearest is fashion-mnist") && has(e, "cifar10")), e);
    CHECK(has(error("cifar:/x"), "nearest is cifar10"));
    CHECK(has(error(""), "unknown kind of data"));
    CHECK(has(error("folder"), "needs a folder: --data folder:DIR"));
    CHECK(has(error("mnist:"), "needs a folder"));
    for (const char* bad :
         {"synthetic:", "synthetic:0", "synthetic:ten", "synthetic:10x", "synthetic:-1",
          "synthetic:10:", "synthetic:10:0", "synthetic:10:many", "synthetic:10:5:5"})
        CHECK_MESSAGE(has(error(bad), "the number of "), bad);
}
