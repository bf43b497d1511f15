#include "kernels/exchange/problem.h"
#include "test/device_data.h"

using namespace wt;
using namespace wt::test;

namespace {

// The devices whose memory the tests mix: two where peers can reach each other, else one twice.
std::vector<int> devices() {
    static const std::vector<int> found = [] {
        if (device_count() >= 2 && enable_peer_access(0, 1) && enable_peer_access(1, 0))
            return std::vector<int>{0, 1};
        MESSAGE("one device, or no peer access: exchanged with itself");
        return std::vector<int>{0, 0};
    }();
    return found;
}

struct Shape {
    int64_t rows, cols, ld_src, ld_dst;
    size_t offset;  // elements from an aligned address
};

std::vector<Shape> shapes() {
    std::vector<Shape> all = {{16, 128, 128, 128, 0}, {16, 64, 128, 96, 0},
                              {5, 37, 40, 48, 0},     {5, 37, 37, 37, 0},
                              {7, 24, 25, 27, 0},     {3, 48, 64, 64, 5},
                              {1, 1, 1, 1, 0},        {1, 20001, 20001, 20001, 0}};
    if (!kSanitized) all.push_back({66000, 2, 3, 2, 0});  // more rows than gridDim.y
    return all;
}

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("exchange copy: every variant, from this device and to it, bit for bit") {
    for (const Shape& s : shapes())
        for (DType t : {DType::f32, DType::bf16})
            for (int way = 0; way < 3; ++way) {
                INFO(s.rows, "x", s.cols, ", ld ", s.ld_src, " to ", s.ld_dst, ", offset ",
                     s.offset, ", way ", way);
                const int from = devices()[way == 1], to = devices()[way == 2];
                CopyProblem p;
                p.rows = s.rows, p.cols = s.cols, p.ld_src = s.ld_src, p.ld_dst = s.ld_dst,
                p.dtype = t;
                const auto values = rounded(random_values(s.rows * s.cols, 61), t);
                const DeviceArray src(t, with_gaps(values, s.rows, s.cols, s.ld_src), from,
                                      s.offset);
                const Stream stream(0);
                each_variant("exchange copy", exchange_copy_variants(), p,
                             [&](const ExchangeCopy& v) {
                                 const DeviceArray dst(t, s.rows * s.ld_dst, to, s.offset);
                                 v.launch(p, {src.data(), dst.data(), stream.get()});
                                 stream.synchronize();
                                 CHECK(dst.read_rows(s.rows, s.cols, s.ld_dst) == values);
                             });
            }
}

TEST_CASE("exchange reduce: every variant adds in rank order, bit for bit, also onto a source") {
    for (const Shape& s : shapes())
        for (DType t : {DType::f32, DType::bf16})
            for (int sources : {1, 2, 3, kMaxRanks}) {
                if (sources > 3 && s.rows * s.cols > 3000) continue;
                INFO(s.rows, "x", s.cols, ", ld ", s.ld_src, " to ", s.ld_dst, ", offset ",
                     s.offset, ", ", sources, " sources");
                ReduceProblem p;
                p.sources = sources, p.rows = s.rows, p.cols = s.cols, p.ld_src = s.ld_src,
                p.ld_dst = s.ld_dst, p.dtype = t;
                std::vector<std::vector<double>> values;
                for (int r = 0; r < sources; ++r)
                    values.push_back(rounded(random_values(s.rows * s.cols, 70 + r, -9, 9), t));
                std::vector<double> want(s.rows * s.cols);
                for (size_t i = 0; i < want.size(); ++i) {
                    float sum = static_cast<float>(values[0][i]);
                    for (int r = 1; r < sources; ++r) sum += static_cast<float>(values[r][i]);
                    want[i] = sum;
                }
                want = rounded(want, t);
                const Stream stream(0);
                each_variant(
                    "exchange reduce", exchange_reduce_variants(), p, [&](const ExchangeReduce& v) {
                        for (int onto : {-1, 0, sources - 1}) {  // which source dst is
                            if (onto >= 0 && s.ld_src != s.ld_dst) continue;
                            std::vector<DeviceArray> src;
                            ReduceArgs a{};
                            for (int r = 0; r < sources; ++r) {
                                src.emplace_back(t, with_gaps(values[r], s.rows, s.cols, s.ld_src),
                                                 devices()[r % 2], s.offset);
                                a.src[r] = src[r].data();
                            }
                            const DeviceArray other(t, s.rows * s.ld_dst, 0, s.offset);
                            const DeviceArray& dst = onto < 0 ? other : src[onto];
                            a.dst = dst.data(), a.stream = stream.get();
                            v.launch(p, a);
                            stream.synchronize();
                            CHECK(dst.read_rows(s.rows, s.cols, s.ld_dst) == want);
                            for (int r = 0; r < sources; ++r)
                                if (r != onto)
                                    CHECK(src[r].read_rows(s.rows, s.cols, s.ld_src) == values[r]);
                        }
                    });
            }
}

TEST_CASE("exchange reduce: no source, or more than there are ranks, is refused") {
    ReduceProblem p;
    for (int bad : {0, kMaxRanks + 1}) {
        p.sources = bad;
        for (const auto& v : exchange_reduce_variants()) CHECK_FALSE(v.refuses(p).empty());
    }
}

TEST_SUITE_END();
