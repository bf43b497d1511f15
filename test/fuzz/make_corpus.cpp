// Writes the inputs that the fuzzers begin with: make_corpus DIR gives DIR/jpeg/..., one small file
// for each kind of thing that a reader knows.
#define DOCTEST_CONFIG_DISABLE
#include "test/data_files.h"
#include "test/jpeg_bytes.h"
#include "test/pack_files.h"

#ifdef WT_TURBO
#include <cstdio>

#include <jpeglib.h>
#endif

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#pragma GCC diagnostic ignored "-Wmissing-field-initializers"
#define STB_IMAGE_WRITE_STATIC
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb/stb_image_write.h>
#pragma GCC diagnostic pop

using namespace wt::test;

namespace {

std::string folder;
void put(const std::string& target, const std::string& name, const Bytes& bytes) {
    write_file(folder + "/" + target + "/" + name, bytes);
}
void put(const std::string& target, const std::string& name, const std::string& text) {
    put(target, name, Bytes(text.begin(), text.end()));
}
void put_jpeg(const std::string& name, const Bytes& bytes) {
    put("jpeg", name, bytes);
    put("jpeg_stb", name, bytes);
}

Bytes noise(int n) {
    Bytes b(size_t(n), 0);
    for (size_t i = 0; i < b.size(); ++i) b[i] = uint8_t((i * 2654435761u) >> 24);
    return b;
}

void jpegs_by_hand() {
    for (const int components : {1, 3, 4})
        put_jpeg("flat" + std::to_string(components), flat_jpeg(3, components));
    put_jpeg("progressive", flat_progressive_jpeg(3));
    Bytes b = jpeg_start();
    add(b, restart_interval(1), frame(0xC0, 24, 8, {{1, 0x11, 0}}), zero_tables(), scan({{1, 0}}));
    add(b, zeros(1), Bytes{0xFF, 0xD0}, zeros(1), Bytes{0xFF, 0xD1}, zeros(1), jpeg_end());
    put_jpeg("restarts", b);
    b = jpeg_start();
    add(b, frame(0xC1, 17, 17, {{1, 0x22, 0}, {2, 0x11, 0}, {3, 0x11, 0}}), zero_tables(),
        scan({{2, 0}}), zeros(1));
    add(b, scan({{1, 0}}), zeros(3), scan({{3, 0}}), zeros(1), jpeg_end());
    put_jpeg("scans", b);
    Bytes pixels = noise(16 * 8 * 3), out;
    stbi_write_jpg_to_func(
        [](void* to, void* data, int n) {
            append(*static_cast<Bytes*>(to),
                   Bytes(static_cast<uint8_t*>(data), static_cast<uint8_t*>(data) + n));
        },
        &out, 16, 8, 3, pixels.data(), 60);
    put_jpeg("written", out);
}

#ifdef WT_TURBO
Bytes encoded(int w, int h, int components, bool progressive, int sampling, int restart) {
    jpeg_compress_struct c;
    jpeg_error_mgr errors;
    c.err = jpeg_std_error(&errors);
    jpeg_create_compress(&c);
    unsigned char* out = nullptr;
    unsigned long size = 0;
    jpeg_mem_dest(&c, &out, &size);
    c.image_width = JDIMENSION(w), c.image_height = JDIMENSION(h);
    c.input_components = components;
    c.in_color_space = components == 1 ? JCS_GRAYSCALE : components == 3 ? JCS_RGB : JCS_CMYK;
    jpeg_set_defaults(&c);
    if (components == 4) jpeg_set_colorspace(&c, JCS_YCCK);
    jpeg_set_quality(&c, 40, TRUE);
    if (components > 1)
        c.comp_info[0].h_samp_factor = sampling >> 4, c.comp_info[0].v_samp_factor = sampling & 15;
    if (progressive) jpeg_simple_progression(&c);
    c.restart_interval = unsigned(restart);
    jpeg_start_compress(&c, TRUE);
    Bytes pixels = noise(w * h * components);
    while (c.next_scanline < c.image_height) {
        JSAMPROW row = &pixels[c.next_scanline * size_t(w) * size_t(components)];
        jpeg_write_scanlines(&c, &row, 1);
    }
    jpeg_finish_compress(&c);
    const Bytes b(out, out + size);
    jpeg_destroy_compress(&c);
    std::free(out);
    return b;
}

void jpegs_encoded() {
    for (const int components : {1, 3, 4})
        for (const bool progressive : {false, true})
            for (const int sampling : {0x11, 0x21, 0x22, 0x41})
                for (const int restart : {0, 2})
                    if (components > 1 || sampling == 0x11)
                        put_jpeg("encoded" + std::to_string(components) +
                                     (progressive ? "p" : "b") + std::to_string(sampling) + "r" +
                                     std::to_string(restart),
                                 encoded(19, 11, components, progressive, sampling, restart));
}
#endif

void pngs() {
    put("png", "flat", flat_png(5, 4, 1, 2, 3));
    put("png", "noise", png(6, 5, 8, 2, noise(6 * 5 * 3)));
    put("png", "alpha", png(3, 3, 8, 6, noise(3 * 3 * 4)));
    put("png", "grey_alpha", png(3, 3, 16, 4, noise(3 * 3 * 4)));
    put("png", "deep", png(3, 3, 16, 2, noise(3 * 3 * 6)));
    for (const int bits : {1, 2, 4, 8}) {
        put("png", "grey" + std::to_string(bits),
            png(9, 3, bits, 0, noise((9 * bits + 7) / 8 * 3)));
        put("png", "palette" + std::to_string(bits),
            png(9, 3, bits, 3, noise((9 * bits + 7) / 8 * 3), noise(12)));
    }
    Bytes interlaced =
        // the right number of rows for Adam7, of the wrong lengths
        png(9, 9, 8, 0, noise(9 * 20));
    interlaced[28] = 1;
    put("png", "interlaced", interlaced);
}

void sets() {
    for (const int kinds : {0, 5, 1, 10, 15}) {
        Bytes images = idx_images(3, 6, 5),
              b{uint8_t(kinds), uint8_t(images.size() >> 8), uint8_t(images.size())};
        add(b, images, idx_labels(3));
        put("idx", "kinds" + std::to_string(kinds), b);
    }
    const std::string names =
        "airplane\nautomobile\nbird\ncat\ndeer\ndog\nfrog\nhorse\nship\ntruck\n";
    Bytes b{0, uint8_t(names.size())};
    add(b, Bytes(names.begin(), names.end()), Bytes{3, 0xAB, 9, 0xAB});
    put("cifar", "two", b);
    put("cifar", "no_names", Bytes{0, 0, 3, 0xAB});
}

void weights() {
    const std::string tensor =
        R"("conv1.weight":{"dtype":"F32","shape":[2,1],"data_offsets":[0,8]})";
    const std::string half =
        R"("b":{"dtype":"F16","shape":[2],"data_offsets":[8,12]},"c":{"dtype":"BF16","shape":[],"data_offsets":[12,14]})";
    const std::string position =
        R"("__metadata__":{"format":"weirdtrick-1","net":"mini","step":"7","seed":"1","global_batch":"128","schedule":"0.5 1 2","seconds":"1.5",)"
        R"("arguments":"[\"--net\",\"mini\"]","best_error":"0.25","best_step":"5","evaluation_due":"1"})";
    const auto input = [](const std::string& header, size_t data) {
        Bytes b{1};
        add(b, Bytes(header.begin(), header.end()), zeros(1), zeros(data));
        return b;
    };
    put("safetensors", "one", input("{" + tensor + "}", 8));
    put("safetensors", "three", input("{" + tensor + "," + half + "}", 14));
    put("safetensors", "position", input("{" + position + "," + tensor + "}", 8));
    put("safetensors", "position_alone", input("{" + position + "}", 0));
    Bytes tar;
    add_member(tar, "a.png", Bytes(5, 'a'));
    add_member(tar, "././@LongLink", Bytes(130, 'n'), 'L');
    add_member(tar, "n", Bytes(600, 'b'));
    const std::string pax = "17 path=longname\n";
    add_member(tar, "x", Bytes(pax.begin(), pax.end()), 'x');
    add_member(tar, "y", {});
    tar.insert(tar.begin(), 1);
    put("pack", "tar", tar);
    put("pack", "mat", "\x02" + synsets_mat({{1, "n01", "one"}, {2, "n02", "two, zwei"}}));
    std::string npy(118, ' ');
    const std::string dictionary =
        "{'descr': '|u1', 'fortran_order': False, 'shape': (3, 8, 8, 3), }";
    npy.replace(0, dictionary.size(), dictionary);
    put("pack", "npy", std::string("\x03\x93NUMPY\x01\x00\x76\x00", 11) + npy);
    put("safetensors", "raw", Bytes{0, 2, 0, 0, 0, 0, 0, 0, 0, '{', '}'});
}

