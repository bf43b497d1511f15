// JPEG through stb_image, as in a build without libjpeg-turbo.
#include "test/fuzz/image_target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    return wt::fuzz::jpeg_target(wt::decode_image_stb, data, size);
}
