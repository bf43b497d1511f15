// How many images a second one loading thread gives from a set whose pixels are in memory (the page
// cache has records after the first round), with crops drawn for a network's input of 227, beside
// what memcpy gives on the same bytes.
//
//   make loader-rate DATA=records:DIR
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <vector>

#include "data/dataset.h"
#include "data/loader.h"

namespace {

using namespace wt;

double seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

double median(std::vector<double> v) {
    std::nth_element(v.begin(), v.begin() + static_cast<std::ptrdiff_t>(v.size() / 2), v.end());
    return v[v.size() / 2];
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
        const size_t bytes = size_t(set.height) * set.width * set.channels;
        const auto n = static_cast<int>(std::min<int64_t>(set.size(), kBatch));
        LoaderOptions options;
        options.batch = n;
        options.out = kInput;
        options.depth = 4;
        Loader loader(set, options);
        const auto steps = std::max<int64_t>(4096 / n, 4);
        const auto round = [&] {
            const double begin = seconds();
            for (int64_t s = 0; s < steps; ++s) loader.release(loader.next());
            return static_cast<double>(steps * n) / (seconds() - begin);
        };
        // As far apart as the images of a shuffled set are, so that copies meet no cache either.
        std::vector<uint8_t> from(bytes * 1024, 1), to(bytes * static_cast<size_t>(n));
        const auto copies = [&] {
            const double begin = seconds();
            uint32_t place = 1;
            for (int64_t s = 0; s < steps; ++s)
                for (int i = 0; i < n; ++i) {
                    place = place * 1664525u + 1013904223u;
                    std::memcpy(&to[bytes * static_cast<size_t>(i)], &from[bytes * (place >> 22)],
                                bytes);
                }
            return static_cast<double>(steps * n) / (seconds() - begin);
        };
        round();
        copies();
        std::vector<double> loads, memory;
        for (int r = 0; r < kRounds; ++r) {  // in turns
            loads.push_back(round());
            memory.push_back(copies());
        }
        const double gb = static_cast<double>(bytes) / 1e9, rate = median(loads),
                     most = median(memory);
        std::printf("%s\n", data.description.c_str());
        std::printf("loader, one thread   %8.0f images/s  %6.2f GB/s\n", rate, rate * gb);
        std::printf("memcpy, one thread   %8.0f images/s  %6.2f GB/s   the loader is at %.0f%%\n",
                    most, most * gb, 100 * rate / most);
        return 0;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "loader_rate: %s\n", e.what());
        return 1;
    }
}
