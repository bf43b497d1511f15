// JPEG as decode_image takes it: through libjpeg-turbo where it is.
#include "test/fuzz/image_target.h"

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    return wt::fuzz::jpeg_target(wt::decode_image, data, size);
}
