// A worker's parameters, momentum and gradients, to and from the host.
#include "host/parallel/worker.h"

namespace wt {

const void* Worker::weight(int param) const {
    const Layout::Storage& s = layout_.storage[param];
    return s.low ? at(s.low) : at(s.w);
}

// cudaMemcpy from pageable memory may return before the last bytes have arrived, and our streams do not wait for
// the default stream: hence the wait.
static void write_blocking(int device, void* to, const void* from, size_t bytes) {
    const DeviceGuard guard(device);
    WT_CUDA(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
    WT_CUDA(cudaStreamSynchronize(nullptr));
}

void Worker::set_param(int i, const std::vector<float>& v) {
    const Layout::Storage& s = layout_.storage[i];
    write_blocking(layout_.config.device, at(s.w), v.data(), v.size() * 4);
    if (!s.low) return;
    std::vector<bf16> low(v.size());
    for (size_t j = 0; j < v.size(); ++j) low[j] = __float2bfloat16(v[j]);
    write_blocking(layout_.config.device, at(s.low), low.data(), low.size() * 2);
}

void Worker::set_momentum(int i, const std::vector<float>& v) {
    write_blocking(layout_.config.device, at(layout_.storage[i].v), v.data(), v.size() * 4);
}

static std::vector<float> read_floats(const void* device, int64_t count) {
    std::vector<float> v(count);
    WT_CUDA(cudaMemcpy(v.data(), device, count * 4, cudaMemcpyDeviceToHost));
    return v;
}

std::vector<float> Worker::get_param(int i) const { return read_floats(at(layout_.storage[i].w), layout_.own_count(i)); }

std::vector<float> Worker::get_momentum(int i) const { return read_floats(at(layout_.storage[i].v), layout_.own_count(i)); }

std::vector<float> Worker::get_gradient(int i) const {
    for (const Layout::Update& u : layout_.updates)
        if (u.param == i) return read_floats(at(u.grad), layout_.own_count(i));
    throw Error("no gradient of " + layout_.params[i].name + " is kept");
}

}  // namespace wt
