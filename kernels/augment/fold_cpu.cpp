// Augmentation that writes 4 x 4 pixels as one of 48 channels, block after block, in plain C++ for
// a CPU, for virtual GPUs. An image row at a time: its bytes are copied (pixels in the other order
// where it is mirrored) between zeros for the padding, become numbers in one loop over vectors,
// and are dealt out to their blocks, 12 to each. `fold`, whose threads have 24 numbers each, takes
// 8 times as long on a CPU.
#include <algorithm>
#include <cstring>
#include <vector>

#include "host/vgpu/exec/grid.h"
#include "kernels/augment/colour.h"
#include "kernels/launch.h"

namespace wt::augment_fold_cpu {
namespace {

constexpr int kFold = 4, kChannels = 3, kRun = kFold * kChannels;

// Numbers are made 48 at a time: whole vectors and whole pixels.
constexpr int kPeriod = 48;

// What a thread needs again for each row.
template <class T>
struct Row {
    std::vector<uint8_t> bytes;
    std::vector<T> values;
    explicit Row(int size)
        : bytes(ceil_div(size, kPeriod) * kPeriod), values(ceil_div(size, kPeriod) * kPeriod) {}
};

// Pixels of `line`, the crop's first, to `to`, in three channels.
void copy_pixels(const uint8_t* line, int src_c, int count, bool mirror, uint8_t* to) {
    if (src_c == kChannels && !mirror) {
        std::memcpy(to, line, size_t(count) * kChannels);
        return;
    }
    if (src_c == kChannels) {
        for (int j = 0; j < count; ++j)
            std::memcpy(to + j * kChannels, line + (count - 1 - j) * kChannels, kChannels);
        return;
    }
    for (int j = 0; j < count; ++j)
        std::memset(to + j * kChannels, line[mirror ? count - 1 - j : j], kChannels);
}

template <class T>
void fold_row(const AugmentProblem& p, const float (&scale)[kPeriod], const float (&add)[kPeriod],
              const AugmentParams& a, const uint8_t* line, Row<T>& row, T* y) {
    uint8_t* bytes = row.bytes.data();
    T* values = row.values.data();
    const int first = p.pad * kChannels, end = first + p.out_w * kChannels;
    copy_pixels(line, p.src_c, p.out_w, a.mirror, bytes + first);
    for (size_t at = 0; at < row.values.size(); at += kPeriod)
#pragma omp simd
        for (int e = 0; e < kPeriod; ++e)
            values[at + e] = from_float<T>(float(bytes[at + e]) * scale[e] + add[e]);
    const T zero = from_float<T>(0);
    std::fill(values, values + first, zero);
    std::fill(values + end, values + row.values.size(), zero);
    for (int j = 0; j < p.fold_w; ++j)
        std::memcpy(y + int64_t(j) * kFold * kRun, values + j * kRun, kRun * sizeof(T));
}

template <class T>
void run(const AugmentProblem& p, const AugmentArgs& a) {
    const AugmentColour colour = augment_colour(a);
    const int64_t row_size = int64_t(p.fold_w) * kFold * kRun;
#pragma omp parallel num_threads(vgpu::core_count())
    {
        // the crop may reach beyond the last block, which reads no more of it
        Row<T> row((p.fold_w * kFold + p.pad + p.out_w) * kChannels);
#pragma omp for schedule(dynamic)
        for (int n = 0; n < p.n; ++n) {
            const AugmentParams& params = a.params[n];
            float scale[kPeriod], add[kPeriod];
            for (int e = 0; e < kPeriod; ++e) {
                const int ch = e % kChannels;
                scale[e] = colour.inv_std[ch];
                add[e] = (params.noise[ch] - colour.mean[ch]) * colour.inv_std[ch];
            }
            T* image = static_cast<T*>(a.y) + int64_t(n) * p.fold_h * row_size;
            for (int at = 0; at < p.fold_h * kFold; ++at) {
                T* y = image + at / kFold * row_size + at % kFold * kRun;
                const int i = at - p.pad;
                if (i < 0 || i >= p.out_h) {
                    for (int j = 0; j < p.fold_w; ++j)
                        std::fill_n(y + int64_t(j) * kFold * kRun, kRun, from_float<T>(0));
                    continue;
                }
                const uint8_t* line =
                    a.images +
                    ((int64_t(n) * p.src_h + params.y0 + i) * p.src_w + params.x0) * p.src_c;
                fold_row(p, scale, add, params, line, row, y);
            }
        }
    }
}

std::string refuses(const AugmentProblem& p) {
    if (p.fold != kFold) return "writes images folded by 4";
    if (p.planes) return "does not write planes";
    return augment_refuses(p);
}

void launch_augment(const AugmentProblem& p, const AugmentArgs& a) {
    WT_CUDA(vgpu::enqueue(a.stream, "augment.fold_cpu",
                          [p, a] { by_dtype(p.dtype, [&]<class T>() { run<T>(p, a); }); }));
}

}  // namespace

extern const Augment variant;
const Augment variant{.name = "fold_cpu",
                      .refuses = refuses,
                      .workspace = nullptr,
                      .launch = launch_augment,
                      .cpu = true};

}  // namespace wt::augment_fold_cpu
