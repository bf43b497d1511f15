// What bin/pack packs: the images of a folder or of ILSVRC's archives, in the order in which they
// will be stored. Opens no image.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace wt {

struct PackItem {
    std::string name;      // from the source's root: "train/n01440764/n01440764_10026.JPEG"
    int32_t label = 0;     // number of its class
    int32_t archive = -1;  // of PackSource::archives; -1: a file of its own
    uint64_t offset = 0;   // in the archive
    uint64_t size = 0;     // bytes
};

struct PackSplit {
    std::string name;             // "train", "val" or "test"
    std::vector<PackItem> items;  // by class, then by name; `val` of one flat folder: by name
};

struct PackSource {
    std::string root;
    std::vector<std::string> archives;  // paths
    std::vector<std::string> classes;   // sorted: a class's number is its place here
    std::vector<std::string> readable;  // a name for people for each class, or empty
    std::vector<PackSplit> splits;
    std::vector<std::string> notices;  // what was passed over, a line each

    // Reads an item's bytes. Returns "" or why not. Safe to call from several threads.
    std::string read(const PackItem& item, std::vector<uint8_t>& bytes) const;
};

struct PackRequest {
    std::string folder;      // see below
    std::string val_labels;  // the classes of a flat val folder, a line an image; "" for none
    std::string names;  // readable names of classes, a line each: "n01440764 tench"; "" for none
};

// `folder` is one of
//   DIR/train/CLASS/*.jpg|jpeg|png, and DIR/val or DIR/test likewise, if there
//   the same with DIR/val/*.JPEG flat: then val_labels says each image's class. A line is "FILE
//     CLASS" (Kaggle's LOC_val_solution.csv too), "FILE NUMBER" with the class's place in sorted
//     order (Caffe's val.txt), or "CLASS" alone for the files in the order of their names
//   DIR/CLASS/*.jpg|jpeg|png: one split, called train
//   DIR with ILSVRC2012_img_train.tar, and with ILSVRC2012_img_val.tar and
//     ILSVRC2012_devkit_t12.tar.gz, which has the classes of val: read as they are
// Throws Error: one line with what, where and what to do.
PackSource list_pack_source(const PackRequest& request);

}  // namespace wt
