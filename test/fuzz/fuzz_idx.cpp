// IDX files, gzip or not: the training images and labels are the input, the test set is a good one.
#include <zlib.h>

#include <algorithm>

#include "data/dataset.h"
#include "test/fuzz/input.h"

using namespace wt;

namespace {

std::vector<uint8_t> gzipped(const std::vector<uint8_t>& b) {
    z_stream z{};
    if (deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) != Z_OK)
        fuzz::fault("no gzip");
    std::vector<uint8_t> out(deflateBound(&z, b.size()) + 32);
    z.next_in = const_cast<uint8_t*>(b.data());
    z.avail_in = uInt(b.size());
    z.next_out = out.data();
    z.avail_out = uInt(out.size());
    deflate(&z, Z_FINISH);
    out.resize(z.total_out);
    deflateEnd(&z);
    return out;
}

// kind 0: plain; 1: gzip; 2: gzip cut off; else: called gzip and whatever it is.
void write(const fuzz::Folder& dir, const std::string& name, unsigned kind,
           std::vector<uint8_t> b) {
    dir.remove(name);
    dir.remove(name + ".gz");
    if (kind == 1 || kind == 2) b = gzipped(b);
    if (kind == 2) b.resize(b.size() / 2);
    dir.write(kind ? name + ".gz" : name, b);
}

}  // namespace

// Input: how the two are packed, the images' length (16 bits), images, labels.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const fuzz::Folder dir;
    static const bool prepared = [] {
        dir.write("t10k-images-idx3-ubyte",
                  {0, 0, 8, 3, 0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 2, 1, 2, 3, 4});
        dir.write("t10k-labels-idx1-ubyte", {0, 0, 8, 1, 0, 0, 0, 1, 0});
        return true;
    }();
    (void)prepared;
    fuzz::Input in(data, size);
    const unsigned kinds = in.byte();
    const size_t images = in.size16();
    std::vector<uint8_t> image_file = in.bytes(images);
    // Mostly sizes of one byte: memory for millions of pixels takes its time, and no other way.
    for (size_t at : {4, 8, 12})
        if (kinds < 0x80 && image_file.size() > at + 3)
            std::fill_n(image_file.begin() + int(at), 3, uint8_t(0));
    write(dir, "train-images-idx3-ubyte", kinds & 3, image_file);
    write(dir, "train-labels-idx1-ubyte", kinds >> 2 & 3, in.rest());
    fuzz::answers([&] {
        const DataSplits s = open_data({.text = "mnist:" + dir.path(), .net_input = 24});
        std::vector<uint8_t> out(size_t(s.train->height) * size_t(s.train->width) *
                                 size_t(s.train->channels));
        for (int64_t i = 0; i < std::min<int64_t>(s.train->size(), 4); ++i)
            s.train->load(i, out.data());
    });
    return 0;
}
