// A worker's parameters, momentum and gradients, to and from the host.
#include "host/parallel/worker.h"

namespace wt {

// cudaMemcpy from pageable memory may return before the last bytes have arrived, and our streams do
// not wait for the default stream: hence the wait.
static void write_blocking(int device, void* to, const void* from, size_t bytes) {
    if (!bytes) return;
    const DeviceGuard guard(device);
    WT_CUDA(cudaMemcpy(to, from, bytes, cudaMemcpyHostToDevice));
    WT_CUDA(cudaStreamSynchronize(nullptr));
}

// The columns of rows of `row` elements, one row after the other.
static std::vector<float> cut(const std::vector<float>& rows, int64_t row, Shard columns) {
    if (columns.count == row) return rows;
    std::vector<float> block;
    for (auto r = rows.begin(); r != rows.end(); r += row)
        block.insert(block.end(), r + columns.first, r + columns.first + columns.count);
    return block;
}

void Worker::set_param(int i, const std::vector<float>& rows) {
    const Layout::Storage& s = layout_.storage[i];
    const Param& p = layout_.params[i];
    const int device = layout_.config.device;
    const auto block = cut(rows, p.row, layout_.columns[i]);
    if (layout_.config.dtype != DType::f32 && !p.bias) {
        std::vector<bf16> low(block.size());
        for (size_t j = 0; j < block.size(); ++j) low[j] = __float2bfloat16(block[j]);
        write_blocking(device, at(s.value), low.data(), low.size() * 2);
        write_blocking(device, at(s.w), block.data() + layout_.own[i].first,
                       layout_.own[i].count * 4);
    } else {
        write_blocking(device, at(s.value), block.data(), block.size() * 4);
    }
}

void Worker::set_momentum(int i, const std::vector<float>& rows) {
    if (layout_.frozen(i)) throw Error(layout_.params[i].name + " is frozen: it has no momentum");
    const auto block = cut(rows, layout_.params[i].row, layout_.columns[i]);
    write_blocking(layout_.config.device, at(layout_.storage[i].v),
                   block.data() + layout_.own[i].first, layout_.own[i].count * 4);
}

static std::vector<float> read_floats(const void* device, int64_t count) {
    std::vector<float> v(count);
    if (count) WT_CUDA(cudaMemcpy(v.data(), device, count * 4, cudaMemcpyDeviceToHost));
    return v;
}

std::vector<float> Worker::get_param(int i) const {
    return read_floats(at(layout_.storage[i].w), layout_.own[i].count);
}

std::vector<float> Worker::get_momentum(int i) const {
    if (layout_.frozen(i)) throw Error(layout_.params[i].name + " is frozen: it has no momentum");
    return read_floats(at(layout_.storage[i].v), layout_.own[i].count);
}

std::vector<float> Worker::get_gradient(int i) const {
    if (!layout_.own[i].count) return {};
    std::vector<const std::vector<Update>*> lists{&layout_.updates, &layout_.microbatch_updates};
    for (const Bucket& b : layout_.buckets) lists.push_back(&b.updates);
    for (const auto* list : lists)
        for (const Update& u : *list)
            if (u.param == i) return read_floats(at(u.grad), layout_.own[i].count);
    throw Error("no gradient of " + layout_.params[i].name + " is kept");
}

std::vector<float> Worker::get_logits() const {
    return read_floats(at(layout_.head.back().y),
                       layout_.config.head_rows() * layout_.config.net.classes());
}

std::vector<float> Worker::get_fc_output(const std::string& layer) const {
    for (const HeadOp& op : layout_.head) {
        if (op.layer->name != layer) continue;
        if (op.own.count != op.layer->out)
            throw Error("the output of " + layer + " is on several workers");
        return read_values(op.y, layout_.config.head_rows() * op.layer->out, op.last);
    }
    throw Error("no fully connected layer " + layer);
}

std::vector<float> Worker::get_output(const std::string& layer, int64_t rows) const {
    const WorkerConfig& c = layout_.config;
    for (const TrunkOp& op : layout_.trunk) {
        if (op.layer->name != layer) continue;
        if (op.layer->kind == LayerKind::lrn && op.fused_away_forward) return {};
        return read_values(op.y, (rows ? rows : c.batch) * op.layer->y.count(), false);
    }
    for (const HeadOp& op : layout_.head) {
        if (op.layer->name != layer) continue;
        if (!rows) rows = c.head_rows();
        std::vector<float> all = read_values(op.y, rows * op.layer->out, op.last), own;
        if (op.own.count == op.layer->out) return all;
        for (auto row = all.begin(); row != all.end(); row += op.layer->out)
            own.insert(own.end(), row + op.own.first, row + op.own.first + op.own.count);
        return own;
    }
    throw Error("no layer " + layer + " with an output of its own");
}

std::vector<float> Worker::get_values(int i) const {
    return read_values(layout_.storage[i].value, layout_.rows[i].count * layout_.columns[i].count,
                       layout_.params[i].bias);
}

std::vector<float> Worker::read_values(BufferRef from, int64_t n, bool always_fp32) const {
    if (layout_.config.dtype == DType::f32 || always_fp32) return read_floats(at(from), n);
    std::vector<bf16> low(n);
    WT_CUDA(cudaMemcpy(low.data(), at(from), n * 2, cudaMemcpyDeviceToHost));
    std::vector<float> v(n);
    for (int64_t j = 0; j < n; ++j) v[j] = __bfloat162float(low[j]);
    return v;
}

}  // namespace wt
