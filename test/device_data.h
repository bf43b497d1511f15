// What the tests of kernels share: reproducible values, arrays of a storage type on a device, and
// the loop over the variants of a table.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cstring>
#include <random>
#include <set>
#include <string>
#include <vector>

#include "host/cuda/buffer.h"
#include "host/cuda/stream.h"
#include "kernels/common/dtype.h"
#include "kernels/common/machine.h"
#include "kernels/variant.h"

namespace wt::test {

#if defined(__SANITIZE_ADDRESS__)
inline constexpr bool kSanitized = true;  // shorter lists of shapes
#else
inline constexpr bool kSanitized = false;
#endif

inline std::vector<double> random_values(size_t count, uint32_t seed, double low = -1,
                                         double high = 1) {
    std::mt19937 engine(seed);
    std::uniform_real_distribution<double> draw(low, high);
    std::vector<double> v(count);
    for (double& x : v) x = draw(engine);
    return v;
}

// `values` as the storage type holds them: what a reference has to start from.
inline std::vector<double> rounded(std::vector<double> values, DType t) {
    for (double& v : values)
        v = t == DType::f32 ? static_cast<float>(v)
                            : to_float(from_float<bf16>(static_cast<float>(v)));
    return values;
}

// `count` elements of `dtype` on a device, beginning `offset` elements behind an aligned address.
// Starts as NaNs (all bits set), so that what a kernel left out shows, and so does what it touched
// outside its rows.
class DeviceArray {
public:
    DeviceArray(DType dtype, size_t count, int device = 0, size_t offset = 0)
        : dtype_(dtype),
          count_(count),
          offset_(offset),
          buffer_(device, (count + offset) * size_of(dtype), "a test's array") {
        bytes_.assign(buffer_.size(), 0xFF);
        buffer_.upload(bytes_);
    }
    DeviceArray(DType dtype, const std::vector<double>& values, int device = 0, size_t offset = 0)
        : DeviceArray(dtype, values.size(), device, offset) {
        for (size_t i = 0; i < count_; ++i) {
            const float f = static_cast<float>(values[i]);
            const bf16 h = from_float<bf16>(f);
            std::memcpy(&bytes_[(offset_ + i) * size_of(dtype)],
                        dtype == DType::f32 ? static_cast<const void*>(&f) : &h, size_of(dtype));
        }
        buffer_.upload(bytes_);
    }
    void* data() const { return buffer_.data() + offset_ * size_of(dtype_); }
    size_t size() const { return count_; }
    std::vector<double> read() const {
        const std::vector<unsigned char> b = buffer_.download();
        std::vector<double> v(count_);
        for (size_t i = 0; i < count_; ++i) {
            if (dtype_ == DType::f32) {
                float f;
                std::memcpy(&f, &b[(offset_ + i) * 4], 4);
                v[i] = f;
            } else {
                bf16 h;
                std::memcpy(&h, &b[(offset_ + i) * 2], 2);
                v[i] = to_float(h);
            }
        }
        return v;
    }
    // Of the first `rows` rows, `ld` apart: the `cols` elements of each. Fails where the gap
    // between rows, or what lies before the first one, is not as it was at the start.
    std::vector<double> read_rows(int64_t rows, int64_t cols, int64_t ld) const {
        const std::vector<unsigned char> now = buffer_.download();
        const size_t e = size_of(dtype_);
        bool kept = std::equal(now.begin(), now.begin() + offset_ * e, bytes_.begin());
        const std::vector<double> all = read();
        std::vector<double> out;
        for (int64_t r = 0; r < rows; ++r) {
            out.insert(out.end(), all.begin() + r * ld, all.begin() + r * ld + cols);
            const size_t from = (offset_ + r * ld + cols) * e;
            const size_t to = r + 1 < rows ? (offset_ + (r + 1) * ld) * e : now.size();
            kept = kept && std::equal(now.begin() + from, now.begin() + to, bytes_.begin() + from);
        }
        CHECK_MESSAGE(kept, "elements outside the matrix were written");
        return out;
    }

private:
    DType dtype_;
    size_t count_, offset_;
    std::vector<unsigned char> bytes_;  // as uploaded
    DeviceBuffer<unsigned char> buffer_;
};

// rows x cols values spread over rows that lie `ld` apart; the gaps hold `gap`.
inline std::vector<double> with_gaps(const std::vector<double>& v, int64_t rows, int64_t cols,
                                     int64_t ld, double gap = 77) {
    std::vector<double> out(rows * ld, gap);
    for (int64_t r = 0; r < rows; ++r)
        std::copy_n(v.begin() + r * cols, cols, out.begin() + r * ld);
    return out;
}

// Calls f(variant) for every variant of the table that fits the problem and this device; kernels
// that spread a block's piece over its threads are run with one thread and with many. Says once why
// a variant is left out.
template <class Problem, class Args, class F>
void each_variant(const char* op, Table<Problem, Args> table, const Problem& problem, F&& f) {
    static std::set<std::string> said;
    REQUIRE(table.size() > 0);
    const std::string title = std::string(op) + " ";
    CHECK_MESSAGE(table[0].refuses(problem).empty(), title,
                  "variant 0 refuses: ", table[0].refuses(problem));
    const int sm = device_sm(0);
    for (const auto& v : table) {
        std::string reason = v.refuses(problem);
        if (reason.empty() && v.sm && sm && v.sm != sm) reason = "needs sm_" + std::to_string(v.sm);
        if (!reason.empty()) {
            const std::string line = title + v.name + ": " + reason;
            if (said.insert(line).second) MESSAGE("skip: ", line);
            continue;
        }
        const int before = plan_overrides.stream_threads;
        for (const int threads : {before, 96}) {
            if (v.baseline && threads != before) continue;
            plan_overrides.stream_threads = threads;
            const std::string name = title + v.name;
            INFO(name, ", at most ", threads, " threads to a block's piece");
            f(v);
        }
        plan_overrides.stream_threads = before;
    }
}

}  // namespace wt::test
