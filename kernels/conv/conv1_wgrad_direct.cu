// Gradient of the first layer's filters. A block holds 32 filters' gradients in registers, all taps of
// them: a thread 8 filters x 2 runs of 4 taps. It works through groups of 4 output rows, staging the 23
// input rows and the gradients of those outputs in shared memory, and adds every output pixel's product.
// Blocks share the pixels; their partial sums are added in order (kernels/tile/result.h).
#include "kernels/conv/conv1.h"
#include "kernels/tile/result.h"

namespace wt::conv1_direct {

namespace {

constexpr int kMaxColumns = 56;  // outputs of a row worked on at a time

struct WgradStorage {
    InputRows x;
    alignas(16) float dy[kOutRows][kMaxColumns][kFilters];
};

// How a row of outputs is cut up, and the work shared out.
struct WgradPlan {
    int columns, pieces, row_groups;
    int runs;     // of 4 taps: every row of a filter is cut into such, the last may reach beyond it
    int threads;  // 4 for each pair of runs, in whole warps
    SplitK split;
};

}  // namespace

template <class T>
__global__ void __launch_bounds__(256, 2)
    wgrad_kernel(ConvShape v, const T* x, const T* dy, Result<float> result, WgradPlan plan) {
    WgradStorage& shared = shared_storage<WgradStorage>();
    const int filter0 = blockIdx.y * kFilters, filter = threadIdx.x % 4 * 8;
    const int run = v.s * v.c, taps = v.r * run, step = v.stride_w * v.c;
    // This thread's runs of 4 taps: filter row, and element of the row. Beyond the last: the first again, not stored.
    const int runs_of_row = plan.runs / v.r, pairs = (plan.runs + 1) / 2, pair = threadIdx.x / 4;
    const bool has_lo = pair < pairs, has_hi = pair + pairs < plan.runs;
    const int lo = has_lo ? pair : 0, hi = has_lo && has_hi ? pair + pairs : 0;
    const int lo_r = lo / runs_of_row, lo_e = lo % runs_of_row * 4, hi_r = hi / runs_of_row, hi_e = hi % runs_of_row * 4;

    Vec<8> acc[8];
    unroll<8>([&](auto i) { acc[i] = splat<8>(0); });
    float bias_sum = 0;
    const int work = v.n * plan.row_groups * plan.pieces;
    for (int i = blockIdx.x; i < work; i += gridDim.x) {
        const int n = i / (plan.row_groups * plan.pieces);
        const int p0 = i / plan.pieces % plan.row_groups * kOutRows, q0 = i % plan.pieces * plan.columns;
        const int rows = min(kOutRows, v.p - p0), columns = min(plan.columns, v.q - q0);
        __syncthreads();  // the rows before are read
        stage_input(shared.x, v, x, n, input_row(v, p0, 0), input_col(v, q0, 0) * v.c, (rows - 1) * v.stride_h + v.r,
                    (columns - 1) * step + runs_of_row * 4);
        for (int j = threadIdx.x; j < rows * columns * kFilters; j += blockDim.x) {
            const int k = j % kFilters, q = j / kFilters % columns, p = j / kFilters / columns;
            shared.dy[p][q][k] =
                filter0 + k < v.k ? to_float(dy[output_offset(v, n, p0 + p, q0 + q, 0, filter0 + k)]) : 0.0f;
        }
        __syncthreads();
        for (int p = 0; p < rows; ++p) {
            const float* x_lo = &shared.x[p * v.stride_h + lo_r][lo_e];
            const float* x_hi = &shared.x[p * v.stride_h + hi_r][hi_e];
            for (int q = 0; q < columns; ++q) {
                const Vec<8> b = join(load<4>(x_lo + q * step), load<4>(x_hi + q * step));
#ifdef VGPU  // a CPU broadcasts from memory
                const float* a = &shared.dy[p][q][filter];
#else
                const Vec<8> a = load<8>(&shared.dy[p][q][filter]);
#endif
                unroll<8>([&](auto k) { acc[k] = fma(a[k], b, acc[k]); });
            }
            if (result.row_sums && threadIdx.x < kFilters)
                for (int q = 0; q < columns; ++q) bias_sum += shared.dy[p][q][threadIdx.x];
        }
    }

    const bool whole = gridDim.x == 1;
    float* out = whole ? result.c : result.slab(0, blockIdx.x);
    const int64_t ld = whole ? result.ld : result.slab_ld();
    if (has_lo)
        unroll<8>([&](auto k) {
            if (filter0 + filter + k >= v.k) return;
            float* row = out + (filter0 + filter + k) * ld;
            unroll<4>([&](auto j) {
                if (lo_e + j < run) row[lo_r * run + lo_e + j] = acc[k][j];
                if (has_hi && hi_e + j < run) row[hi_r * run + hi_e + j] = acc[k][4 + j];
            });
            if (!whole && pair == 0)  // a slab's rows are added up in whole vectors
                for (int j = taps; j < ld; ++j) row[j] = 0;
        });
    const int thread = threadIdx.x;
    if (result.row_sums && thread < kFilters && filter0 + thread < v.k)
        (whole ? result.row_sums : result.sum_slab(0, blockIdx.x))[filter0 + thread] = bias_sum;
}

static WgradPlan plan_wgrad(const ConvProblem& p) {
    WgradPlan plan;
    const int runs_of_row = static_cast<int>(ceil_div(p.s * p.c, 4)), step = p.stride_w * p.c;
    plan.columns = std::min({p.q(), kMaxColumns, (kRowFloats - runs_of_row * 4) / step + 1});
    plan.pieces = plan.columns > 0 ? static_cast<int>(ceil_div(p.q(), plan.columns)) : 0;
    plan.row_groups = static_cast<int>(ceil_div(p.p(), kOutRows));
    plan.runs = p.r * runs_of_row;
    plan.threads = static_cast<int>(ceil_div((plan.runs + 1) / 2 * 4, 32) * 32);
    // Two blocks on each of 132 SMs, if each has 4 pieces of work: it also writes a slab.
    const int64_t work = int64_t(p.n) * plan.row_groups * plan.pieces, slices = ceil_div(p.k, kFilters);
    plan.split.splits = static_cast<int>(std::clamp<int64_t>(work / 4, 1, std::max<int64_t>(1, 264 / slices)));
    return plan;
}

static std::string refuses_wgrad(const ConvProblem& p) {
    if (std::string why = refuses_shape(p); !why.empty()) return why;
    if (p.stride_w * p.c % 4) return "needs stride_w x channels to be a multiple of 4: it reads 16 bytes at a time";
    if (plan_wgrad(p).columns < 1 || plan_wgrad(p).threads > 256) return "a filter's rows must be at most 128 runs of 4 elements";
    return "";
}

static size_t workspace_wgrad(const ConvProblem& p) {
    return split_workspace(plan_wgrad(p).split, p.k, p.r * p.s * p.c, 1, p.bias);
}

static void launch_wgrad(const ConvProblem& p, const ConvWgradArgs& a) {
    const WgradPlan plan = plan_wgrad(p);
    Result<float> r;
    r.c = a.dw;
    r.rows = p.k, r.cols = p.r * p.s * p.c, r.ld = r.cols;
    r.row_sums = p.bias ? a.db : nullptr;
    r.split = plan.split;
    r.slabs = static_cast<float*>(a.workspace);
    const unsigned slices = static_cast<unsigned>(ceil_div(p.k, kFilters));
    by_dtype(p.dtype, [&]<class T>() {
        launch("conv_wgrad.conv1_direct", {dim3(plan.split.splits, slices), dim3(plan.threads), a.stream, sizeof(WgradStorage)},
               wgrad_kernel<T>, ConvShape(p), static_cast<const T*>(a.x), static_cast<const T*>(a.dy), r, plan);
    });
    add_slabs("conv_wgrad.conv1_direct sum", r, a.stream);
}

extern const ConvWgrad wgrad = {
    .name = "conv1_direct", .refuses = refuses_wgrad, .workspace = workspace_wgrad, .launch = launch_wgrad};

}  // namespace wt::conv1_direct
