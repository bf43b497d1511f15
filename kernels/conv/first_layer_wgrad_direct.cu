// Gradient of the first layer's filters. A block holds 32 filters' gradients in registers, all taps
// of them: a thread 8 filters x 2 runs of 4 taps. It works through pieces of the output, for
// AlexNet 4 rows of 55, staging the 23 input rows and the gradients of those outputs in shared
// memory, and adds every output pixel's product. Blocks share the pixels; their partial sums are
// added in order (kernels/tile/split_k.h).
#include "kernels/conv/first_layer_direct.h"
#include "kernels/tile/split_k.h"

namespace wt::conv1_direct {

namespace {

struct WgradStorage {
    alignas(16) float x[kInputFloats];
    alignas(16) float dy[kMaxPixels][kFilters];
};

constexpr int kMaxThreads = 256;  // 4 for each pair of runs

// Runs of 4 taps: every row of a filter is cut into such, the last may reach beyond it.
__host__ __device__ int runs_of_row(int s, int c) { return (s * c + 3) / 4; }

}  // namespace

template <class T>
__global__ void __launch_bounds__(kMaxThreads, 2)
    wgrad_kernel(ConvShape v, const T* x, const T* dy, SplitKOutput<float> result, Cut cut) {
    WgradStorage& shared = shared_storage<WgradStorage>();
    const int filter0 = blockIdx.y * kFilters, filter = threadIdx.x % 4 * 8;
    const int run = v.s * v.c, taps = v.r * run, step = v.stride_w * v.c;
    // This thread's runs of taps: filter row, and element of the row. Spare ones do the first one's
    // work, unseen.
    const int across = runs_of_row(v.s, v.c), runs = v.r * across, pairs = (runs + 1) / 2,
              pair = threadIdx.x / 4;
    const bool has_lo = pair < pairs, has_hi = pair + pairs < runs;
    const int lo = has_lo ? pair : 0, hi = has_hi ? pair + pairs : 0;
    const int lo_r = lo / across, lo_e = lo % across * 4, hi_r = hi / across,
              hi_e = hi % across * 4;

    Vec<8> acc[8];
    unroll<8>([&](auto i) { acc[i] = splat<8>(0); });
    float bias_sum = 0;
    for (int i = blockIdx.x; i < cut.pieces(v.n); i += gridDim.x) {
        const Pixel piece = pixel_at(i, cut.row_groups, cut.column_groups);
        const int p0 = piece.row * cut.rows, q0 = piece.col * cut.columns;
        const int rows = min(cut.rows, v.p - p0), columns = min(cut.columns, v.q - q0);
        __syncthreads();  // the rows before are read
        stage_input(shared.x, cut, v, x, piece.n, input_row(v, p0, 0), input_col(v, q0, 0) * v.c);
        for (int j = threadIdx.x; j < rows * columns * kFilters; j += blockDim.x) {
            const int k = j % kFilters, pixel = j / kFilters, p = pixel / columns,
                      q = pixel % columns;
            shared.dy[pixel][k] =
                filter0 + k < v.k
                    ? to_float(dy[output_offset(v, piece.n, p0 + p, q0 + q, 0, filter0 + k)])
                    : 0.0f;
        }
        __syncthreads();
        for (int p = 0; p < rows; ++p) {
            const float* x_lo = shared.x + (p * v.stride_h + lo_r) * cut.pitch + lo_e;
            const float* x_hi = shared.x + (p * v.stride_h + hi_r) * cut.pitch + hi_e;
            const float(*dys)[kFilters] = shared.dy + p * columns;
            for (int q = 0; q < columns; ++q) {
                const Vec<8> b = join(load<4>(x_lo + q * step), load<4>(x_hi + q * step));
#ifdef VGPU  // a CPU broadcasts from memory
                const float* a = &dys[q][filter];
#else
                const Vec<8> a = load<8>(&dys[q][filter]);
#endif
                unroll<8>([&](auto k) { acc[k] = fma(a[k], b, acc[k]); });
            }
        }
        if (result.row_sums && threadIdx.x < kFilters)
            for (int pixel = 0; pixel < rows * columns; ++pixel)
                bias_sum += shared.dy[pixel][threadIdx.x];
    }

    const bool whole = gridDim.x == 1;
    float* out = whole ? result.out.c : result.partial(0, blockIdx.x);
    const int64_t ld = whole ? result.out.ld : result.partial_ld();
    if (has_lo)
        unroll<8>([&](auto k) {
            if (filter0 + filter + k >= v.k) return;
            float* row = out + (filter0 + filter + k) * ld;
            unroll<4>([&](auto j) {
                if (lo_e + j < run) row[lo_r * run + lo_e + j] = acc[k][j];
                if (has_hi && hi_e + j < run) row[hi_r * run + hi_e + j] = acc[k][4 + j];
            });
            if (!whole && pair == 0)  // rows of partial sums are added up in whole vectors
                for (int j = taps; j < ld; ++j) row[j] = 0;
        });
    const int thread = threadIdx.x;
    if (result.row_sums && thread < kFilters && filter0 + thread < v.k)
        (whole ? result.row_sums : result.partial_row_sums(0, blockIdx.x))[filter0 + thread] =
            bias_sum;
}

static int threads_of(const ConvProblem& p) {
    const int pairs = (p.r * runs_of_row(p.s, p.c) + 1) / 2;
    return static_cast<int>(ceil_div(pairs * 4, 32) * 32);
}

static std::string refuses_wgrad(const ConvProblem& p) {
    if (p.stride_w * p.c % 4)
        return "needs stride_w x channels to be a multiple of 4: it reads 16 bytes at a time";
    if (threads_of(p) > kMaxThreads)
        return "a filter's rows must be at most 128 runs of 4 elements";
    return refuses_shape(p);
}

// Two blocks on each SM, if each has 4 pieces of work: it also writes partial sums.
static SplitK split(const ConvProblem& p, const Cut& cut) {
    SplitK s;
    s.splits = std::clamp(
        cut.pieces(p.n) / 4, 1,
        static_cast<int>(std::max<int64_t>(1, 2 * planned_sms() / ceil_div(p.k, kFilters))));
    return s;
}

static size_t workspace_wgrad(const ConvProblem& p) {
    Cut cut{};
    best_cut(p, 1, cut);
    return split_workspace(split(p, cut), p.k, p.r * p.s * p.c, 1, p.bias);
}

static void launch_wgrad(const ConvProblem& p, const ConvWgradArgs& a) {
    Cut cut{};
    best_cut(p, 1, cut);
    SplitKOutput<float> r;
    r.rows = p.k;
    const int taps = p.r * p.s * p.c;
    r.out = Epilogue<float>{.c = a.dw, .ld = taps, .cols = taps}.with_alignment();
    r.row_sums = p.bias ? a.db : nullptr;
    r.split = split(p, cut);
    r.partials = static_cast<float*>(a.workspace);
    const unsigned slices = static_cast<unsigned>(ceil_div(p.k, kFilters));
    by_dtype(p.dtype, [&]<class T>() {
        launch("conv_wgrad.conv1_direct",
               {.grid = dim3(r.split.splits, slices),
                .block = dim3(threads_of(p)),
                .stream = a.stream,
                .shared = sizeof(WgradStorage)},
               wgrad_kernel<T>, ConvShape(p), static_cast<const T*>(a.x),
               static_cast<const T*>(a.dy), r, cut);
    });
    reduce_partials("conv_wgrad.conv1_direct sum", r, a.stream);
}

extern const ConvWgrad wgrad = {.name = "conv1_direct",
                                .refuses = refuses_wgrad,
                                .workspace = workspace_wgrad,
                                .launch = launch_wgrad};

}  // namespace wt::conv1_direct
