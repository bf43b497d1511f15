// The passes around vendors' calls.
#include <doctest/doctest.h>

#include "host/cuda/stream.h"
#include "kernels/vendor/convert.h"
#include "test/operands.h"

using namespace wt;
using namespace wt::test;

TEST_CASE("vendor: rounding to bf16 and column sums") {
    Stream stream(0);
    Operand<float> in(300, 1);
    DeviceBuffer<bf16> rounded(0, 300, "rounded");
    poison(rounded);
    vendor::round_to_bf16(in.data(), rounded.data(), 300, stream.get());
    stream.synchronize();
    // Round to nearest, 8 significant bits: off by at most 2^-8 of the value.
    const auto halves = floats(rounded.download());
    const auto c =
        close(std::span<const float>(halves), std::span<const double>(in.exact), 1.0 / 256, 0);
    CHECK_MESSAGE(c.ok(), c.text());

    const int rows = 7, columns = 70, lda = 75;
    auto check = [&]<class T>() {
        Operand<T> a(rows * lda, 2);
        DeviceBuffer<float> sums(0, columns, "sums");
        poison(sums);
        vendor::sum_columns(a.data(), dtype_of<T>, rows, columns, lda, sums.data(), stream.get());
        stream.synchronize();
        std::vector<double> want(columns);
        for (int k = 0; k < rows; ++k)
            for (int i = 0; i < columns; ++i) want[i] += a.exact[k * lda + i];
        const auto got = sums.download();
        // Seven additions of values below 1: each rounds by at most 2^-24 of a sum below 7.
        const auto s =
            close(std::span<const float>(got), std::span<const double>(want), 0, 7 * 7 * 0x1p-24);
        CHECK_MESSAGE(s.ok(), s.text());
    };
    check.template operator()<float>();
    check.template operator()<bf16>();
}
