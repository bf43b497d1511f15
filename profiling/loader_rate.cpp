// How many training images one loading thread gives from a set whose pixels are in memory (the page
// cache has records after the first round): random crops for a network's input of 227, put into the
// staging memory from which they go to the device. Beside it, what memcpy gives on as many bytes of
// as many images in as random an order.
//
// Both are counted in seconds that the process was on a core, in user and in system mode, so that a
// busy machine does not count; the loader's include the thread that takes the batches.
//
//   make loader-rate DATA=records:DIR
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <vector>

#include <sys/resource.h>

#include "data/dataset.h"
#include "data/loader.h"

namespace {

using namespace wt;

double cpu_seconds() {
    rusage u{};
    getrusage(RUSAGE_SELF, &u);
    const auto seconds = [](const timeval& t) {
        return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_usec) / 1e6;
    };
    return seconds(u.ru_utime) + seconds(u.ru_stime);
}

double median(std::vector<double> v) {
    std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
    return v[v.size() / 2];
}

// Images a second of a core, by round.
struct Rates {
    std::vector<double> loads, copies;
};

void print(const char* what, double rate, double bytes) {
    std::printf("%-26s %8.0f a second and core  %6.2f GB/s", what, rate, rate * bytes / 1e9);
}

}  // namespace

int main(int argc, char** argv) {
    constexpr int kBatch = 64, kInput = 227, kRounds = 9;
    if (argc != 2) {
        std::fprintf(stderr, "usage: loader_rate KIND:DIR, as bin/train --data\n");
        return 2;
    }
    try {
        const DataSplits data = open_data({.text = argv[1], .net_input = kInput});
        const Dataset& set = *data.train;
        const size_t stored = size_t(set.height) * set.width * set.channels,
                     crop = size_t(kInput) * kInput * set.channels;
        const auto n = static_cast<int>(std::min<int64_t>(set.size(), kBatch));
        LoaderOptions options;
        options.batch = n;
        options.out = kInput;
        options.crops = true;
        options.depth = 4;
        Loader loader(set, options);
        const auto steps = std::max<int64_t>(8192 / n, 4);
        const auto images = static_cast<double>(steps * n);
        const auto round = [&] {
            const double begin = cpu_seconds();
            for (int64_t s = 0; s < steps; ++s) loader.release(loader.next());
            return images / (cpu_seconds() - begin);
        };
        // As many sources as the set has images, or as many as no cache holds.
        const auto sources = static_cast<size_t>(std::min<int64_t>(set.size(), 2048));
        std::vector<uint8_t> from(stored * sources, 1), to(crop * static_cast<size_t>(4 * n));
        const auto copies = [&] {
            const double begin = cpu_seconds();
            uint32_t place = 1;
            for (int64_t s = 0; s < steps * n; ++s) {
                place = place * 1664525u + 1013904223u;
                std::memcpy(&to[crop * static_cast<size_t>(s % (4 * n))],
                            &from[stored * ((uint64_t(place) * sources) >> 32)], crop);
            }
            return images / (cpu_seconds() - begin);
        };
        round();
        copies();
        Rates rates;
        for (int r = 0; r < kRounds; ++r) {
            rates.loads.push_back(round());
            rates.copies.push_back(copies());
        }
        const double rate = median(rates.loads), most = median(rates.copies);
        std::printf("%s\n", data.description.c_str());
        print("loader, crops of 227x227", rate, static_cast<double>(crop));
        std::printf("   %.0f%% of memcpy's\n", 100 * rate / most);
        print("memcpy of as many bytes", most, static_cast<double>(crop));
        std::printf("   medians of %d rounds in turns, by CPU time\n", kRounds);
        return 0;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "loader_rate: %s\n", e.what());
        return 1;
    }
}
