// Random operands for tests of kernels, in storage type and in fp64, and device buffers that a
// kernel must overwrite: filled with NaN beforehand.
#pragma once

#include <algorithm>
#include <cstring>
#include <random>
#include <span>
#include <vector>

#include "host/cuda/buffer.h"
#include "kernels/common/dtype.h"
#include "test/close.h"
#include "test/reference/conv.h"

namespace wt::test {

// `count` values uniform in [-1, 1), rounded to T, so that the fp64 copy is exactly what the kernel
// reads.
template <class T>
struct Operand {
    std::vector<double> exact;
    DeviceBuffer<T> device;

    Operand(size_t count, uint32_t seed) : exact(count), device(0, count, "operand") {
        std::mt19937 random(seed);
        for (double& v : exact) v = std::uniform_real_distribution<float>(-1, 1)(random);
        upload();
    }
    // These values.
    explicit Operand(std::vector<double> values)
        : exact(std::move(values)), device(0, exact.size(), "operand") {
        upload();
    }
    void upload() {
        std::vector<T> host(exact.size());
        for (size_t i = 0; i < exact.size(); ++i) {
            host[i] = from_float<T>(static_cast<float>(exact[i]));
            exact[i] = to_float(host[i]);
        }
        device.upload(host);
    }
    const T* data() const { return device.data(); }
};

// Fills with bytes 0xff: NaN in fp32 and bf16.
template <class T>
void poison(const DeviceBuffer<T>& b) {
    DeviceGuard guard(b.device());
    if (b.bytes()) WT_CUDA(cudaMemset(b.data(), 0xff, b.bytes()));
    WT_CUDA(cudaStreamSynchronize(nullptr));  // our streams do not wait for the default stream
}

template <class T>
std::vector<float> floats(const std::vector<T>& v) {
    std::vector<float> f(v.size());
    for (size_t i = 0; i < v.size(); ++i) f[i] = to_float(v[i]);
    return f;
}

// Whether results are right to rounding. Adding `terms` products in fp32, in whatever order, each
// addition errs by at most 2^-24 of the partial sum, which is at most the sum of magnitudes M: the
// error is below terms * 2^-24 * M in the worst case, and for signs at random about sqrt(terms) *
// 2^-24 * M. Allowed is 4 times the latter plus a few roundings of M. Storing as bf16 adds half of
// 2^-8 of the result; we allow 2^-8 (the fp32 error may tip a tie). With operands rounded to tf32
// each product errs by at most 2^-10 of itself, 2^-11 for either operand, and the errors of
// different products are independent, with a standard deviation of at most 2^-11 sqrt(2/3) of the
// product: that of the sum is sqrt(2/3) 2^-11 sqrt(S), S being the sum of the squares. Allowed is 5
// * 2^-11 sqrt(S): 6 times that, and more than a single product can err.
//
// growth: how much larger a variant's errors are in norm than those of direct sums. Where it is not
// 1 (Winograd's transforms) a result also has errors of its neighbours' products: it is allowed
// what the result with the largest M or S is, `growth` times.
template <class T>
Closeness close_sums(const std::vector<T>& got, const reference::Sums& want, double terms,
                     bool tf32 = false, double growth = 1) {
    Closeness c;
    c.same_size = got.size() == want.value.size();
    if (!c.same_size) return c;
    const double rtol = dtype_of<T> == DType::bf16 ? 1.0 / 256 : 0,
                 per_m = (4 * std::sqrt(terms) + 4) * 0x1p-24;
    const auto largest = [](const std::vector<double>& v) {
        return v.empty() ? 0 : *std::max_element(v.begin(), v.end());
    };
    const double most = largest(want.magnitude), most_squared = largest(want.square);
    for (size_t i = 0; i < got.size(); ++i) {
        const double magnitude = growth > 1 ? most : want.magnitude[i],
                     square = growth > 1 ? most_squared : want.square[i];
        const double one[] = {want.value[i]};
        const float g[] = {to_float(got[i])};
        const double atol =
            1e-30 + growth * (per_m * magnitude + (tf32 ? 5 * 0x1p-11 * std::sqrt(square) : 0));
        const Closeness e =
            close(std::span<const float>(g), std::span<const double>(one), rtol, atol);
        if (e.worst > c.worst || c.at < 0) c = e, c.at = static_cast<long>(i);
    }
    return c;
}

}  // namespace wt::test
