// Stream-K: divides few tiles with very many steps of k evenly over the machine (Osama et al.,
// PPoPP 2023, with ranges that are equal first and remainders after).
//
// With U units (tiles, or pairs of them) and G clusters, every unit has G / U (rounded down)
// clusters of its own, each of which sums an equal range of k. What is left of k, U remainders of
// it, is one long row of steps, dealt out evenly to the clusters that are left. So all clusters
// have the same number of steps, and most of them, one range of all units, walk through the same k
// at the same time: operands are read from memory about once. (A plain stream of steps would be as
// even, but its clusters would spread over all of k.) Each cluster writes its partial sums, and a
// second kernel adds up each unit's in the order of k: the same bits in every run.
//
// An example, 10 units of 1458 steps on 66 clusters: 60 of these take ranges, 6 for each unit, of
// 221 steps. 132 steps of each unit remain, 1320 in all, of which the 6 clusters that are left take
// 220 each.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <cstdint>

namespace wt {

// What a cluster computes: a range of one unit's k, and which of the unit's partial sums it is.
struct StreamKRange {
    int unit, partial;
    int first, steps;  // its steps of k
};

struct StreamKPlan {
    int units = 0, unit_steps = 0, clusters = 0;
    int full_ranges = 0;      // clusters that each unit has of its own
    int range_steps = 0;      // the steps of each of them
    int remainder_steps = 0;  // what is left of each unit
    int remainder_share = 1;  // steps of all remainders that each of the other clusters takes

    StreamKPlan() = default;
    StreamKPlan(int units_, int unit_steps_, int clusters_)
        : units(units_), unit_steps(unit_steps_), clusters(clusters_) {
        const auto divide = [](int64_t a, int64_t b) { return (a + b - 1) / b; };
        full_ranges = clusters / units;
        range_steps = static_cast<int>(divide(int64_t(units) * unit_steps, clusters));
        if (full_ranges > 0) {
            range_steps = std::min(range_steps, static_cast<int>(divide(unit_steps, full_ranges)));
            // none empty
            full_ranges =
                static_cast<int>(std::min<int64_t>(full_ranges, divide(unit_steps, range_steps)));
        }
        remainder_steps = std::max(0, unit_steps - full_ranges * range_steps);
        if (remainder_steps > 0)
            remainder_share = static_cast<int>(
                divide(int64_t(units) * remainder_steps, clusters - range_clusters()));
    }

    // Clusters below this number may have a range; the others have remainders.
    __host__ __device__ int range_clusters() const { return units ? clusters / units * units : 0; }
    // The first cluster, counted from range_clusters(), that has a part of unit u's remainder.
    __host__ __device__ int first_remainder_cluster(int u) const {
        return u * remainder_steps / remainder_share;
    }
    // How many partial sums unit u has.
    __host__ __device__ int partials(int u) const {
        if (remainder_steps == 0) return full_ranges;
        const int last = ((u + 1) * remainder_steps - 1) / remainder_share;
        return full_ranges + last - first_remainder_cluster(u) + 1;
    }
    // The steps of the busiest cluster.
    int longest() const {
        return std::max(full_ranges > 0 ? range_steps : 0,
                        remainder_steps > 0 ? remainder_share : 0);
    }
    int all_partials() const {
        int all = 0;
        for (int u = 0; u < units; ++u) all += partials(u);
        return all;
    }
    int max_partials() const {
        int most = 1;
        for (int u = 0; u < units; ++u) most = std::max(most, partials(u));
        return most;
    }

    // The loop over the ranges of a cluster, the same in every role: calls f(range) for each.
    template <class F>
    __device__ __forceinline__ void for_each_range(int cluster, F&& f) const;
};

// Goes through the ranges of a cluster; one that is not among the plan's has none.
struct StreamKCursor {
    const StreamKPlan& plan;
    int cluster, remainder_cluster;
    bool ranged;
    // A cluster with a range turns once, if there is one for it. The others go through steps of the
    // row of remainders.
    int at, end;

    __device__ __forceinline__ StreamKCursor(const StreamKPlan& p, int c)
        : plan(p), cluster(c), remainder_cluster(c - p.range_clusters()) {
        ranged = remainder_cluster < 0;
        at = ranged ? 0 : remainder_cluster * p.remainder_share;
        end = ranged ? c < p.full_ranges * p.units
                     : min(at + p.remainder_share, p.units * p.remainder_steps);
    }
    // Whether there is another, and it.
    __device__ __forceinline__ bool next(StreamKRange& r) {
        if (at >= end) return false;
        const int unit = ranged ? cluster % plan.units : at / plan.remainder_steps;
        const int range = cluster / plan.units, from = at - unit * plan.remainder_steps;
        r.unit = unit;
        r.partial = ranged
                        ? range
                        : plan.full_ranges + remainder_cluster - plan.first_remainder_cluster(unit);
        r.first = ranged ? range * plan.range_steps : plan.full_ranges * plan.range_steps + from;
        r.steps = ranged ? min(plan.range_steps, plan.unit_steps - r.first)
                         : min(end - at, plan.remainder_steps - from);
        at += ranged ? 1 : r.steps;
        return true;
    }
};

template <class F>
__device__ __forceinline__ void StreamKPlan::for_each_range(int cluster, F&& f) const {
    StreamKCursor cursor(*this, cluster);
    for (StreamKRange r; cursor.next(r);) f(r);
}

}  // namespace wt
