// First layer forward. A block keeps 32 filters whole in shared memory (46 KB for 11x11x3) and works through
// groups of 4 output rows: it stages the 23 input rows those read (63 KB), then each of its 4 warps
// computes one output row without a barrier. A thread has 8 filters x up to 7 outputs, 8 outputs apart,
// so that the 8 threads along a row read different banks at stride 4.
#include "kernels/conv/conv1.h"

namespace wt::conv1_direct {

namespace {

struct SharedStorage {
    alignas(16) float w[kMaxTaps][kFilters];  // by tap, so that a thread's 8 filters are one vector
    InputRows x;
};

}  // namespace

template <int Outputs, class T>
__global__ void __launch_bounds__(32 * kOutRows, 2)
    fprop_kernel(ConvShape v, const T* x, const T* w, const float* bias, bool relu, T* y, int row_groups, int pieces) {
    SharedStorage& shared = shared_storage<SharedStorage>();
    const int filter0 = blockIdx.y * kFilters;
    const int run = v.s * v.c, taps = v.r * run, step = v.stride_w * v.c;
    const int warp = threadIdx.x / 32, along = threadIdx.x % 32 / 4, filter = threadIdx.x % 4 * 8;
    constexpr int kColumns = 8 * Outputs;

    for (int i = threadIdx.x; i < taps * kFilters; i += blockDim.x) {
        const int k = i / taps, tap = i % taps;
        shared.w[tap][k] = filter0 + k < v.k ? to_float(w[static_cast<int64_t>(filter0 + k) * taps + tap]) : 0.0f;
    }
    const int work = v.n * row_groups * pieces;
    for (int i = blockIdx.x; i < work; i += gridDim.x) {
        const int n = i / (row_groups * pieces), p0 = i / pieces % row_groups * kOutRows, q0 = i % pieces * kColumns;
        __syncthreads();  // the rows before are read
        stage_input(shared.x, v, x, n, input_row(v, p0, 0), input_col(v, q0, 0) * v.c, (kOutRows - 1) * v.stride_h + v.r,
                    (kColumns - 1) * step + run);
        __syncthreads();
        const int p = p0 + warp;
        if (p >= v.p) continue;

        Vec<8> acc[Outputs];
        unroll<Outputs>([&](auto o) { acc[o] = splat<8>(0); });
        for (int r = 0; r < v.r; ++r) {
            const float* xr = shared.x[warp * v.stride_h + r] + along * step;
            const float* wr = &shared.w[r * run][filter];
            WT_UNROLL_K
            for (int e = 0; e < run; ++e) {
                const Vec<8> b = load<8>(wr + e * kFilters);
                unroll<Outputs>([&](auto o) { acc[o] = fma(xr[o * 8 * step + e], b, acc[o]); });
            }
        }
        unroll<Outputs>([&](auto o) {
            const int q = q0 + along + 8 * o;
            if (q >= v.q) return;
            T* out = y + output_offset(v, n, p, q, 0, filter0 + filter);
            unroll<8>([&](auto j) {
                if (filter0 + filter + j >= v.k) return;
                float f = acc[o][j] + (bias ? bias[filter0 + filter + j] : 0.0f);
                out[j] = from_float<T>(relu && f < 0 ? 0.0f : f);
            });
        });
    }
}

static int row_floats(const ConvProblem& p, int outputs) {
    return (8 * outputs - 1) * p.stride_w * p.c + p.s * p.c;
}

// Outputs of a thread: 7, 4 or 2, whichever leaves least of the last piece of a row unused; 0: none fits.
static int outputs_of_thread(const ConvProblem& p) {
    int best = 0;
    int64_t least = 0;
    for (int o : {7, 4, 2}) {
        if (row_floats(p, o) > kRowFloats) continue;
        const int64_t computed = ceil_div(p.q(), 8 * o) * 8 * o;
        if (!best || computed < least) best = o, least = computed;
    }
    return best;
}

static std::string refuses_fprop(const ConvProblem& p) {
    if (std::string why = refuses_shape(p); !why.empty()) return why;
    if (!outputs_of_thread(p)) return "16 outputs of a row must read at most 704 elements";
    return "";
}

static void launch_fprop(const ConvProblem& p, const ConvFpropArgs& a) {
    const int outputs = outputs_of_thread(p);
    const int row_groups = static_cast<int>(ceil_div(p.p(), kOutRows)), pieces = static_cast<int>(ceil_div(p.q(), 8 * outputs));
    const int slices = static_cast<int>(ceil_div(p.k, kFilters));
    // Two blocks on each of 132 SMs; more would load the filters again.
    const int64_t blocks = std::min<int64_t>(int64_t(p.n) * row_groups * pieces, std::max(1, 264 / slices));
    auto start = [&]<int Outputs, class T>() {
        launch("conv_fprop.conv1_direct",
               {dim3(static_cast<unsigned>(blocks), slices), dim3(32 * kOutRows), a.stream, sizeof(SharedStorage)},
               fprop_kernel<Outputs, T>, ConvShape(p), static_cast<const T*>(a.x), static_cast<const T*>(a.w),
               p.bias ? a.bias : nullptr, p.relu, static_cast<T*>(a.y), row_groups, pieces);
    };
    by_dtype(p.dtype, [&]<class T>() {
        switch (outputs) {
            case 7: return start.template operator()<7, T>();
            case 4: return start.template operator()<4, T>();
            default: return start.template operator()<2, T>();
        }
    });
}

extern const ConvFprop fprop = {.name = "conv1_direct", .refuses = refuses_fprop, .workspace = nullptr, .launch = launch_fprop};

}  // namespace wt::conv1_direct
