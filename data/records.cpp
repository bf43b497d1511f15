// Records that bin/pack has made (data/pack.h): images.npy mapped into memory, so that a sample is
// a copy from the page cache, and the kernel keeps what fits.
#include <fcntl.h>
#include <sys/mman.h>

#include <cstring>
#include <filesystem>
#include <sstream>

#include "data/npy.h"
#include "data/readers.h"
#include "host/cuda/regular_file.h"
#include "host/json.h"

namespace wt {
namespace {

namespace fs = std::filesystem;

// A file's bytes, read where they are touched.
class Mapping {
public:
    explicit Mapping(const std::string& path) : path_(path) {
        const RegularFile file(path);
        if (!file.wrong().empty()) throw Error("cannot read " + path + ": " + file.wrong());
        size_ = static_cast<size_t>(file.size());
        if (size_ == 0) throw Error(path + ": an empty file");
        void* p = ::mmap(nullptr, size_, PROT_READ, MAP_SHARED, file.fd(), 0);
        if (p == MAP_FAILED) throw Error("cannot map " + path + ": " + std::strerror(errno));
        data_ = static_cast<const uint8_t*>(p);
    }
    ~Mapping() { ::munmap(const_cast<uint8_t*>(data_), size_); }
    Mapping(const Mapping&) = delete;
    Mapping& operator=(const Mapping&) = delete;

    const uint8_t* data() const { return data_; }
    size_t size() const { return size_; }

    // Samples are met in shuffled order: the kernel's guess that the next one follows reads in
    // vain.
    void expect_random() const { ::madvise(const_cast<uint8_t*>(data_), size_, MADV_RANDOM); }
    // Starts reading; does not wait.
    void will_need(size_t offset, size_t n) const {
        constexpr size_t kPage = 4096;
        const size_t begin = offset / kPage * kPage;
        ::madvise(const_cast<uint8_t*>(data_) + begin, offset + n - begin, MADV_WILLNEED);
    }

    // The array in it. Throws Error unless it is one of that type, whole, of so many dimensions.
    NpyHeader array(const std::string& type, size_t element, size_t dimensions) const {
        NpyHeader h;
        const size_t start = std::min<size_t>(size_, 4096);
        std::string wrong =
            parse_npy_header(std::string(reinterpret_cast<const char*>(data_), start), h);
        if (wrong.empty() && (h.type != type || h.shape.size() != dimensions))
            wrong = "an array of " + h.type + " with " + std::to_string(h.shape.size()) +
                    " dimensions, not of " + type + " with " + std::to_string(dimensions);
        uint64_t bytes = element;
        for (size_t i = 0; wrong.empty() && i < h.shape.size(); ++i) {
            if (h.shape[i] > (int64_t(1) << 40) || bytes > (uint64_t(1) << 60))
                wrong = "larger than any file";
            bytes *= static_cast<uint64_t>(h.shape[i]);
        }
        if (wrong.empty() && size_ - h.data < bytes)
            wrong =
                "cut off: " + std::to_string(size_) + " bytes of " + std::to_string(h.data + bytes);
        if (!wrong.empty()) throw Error(path_ + ": " + wrong);
        return h;
    }

private:
    std::string path_;
    const uint8_t* data_ = nullptr;
    size_t size_ = 0;
};

class Records : public Dataset {
public:
    Records(const fs::path& dir, const std::vector<std::string>& names)
        : images_((dir / "images.npy").string()), labels_((dir / "labels.npy").string()) {
        const NpyHeader images = images_.array("|u1", 1, 4), labels = labels_.array("<i8", 8, 1);
        native_h_ = static_cast<int>(images.shape[1]);
        native_w_ = static_cast<int>(images.shape[2]);
        if (images.shape[3] != 3 || native_h_ < 1 || native_w_ < 1 || images.shape[1] > 8192 ||
            images.shape[2] > 8192)
            throw Error((dir / "images.npy").string() + ": images must be [height, width, 3]");
        if (labels.shape[0] != images.shape[0])
            throw Error(dir.string() + ": " + std::to_string(images.shape[0]) + " images and " +
                        std::to_string(labels.shape[0]) + " labels");
        pixels_ = images_.data() + images.data;
        label_.resize(static_cast<size_t>(labels.shape[0]));
        std::memcpy(label_.data(), labels_.data() + labels.data, label_.size() * 8);
        classes = names;
        for (const int64_t l : label_)
            if (l < 0 || l >= static_cast<int64_t>(classes.size()))
                throw Error((dir / "labels.npy").string() + ": label " + std::to_string(l) +
                            " is none of the " + std::to_string(classes.size()) + " classes");
        channels = 3;
        store_at(native_h_, native_w_);
        images_.expect_random();
    }

