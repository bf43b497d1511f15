// Data sets as the trainer sees them: two splits of equally sized uint8 images with labels, and the
// training split's colour statistics.
#pragma once

#include <cstdint>
#include <memory>
#include <mutex>
#include <set>
#include <string>
#include <vector>

#include "host/cuda/check.h"

namespace wt {

// An image that could not be used, and why, in words.
struct BadImage {
    std::string path, reason;
};

// One split: `size()` images of one stored size, uint8, HWC, with 1 or 3 channels.
class Dataset {
public:
    virtual ~Dataset() = default;
    virtual int64_t size() const = 0;
    virtual int label(int64_t i) const = 0;
    // of its file, where each has its own
    virtual std::string name(int64_t i) const { return std::to_string(i); }
    // Writes image i, resized and cropped to the stored size, to out[height * width * channels].
    // False when the file cannot be read or decoded, which is noted for `bad_count`; the caller
    // takes another image. Safe to call from several threads.
    virtual bool load(int64_t i, uint8_t* out) const = 0;
    // Of image i as load() gives it the `side` rows and columns from (y0, x0) on, to
    // out[side * side * channels]; false as there. Where pixels lie in memory they are read from
    // there, else the image is made beside first.
    virtual bool load_crop(int64_t i, int y0, int x0, int side, uint8_t* out) const;
    // Says that image i is wanted soon, where that helps: reading begins, nobody waits.
    virtual void will_load(int64_t) const {}

    int height = 0, width = 0, channels = 0;
    std::vector<std::string> classes;
    bool mirrors = true;   // false where a mirrored image means something else (digits)
    int64_t left_out = 0;  // files found unusable when the set was opened: not among size()

    // Files of this split found unusable so far, each counted once: left out when the set was
    // opened, or replaced when they were to be loaded.
    int64_t bad_count() const;
    std::vector<BadImage> bad_images() const;  // the first 10 of them

protected:
    // `id` is the file's place in the listing, the same however often it is met.
    void note_bad(int64_t id, BadImage bad) const;

    // From a stored image to a crop of it.
    void copy_crop(const uint8_t* image, int y0, int x0, int side, uint8_t* out) const;

private:
    mutable std::mutex bad_mutex_;
    mutable std::set<int64_t> bad_ids_;
    mutable std::vector<BadImage> bad_;
};

struct DataSpec {
    std::string text;     // --data: KIND[:ARGUMENT]
    int net_input = 227;  // side of the network's input
    uint64_t seed = 1;    // of synthetic images; nothing else here is random
    // images (evenly spaced) behind mean, std_dev and pca; 0: leave them 0, 1, 0
    int64_t statistics_from = 1000;
    bool held_out_only =
        false;       // for evaluation alone: the training split is not looked for, nor measured
    int stored = 0;  // side of stored images, at least net_input; 0: as stored_size has it
    int64_t train_images = 0;  // of a synthetic set whose text does not say how many; 0: 5120
};

struct DataSplits {
    std::unique_ptr<Dataset> train;     // null with held_out_only
    std::unique_ptr<Dataset> held_out;  // null for a folder without val/ and test/; then say so
    // both have the same sizes and classes
    const Dataset& any() const { return train ? *train : *held_out; }
    std::string held_out_name;  // "test" or "val"; "" without one
    // Statistics of the training split's pixels, in 0..255; one-channel sets have the same value
    // three times.
    float mean[3] = {0, 0, 0};
    float std_dev[3] = {1, 1, 1};  // never 0
    // Column k is eigenvector k of the covariance of RGB, times the square root of its eigenvalue
    // (the standard deviation along it), 0..255 units, largest first. Colour noise is pca * a, a ~
    // N(0, 0.1 I): cuda-convnet2's form. The paper's text multiplies by the eigenvalue itself,
    // which has the wrong unit.
    float pca[3][3] = {};
    bool measured = false;             // by the reader, over all training images
    std::string description;           // one line: what it is, how many, which size
    std::vector<std::string> notices;  // what was passed over, a line each
};

// KIND is one of
//   fashion-mnist[:DIR]  IDX files, gzip or not; found by itself where `make deps` puts them
//   mnist:DIR            the same reader, digits (not mirrored)
//   cifar10:DIR          binary batches
//   folder:DIR           DIR/train/<class>/*.{jpg,jpeg,png}, DIR/val (or DIR/test) likewise
//   records:DIR          what bin/pack has made of such a folder (data/pack.h)
//   synthetic[:CLASSES[:IMAGES]]  made up from seed and index, learnable, not stored; default 1000
//                        classes. The held-out ones are the same however many training IMAGES there
//                        are
// Throws UsageError for a bad text, Error for files: one line with what, where and what to do.
DataSplits open_data(const DataSpec& spec);

// The side images are stored at for a network's input: 256 for 227 and 224, and in that proportion
// for others. Sets of small images (side `native` > 0) are framed tightly already: they keep their
// own size when the input takes three quarters of it or more (cifar: 24 of 32), else they are
// enlarged so that the margin is one of their own pixels on each side (mini on Fashion-MNIST: 67 of
// 72). Folders follow the first rule, and the second for inputs up to 64 only where it keeps the
// files' own size.
int stored_size(int net_input, int native = 0);

}  // namespace wt
