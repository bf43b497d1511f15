// First layer forward. A block keeps 32 filters whole in shared memory (46 KB for 11x11x3) and
// works through pieces of the output, for AlexNet 4 rows of 55: it stages the 23 input rows those
// read (63 KB), then its warps compute 56 outputs x 32 filters each without a barrier. A thread has
// 8 filters x 7 outputs, 8 outputs apart, so that the 8 threads along a row read different banks at
// stride 4.
#include "kernels/conv/first_layer_direct.h"

namespace wt::conv1_direct {

namespace {

constexpr int kOutputs = 7;         // of a thread
constexpr int kLot = 8 * kOutputs;  // outputs of a warp
constexpr int kMaxTaps = 384;       // of a filter; AlexNet has 11 x 11 x 3 = 363

struct SharedStorage {
    // by tap, so that a thread's 8 filters are one vector
    alignas(16) float w[kMaxTaps][kFilters];
    float x[kInputFloats];
};

}  // namespace

template <class T>
__global__ void __launch_bounds__(kMaxPixels / kLot * 32, 2)
    fprop_kernel(ConvShape v, const T* x, const T* w, const float* bias, bool relu, T* y, Cut cut) {
    SharedStorage& shared = shared_storage<SharedStorage>();
    const int filter0 = blockIdx.y * kFilters, filter = threadIdx.x % 4 * 8;
    const int run = v.s * v.c, taps = v.r * run;

    for (int i = threadIdx.x; i < taps * kFilters; i += blockDim.x) {
        const int k = i / taps, tap = i % taps;
        shared.w[tap][k] =
            filter0 + k < v.k ? to_float(w[static_cast<int64_t>(filter0 + k) * taps + tap]) : 0.0f;
    }
    // Where this thread's outputs are in a piece, and where their patches begin.
    int pixel[kOutputs], patch[kOutputs];
    unroll<kOutputs>([&](auto o) {
        pixel[o] = threadIdx.x / 32 * kLot + o * 8 + threadIdx.x % 32 / 4;
        // spare ones do the last one's work, unseen
        const int at = min(pixel[o], cut.rows * cut.columns - 1);
        patch[o] = at / cut.columns * v.stride_h * cut.pitch + at % cut.columns * v.stride_w * v.c;
    });

    for (int i = blockIdx.x; i < cut.pieces(v.n); i += gridDim.x) {
        const Pixel piece = pixel_at(i, cut.row_groups, cut.column_groups);
        const int p0 = piece.row * cut.rows, q0 = piece.col * cut.columns;
        __syncthreads();  // the rows before are read
        stage_input(shared.x, cut, v, x, piece.n, input_row(v, p0, 0), input_col(v, q0, 0) * v.c);
        __syncthreads();

        Vec<8> acc[kOutputs];
        unroll<kOutputs>([&](auto o) { acc[o] = splat<8>(0); });
        for (int r = 0; r < v.r; ++r) {
            const float* xr = shared.x + r * cut.pitch;
            const float* wr = &shared.w[r * run][filter];
            WT_UNROLL_K
            for (int e = 0; e < run; ++e) {
                const Vec<8> b = load<8>(wr + e * kFilters);
                unroll<kOutputs>([&](auto o) { acc[o] = fma(xr[patch[o] + e], b, acc[o]); });
            }
        }
        unroll<kOutputs>([&](auto o) {
            const int p = p0 + pixel[o] / cut.columns, q = q0 + pixel[o] % cut.columns;
            if (pixel[o] >= cut.rows * cut.columns || p >= v.p || q >= v.q) return;
            T* out = y + output_offset(v, piece.n, p, q, 0, filter0 + filter);
            unroll<8>([&](auto j) {
                if (filter0 + filter + j >= v.k) return;
                const float f = acc[o][j] + (bias ? bias[filter0 + filter + j] : 0.0f);
                out[j] = from_float<T>(relu && f < 0 ? 0.0f : f);
            });
        });
    }
}

static std::string refuses_fprop(const ConvProblem& p) {
    if (p.r * p.s * p.c > kMaxTaps)
        return "filters of more than 384 elements do not fit in shared memory";
    return refuses_shape(p);
}

static void launch_fprop(const ConvProblem& p, const ConvFpropArgs& a) {
    Cut cut{};
    best_cut(p, kLot, cut);
    const int slices = static_cast<int>(ceil_div(p.k, kFilters));
    const int warps = static_cast<int>(ceil_div(cut.rows * cut.columns, kLot));
    // Two blocks on each SM; more would load the filters again.
    const int blocks = std::min(cut.pieces(p.n), std::max(1, 2 * planned_sms() / slices));
    by_dtype(p.dtype, [&]<class T>() {
        launch("conv_fprop.conv1_direct",
               {.grid = dim3(blocks, slices),
                .block = dim3(32 * warps),
                .stream = a.stream,
                .shared = sizeof(SharedStorage)},
               fprop_kernel<T>, ConvShape(p), static_cast<const T*>(a.x),
               static_cast<const T*>(a.w), p.bias ? a.bias : nullptr, p.relu, static_cast<T*>(a.y),
               cut);
    });
}

extern const ConvFprop fprop = {
    .name = "conv1_direct", .refuses = refuses_fprop, .workspace = nullptr, .launch = launch_fprop};

}  // namespace wt::conv1_direct
