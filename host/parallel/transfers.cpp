// The list of a step's transfers: what each rank leaves for each other. A pure function of the
// configuration, the same on every rank.
#include "host/parallel/layout.h"

namespace wt {

namespace {

BlockSlice bytes_at(size_t offset, size_t bytes) {
    return {.offset = offset, .rows = bytes ? 1 : 0, .row_bytes = bytes, .pitch = bytes};
}

// A shard's columns of `rows` rows, each of `width` elements of `size` bytes.
BlockSlice columns_of(Shard s, int64_t rows, int64_t width, size_t size) {
    return {
        .offset = s.first * size, .rows = rows, .row_bytes = s.count * size, .pitch = width * size};
}

BlockSlice rows_of(int64_t first, int64_t count, size_t row_bytes) {
    return {.offset = first * row_bytes, .rows = count, .row_bytes = row_bytes, .pitch = row_bytes};
}

// Sets slice(from, to) for every pair of ranks.
template <class F>
void for_each_pair(Transfer& t, const F& slice) {
    for (int from = 0; from < t.ranks; ++from)
        for (int to = 0; to < t.ranks; ++to) t.part(from, to) = slice(from, to);
}

}  // namespace

int Layout::add_transfer(const std::string& name) {
    transfers.emplace_back(name, config.workers);
    return static_cast<int>(transfers.size()) - 1;
}

void Layout::plan_transfers() {
    if (config.scheme == FcScheme::dp) {
        plan_stats_transfer();
    } else {
        for (int j = 0; j < config.microbatch_count(); ++j) plan_sample_transfers(j);
        for (size_t i = 0; i < head.size(); ++i) {
            ids.up.emplace_back();
            ids.down.emplace_back();
            for (int j = 0; j < config.microbatch_count(); ++j) {
                plan_transfer_up(i, j);
                if (config.training) plan_transfer_down(i, j);
            }
        }
    }
    if (config.training)
        for (const Bucket& b : buckets) plan_bucket_transfers(b);
    if (config.packed)
        staging = plan.add("exchange staging", Use::workspace,
                           staging_offsets(transfers, config.rank).back());
}

// With a replicated head every worker counts its own samples.
void Layout::plan_stats_transfer() {
    // Two evaluations have nothing between them by which a worker would know that its counts have
    // been read.
    ids.finished = add_transfer("finished");
    transfers.back().barrier = true;
    ids.stats = add_transfer("stats");
    for_each_pair(transfers.back(), [](int, int) { return bytes_at(0, sizeof(SoftmaxStats)); });
}

// Microbatch j's labels, and its rows of the trunk's output.
void Layout::plan_sample_transfers(int j) {
    const std::string suffix = config.microbatch_count() > 1 ? "." + std::to_string(j) : "";
    ids.labels.push_back(add_transfer("labels" + suffix));
    transfers.back().group = 0;
    for_each_pair(transfers.back(), [&](int from, int) {
        const RowBlock b = block_in(from, j);
        return bytes_at(b.row * sizeof(int), b.count * sizeof(int));
    });
    ids.flat.push_back(add_transfer("flat" + suffix));
    transfers.back().group = 0;
    for_each_pair(transfers.back(), [&](int from, int) {
        const RowBlock b = block_in(from, j);
        return rows_of(b.local, b.count, flat_cols * element_size());
    });
}

std::string Layout::transfer_name(size_t i, int microbatch) const {
    const std::string suffix =
        config.microbatch_count() > 1 ? "." + std::to_string(microbatch) : "";
    return head[i].layer->name + suffix;
}

// A layer's output in microbatch j: everybody's columns of it, or, row-parallel, everybody's
// partial sums of the columns that the reader has; of the last layer, of all columns.
void Layout::plan_transfer_up(size_t i, int j) {
    const HeadOp& op = head[i];
    const int64_t units = op.layer->out;
    const bool needed = op.row_parallel || op.last || !head[i + 1].row_parallel;
    ids.up.back().push_back(needed ? add_transfer(transfer_name(i, j)) : -1);
    if (!needed) return;
    transfers.back().own = op.row_parallel;
    for_each_pair(transfers.back(), [&](int from, int to) {
        Shard s = shard_of(units, op.row_parallel ? to : from, config.workers);
        if (op.row_parallel && op.last) s = {0, units};
        return columns_of(s, config.microbatch_rows(), units, size_of(op.fprop.problem.out));
    });
}

// The gradient of a layer's input in microbatch j: partial sums of the columns that the reader has
// of the layer below, or of its rows of the trunk's output; row-parallel, everybody's columns of
// it.
void Layout::plan_transfer_down(size_t i, int j) {
    const HeadOp& op = head[i];
    const int64_t inputs = op.layer->x.count();
    const size_t size = element_size();
    const bool needed = op.needs_dx && (!op.row_parallel || head[i - 1].row_parallel);
    ids.down.back().push_back(needed ? add_transfer(transfer_name(i, j) + " gradient") : -1);
    if (!needed) return;
    transfers.back().own = !op.row_parallel;
    for_each_pair(transfers.back(), [&](int from, int to) {
        if (i == 0) {  // this layer is column-parallel, and the trunk below it replicated
            const RowBlock b = block_in(to, j);
            return rows_of(b.row - (b.count ? first_row(j) : 0), b.count, inputs * size);
        }
        const Shard s = shard_of(inputs, op.row_parallel ? from : to, config.workers);
        return columns_of(s, config.microbatch_rows(), inputs, size);
    });
}

// Everybody's gradients of the reader's segment, and everybody's segments of the new values.
void Layout::plan_bucket_transfers(const Bucket& b) {
    if (!b.trained) {
        ids.grads.push_back(-1);
        ids.values.push_back(-1);
        return;
    }
    ids.grads.push_back(add_transfer(b.name + " sum"));
    transfers.back().own = true;
    for_each_pair(transfers.back(), [&](int, int to) {
        const Shard s = segment(b, to);
        return bytes_at(size_t(s.first) * 4, size_t(s.count) * 4);
    });
    ids.values.push_back(add_transfer(b.name + " share"));
    for_each_pair(transfers.back(), [&](int from, int) {
        const Shard s = segment(b, from);
        const size_t first = b.value_offset(s.first);
        return bytes_at(first, b.value_offset(s.first + s.count) - first);
    });
}

}  // namespace wt
