// Packs images into records: decoded, resized and cropped once, so that training reads pixels.
//
//   OUT/classes.txt         a class a line; its number is its line's, from 0
//   OUT/names.txt           readable names, where they are known: a line CLASS, a tab, NAME each
//   OUT/stats.json          sizes, images a class, mean, covariance and deviation of RGB
//   OUT/train/images.npy    uint8 [images, side, side, 3]: short side `side`, the centre of it
//   OUT/train/labels.npy    int64 [images]
//   OUT/val/...             likewise, where the source has held-out images (or test/)
//   OUT/unreadable.txt      what could not be decoded and why, a line each: PATH, a tab, the reason
//
// The order is the source's (pack_source.h); where an image is unreadable its place is taken by the
// last one of the split. All bytes depend on the source and the side alone: not on threads, nor on
// how often packing was stopped, killed or out of room, and gone on with by the same command.
//
// While it is under way SPLIT/images.npy.part holds a place for each image, and SPLIT/pack.state
// which are done (after their pixels are on the disk) and their sums.
#pragma once

#include <cstdint>
#include <functional>
#include <string>

#include "data/pack_source.h"

namespace wt {

struct PackOptions {
    std::string out;
    int side = 256;
    int threads = 0;         // 0: one a core
    bool overwrite = false;  // what is in `out` is of something else, and goes
};

struct PackProgress {
    std::string split;
    int64_t done = 0, images = 0;  // of the split; done ones of earlier starts included
    int64_t before = 0;            // done when this start began
    double seconds = 0;            // since this start began with the split
};

struct PackResult {
    int64_t images = 0, unreadable = 0;
    bool stopped = false;  // `stop` said so: the same command goes on from there
};

// Bytes that the records take on disk, while they are made included.
uint64_t pack_bytes(const PackSource& source, int side);

// `show` is called now and then, from one thread at a time; `stop` is asked between images. Throws
// Error, with what is done kept, when the disk is full or a file cannot be written; and where `out`
// holds records, or a beginning of them, of something else.
PackResult pack(const PackSource& source, const PackOptions& options,
                const std::function<void(const PackProgress&)>& show,
                const std::function<bool()>& stop);

}  // namespace wt
