// CIFAR-10's binary version: files of 3073-byte records, a label and then 32x32 red, green and blue
// planes.
#include <filesystem>
#include <sstream>

#include "data/readers.h"
#include "host/cuda/regular_file.h"

namespace wt {
namespace {

namespace fs = std::filesystem;
constexpr int kSide = 32, kPlane = kSide * kSide, kRecord = 1 + 3 * kPlane;

struct Records {
    std::vector<uint8_t> pixels, labels;
};

void append(const std::string& path, Records& to) {
    RegularFile in(path);
    if (in.missing())
        throw Error(
            path +
            " is missing; CIFAR-10's binary version has data_batch_1.bin to data_batch_5.bin and test_batch.bin");
    if (!in.wrong().empty()) throw Error("cannot read " + path + ": " + in.wrong());
    std::vector<uint8_t> record(kRecord);
    for (int64_t n = 0;; ++n) {
        const size_t got = in.read(record.data(), kRecord);
        if (got == 0 && n > 0) return;
        if (got != size_t(kRecord))
            throw Error(path + ": truncated: record " + std::to_string(n) + " at byte " +
                        std::to_string(n * kRecord) + " has " + std::to_string(got) + " of " +
                        std::to_string(kRecord) + " bytes; copy or download it again");
        if (record[0] > 9)
            throw Error(
                path + ": label " + std::to_string(record[0]) + " at byte " +
                std::to_string(n * kRecord) +
                ", expected 0 to 9; not CIFAR-10's binary version (CIFAR-100 and the Python pickles are other "
                "formats)");
        to.labels.push_back(record[0]);
        const size_t at = to.pixels.size();
        to.pixels.resize(at + 3 * kPlane);
        for (int i = 0; i < kPlane; ++i)
            for (int ch = 0; ch < 3; ++ch) to.pixels[at + i * 3 + ch] = record[1 + ch * kPlane + i];
    }
}

}  // namespace

DataSplits open_cifar10(const std::string& given, const DataSpec& spec) {
    // The archive unpacks into a folder of its own.
    const std::string inner = given + "/cifar-10-batches-bin";
    const std::string dir =
        !fs::exists(given + "/test_batch.bin") && fs::is_directory(inner) ? inner : given;
    if (!fs::is_directory(dir))
        throw Error(dir + ": no such folder; give the one that holds data_batch_1.bin");
    Records train, test;
    for (int b = 1; b <= (spec.held_out_only ? 0 : 5); ++b)
        append(dir + "/data_batch_" + std::to_string(b) + ".bin", train);
    append(dir + "/test_batch.bin", test);

    std::vector<std::string> classes;
    const std::string meta = dir + "/batches.meta.txt";
    std::istringstream names(RegularFile(meta).missing() ? "" : read_whole(meta));
    for (std::string line; classes.size() < 10 && std::getline(names, line);) {
        while (!line.empty() && std::isspace(static_cast<unsigned char>(line.back())))
            line.pop_back();
        if (!line.empty()) classes.push_back(line);
    }
    if (classes.size() != 10)
        classes = {"airplane", "automobile", "bird",  "cat",  "deer",
                   "dog",      "frog",       "horse", "ship", "truck"};

    const int side = side_of(spec, kSide);
    const auto split = [&](Records& r) {
        auto d = std::make_unique<MemoryImages>(std::move(r.pixels), std::move(r.labels), kSide,
                                                kSide, 3, side);
        d->classes = classes;
        return d;
    };
    DataSplits s;
    if (!spec.held_out_only) s.train = split(train);
    s.held_out = split(test);
    s.held_out_name = "test";
    s.description = "CIFAR-10 from " + dir + ": " +
                    (s.train ? std::to_string(s.train->size()) + " training and " : std::string()) +
                    std::to_string(s.held_out->size()) +
                    " test images of 32x32, 10 classes, stored at " + std::to_string(side);
    return s;
}

}  // namespace wt
