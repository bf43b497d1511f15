// Whether a variant computes what it should, judged by errors that cannot be avoided: those of the
// plain variant, which adds the same products one after another in the same precision.
//
// error    Over a sample of every result, the norm of the difference to fp64, over the norm of the
//          fp64 values.
// ratio    That error over the plain variant's. With tf32 the plain variant is given operands cut
//          to tf32. Where it has less error than the last place of the result's type, that counts
//          instead: half of one is lost by anybody who rounds once.
//
// A variant is right when ratio <= k in every result, and nowhere among all elements further from
// the plain variant's than 8 such errors (of 10^8 normally distributed ones the largest is at 6). A
// NaN is neither. Of results so large that the device has no memory for a second copy, the sample
// alone is looked at.
//
// k is 2 where rounding dominates that every variant does alike: of the result to bf16, of operands
// to tf32. Of the latter Winograd's transforms make `growth` times as much, of which they are
// allowed twice (kernels/conv/winograd.h). In fp32 k is 32. Legal ways to add differ by that much:
// Winograd's transforms lose a factor of 2 to 10, tensor cores cut off what they do not keep where
// the plain variant rounds.
// And it is small enough: the plain error of n products is about 2^-25 sqrt(n) of the result, and a
// variant that forgets one product in each is off by 1 / sqrt(n), which is 2^25 / n times as much:
// 43 for the longest sums there are (conv1's filters at batch 256).
//
// Of the gradient of filters, which is fp32 where x and dy are bf16 too, `winograd_cpu` is allowed
// 8 k: its larger tiles of bf16 (kernels/conv/winograd_cpu.cpp) leave errors of 3e-5 in norm. That
// x and dy were rounded to bf16 has put every product off by 1.4e-3 before, and one product
// forgotten in conv1's sums at batch 256 is 1.1e-3.
#pragma once

#include <string>
#include <vector>

#include "host/bench/bench_case.h"

namespace wt::bench {

struct Verdict {
    double error = 0, ratio = 0;  // of the worst result
    std::string wrong;            // "", or what is wrong
};

// Judges the variants of a case's table. Variant 0's own error must be what is to be expected of
// its sums.
class Verifier {
public:
    Verifier(const BenchCase& bench_case, int device);  // runs variant 0
    Verdict check(size_t variant);

private:
    struct Result {
        std::vector<int64_t> index;  // of the sample
        std::vector<double> exact;
        double plain = 0;    // variant 0's error, at least the last place
        double allowed = 0;  // k
        // what variant 0 left, all of it; empty where there is no memory for it
        DeviceBuffer<std::byte> want;
    };
    void sample();
    std::vector<double> errors();  // of what is in the outputs now
    void launch(size_t variant);

    std::unique_ptr<Prepared> ready_;
    std::vector<Result> results_;
    std::vector<double> growth_;  // of each variant: see above
    std::string plain_is_wrong_;
};

inline constexpr double kRoundingRatio = 2, kSumRatio = 32, kLargeTilesRatio = 8;

// The first element whose 32-bit offset is wrong.
inline constexpr int64_t kFarElement = int64_t(1) << 31;

// Chooses which of `count` elements a sample has, each the sum of about `cost` products: the first
// and the last, and others all over; where there are more than kFarElement, a quarter of the sample
// lies behind that one.
std::vector<int64_t> choose_sample(int64_t count, double cost);

}  // namespace wt::bench
