// cub::WarpReduce for virtual GPUs: one rendezvous of the logical warp. The result is its lane 0's
// only; the others get all ones (a NaN).
#pragma once

#include "vgpu/reduce.h"

namespace cub {

template <class T, int Lanes = 32>
class WarpReduce {
    static_assert(Lanes >= 1 && Lanes <= 32 && (Lanes & (Lanes - 1)) == 0,
                  "logical warps are of 1, 2, 4, ... 32 lanes");

public:
    struct TempStorage {};

    explicit WarpReduce(TempStorage&) {}

    // Of the first `valid` lanes' values.
    template <class Op>
    T Reduce(const T& v, Op op, int valid, vgpu::Site site = vgpu::Site::current()) {
        struct Lane {
            T value;
            int valid;
            Op* op;
        } mine{v, valid, &op};
        const unsigned lane = vgpu::lane_id(), first = lane / Lanes * Lanes;
        const unsigned mask = (Lanes == 32 ? ~0u : (1u << (Lanes % 32)) - 1) << first;
        vgpu::warp_together(
            mask, &mine,
            [](void* const* lanes, unsigned present) {
                int at = 0;
                while (!(present >> at & 1)) ++at;
                Lane& head = *static_cast<Lane*>(lanes[at]);
                T values[Lanes];
                int n = 0;
                for (; n < Lanes && n < head.valid && at + n < 32 && lanes[at + n]; ++n)
                    values[n] = static_cast<Lane*>(lanes[at + n])->value;
                head.value = vgpu::reduce_in_warps(values, n, *head.op);
            },
            site);
        return lane == first ? mine.value : vgpu::all_ones<T>();
    }
    template <class Op>
    T Reduce(const T& v, Op op, vgpu::Site site = vgpu::Site::current()) {
        return Reduce(v, op, Lanes, site);
    }
    T Sum(const T& v, vgpu::Site site = vgpu::Site::current()) {
        return Reduce(v, vgpu::plus, Lanes, site);
    }
    T Sum(const T& v, int valid, vgpu::Site site = vgpu::Site::current()) {
        return Reduce(v, vgpu::plus, valid, site);
    }
};

}  // namespace cub
