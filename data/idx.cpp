// IDX files (LeCun's MNIST format), gzip or not: a big-endian magic 0x00 0x00 TYPE DIMS, the
// dimensions as 32-bit big-endian integers, then the values. TYPE 8 is uint8; images have 3
// dimensions, labels 1.
#include <zlib.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <memory>
#include <new>
#include <optional>

#include "data/readers.h"
#include "host/cuda/regular_file.h"

namespace wt {
namespace {

namespace fs = std::filesystem;

struct Idx {
    std::string path;
    std::vector<int64_t> dims;
    std::vector<uint8_t> values;
};

// gzread takes plain files too. Every short read becomes an error that says where and why.
class GzReader {
public:
    explicit GzReader(const std::string& path) : path_(path), file_(nullptr, gzclose) {
        RegularFile plain(path);
        if (!plain.wrong().empty()) throw Error("cannot read " + path + ": " + plain.wrong());
        file_.reset(gzdopen(plain.fd(), "rb"));
        if (!file_) throw std::bad_alloc();
        plain.release();  // gzclose closes it
        gzbuffer(file_.get(), 1 << 17);
    }
    void read(uint8_t* out, size_t bytes, const std::string& what) {
        const int got = gzread(file_.get(), out, unsigned(bytes));
        if (got == int(bytes)) {
            offset_ += got;
            return;
        }
        check_stream();
        throw Error(path_ + ": truncated: ends at byte " +
                    std::to_string(offset_ + std::max(got, 0)) + " of " + what +
                    "; copy or download it again");
    }
    // gzip's checksum stands behind the data and is only looked at when the end is read.
    void expect_end(int64_t expected) {
        uint8_t extra;
        const int got = gzread(file_.get(), &extra, 1);
        check_stream();
        if (got > 0)
            throw Error(path_ + ": goes on behind byte " + std::to_string(expected) +
                        ", where its header says it ends; it is not the file its header describes");
    }

private:
    void check_stream() {
        int code = Z_OK;
        const std::string text = gzerror(file_.get(), &code);
        if (code == Z_BUF_ERROR)
            throw Error(path_ + ": truncated gzip file (ends after " +
                        std::to_string(gztell(file_.get())) +
                        " unpacked bytes); copy or download it again");
        if (code != Z_OK && code != Z_STREAM_END)
            throw Error(path_ + ": damaged gzip file at unpacked byte " +
                        std::to_string(gztell(file_.get())) + " (" +
                        (text.starts_with(path_)
                             ? text.substr(std::min(text.size(), path_.size() + 2))
                             : text) +
                        "); copy or download it again");
    }
    std::string path_;
    std::unique_ptr<gzFile_s, int (*)(gzFile)> file_;
    int64_t offset_ = 0;
};

Idx read_idx(const std::string& path, int dims) {
    GzReader in(path);
    Idx idx;
    idx.path = path;
    uint8_t b[4];
    in.read(b, 4, "the 4-byte magic number");
    if (b[0] != 0 || b[1] != 0 || b[2] != 8 || b[3] != dims) {
        char got[40];
        std::snprintf(got, sizeof got, "%02x%02x%02x%02x, expected 0000080%d", b[0], b[1], b[2],
                      b[3], dims);
        throw Error(path + ": not an IDX file of " + (dims == 3 ? "images" : "labels") +
                    ": magic number at byte 0 is " + got);
    }
    int64_t count = 1;
    for (int d = 0; d < dims; ++d) {
        in.read(b, 4, "the header");
        const int64_t n = int64_t(b[0]) << 24 | b[1] << 16 | b[2] << 8 | b[3];
        idx.dims.push_back(n);
        if (n < 1 || (d > 0 && n > 4096) || (count *= n) > int64_t(1) << 36)
            throw Error(path + ": dimension " + std::to_string(d) + " at byte " +
                        std::to_string(4 + 4 * d) + " is " + std::to_string(n) +
                        ", which no set of images has; the header is damaged");
    }
    // Memory grows with what is really there: a damaged count does not ask for gigabytes.
    const std::string what = std::to_string(4 + 4 * dims + count) + " (its header counts " +
                             std::to_string(idx.dims[0]) + (dims == 3 ? " images)" : " labels)");
    constexpr int64_t piece = 1 << 26;
    for (int64_t at = 0; at < count; at += piece) {
        const int64_t n = std::min(piece, count - at);
        idx.values.resize(size_t(at + n));
        in.read(&idx.values[at], size_t(n), what);
    }
    in.expect_end(4 + 4 * dims + count);
    return idx;
}

// Both spellings are about: train-images-idx3-ubyte and train-images.idx3-ubyte, each with or
// without .gz.
std::string find_idx(const std::string& dir, const std::string& name, const char* kind) {
    for (const char* dot : {"-", "."})
        for (const char* gz : {"", ".gz"})
            if (const std::string path = dir + "/" + name + dot + kind + gz; fs::exists(path))
                return path;
    if (!fs::is_directory(dir))
        throw Error(dir + ": no such folder; give the one that holds " + name + "-" + kind +
                    "[.gz]");
    throw Error(dir + "/" + name + "-" + kind +
                "[.gz] is missing; an IDX set has train-images-idx3-ubyte, "
                "train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte");
}

struct Pair {
    Idx images, labels;
};

Pair read_pair(const std::string& dir, const std::string& prefix, int classes) {
    Pair p{read_idx(find_idx(dir, prefix + "-images", "idx3-ubyte"), 3),
           read_idx(find_idx(dir, prefix + "-labels", "idx1-ubyte"), 1)};
    if (p.images.dims[0] != p.labels.dims[0])
        throw Error(p.images.path + " has " + std::to_string(p.images.dims[0]) + " images but " +
                    p.labels.path + " has " + std::to_string(p.labels.dims[0]) +
                    " labels; they are not of one set");
    for (size_t i = 0; i < p.labels.values.size(); ++i)
        if (p.labels.values[i] >= classes)
            throw Error(p.labels.path + ": label " + std::to_string(p.labels.values[i]) +
                        " at byte " + std::to_string(8 + i) + " (unpacked), expected 0 to " +
                        std::to_string(classes - 1));
    return p;
}

DataSplits open_idx(const std::string& dir, const DataSpec& spec, std::vector<std::string> classes,
                    bool mirrors, const std::string& name) {
    // Digits, letters and the like: as many classes as the labels name.
    const auto count_classes = [&](const Pair& p) {
        if (!classes.empty()) return;
        for (int c = 0, n = *std::max_element(p.labels.values.begin(), p.labels.values.end());
             c <= n; ++c)
            classes.push_back(std::to_string(c));
    };
    const auto most = [&] { return classes.empty() ? 256 : int(classes.size()); };
    std::optional<Pair> train;
    if (!spec.held_out_only) {
        train = read_pair(dir, "train", most());
        count_classes(*train);
    }
    Pair test = read_pair(dir, "t10k", most());
    count_classes(test);
    const Pair& first = train ? *train : test;
    const int64_t h = first.images.dims[1], w = first.images.dims[2];
    if (test.images.dims[1] != h || test.images.dims[2] != w)
        throw Error(test.images.path + " has images of " + std::to_string(test.images.dims[1]) +
                    "x" + std::to_string(test.images.dims[2]) + ", " + first.images.path + " of " +
                    std::to_string(h) + "x" + std::to_string(w) + "; they are not of one set");
    const int side = side_of(spec, int(std::min(h, w)));
    const auto split = [&](Pair& p) {
        auto d = std::make_unique<MemoryImages>(
            std::move(p.images.values), std::move(p.labels.values), int(h), int(w), 1, side);
        d->classes = classes;
        d->mirrors = mirrors;
        return d;
    };
    DataSplits s;
    if (train) s.train = split(*train);
    s.held_out = split(test);
    s.held_out_name = "test";
    s.description = name + " from " + dir + ": " +
                    (s.train ? std::to_string(s.train->size()) + " training and " : std::string()) +
                    std::to_string(s.held_out->size()) + " test images of " + std::to_string(h) +
                    "x" + std::to_string(w) + " grey, " + std::to_string(classes.size()) +
                    " classes, stored at " + std::to_string(side);
    return s;
}

std::string find_fashion_mnist() {
    const std::string below = "usr/share/datasets/fashion-mnist";
    std::vector<std::string> places = {"/" + below};
    if (const char* prefix = std::getenv("PREFIX"))
        places.push_back(std::string(prefix) + "/" + below);
    places.push_back("build/deps/" + below);
    std::error_code none;
    // A program lies in build/TARGET/bin, the libraries in build/deps.
    const fs::path program = fs::read_symlink("/proc/self/exe", none);
    if (!none)
        places.push_back(
            (program.parent_path().parent_path().parent_path() / "deps" / below).string());
    std::string all;
    for (const std::string& p : places) {
        if (fs::exists(p + "/train-images-idx3-ubyte.gz", none) ||
            fs::exists(p + "/train-images-idx3-ubyte", none))
            return p;
        all += (all.empty() ? "" : ", ") + p;
    }
    throw Error("Fashion-MNIST is in none of " + all +
                "; `make deps` installs it (Debian's dataset-fashion-mnist), or "
                "name its folder: --data fashion-mnist:DIR");
}

}  // namespace

DataSplits open_fashion_mnist(const std::string& dir, const DataSpec& spec) {
    return open_idx(dir.empty() ? find_fashion_mnist() : dir, spec,
                    {"t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt",
                     "sneaker", "bag", "ankle boot"},
                    true, "Fashion-MNIST");
}

DataSplits open_mnist(const std::string& dir, const DataSpec& spec) {
    return open_idx(dir, spec, {}, false, "IDX set");
}

}  // namespace wt
