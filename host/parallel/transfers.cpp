// The list of a step's transfers: what each rank leaves for each other. A pure function of the configuration, the same on
// every rank.
#include "host/parallel/layout.h"

namespace wt {

int Layout::transfer(const std::string& name) {
    transfers.emplace_back(name, config.workers);
    return static_cast<int>(transfers.size()) - 1;
}

void Layout::plan_transfers() {
    const int K = config.workers, P = config.pass_count();
    const size_t es = size_of(config.dtype);
    const auto each_pair = [&](const auto& fill) {
        for (int from = 0; from < K; ++from)
            for (int to = 0; to < K; ++to) fill(from, to);
    };

    if (config.scheme == FcScheme::dp) {
        // Two evaluations have nothing between them by which a worker would know that its counts have been read.
        ids.finished = transfer("finished");
        transfers.back().barrier = true;
        ids.stats = transfer("stats");
        each_pair([&](int from, int to) { transfers.back().part(from, to) = {0, 1, sizeof(SoftmaxStats), sizeof(SoftmaxStats)}; });
    } else {
        const size_t flat_row = flat_cols * es;
        for (int j = 0; j < P; ++j) {
            const std::string of_pass = P > 1 ? "." + std::to_string(j) : "";
            ids.labels.push_back(transfer("labels" + of_pass));
            transfers.back().group = 0;
            each_pair([&](int from, int to) {
                const RowBlock b = block_in(from, j);
                transfers.back().part(from, to) = {b.row * sizeof(int), b.count ? 1 : 0, b.count * sizeof(int), b.count * sizeof(int)};
            });
            ids.flat.push_back(transfer("flat" + of_pass));
            transfers.back().group = 0;
            each_pair([&](int from, int to) {
                const RowBlock b = block_in(from, j);
                transfers.back().part(from, to) = {b.local * flat_row, b.count, flat_row, flat_row};
            });
        }
        for (size_t i = 0; i < head.size(); ++i) {
            const HeadOp& op = head[i];
            const int64_t rows = config.pass_rows();
            const size_t unit = size_of(op.fprop.problem.out), in_row = op.layer->x.count() * es;
            ids.units.emplace_back();
            ids.partials.emplace_back();
            for (int j = 0; j < P; ++j) {
                const std::string name = op.layer->name + (P > 1 ? "." + std::to_string(j) : "");
                const bool up = op.by_inputs || op.last || !head[i + 1].by_inputs, down = op.needs_dx && (!op.by_inputs || head[i - 1].by_inputs);
                ids.units.back().push_back(up ? transfer(name) : -1);
                if (up) {
                    transfers.back().own = op.by_inputs;
                    each_pair([&](int from, int to) {
                        const Shard s = !op.by_inputs ? shard_of(op.layer->out, from, K) : op.last ? Shard{0, op.layer->out} : shard_of(op.layer->out, to, K);
                        transfers.back().part(from, to) = {s.first * unit, rows, s.count * unit, op.layer->out * unit};
                    });
                }
                if (!config.training) continue;
                ids.partials.back().push_back(down ? transfer(name + " gradient") : -1);
                if (!down) continue;
                transfers.back().own = !op.by_inputs;
                each_pair([&](int from, int to) {
                    if (op.by_inputs) {
                        const Shard s = shard_of(op.layer->x.count(), from, K);
                        transfers.back().part(from, to) = {s.first * es, rows, s.count * es, in_row};
                    } else if (i > 0) {  // the columns of a shard of the layer below
                        const Shard s = shard_of(op.layer->x.count(), to, K);
                        transfers.back().part(from, to) = {s.first * es, rows, s.count * es, in_row};
                    } else {      // the rows of a replica
                        const RowBlock b = block_in(to, j);
                        transfers.back().part(from, to) = {(b.row - (b.count ? pass_row(j) : 0)) * in_row, b.count, in_row, in_row};
                    }
                });
            }
        }
    }

    for (const Bucket& b : buckets) {
        if (!config.training) break;
        if (!b.trained) {
            ids.grads.push_back(-1);
            ids.values.push_back(-1);
            continue;
        }
        ids.grads.push_back(transfer(b.name + " sum"));
        transfers.back().own = true;
        each_pair([&](int from, int to) {
            const Shard s = segment(b, to);
            transfers.back().part(from, to) = {size_t(s.first) * 4, 1, size_t(s.count) * 4, size_t(s.count) * 4};
        });
        ids.values.push_back(transfer(b.name + " share"));
        each_pair([&](int from, int to) {
            const Shard s = segment(b, from);
            const size_t first = b.value_offset(s.first), bytes = b.value_offset(s.first + s.count) - first;
            transfers.back().part(from, to) = {first, 1, bytes, bytes};
        });
    }
    if (config.packed) staging = plan.add("exchange staging", Use::workspace, staging_offsets(transfers, config.rank).back());
}

}  // namespace wt
