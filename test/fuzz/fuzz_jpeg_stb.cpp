// JPEG through stb_image, as in a build without libjpeg-turbo.
#include <algorithm>

#include "test/fuzz/image_target.h"

using namespace wt;

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    std::vector<uint8_t> file(data, data + size);
    file.resize(std::max<size_t>(size, 3));
    file[0] = file[2] = 0xFF;
    file[1] = 0xD8;
    JpegStructure jpeg;
    if (!read_jpeg_structure(file, jpeg).empty()) {
        Image image;
        if (decode_image_stb(file, image).empty()) fuzz::fault("decoded what the checks refuse");
        return 0;
    }
    if (int64_t(jpeg.width) * jpeg.height <= fuzz::kPixels)
        fuzz::decode_twice(decode_image_stb, file);
    return 0;
}
