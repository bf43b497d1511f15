// Safetensors files, all tensors read, and the position of a training run in their metadata.
#include "host/train/checkpoint.h"
#include "host/train/safetensors.h"
#include "test/fuzz/input.h"

using namespace wt;

// Input: a file; or, with an odd first byte, a header's text up to a zero byte, and what follows
// it: the header's length is then right.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    static const fuzz::Folder dir;
    fuzz::Input in(data, size);
    std::vector<uint8_t> file;
    if (in.byte() % 2) {
        const std::vector<uint8_t> rest = in.rest();
        const auto end = std::find(rest.begin(), rest.end(), 0);
        for (uint64_t n = uint64_t(end - rest.begin()), i = 0; i < 8; ++i)
            file.push_back(uint8_t(n >> (8 * i)));
        file.insert(file.end(), rest.begin(), end);
        if (end != rest.end()) file.insert(file.end(), end + 1, rest.end());
    } else {
        file = in.rest();
    }
    dir.write("x.safetensors", file);
    const std::string path = dir.path() + "/x.safetensors";
    fuzz::answers([&] {
        const SafetensorsFile f = SafetensorsFile::open(path);
        for (const std::string& name : f.names()) fuzz::answers([&] { f.read(name); });
    });
    fuzz::answers([&] { read_position(path); });
    return 0;
}
