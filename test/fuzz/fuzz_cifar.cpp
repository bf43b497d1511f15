// CIFAR-10's binary files: the first batch and the names of the classes are the input, the other
// batches are good ones.
#include "data/dataset.h"
#include "test/fuzz/input.h"

using namespace wt;

// Input: the length of the names (16 bits), the names, the batch. A batch of whole records is
// longer than what a fuzzer likes to change, so byte 0xAB at its end stands for 3072 bytes.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const fuzz::Folder dir;
    static const bool prepared = [] {
        for (const char* name : {"data_batch_2.bin", "data_batch_3.bin", "data_batch_4.bin",
                                 "data_batch_5.bin", "test_batch.bin"})
            dir.write(name, std::vector<uint8_t>(3073, 1));
        return true;
    }();
    (void)prepared;
    fuzz::Input in(data, size);
    const size_t names = in.size16();
    dir.write("batches.meta.txt", in.bytes(names));
    std::vector<uint8_t> batch;
    for (const uint8_t b : in.rest()) {
        if (b == 0xAB)
            batch.resize(batch.size() + 3072, b);
        else
            batch.push_back(b);
    }
    dir.write("data_batch_1.bin", batch);
    fuzz::answers([&] {
        const DataSplits s = open_data({.text = "cifar10:" + dir.path(), .net_input = 24});
        std::vector<uint8_t> out(size_t(s.train->height) * size_t(s.train->width) *
                                 size_t(s.train->channels));
        for (int64_t i = 0; i < std::min<int64_t>(s.train->size(), 4); ++i)
            s.train->load(i, out.data());
    });
    return 0;
}
