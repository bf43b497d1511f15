// How many training images one loading thread gives from a set whose pixels are in memory (the page
// cache has records after the first round): random crops for a network's input of 227, put into the
// staging memory from which they go to the device. Beside it, what memcpy gives on as many bytes of
// as many images in as random an order.
//
// Both are counted in seconds that the process was on a core, in user and in system mode, so that a
// busy machine does not count; the loader's include the thread that takes the batches.
//
// With --cold what the disk gives, for records: before each pass over the set its file is put out
// of the page cache and mapped anew. Images a second and bytes read are on the wall; beside them
// stands the file read from its beginning to its end, as cold.
//
//   make loader-rate DATA=records:DIR [COLD=1]
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstring>
#include <fstream>
#include <string>
#include <vector>

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

#include "data/dataset.h"
#include "data/loader.h"
#include "host/cuda/check.h"

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

constexpr int kInput = 227;

LoaderOptions crops(int batch) {
    LoaderOptions o;
    o.batch = batch;
    o.out = kInput;
    o.crops = true;
    o.depth = 4;
    return o;
}

// Images a second of a core, every image in memory.
void warm(const std::string& text) {
    constexpr int kBatch = 64, kRounds = 9;
    const DataSplits data = open_data({.text = text, .net_input = kInput});
    const Dataset& set = *data.train;
    const size_t stored = size_t(set.height) * set.width * set.channels,
                 crop = size_t(kInput) * kInput * set.channels;
    const auto n = static_cast<int>(std::min<int64_t>(set.size(), kBatch));
    Loader loader(set, crops(n));
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
}

// A file that is opened to be put out of the page cache, and to be read.
class ColdFile {
public:
    explicit ColdFile(const std::string& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
        if (fd_ < 0) throw Error("cannot read " + path + ": " + std::strerror(errno));
    }
    ~ColdFile() { ::close(fd_); }
    ColdFile(const ColdFile&) = delete;
    ColdFile& operator=(const ColdFile&) = delete;

    // Only what nobody has mapped goes, and what has been written to the disk.
    void evict() const {
        ::fdatasync(fd_);
        if (const int e = ::posix_fadvise(fd_, 0, 0, POSIX_FADV_DONTNEED))
            throw Error(std::string("the page cache keeps its pages: ") + std::strerror(e));
    }
    // Its bytes.
    int64_t read_all() const {
        std::vector<char> buffer(1 << 22);
        int64_t all = 0;
        while (const ssize_t n = ::pread(fd_, buffer.data(), buffer.size(), all)) {
            if (n < 0) throw Error(std::string("reading failed: ") + std::strerror(errno));
            all += n;
        }
        return all;
    }

private:
    int fd_;
};

// Bytes that this process has had read from disks.
double bytes_read() {
    std::ifstream io("/proc/self/io");
    std::string key;
    for (double value; io >> key >> value;)
        if (key == "read_bytes:") return value;
    throw Error("/proc/self/io does not say how many bytes were read");
}

// Images a second from a disk.
void cold(const std::string& text) {
    constexpr int kBatch = 128, kRounds = 3;
    const std::string records = "records:";
    if (text.rfind(records, 0) != 0)
        throw Error("--cold is of records:DIR, whose pixels are one file; got " + text);
    const ColdFile file(text.substr(records.size()) + "/train/images.npy");
    const auto now = [] {
        return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
            .count();
    };
    std::vector<double> rates, random, sequential;
    for (int r = 0; r < kRounds; ++r) {
        file.evict();
        {
            const DataSplits data = open_data({.text = text, .net_input = kInput});
            const auto n = static_cast<int>(std::min<int64_t>(data.train->size(), kBatch));
            const int64_t steps = data.train->size() / n;
            if (r == 0) std::printf("%s, out of the page cache\n", data.description.c_str());
            const double bytes = bytes_read(), begin = now();
            Loader loader(*data.train, crops(n));
            for (int64_t s = 0; s < steps; ++s) loader.release(loader.next());
            const double seconds = now() - begin;
            rates.push_back(static_cast<double>(steps * n) / seconds);
            random.push_back((bytes_read() - bytes) / seconds);
        }
        file.evict();
        const double bytes = bytes_read(), begin = now();
        const auto all = static_cast<double>(file.read_all());
        if (bytes_read() - bytes < 0.9 * all)
            throw Error("the file was not read from a disk: is it in memory (tmpfs)?");
        sequential.push_back(all / (now() - begin));
    }
    std::printf(
        "loader, shuffled, crops of 227x227  %8.0f a second  %6.2f GB/s read from the disk\n",
        median(rates), median(random) / 1e9);
    std::printf("the file from end to end                               %6.2f GB/s\n",
                median(sequential) / 1e9);
    std::printf("medians of %d passes in turns, on the wall\n", kRounds);
}

}  // namespace

int main(int argc, char** argv) {
    const bool from_disk = argc == 3 && std::strcmp(argv[2], "--cold") == 0;
    if (argc != 2 && !from_disk) {
        std::fprintf(stderr, "usage: loader_rate KIND:DIR [--cold], as bin/train --data\n");
        return 2;
    }
    try {
        from_disk ? cold(argv[1]) : warm(argv[1]);
        return 0;
    } catch (const std::exception& e) {
        std::fprintf(stderr, "loader_rate: %s\n", e.what());
        return 1;
    }
}
