// How fast image files become training images, on one core: bytes in memory, checked, decoded, and
// resized to 256, by each decoder of this build in turns. `make decode-rate FILES="a.jpg b.jpg
// ..."`; CPU seconds, so that others' work counts little.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <functional>
#include <string>
#include <vector>

#include "data/image.h"
#include "data/image_structure.h"
#include "data/resize.h"

namespace {

using namespace wt;

double cpu_seconds() {
    timespec t{};
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    return double(t.tv_sec) + 1e-9 * double(t.tv_nsec);
}

struct Way {
    const char* name;
    std::function<bool(const std::vector<uint8_t>&)> run;
    std::vector<double> seconds = {};  // of each round
};

// Of two decoders' pixels: how far they differ at most, and on average.
void print_difference(const std::vector<std::vector<uint8_t>>& files) {
    int most = 0;
    double sum = 0, count = 0, other = 0;
    for (const auto& f : files) {
        Image a, b;
        if (!decode_image(f, a).empty() || !decode_image_stb(f, b).empty()) {
            ++other;
            continue;
        }
        for (size_t i = 0; i < a.rgb.size(); ++i) {
            const int d = std::abs(a.rgb[i] - b.rgb[i]);
            most = std::max(most, d);
            sum += d;
        }
        count += double(a.rgb.size());
    }
    std::printf("the decoders' pixels differ by %.2f of 255 on average, %d at most\n",
                sum / std::max(count, 1.0), most);
    if (other > 0)
        std::printf("%.0f files are decoded by libjpeg-turbo and refused for stb_image\n", other);
}

}  // namespace

int main(int argc, char** argv) {
    std::vector<std::vector<uint8_t>> files;
    double bytes = 0, pixels = 0;
    for (int i = 1; i < argc; ++i) {
        std::vector<uint8_t> b;
        Image image;
        std::string wrong = read_file(argv[i], b);
        if (wrong.empty()) wrong = decode_image(b, image);
        if (!wrong.empty()) {
            std::fprintf(stderr, "%s: left out: %s\n", argv[i], wrong.c_str());
            continue;
        }
        bytes += double(b.size());
        pixels += double(image.height) * image.width;
        files.push_back(std::move(b));
    }
    if (files.empty()) {
        std::fprintf(stderr,
                     "decode_rate: no image that can be decoded; usage: make decode-rate "
                     "FILES=\"a.jpg b.png ...\"\n");
        return 2;
    }
    const double n = double(files.size());
    std::printf("%.0f files of %.0f KB and %.2f megapixels on average\n", n, bytes / n / 1e3,
                pixels / n / 1e6);

    constexpr int side = 256;
    std::vector<uint8_t> stored(size_t(side) * side * 3);
    Image image;
    const auto resized = [&](bool good) {
        if (good)
            resize_short_side(image.rgb.data(), image.height, image.width, 3, side, stored.data());
        return good;
    };
    std::vector<Way> ways = {
        {"JPEG checked only",
         [](const auto& f) {
             JpegStructure s;
             return read_jpeg_structure(f, s).empty();
         }},
        {"stb_image", [&](const auto& f) { return decode_image_stb(f, image).empty(); }},
        {"stb_image, resized",
         [&](const auto& f) { return resized(decode_image_stb(f, image).empty()); }}};
    if (jpeg_decoder() == std::string("libjpeg-turbo")) {
        ways.push_back(
            {"libjpeg-turbo", [&](const auto& f) { return decode_image(f, image).empty(); }});
        ways.push_back({"libjpeg-turbo, resized",
                        [&](const auto& f) { return resized(decode_image(f, image).empty()); }});
        print_difference(files);
    }
    constexpr int rounds = 7;
    for (int round = 0; round < rounds; ++round)
        for (Way& w : ways) {
            const double begin = cpu_seconds();
            for (const auto& f : files) w.run(f);
            w.seconds.push_back(cpu_seconds() - begin);
        }
    std::printf("%-24s %12s %18s   (median of %d rounds)\n", "", "ms an image", "images/s a core",
                rounds);
    for (Way& w : ways) {
        std::nth_element(w.seconds.begin(), w.seconds.begin() + rounds / 2, w.seconds.end());
        const double s = w.seconds[rounds / 2] / n;
        std::printf("%-24s %12.3f %18.0f\n", w.name, 1e3 * s, 1 / s);
    }
    return 0;
}
