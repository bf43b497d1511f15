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
    __host__ __device__ int range_clusters() const { return clusters / units * units; }
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
    int max_partials() const {
        int most = 1;
        for (int u = 0; u < units; ++u) most = std::max(most, partials(u));
        return most;
    }

    // The loop over the ranges of a cluster, the same in every role: calls f(range) for each.
    template <class F>
    __device__ __forceinline__ void for_each_range(int cluster, F&& f) const {
        const int remainder_cluster = cluster - range_clusters();
        const bool ranged = remainder_cluster < 0;
        // A cluster with a range turns once, if there is one for it. The others go through steps of
        // the row of remainders.
        int at = ranged ? 0 : remainder_cluster * remainder_share;
        const int end = ranged ? cluster < full_ranges * units
                               : min(at + remainder_share, units * remainder_steps);
        while (at < end) {
            const int unit = ranged ? cluster % units : at / remainder_steps;
            const int range = cluster / units, from = at - unit * remainder_steps;
            StreamKRange r;
            r.unit = unit;
            r.partial =
                ranged ? range : full_ranges + remainder_cluster - first_remainder_cluster(unit);
            r.first = ranged ? range * range_steps : full_ranges * range_steps + from;
            r.steps = ranged ? min(range_steps, unit_steps - r.first)
                             : min(end - at, remainder_steps - from);
            f(r);
            at += ranged ? 1 : r.steps;
        }
    }
};

}  // namespace wt
