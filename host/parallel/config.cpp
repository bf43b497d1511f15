#include "host/parallel/config.h"

#include <algorithm>

#include "host/cuda/check.h"
#include "host/net/params.h"

namespace wt {

const char* name_of(FcScheme s) {
    static const char* names[] = {"a", "b", "c", "dp"};
    return names[static_cast<int>(s)];
}

bool WorkerConfig::trains(const Layer& layer) const {
    return layer.weights() > 0 &&
           std::find(frozen.begin(), frozen.end(), layer.name) == frozen.end();
}

std::vector<RowBlock> row_blocks(const WorkerConfig& c, int rank) {
    const int64_t b = c.batch;
    std::vector<RowBlock> blocks;
    if (c.workers == 1 || c.scheme == FcScheme::a || c.scheme == FcScheme::dp) {
        const int64_t row = c.head_workers() == 1 ? 0 : rank * b;
        const int64_t n = b / (c.workers == 1 ? c.microbatch_count() : 1);
        for (int64_t at = 0; at < b; at += n)
            blocks.push_back(
                {.microbatch = static_cast<int>(at / n), .local = at, .row = row + at, .count = n});
    } else if (c.scheme == FcScheme::b) {
        blocks.push_back({.microbatch = rank, .local = 0, .row = rank * b, .count = b});
    } else {
        if (b < c.workers)
            throw UsageError("--fc-scheme c: every pass takes 1/" + std::to_string(c.workers) +
                             " of a worker's batch of " + std::to_string(b) + ": give --batch " +
                             std::to_string(c.workers) + " or more");
        // Uneven parts go round the workers, so that over the microbatches each gives all its
        // samples.
        int64_t local = 0;
        for (int j = 0; j < c.workers; ++j) {
            const Shard s = shard_of(b, (rank + j) % c.workers, c.workers);
            blocks.push_back(
                {.microbatch = j, .local = local, .row = j * b + s.first, .count = s.count});
            local += s.count;
        }
    }
    return blocks;
}

std::vector<int> batch_rows(const WorkerConfig& c, int rank) {
    std::vector<int> rows;
    const int64_t first = c.scheme == FcScheme::dp ? int64_t(c.batch) * rank : 0;
    for (const RowBlock& b : row_blocks(c, rank))
        for (int64_t i = 0; i < b.count; ++i) rows.push_back(static_cast<int>(first + b.row + i));
    return rows;
}

}  // namespace wt
