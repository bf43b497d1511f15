#include "kernels/dropout/problem.h"
#include "test/close.h"
#include "test/device_data.h"
#include "test/reference/dropout.h"

using namespace wt;
using namespace wt::test;

namespace {

struct Case {
    DropoutProblem p;
    int64_t row0, col0;
    size_t offset;
    std::string text() const {
        return std::to_string(p.rows) + "x" + std::to_string(p.cols) + " at (" +
               std::to_string(row0) + ", " + std::to_string(col0) + "), ld " +
               std::to_string(p.ld_x) + " and " + std::to_string(p.ld_y) + ", offset " +
               std::to_string(offset) + ", p " + std::to_string(p.p) + ", " + name_of(p.dtype);
    }
};

std::vector<Case> cases() {
    std::vector<Case> all;
    auto add = [&](int64_t rows, int64_t cols, int64_t ld_x, int64_t ld_y, float drop, int64_t row0,
                   int64_t col0, size_t offset) {
        for (DType t : {DType::f32, DType::bf16}) {
            Case c{{}, row0, col0, offset};
            c.p.rows = rows, c.p.cols = cols, c.p.ld_x = ld_x, c.p.ld_y = ld_y, c.p.p = drop,
            c.p.dtype = t;
            all.push_back(c);
        }
    };
    add(3, 4096, 4096, 4096, 0.5f, 0, 0, 0);
    add(2, 9216, 9216, 9216, 0.3f, 128, 9216, 0);  // the second worker's columns
    add(4, 136, 160, 144, 0.5f, 3, 64, 0);
    add(4, 100, 104, 112, 0.1f, 0, 3, 0);  // begins within a group
    add(4, 100, 104, 112, 0.9f, 7, 13, 5);
    add(5, 3, 3, 4, 0.5f, 0, 6, 0);  // parts of two groups and nothing between
    add(2, 1, 1, 1, 0.5f, 0, 0, 0);
    add(2, 50, 50, 50, 0.f, 0, 0, 0);        // keeps all
    add(2, 50, 56, 60, 0.999999f, 0, 0, 0);  // rounds to dropping all
    return all;
}

const StepState kState{0x123456789ABCDEF0ull, 0x500000007ull, 0.01f, 0.9f};

// The values' masks: which elements of a rows x cols matrix are not zero.
std::vector<bool> mask_of(const Dropout& v, const StepState& state, uint32_t layer, int64_t rows,
                          int64_t cols, int64_t row0, int64_t col0, float drop) {
    DropoutProblem p;
    p.rows = rows, p.cols = p.ld_x = p.ld_y = cols, p.p = drop;
    const Stream stream(0);
    DeviceBuffer<StepState> sd(0, 1);
    sd.upload(&state, 1);
    const DeviceArray x(DType::f32, std::vector<double>(rows * cols, 1.0)),
        y(DType::f32, rows * cols);
    v.launch(p, {x.data(), y.data(), sd.data(), layer, row0, col0, stream.get()});
    stream.synchronize();
    std::vector<bool> kept;
    for (double e : y.read()) kept.push_back(e != 0);
    return kept;
}

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("dropout: every variant's mask is the definition's, bit for bit") {
    DeviceBuffer<StepState> state(0, 1);
    state.upload(&kState, 1);
    for (const Case& c : cases()) {
        INFO(c.text());
        const auto& p = c.p;
        // not zero: a zero in y is a dropped element
        auto x = random_values(p.count(), 21, 0.5, 2);
        for (size_t i = 0; i < x.size(); i += 2) x[i] = -x[i];
        x = rounded(x, p.dtype);
        std::vector<double> want(p.count());
        for (int64_t i = 0; i < p.rows; ++i)
            for (int64_t j = 0; j < p.cols; ++j)
                want[i * p.cols + j] =
                    reference::dropout_keep(kState, 5, c.row0 + i, c.col0 + j, p.p)
                        ? x[i * p.cols + j] / (1 - double(p.p))
                        : 0;
        const Stream stream(0);
        each_variant("dropout", dropout_variants(), p, [&](const Dropout& v) {
            for (bool in_place : {false, true}) {
                if (in_place && p.ld_x != p.ld_y) continue;
                const DeviceArray xd(p.dtype, with_gaps(x, p.rows, p.cols, p.ld_x), 0, c.offset);
                const DeviceArray other(p.dtype, p.rows * p.ld_y, 0, c.offset);
                const DeviceArray& y = in_place ? xd : other;
                v.launch(p, {xd.data(), y.data(), state.data(), 5, c.row0, c.col0, stream.get()});
                stream.synchronize();
                const auto got = y.read_rows(p.rows, p.cols, p.ld_y);
                int64_t wrong = 0;
                for (int64_t i = 0; i < p.count(); ++i) wrong += (got[i] != 0) != (want[i] != 0);
                CHECK(wrong == 0);
                // 1 - p, its reciprocal and the product: three roundings, one more to bf16.
                const double rtol = 3e-7 + (p.dtype == DType::bf16 ? 1.0 / 256 : 0);
                const Closeness ok = close<double>(got, want, rtol, 1e-30);
                if (p.p < 0.99f) CHECK_MESSAGE(ok.ok(), ok.text());
            }
        });
    }
}

TEST_CASE("dropout: the mask of a batch is that of its shards, however it is cut") {
    const int64_t rows = 12, cols = 75;
    DropoutProblem any;
    each_variant("dropout", dropout_variants(), any, [&](const Dropout& v) {
        const auto whole = mask_of(v, kState, 1, rows, cols, 0, 0, 0.5f);
        const int64_t row_cuts[] = {0, 5, 12}, col_cuts[] = {0, 16, 41, 75};
        int64_t wrong = 0;
        for (int a = 0; a + 1 < 3; ++a)
            for (int b = 0; b + 1 < 4; ++b) {
                const int64_t r0 = row_cuts[a], c0 = col_cuts[b], r = row_cuts[a + 1] - r0,
                              c = col_cuts[b + 1] - c0;
                const auto part = mask_of(v, kState, 1, r, c, r0, c0, 0.5f);
                for (int64_t i = 0; i < r; ++i)
                    for (int64_t j = 0; j < c; ++j)
                        wrong += part[i * c + j] != whole[(r0 + i) * cols + c0 + j];
            }
        CHECK(wrong == 0);
    });
}

TEST_CASE("dropout: a draw that equals the threshold is kept, one below is not") {
    DropoutProblem any;
    each_variant("dropout", dropout_variants(), any, [&](const Dropout& v) {
        for (int64_t col = 0; col < 8; ++col) {
            const uint32_t u = reference::dropout_draw(kState, 3, 2, col);
            REQUIRE(u + 1 < 65536);
            CHECK(mask_of(v, kState, 3, 1, 16, 2, 0, static_cast<float>(u / 65536.0))[col]);
            CHECK_FALSE(
                mask_of(v, kState, 3, 1, 16, 2, 0, static_cast<float>((u + 1) / 65536.0))[col]);
        }
    });
}

TEST_CASE("dropout: the rate of keeping, and masks of other steps, layers and seeds") {
    const int64_t rows = 100, cols = 1000;
    const double n = rows * cols;
    const auto& table = dropout_variants();
    const Dropout& v = table[table.size() - 1];
    auto agreement = [&](const std::vector<bool>& a, const std::vector<bool>& b) {
        int64_t same = 0;
        for (size_t i = 0; i < a.size(); ++i) same += a[i] == b[i];
        return same / n;
    };
    for (double p : {0.1, 0.5, 0.8}) {
        const float drop = static_cast<float>(p);
        const auto mask = mask_of(v, kState, 1, rows, cols, 0, 0, drop);
        const double kept = std::count(mask.begin(), mask.end(), true) / n;
        CHECK(std::abs(kept - (1 - p)) < 5 * std::sqrt(p * (1 - p) / n) + 1.0 / 65536);
        // Two unrelated masks agree where both keep or both drop; five standard deviations.
        const double expected = p * p + (1 - p) * (1 - p),
                     slack = 5 * std::sqrt(expected * (1 - expected) / n) + 1e-4;
        StepState step = kState, high_step = kState, seed = kState, high_seed = kState;
        step.step += 1, high_step.step += 1ull << 32, seed.seed += 1, high_seed.seed += 1ull << 32;
        for (const StepState& other : {step, high_step, seed, high_seed})
            CHECK(std::abs(agreement(mask, mask_of(v, other, 1, rows, cols, 0, 0, drop)) -
                           expected) < slack);
        CHECK(std::abs(agreement(mask, mask_of(v, kState, 2, rows, cols, 0, 0, drop)) - expected) <
              slack);
        CHECK(std::abs(agreement(mask, mask_of(v, kState, 1, rows, cols, 0, 8000, drop)) -
                       expected) < slack);
        CHECK(std::abs(agreement(mask, mask_of(v, kState, 1, rows, cols, 100, 0, drop)) -
                       expected) < slack);
    }
}

TEST_CASE("dropout: a probability outside [0, 1) is refused") {
    DropoutProblem p;
    for (float bad : {-0.1f, 1.f, 1.5f, NAN}) {
        p.p = bad;
        for (const auto& v : dropout_variants()) CHECK_FALSE(v.refuses(p).empty());
    }
}

TEST_SUITE_END();
