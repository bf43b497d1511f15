#include "host/bench/operands.h"

#include <algorithm>

namespace wt::bench {

void* Operands::allocate(size_t bytes) {
    buffers_.emplace_back(device_, std::max<size_t>(bytes, 1), "operands");
    return buffers_.back().data();
}

Input Operands::random(int64_t count, DType type, float low, float high, int64_t before) {
    Input in;
    in.host_->type = type;
    in.data_ = static_cast<std::byte*>(allocate((count + before) * size_of(type))) +
               before * size_of(type);
    random_.push_back({in, count, type, low, high, {}, false});
    fill_input(random_.size() - 1, false);
    return in;
}

void Operands::then(std::function<void(void*, cudaStream_t)> change) {
    random_.back().then = std::move(change);
    random_.back().then(random_.back().in.data_, stream_.get());
}

void Operands::fill_input(size_t i, bool tf32) {
    const Random& r = random_[i];
    probe::fill_uniform(r.in.data_, r.count, r.type, r.low, r.high, static_cast<uint32_t>(i),
                        tf32 && r.matrix, stream_.get());
    if (r.then) r.then(r.in.data_, stream_.get());
}

void* Operands::output(Extent e, probe::Kind kind, double cost, Exact exact) {
    const size_t bytes = e.rows * e.ld * probe::size_of(kind),
                 before = e.before * probe::size_of(kind);
    void* const p = static_cast<std::byte*>(allocate(before + bytes)) + before;
    poisoned_.push_back({p, bytes});
    outputs_.push_back({.m = {.data = p, .rows = e.rows, .cols = e.cols, .ld = e.ld, .kind = kind},
                        .exact = std::move(exact),
                        .cost = cost});
    if (kind == probe::Kind::bf16) last().rounding = DType::bf16;
    return p;
}

void* Operands::changed(const Input& in, Extent e, double cost, Exact exact) {
    for (size_t i = 0; i < random_.size(); ++i)
        if (random_[i].in.data_ == in.data_) {
            const probe::Matrix m{.data = in.data_,
                                  .rows = e.rows,
                                  .cols = e.cols,
                                  .ld = e.ld,
                                  .kind = probe::kind_of(random_[i].type)};
            outputs_.push_back({.m = m, .exact = std::move(exact), .cost = cost});
            last().input = static_cast<int>(i);
        }
    return in.data_;
}

void Operands::field(void* p, probe::Kind kind, double cost, Exact exact) {
    poisoned_.push_back({p, probe::size_of(kind)});
    outputs_.push_back({.m = {.data = p, .kind = kind}, .exact = std::move(exact), .cost = cost});
}

void Operands::fetch() {
    stream_.synchronize();
    for (size_t i = 0; i < random_.size(); ++i) {
        const Random& r = random_[i];
        Input::Host& host = *r.in.host_;
        host.at = r.in.data_;
#ifdef VGPU
        // The host can read a virtual GPU's memory, which keeps what the operation does not change.
        const auto is_it = [&](const Output& o) { return o.input == static_cast<int>(i); };
        if (std::none_of(outputs_.begin(), outputs_.end(), is_it)) continue;
#endif
        host.copy.resize(r.count * size_of(r.type));
        WT_CUDA(cudaMemcpy(host.copy.data(), r.in.data_, host.copy.size(), cudaMemcpyDeviceToHost));
        host.at = host.copy.data();
    }
}

void Operands::reset(bool tf32) {
    if (tf32 != tf32_)
        for (size_t i = 0; i < random_.size(); ++i) fill_input(i, tf32);
    else
        for (const Output& o : outputs_)
            if (o.input >= 0) fill_input(o.input, tf32);
    tf32_ = tf32;
    for (const Span& s : poisoned_) WT_CUDA(cudaMemsetAsync(s.data, 0xFF, s.bytes, stream_.get()));
    if (workspace_.bytes())
        WT_CUDA(cudaMemsetAsync(workspace_.data(), 0xFF, workspace_.bytes(), stream_.get()));
    stream_.synchronize();
}

void* Operands::workspace(size_t bytes) {
    if (bytes > workspace_.bytes())
        workspace_ = DeviceBuffer<std::byte>(device_, bytes, "workspace");
    return workspace_.data();
}

}  // namespace wt::bench
