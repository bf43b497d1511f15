// Augmentation makes the network's input of stored images, on the GPU: crop, mirror, colour noise,
// mean and scale.
//   y[n, i, j, ch] = (src[n, y0 + i, x0 + (mirror ? out_w - 1 - j : j), ch] + noise[ch] - mean[ch])
//                    * inv_std[ch]
// in 0..255 units. Images uint8 NHWC with 1 or 3 channels (one channel is used for all three
// outputs); output NHWC with 3 channels. The caller draws the parameters (data/): they are a
// function of (seed, epoch, sample).
//
// With fold = f > 1 the output is stored as the first convolution reads it (kernels/conv/problem.h,
// folded input): n x fold_h x fold_w x (f f 3), element [n, i, j, (a f + b) 3 + ch] being pixel (f
// i + a - pad, f j + b - pad) of that y, zero outside it. With `planes` too, the same channels of
// the same blocks as planes (kernels/common/planes.h), their zeros behind the last block included;
// f f 3 is a multiple of 8.
//
// images and y lie on 16 bytes.
#pragma once

#include <cuda_runtime.h>

#include "kernels/common/dtype.h"
#include "kernels/common/planes.h"
#include "kernels/variant.h"

namespace wt {

struct AugmentParams {
    int16_t y0, x0;  // top left corner of the crop
    int32_t mirror;  // 0 or 1
    float noise[3];  // added to each channel, 0..255 units
};

struct AugmentProblem {
    int n = 1;
    int src_h = 1, src_w = 1, src_c = 3;
    int out_h = 1, out_w = 1;
    DType dtype = DType::f32;  // of y
    int fold = 1;              // see above
    int pad = 0;  // with fold: zeros above and to the left of the crop; the convolution's padding
    // with fold: blocks down and across that are stored; the convolution's fold_h(), fold_w()
    int fold_h = 1, fold_w = 1;
    bool planes = false;  // with fold: see above

    constexpr int64_t positions() const { return int64_t(n) * fold_h * fold_w; }  // with fold
    constexpr int64_t y_count() const {
        if (fold == 1) return int64_t(n) * out_h * out_w * 3;
        return (planes ? plane_pitch(positions()) : positions()) * fold * fold * 3;
    }
    double bytes() const {
        return double(n) * out_h * out_w * src_c + double(y_count()) * size_of(dtype);
    }
};

struct AugmentArgs {
    static constexpr const char* operation = "augment";

    const uint8_t* images;
    const AugmentParams* params;  // device, n of them
    float mean[3];
    float inv_std[3];
    void* y;
    cudaStream_t stream;
};

const ProblemFields& fields_of(const AugmentProblem&);  // fields.cpp

using Augment = Variant<AugmentProblem, AugmentArgs>;
Table<AugmentProblem, AugmentArgs> augment_variants();

}  // namespace wt