    int native() const { return std::min(native_h_, native_w_); }
    // Images are given out at that size: resized as they are loaded where they are stored
    // otherwise.
    void store_at(int h, int w) {
        height = h;
        width = w;
    }

    int64_t size() const override { return static_cast<int64_t>(label_.size()); }
    int label(int64_t i) const override { return static_cast<int>(label_[static_cast<size_t>(i)]); }
    bool load(int64_t i, uint8_t* out) const override {
        const uint8_t* image = pixels_ + image_bytes() * static_cast<size_t>(i);
        if (height == native_h_ && width == native_w_)
            std::memcpy(out, image, image_bytes());
        else
            resize_short_side(image, native_h_, native_w_, 3, height, out);
        return true;
    }
    bool load_crop(int64_t i, int y0, int x0, int side, uint8_t* out) const override {
        if (height != native_h_ || width != native_w_)
            return Dataset::load_crop(i, y0, x0, side, out);
        copy_crop(pixels_ + image_bytes() * static_cast<size_t>(i), y0, x0, side, out);
        return true;
    }
    void will_load(int64_t i) const override {
        const uint8_t* image = pixels_ + image_bytes() * static_cast<size_t>(i);
        images_.will_need(static_cast<size_t>(image - images_.data()), image_bytes());
    }

private:
    size_t image_bytes() const { return size_t(native_h_) * native_w_ * 3; }

    Mapping images_, labels_;
    const uint8_t* pixels_ = nullptr;
    std::vector<int64_t> label_;
    int native_h_ = 0, native_w_ = 0;
};

// Those of all training images, as they were packed.
void read_colours(const fs::path& path, DataSplits& s) {
    double mean[3], covariance[3][3];
    try {
        const Json j = parse_json(read_whole(path.string()));
        for (size_t a = 0; a < 3; ++a) {
            mean[a] = j.at("mean").at(a).get<double>();
            for (size_t b = 0; b < 3; ++b)
                covariance[a][b] = j.at("covariance").at(a).at(b).get<double>();
        }
    } catch (const Json::exception&) {
        throw Error(path.string() +
                    " has no mean and covariance of three channels: bin/pack "
                    "writes it anew with --overwrite");
    }
    set_colours(s, mean, covariance);
    s.measured = true;
}

}  // namespace

DataSplits open_records(const std::string& dir, const DataSpec& spec) {
    const fs::path root = dir;
    if (!fs::is_directory(root)) throw Error(dir + ": no such folder");
    if (!fs::exists(root / "stats.json"))
        throw Error(dir + (fs::exists(root / "train" / "pack.state")
                               ? " is not finished: give bin/pack's command again"
                               : " has no stats.json: records are made by bin/pack FOLDER " + dir));
    std::vector<std::string> classes;
    std::istringstream names(read_whole((root / "classes.txt").string()));
    for (std::string line; std::getline(names, line);) classes.push_back(line);
    if (classes.empty()) throw Error(dir + "/classes.txt: no classes");

    DataSplits s;
    const auto open = [&](const char* name) {
        auto records = std::make_unique<Records>(root / name, classes);
        const int side = spec.stored > 0        ? spec.stored
                         : spec.net_input <= 64 ? stored_size(spec.net_input, records->native())
                                                : stored_size(spec.net_input);
        // Of a side that serves the network's crops they are taken as they are.
        if (records->native() != side) records->store_at(side, side);
        return records;
    };
    if (!spec.held_out_only) s.train = open("train");
    for (const char* name : {"val", "test"})
        if (fs::exists(root / name / "images.npy")) {
            s.held_out = open(name);
            s.held_out_name = name;
            break;
        }
    if (!s.train && !s.held_out)
        throw Error(dir + " has neither val/ nor test/: nothing to evaluate on");
    if (s.train && spec.statistics_from > 0) read_colours(root / "stats.json", s);
    const auto count = [](const Dataset& d, const std::string& name) {
        return std::to_string(d.size()) + " " + name;
    };
    s.description =
        "records in " + dir + ": " + (s.train ? count(*s.train, "training") : std::string()) +
        (s.train && s.held_out ? " and " : "") +
        (s.held_out ? count(*s.held_out, s.held_out_name) : std::string()) + " images, " +
        std::to_string(classes.size()) + " classes, stored at " + std::to_string(s.any().height);
    return s;
}

}  // namespace wt
