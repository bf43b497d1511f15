// What bin/pack and records read besides images: tar archives, the synsets of ILSVRC's development
// kit, headers of NumPy's arrays.
#include <cstring>

#include "data/ilsvrc_devkit.h"
#include "data/npy.h"
#include "data/tar_index.h"
#include "test/fuzz/input.h"

using namespace wt;

namespace {

// Right checksums wherever a block says that it is a header, or nothing behind the first is
// reached.
void mend_checksums(std::vector<uint8_t>& tar) {
    for (size_t at = 0; at + 512 <= tar.size(); at += 512) {
        uint8_t* h = &tar[at];
        if (std::memcmp(h + 257, "ustar", 5) != 0) continue;
        std::memset(h + 148, ' ', 8);
        unsigned sum = 0;
        for (int i = 0; i < 512; ++i) sum += h[i];
        std::snprintf(reinterpret_cast<char*>(h) + 148, 8, "%06o", sum);
    }
}

}  // namespace

// Input: which reader, then its bytes.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    fuzz::Input in(data, size);
    const int which = in.byte() % 4;
    std::vector<uint8_t> bytes = in.rest();
    if (which < 2) {
        if (which == 1) mend_checksums(bytes);
        fuzz::answers([&] {
            const auto members =
                index_tar("x.tar", bytes.size(), [&](uint64_t offset, void* out, size_t n) {
                    if (offset > bytes.size() || n > bytes.size() - offset) return false;
                    std::memcpy(out, &bytes[offset], n);
                    return true;
                });
            for (const TarMember& m : members)
                if (m.offset > bytes.size() || m.size > bytes.size() - m.offset) std::abort();
        });
    } else if (which == 2) {
        std::vector<IlsvrcDevkit::Synset> synsets;
        parse_synsets(std::string(bytes.begin(), bytes.end()), synsets);
    } else {
        NpyHeader h;
        if (parse_npy_header(std::string(bytes.begin(), bytes.end()), h).empty() &&
            h.data > bytes.size())
            std::abort();
    }
    return 0;
}
