#include "host/net/problem_text.h"
#include "kernels/pool/problem.h"
#include "test/close.h"
#include "test/device_data.h"
#include "test/reference/pool.h"

using namespace wt;
using namespace wt::test;

namespace {

std::vector<PoolProblem> problems() {
    std::vector<PoolProblem> all;
    auto add = [&](int n, int h, int w, int c, int window, int stride, int pad) {
        for (DType t : {DType::f32, DType::bf16}) {
            PoolProblem p;
            p.n = n, p.h = h, p.w = w, p.c = c, p.window = window, p.stride = stride, p.pad = pad,
            p.dtype = t;
            all.push_back(p);
        }
    };
    add(2, 13, 13, 256, 3, 2, 0);  // pool5
    add(1, 27, 27, 96, 3, 2, 0);   // half of pool1
    add(3, 8, 8, 16, 2, 2, 0);
    add(2, 7, 10, 24, 3, 2, 0);  // the last column is in no window
    add(1, 9, 6, 8, 3, 1, 1);
    add(1, 11, 12, 40, 5, 3, 2);
    add(2, 6, 5, 3, 3, 2, 1);  // channels below a group
    add(1, 5, 7, 13, 2, 2, 1);
    add(1, 10, 10, 8, 2, 3, 0);    // gaps between the windows
    add(1, 3, 3, 8, 3, 2, 0);      // one window
    add(1, 4, 5, 8, 1, 1, 0);      // a window of one
    add(1, 17, 16, 8, 15, 1, 14);  // the largest window and pad: every byte of argmax
    return all;
}

// `kind` 0: all different, 1: many ties, 2: NaNs and infinities among ties.
std::vector<double> inputs(const PoolProblem& p, int kind) {
    auto x = rounded(random_values(p.x_count(), 7 + kind, -4, 4), p.dtype);
    for (size_t i = 0; kind && i < x.size(); ++i) {
        x[i] = std::floor(x[i] / 2);
        if (kind == 2 && i % 7 == 3) x[i] = NAN;
        if (kind == 2 && i % 5 == 1) x[i] = -INFINITY;
        if (kind == 2 && i % 11 == 4) x[i] = INFINITY;
    }
    return x;
}

bool same(double a, double b) { return a == b || (std::isnan(a) && std::isnan(b)); }

}  // namespace

TEST_SUITE_BEGIN("kernels");  // what `make test RACES=1` runs

TEST_CASE("pool forward: every variant, exactly") {
    for (PoolProblem p : problems())
        for (int turn = 0; turn < 4; ++turn) {
            const int kind = turn % 3;
            const size_t offset = turn == 3;  // also off the vectors' alignment
            p.aligned = offset == 0;
            INFO(text_of(p), ", kind of input ", kind, ", offset ", offset);
            const auto x = inputs(p, kind);
            const auto want = reference::pool_forward(p, x);
            const Stream stream(0);
            const DeviceArray xd(p.dtype, x, 0, offset);
            each_variant("pool forward", pool_forward_variants(), p, [&](const PoolForward& v) {
                if (v.baseline && kind == 2) return;  // libraries differ on NaN
                const DeviceArray y(p.dtype, p.y_count(), 0, offset);
                DeviceBuffer<uint8_t> argmax(0, p.y_count() + offset);
                argmax.upload(std::vector<uint8_t>(argmax.size(), 0xFF));
                DeviceBuffer<char> workspace(0, v.workspace_bytes(p));
                v.launch(p, {xd.data(), y.data(), argmax.data() + offset, workspace.data(),
                             stream.get()});
                stream.synchronize();
                const auto got = y.read();
                const auto chosen = argmax.download();
                int64_t wrong = 0;
                for (int64_t i = 0; i < p.y_count(); ++i)
                    wrong += !same(got[i], want.y[i]) || chosen[i + offset] != want.argmax[i];
                CHECK(wrong == 0);
            });
        }
}

TEST_CASE("pool backward: every variant against the scattered sum") {
    for (PoolProblem p : problems())
        for (int turn = 0; turn < 3; ++turn) {
            const int kind = turn % 2;
            const size_t offset = turn == 2;
            p.aligned = offset == 0;
            INFO(text_of(p), ", kind of input ", kind, ", offset ", offset);
            const auto chosen = reference::pool_forward(p, inputs(p, kind)).argmax;
            const auto dy = rounded(random_values(p.y_count(), 9), p.dtype);
            const auto want = reference::pool_backward(p, dy, chosen);
            const Stream stream(0);
            const DeviceArray dyd(p.dtype, dy, 0, offset);
            DeviceBuffer<uint8_t> argmax(0, p.y_count() + offset);
            std::vector<uint8_t> shifted(offset, 0);
            shifted.insert(shifted.end(), chosen.begin(), chosen.end());
            argmax.upload(shifted);
            // A sum of at most window^2 values of at most 1: that many roundings of a partial sum
            // below window^2.
            const int terms = std::min(p.window * p.window,
                                       (p.window / p.stride + 1) * (p.window / p.stride + 1));
            const double atol = terms * terms * 6e-8, rtol = p.dtype == DType::bf16 ? 1.0 / 256 : 0;
            each_variant("pool backward", pool_backward_variants(), p, [&](const PoolBackward& v) {
                const DeviceArray dx(p.dtype, p.x_count(), 0, offset);
                DeviceBuffer<char> workspace(0, v.workspace_bytes(p));
                v.launch(p, {dyd.data(), argmax.data() + offset, dx.data(), workspace.data(),
                             stream.get()});
                stream.synchronize();
                // oneDNN rounds every partial sum to bf16.
                const double more =
                    v.baseline && p.dtype == DType::bf16 ? terms * terms / 512.0 : 0;
                const Closeness c = close<double>(dx.read(), want, rtol, atol + more);
                CHECK_MESSAGE(c.ok(), c.text());
            });
        }
}

TEST_CASE(
    "pool: a window that argmax cannot hold and a pad that leaves empty windows are refused") {
    PoolProblem p;
    p.h = p.w = 40, p.c = 8, p.window = 16, p.stride = 1;
    for (const auto& v : pool_forward_variants()) CHECK_FALSE(v.refuses(p).empty());
    for (const auto& v : pool_backward_variants()) CHECK_FALSE(v.refuses(p).empty());
    p.window = 3, p.pad = 3;
    for (const auto& v : pool_forward_variants()) CHECK_FALSE(v.refuses(p).empty());
    for (const auto& v : pool_backward_variants()) CHECK_FALSE(v.refuses(p).empty());
}

TEST_SUITE_END();