void texts() {
    const char* problems[] = {"n=4,h=27,c=96,k=256,r=5,pad=2,groups=2",
                              "layout=nt m=8 n=8 k=8 bias=1 relu=1 dropout=0.5",
                              "pixels=100,c=16,size=5,alpha=1e-4,beta=0.75,k=2",
                              "n=2,h=9,w=9,c=8,window=3,stride=2,pad=1",
                              "rows=3 cols=7 kind=tanh",
                              "rows=3 classes=10",
                              "n=2 src_h=8 src_w=8 src_c=3 out_h=6",
                              "tensors=3 total=1000",
                              "sources=2 rows=3 cols=4",
                              "",
                              "n",
                              "n=",
                              "n=1e9",
                              "layout=xx",
                              "h=-1",
                              "m=0.5"};
    int number = 0;
    for (const char* text : problems)
        for (const int op : {0, 1, 3, 6, 8, 10, 13, 15, 17})
            put("problem", std::to_string(number++),
                std::string{char(op), char(number % 3)} + text);
    const char* lines[] = {
        "--gpus\n0,1",
        "--gpus=0,0,1",
        "--mean\n120,110,100\n--std\n60,60,60",
        "--kernels\nown,conv2.wgrad=tiled,auto",
        "--lr-policy\nstep:30,60,80",
        "--lr-policy=linear\n--lr=0.1\n--batch=64",
        "--net\nalexnet\n--fc-scheme\nb\n--fc-split\nalternate\n--lr-scale\nsqrt",
        "--data\ncifar10:x\n--out\nruns/a\n--resume\nb",
        "0.5 1 2\n1e30 0 0",
        "--batch\nabc",
        "--epochs=-1",
        "--overwrite\n--eval-only",
        "--timeline\nx.svg",
        "x"};
    for (const char* text : lines) put("flags", std::to_string(number++), std::string(text));
}

}  // namespace

int main(int argc, char** argv) {
    if (argc != 2) {
        std::fprintf(stderr, "usage: make_corpus DIR\n");
        return 2;
    }
    folder = argv[1];
    jpegs_by_hand();
#ifdef WT_TURBO
    jpegs_encoded();
#endif
    pngs();
    sets();
    weights();
    texts();
    return 0;
}
