// The memory of one problem: inputs of random numbers, outputs that must be overwritten, and for
// every output what fp64 makes of the same inputs, element by element. The fill functions (fill.h)
// put one together for an operation's arguments; verify.h and measure.h use it.
#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "host/cuda/buffer.h"
#include "host/cuda/stream.h"
#include "kernels/probe/probe.h"

namespace wt::bench {

// An input: device memory, and its values on the host once Operands::fetch has been called. Copies
// share both.
class Input {
public:
    template <class T>
    T* as() const {
        return static_cast<T*>(data_);
    }
    operator const void*() const { return data_; }
    double operator[](int64_t i) const {
        const void* at = host_->at;
        return host_->type == DType::f32 ? static_cast<const float*>(at)[i]
                                         : to_float(static_cast<const bf16*>(at)[i]);
    }

private:
    friend class Operands;
    struct Host {
        DType type = DType::f32;
        const void* at = nullptr;     // as on the device: an operand of 5 GB is no 10 GB of floats
        std::vector<std::byte> copy;  // what it points to, unless the device's own memory will do
    };
    void* data_ = nullptr;
    std::shared_ptr<Host> host_ = std::make_shared<Host>();
};

// The exact value of element i (of rows x cols, gaps not counted). `got` is what a variant has
// there: where several answers are right (the argmax of a tie), the function returns it if it is
// one of them.
using Exact = std::function<double(int64_t i, double got)>;

struct Output {
    probe::Matrix m;
    Exact exact;
    // about the products that `exact` adds up: fewer elements are looked at where
    double cost = 1;
    // there are many
    bool several =
        false;       // more than one answer is right: variants are not compared with each other
    int input = -1;  // changed in place: the input it starts as
    // the coarsest type that a variant may round to on the way to this result
    DType rounding = DType::f32;
};

class Operands {
public:
    explicit Operands(int device) : device_(device), stream_(device) {}

    // ---- for fill functions ---------------------------------------------------------------------
    // Begins `before` elements behind a place where anything is aligned.
    Input random(int64_t count, DType type, float low = -1, float high = 1, int64_t before = 0);
    // The same for an operand of a matrix product: what tf32 rounds.
    Input matrix(int64_t count, DType type, int64_t before = 0) {
        const Input in = random(count, type, -1, 1, before);
        random_.back().matrix = true;
        return in;
    }
    // Done to the input made last, each time it has been filled.
    void then(std::function<void(void*, cudaStream_t)> change);
    template <class T>
    T* values(const std::vector<T>& v, int64_t before = 0) {
        T* p = static_cast<T*>(allocate((v.size() + before) * sizeof(T))) + before;
        WT_CUDA(cudaMemcpyAsync(p, v.data(), v.size() * sizeof(T), cudaMemcpyHostToDevice,
                                stream_.get()));
        stream_.synchronize();
        return p;
    }
    // Kept on the host as long as the operands are.
    template <class T>
    const T* host(std::vector<T> v) {
        auto kept = std::make_shared<std::vector<T>>(std::move(v));
        kept_.push_back(kept);
        return kept->data();
    }
    void* scratch(size_t bytes) { return allocate(bytes); }
    // An output of `rows` rows of `cols` elements, `ld` apart, that begins `before` elements behind
    // such a place.
    struct Extent {
        int64_t rows, cols, ld, before = 0;
    };
    void* output(Extent e, DType type, double cost, Exact exact) {
        return output(e, probe::kind_of(type), cost, std::move(exact));
    }
    void* output(Extent e, probe::Kind kind, double cost, Exact exact);
    void* output(int64_t count, DType type, double cost, Exact exact) {
        return output({1, count, count}, type, cost, std::move(exact));
    }
    // An input that the operation changes in place.
    void* changed(const Input& in, Extent e, double cost, Exact exact);
    // A field of a struct in device memory, at `p`.
    void field(void* p, probe::Kind kind, double cost, Exact exact);
    Output& last() { return outputs_.back(); }

    // ---- for those who run the operation --------------------------------------------------------
    int device() const { return device_; }
    const Stream& stream() const { return stream_; }
    const std::vector<Output>& outputs() const { return outputs_; }
    // Makes every random input readable on the host, for `exact`. Before the operation changes any.
    void fetch();
    // Inputs that are changed in place are as they were; outputs, scratch and the `workspace` are
    // NaN. With tf32, fp32 operands of matrix products are cut to what the matrix units read of
    // them.
    void reset(bool tf32 = false);
    void* workspace(size_t bytes);  // one for all variants: grows to the largest

private:
    struct Random {
        Input in;
        int64_t count;
        DType type;
        float low, high;
        std::function<void(void*, cudaStream_t)> then;
        bool matrix = false;
    };
    struct Span {
        void* data;
        size_t bytes;
    };
    void* allocate(size_t bytes);
    void fill_input(size_t i, bool tf32);
    int device_;
    Stream stream_;
    std::vector<DeviceBuffer<std::byte>> buffers_;
    DeviceBuffer<std::byte> workspace_;
    std::vector<Random> random_;
    std::vector<Span> poisoned_;
    std::vector<Output> outputs_;
    std::vector<std::shared_ptr<void>> kept_;
    bool tf32_ = false;
};

}  // namespace wt::bench
