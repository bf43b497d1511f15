// Parts packed for sending: what exchanges over messages and through the host's memory have in
// common.
#pragma once

#include <algorithm>
#include <vector>

#include "host/parallel/exchange.h"

namespace wt {

// A slice that leaves this rank, and everybody who gets that same one.
struct PackedBlock {
    BlockSlice part;
    size_t at = 0;  // where it is packed
    std::vector<int> to;
};

inline bool lies_packed(const BlockSlice& p) { return p.rows == 1 || p.pitch == p.row_bytes; }

// What `rank` sends in this transfer, packed from `end` on at multiples of 256 bytes; `end` moves
// behind it. Without `always`, parts that lie packed in their block take no place.
inline std::vector<PackedBlock> packed_blocks(const Transfer& t, int rank, bool always,
                                              size_t& end) {
    std::vector<PackedBlock> all;
    if (t.barrier) return all;
    for (int to = 0; to < t.ranks; ++to) {
        const BlockSlice& p = t.part(rank, to);
        if (to == rank || !p) continue;
        const auto same = std::find_if(all.begin(), all.end(), [&](const PackedBlock& o) {
            return o.part.offset == p.offset && o.part.rows == p.rows &&
                   o.part.row_bytes == p.row_bytes && o.part.pitch == p.pitch;
        });
        if (same != all.end()) {
            same->to.push_back(to);
            continue;
        }
        all.push_back({p, end, {to}});
        if (always || !lies_packed(p)) end += (p.bytes() + 255) / 256 * 256;
    }
    return all;
}

inline void pack(void* to, const void* block, const BlockSlice& p, cudaMemcpyKind kind,
                 cudaStream_t stream) {
    const void* from = static_cast<const std::byte*>(block) + p.offset;
    if (lies_packed(p))
        WT_CUDA(cudaMemcpyAsync(to, from, p.bytes(), kind, stream));
    else
        WT_CUDA(
            cudaMemcpy2DAsync(to, p.row_bytes, from, p.pitch, p.row_bytes, p.rows, kind, stream));
}

}  // namespace wt
