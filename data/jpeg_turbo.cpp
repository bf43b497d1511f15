// JPEG through libjpeg-turbo.
#include <csetjmp>
#include <cstddef>
#include <cstdio>

#include "data/image_decoders.h"

#include <jpeglib.h>

#include <jerror.h>

namespace wt {
namespace {

// The library calls back when it finds something wrong and must not be returned to; it is left with
// longjmp, as it is made for. So nothing between setjmp and longjmp, which is to say in start and
// read_rows, may have a destructor.
struct Turbo {
    jpeg_decompress_struct info;
    jpeg_error_mgr errors;
    std::jmp_buf back;
    char reason[JMSG_LENGTH_MAX];

    Turbo();
    ~Turbo() { jpeg_destroy_decompress(&info); }
    Turbo(const Turbo&) = delete;
    Turbo& operator=(const Turbo&) = delete;
};

[[noreturn]] void give_up(j_common_ptr info) {
    Turbo& t = *static_cast<Turbo*>(info->client_data);
    info->err->format_message(info, t.reason);
    std::longjmp(t.back, 1);
}

// Level -1 is a warning: the library would go on with grey, or with what it makes of a wrong bit.
void hear(j_common_ptr info, int level) {
    const int code = info->err->msg_code;
    const bool harmless =
        code == JWRN_EXTRANEOUS_DATA || code == JWRN_JFIF_MAJOR || code == JWRN_ADOBE_XFORM;
    if (level < 0 && !harmless) give_up(info);
}

Turbo::Turbo() {
    info.err = jpeg_std_error(&errors);
    errors.error_exit = give_up;
    errors.emit_message = hear;
    errors.output_message = [](j_common_ptr) {};
    info.client_data = this;
    info.mem = nullptr;
    info.global_state = 0;
    reason[0] = 0;
}

bool start(Turbo& t, const uint8_t* bytes, size_t count, J_COLOR_SPACE space) {
    if (setjmp(t.back)) return false;
    jpeg_create_decompress(&t.info);
    jpeg_mem_src(&t.info, bytes, count);
    jpeg_read_header(&t.info, TRUE);
    t.info.out_color_space = space;
    jpeg_start_decompress(&t.info);
    return true;
}

// `count` rows of `stride` bytes from where the last call ended.
bool read_rows(Turbo& t, uint8_t* to, size_t stride, int count) {
    if (setjmp(t.back)) return false;
    const JDIMENSION end = t.info.output_scanline + JDIMENSION(count);
    for (const JDIMENSION first = t.info.output_scanline; t.info.output_scanline < end;) {
        JSAMPROW row = to + (t.info.output_scanline - first) * stride;
        jpeg_read_scanlines(&t.info, &row, 1);
    }
    if (t.info.output_scanline == t.info.output_height) jpeg_finish_decompress(&t.info);
    return true;
}

// a * b / 255, rounded.
uint8_t scaled(int a, int b) {
    const int t = a * b + 128;
    return uint8_t((t + (t >> 8)) >> 8);
}

}  // namespace

std::string decode_jpeg_turbo(const std::vector<uint8_t>& checked, int components, Image& image) {
    Turbo t;
    const auto wrong = [&] {
        return std::string("JPEG that cannot be decoded (") + t.reason + ")";
    };
    const size_t width = size_t(image.width);
    if (!start(t, checked.data(), checked.size(), components == 4 ? JCS_CMYK : JCS_RGB))
        return wrong();
    if (int(t.info.output_width) != image.width || int(t.info.output_height) != image.height)
        return "JPEG that cannot be decoded (another size than its header says)";
    image.rgb.resize(size_t(image.height) * width * 3);
    if (components != 4)
        return read_rows(t, image.rgb.data(), 3 * width, image.height) ? "" : wrong();
    std::vector<uint8_t> row(4 * width);  // Adobe's way round: 255 is no ink
    for (uint8_t* to = image.rgb.data(); to != image.rgb.data() + image.rgb.size();) {
        if (!read_rows(t, row.data(), row.size(), 1)) return wrong();
        for (size_t x = 0; x < width; ++x)
            for (size_t ch = 0; ch < 3; ++ch) *to++ = scaled(row[4 * x + ch], row[4 * x + 3]);
    }
    return "";
}

}  // namespace wt
