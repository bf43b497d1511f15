// Results looked at where they are: some of them fetched, all of them compared.
#include <cmath>
#include <memory>
#include <vector>

#include "kernels/launch.h"
#include "kernels/probe/probe.h"

namespace wt::probe {
namespace {

template <class T>
__device__ double number(T v) {
    return static_cast<double>(v);
}
template <>
__device__ double number(bf16 v) {
    return static_cast<double>(to_float(v));
}

template <class F>
void by_kind(Kind k, F&& f) {
    switch (k) {
        case Kind::f32: f.template operator()<float>(); break;
        case Kind::bf16: f.template operator()<bf16>(); break;
        case Kind::f64: f.template operator()<double>(); break;
        case Kind::i32: f.template operator()<int>(); break;
        case Kind::u8: f.template operator()<uint8_t>(); break;
    }
}

template <class T>
__global__ void gather_kernel(Matrix m, const T* data, const int64_t* index, int64_t count,
                              double* out) {
    const int64_t j = int64_t(blockIdx.x) * blockDim.x + threadIdx.x;
    if (j < count) out[j] = number(data[m.at(index[j])]);
}

// What one thread has seen of its share: squares of `want`, and once their mean is known, the worst
// difference.
struct Seen {
    double squares, worst;
};

template <class T>
__global__ void difference_kernel(Matrix m, const T* got, const T* want, int64_t want_ld,
                                  double rms, Seen* seen) {
    const int64_t thread = int64_t(blockIdx.x) * blockDim.x + threadIdx.x,
                  step = int64_t(gridDim.x) * blockDim.x;
    Seen s{0, 0};
    for (int64_t i = thread; i < m.count(); i += step) {
        const double w = number(want[i / m.cols * want_ld + i % m.cols]);
        s.squares += w * w;
        if (rms < 0) continue;
        const double g = number(got[m.at(i)]), scale = rms + fabs(w);
        const double d = g == w ? 0 : fabs(g - w) / scale;
        if (!(d <= s.worst)) s.worst = d <= 1e300 ? d : INFINITY;  // a NaN counts
    }
    seen[thread] = s;
}

}  // namespace

void gather(const Matrix& m, const int64_t* index, int64_t count, double* out,
            cudaStream_t stream) {
    if (!count) return;
    by_kind(m.kind, [&]<class T>() {
        launch("gather", {dim3(static_cast<unsigned>(ceil_div(count, 256))), dim3(256), stream},
               gather_kernel<T>, m, static_cast<const T*>(m.data), index, count, out);
    });
}

double worst_difference(const Matrix& got, const Matrix& want, cudaStream_t stream) {
#ifdef VGPU
    constexpr int kBlocks = 16, kThreads = 1;  // a thread's share is a loop
#else
    constexpr int kBlocks = 512, kThreads = 256;
#endif
    if (!got.count()) return 0;
    std::vector<Seen> host(kBlocks * kThreads);
    Seen* memory = nullptr;
    WT_CUDA(cudaMalloc(&memory, host.size() * sizeof(Seen)));
    const std::unique_ptr<Seen, void (*)(Seen*)> seen(memory, [](Seen* p) { cudaFree(p); });
    const auto pass = [&](double rms) {
        by_kind(got.kind, [&]<class T>() {
            launch("difference", {dim3(kBlocks), dim3(kThreads), stream}, difference_kernel<T>, got,
                   static_cast<const T*>(got.data), static_cast<const T*>(want.data), want.ld, rms,
                   seen.get());
        });
        WT_CUDA(cudaStreamSynchronize(stream));
        WT_CUDA(cudaMemcpy(host.data(), seen.get(), host.size() * sizeof(Seen),
                           cudaMemcpyDeviceToHost));
        Seen all{0, 0};
        for (const Seen& s : host) {
            all.squares += s.squares;
            if (!(s.worst <= all.worst)) all.worst = s.worst;
        }
        return all;
    };
    const double squares = pass(-1).squares;
    return pass(std::sqrt(squares / static_cast<double>(got.count()))).worst;
}

}  // namespace wt::probe
