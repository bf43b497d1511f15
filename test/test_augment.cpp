#include "kernels/augment/problem.h"
#include "test/close.h"
#include "test/device_data.h"
#include "test/reference/augment.h"

using namespace wt;
using namespace wt::test;

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("augment: every variant, every corner of the image, mirrored or not") {
    struct Shape {
        int n, src_h, src_w, src_c, out_h, out_w;
        int fold = 1, pad = 0, fold_h = 1, fold_w = 1;
        bool planes = false;
    };
    const Shape shapes[] = {{4, 64, 66, 3, 57, 59},
                            {5, 28, 28, 1, 24, 24},
                            {2, 32, 32, 3, 32, 32},
                            {3, 9, 8, 3, 3, 5},
                            {2, 5, 5, 1, 1, 1},
                            {2, 20, 30, 3, 16, 16},
                            // Folded: more blocks than image, fewer, padding that no block divides,
                            // other folds.
                            {4, 34, 38, 3, 31, 35, 4, 0, 8, 9},
                            {5, 28, 28, 1, 24, 24, 4, 2, 7, 7},
                            {2, 20, 22, 3, 19, 21, 4, 3, 5, 6},
                            {3, 9, 8, 3, 7, 5, 2, 1, 5, 3},
                            // Planes: the last run part full and full, images whose bytes are no
                            // whole words, one channel, a fold of 8.
                            {4, 34, 38, 3, 31, 35, 4, 0, 8, 9, true},
                            {8, 17, 19, 3, 16, 16, 4, 2, 4, 4, true},
                            {3, 9, 7, 3, 7, 7, 4, 0, 2, 2, true},
                            {5, 28, 28, 1, 24, 24, 4, 2, 7, 7, true},
                            {2, 20, 22, 3, 19, 21, 4, 3, 5, 6, true},
                            {2, 20, 22, 3, 19, 21, 8, 3, 3, 3, true}};
    const float mean[3] = {123.7f, 116.3f, 103.5f}, inv_std[3] = {1 / 58.4f, 1 / 57.1f, 1 / 57.4f};
    for (const Shape& s : shapes)
        for (DType t : {DType::f32, DType::bf16}) {
            INFO(s.src_h, "x", s.src_w, "x", s.src_c, " to ", s.out_h, "x", s.out_w, " fold ",
                 s.fold, std::string(s.planes ? ", planes, " : ", "), int(t));
            AugmentProblem p;
            p.n = s.n, p.src_h = s.src_h, p.src_w = s.src_w, p.src_c = s.src_c, p.out_h = s.out_h,
            p.out_w = s.out_w;
            p.dtype = t, p.fold = s.fold, p.pad = s.pad, p.fold_h = s.fold_h, p.fold_w = s.fold_w;
            p.planes = s.planes;
            std::vector<uint8_t> images;
            for (double v :
                 random_values(size_t(s.n) * s.src_h * s.src_w * s.src_c, 51, 0, 255.999))
                images.push_back(static_cast<uint8_t>(v));
            std::vector<AugmentParams> params(s.n);
            for (int n = 0; n < s.n; ++n) {
                params[n].y0 = static_cast<int16_t>(n & 1 ? s.src_h - s.out_h : 0);
                params[n].x0 =
                    static_cast<int16_t>(n & 2 ? s.src_w - s.out_w : (s.src_w - s.out_w) / 2);
                params[n].mirror = n % 2 == 0;
                for (int ch = 0; ch < 3; ++ch) params[n].noise[ch] = 3.f * n - 4.f * ch;
            }
            const auto want = reference::augment(p, images, params, mean, inv_std);
            DeviceBuffer<uint8_t> source(0, images.size());
            source.upload(images);
            DeviceBuffer<AugmentParams> draws(0, params.size());
            draws.upload(params);
            const Stream stream(0);
            each_variant("augment", augment_variants(), p, [&](const Augment& v) {
                const DeviceArray y(t, want.size());
                AugmentArgs a{source.data(), draws.data(), {}, {}, y.data(), stream.get()};
                std::copy_n(mean, 3, a.mean), std::copy_n(inv_std, 3, a.inv_std);
                v.launch(p, a);
                stream.synchronize();
                // Two roundings of numbers below 512, scaled by inv_std; one of the product.
                const Closeness c =
                    close<double>(y.read_rows(1, want.size(), want.size()), want,
                                  1e-7 + (t == DType::bf16 ? 1.0 / 256 : 0), 512 * 1.2e-7 / 57);
                CHECK_MESSAGE(c.ok(), c.text());
            });
        }
}

TEST_CASE("augment: what cannot be stored is refused") {
    AugmentProblem p;
    p.src_h = p.src_w = 8, p.out_h = p.out_w = 8, p.src_c = 2;
    for (const auto& v : augment_variants()) CHECK_FALSE(v.refuses(p).empty());
    p.src_c = 3, p.out_w = 9;  // larger than the image
    for (const auto& v : augment_variants()) CHECK_FALSE(v.refuses(p).empty());
    p.out_w = 8, p.planes = true;  // planes of single pixels, and of 12 channels
    for (const auto& v : augment_variants()) CHECK_FALSE(v.refuses(p).empty());
    p.fold = 2, p.fold_h = p.fold_w = 4;
    for (const auto& v : augment_variants()) CHECK_FALSE(v.refuses(p).empty());
}

TEST_SUITE_END();
