#include "host/parallel/exchange.h"

namespace wt {

size_t Transfer::bytes_from(int rank) const {
    size_t n = 0;
    for (int to = 0; to < ranks; ++to)
        if (to != rank) n += part(rank, to).bytes();
    return n;
}

std::vector<size_t> staging_offsets(const std::vector<Transfer>& transfers, int rank) {
    constexpr size_t kAlignment = 256;  // of what kernels read in 16-byte groups, as cudaMalloc's
    std::vector<size_t> offsets;
    size_t at = 0;
    for (const Transfer& t : transfers)
        for (int from = 0; from < t.ranks; ++from) {
            offsets.push_back(at);
            if (t.moves(from, rank))
                at += (t.part(from, rank).bytes() + kAlignment - 1) / kAlignment * kAlignment;
        }
    offsets.push_back(at);
    return offsets;
}

}  // namespace wt
