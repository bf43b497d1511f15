// Max pooling forward in plain C++ for a CPU's vectors, for virtual GPUs: 64 bytes of channels at a
// time, compared as whole numbers. A float's bits are in the order of its values once those of
// negative numbers are negated; a NaN becomes the largest number there is, so that the first one
// wins, and -0 equals 0.
#include <algorithm>
#include <cstring>

#include "host/vgpu/exec/grid.h"
#include "kernels/launch.h"
#include "kernels/pool/problem.h"

namespace wt::pool_forward_cpu {
namespace {

// Lanes of 64 bytes. Of bf16 32 whole numbers of 16 bits, of fp32 16 of 32.
template <class Int>
struct Lanes {
    static constexpr int kCount = 64 / sizeof(Int);
    static constexpr Int kNan = static_cast<Int>(~(Int(1) << (8 * sizeof(Int) - 1)));
    static constexpr Int kInfinity = sizeof(Int) == 2 ? 0x7f80 : 0x7f800000;
    typedef Int V __attribute__((vector_size(64)));

    static V load(const void* p, int count) {
        V bits = {};
        std::memcpy(&bits, p, count * sizeof(Int));
        const V sign = bits >> (8 * sizeof(Int) - 1), magnitude = bits & kNan;
        return magnitude > kInfinity ? V{} + kNan : (magnitude ^ sign) - sign;
    }
    static void store(void* p, V key, int count) {
        const V bits = key < 0 ? -key | static_cast<Int>(~kNan) : key;
        std::memcpy(p, &bits, count * sizeof(Int));
    }
    static void store_bytes(uint8_t* p, V v, int count) {
        typedef uint8_t Bytes __attribute__((vector_size(kCount)));
        const Bytes bytes = __builtin_convertvector(v, Bytes);
        std::memcpy(p, &bytes, count);
    }
};

// What of a window lies in the image: rows [i0, i1) and columns [j0, j1) of it, which begins at
// row h0 and column w0.
struct Window {
    int h0, w0, i0, i1, j0, j1;
};

// `count` channels of an output, from the first of x on, which is the image's first pixel.
template <class Int>
inline void pool(const PoolProblem& p, const Window& s, const Int* x, int count, Int* y,
                 uint8_t* argmax) {
    using L = Lanes<Int>;
    typename L::V best = {}, where = {};
    bool first = true;
    for (int i = s.i0; i < s.i1; ++i)
        for (int j = s.j0; j < s.j1; ++j) {
            const int64_t at = (int64_t(s.h0 + i) * p.w + s.w0 + j) * p.c;
            const typename L::V key = L::load(x + at, count);
            const Int here = static_cast<Int>(i * p.window + j);
            if (first) {
                best = key, where += here, first = false;
                continue;
            }
            const auto take = key > best;
            best = take ? key : best;
            where = take ? typename L::V{} + here : where;
        }
    L::store(y, best, count);
    L::store_bytes(argmax, where, count);
}

template <class Int>
void run_row(const PoolProblem& p, int row, const Int* x, Int* y, uint8_t* argmax) {
    constexpr int kCount = Lanes<Int>::kCount;
    const Int* image = x + int64_t(row / p.p()) * p.h * p.w * p.c;
    Window s;
    s.h0 = row % p.p() * p.stride - p.pad;
    s.i0 = std::max(0, -s.h0), s.i1 = std::min(p.window, p.h - s.h0);
    for (int q = 0; q < p.q(); ++q) {
        s.w0 = q * p.stride - p.pad;
        s.j0 = std::max(0, -s.w0), s.j1 = std::min(p.window, p.w - s.w0);
        const int64_t out = (int64_t(row) * p.q() + q) * p.c;
        int c = 0;
        for (; c + kCount <= p.c; c += kCount)  // a constant: loads and stores are one instruction
            pool(p, s, image + c, kCount, y + out + c, argmax + out + c);
        if (c < p.c) pool(p, s, image + c, p.c - c, y + out + c, argmax + out + c);
    }
}

template <class Int>
void run(const PoolProblem& p, const PoolForwardArgs& a) {
    const int rows = p.n * p.p();
#pragma omp parallel for schedule(dynamic, 8) num_threads(vgpu::core_count())
    for (int row = 0; row < rows; ++row)
        run_row(p, row, static_cast<const Int*>(a.x), static_cast<Int*>(a.y), a.argmax);
}

std::string refuses(const PoolProblem& p) {
    if (p.window < 1 || p.window > 15) return "window must be 1 to 15: argmax is one byte";
    if (p.pad < 0 || p.pad >= p.window) return "pad must be less than the window";
    return {};
}

void launch_pool(const PoolProblem& p, const PoolForwardArgs& a) {
    if (!p.y_count()) return;
    WT_CUDA(vgpu::enqueue(a.stream, "pool_forward.cpu", [p, a] {
        if (p.dtype == DType::f32)
            run<int32_t>(p, a);
        else
            run<int16_t>(p, a);
    }));
}

}  // namespace

extern const PoolForward variant;
const PoolForward variant{
    .name = "cpu", .refuses = refuses, .workspace = nullptr, .launch = launch_pool, .cpu = true};

}  // namespace wt::pool_forward_cpu
