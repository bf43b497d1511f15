// How the launch of a product divides it over the machine, as numbers: for what has to know without
// launching anything (host/model). kernels/conv/product_plan.cu and kernels/gemm/product_plan.cu
// make them of the same functions that the launches call; a test compares the grids.
#pragma once

#include "kernels/conv/problem.h"
#include "kernels/gemm/problem.h"

namespace wt {

struct ProductPlan {
    int bm = 0, bn = 0, bk = 0;  // of a tile; bk: of a stage of k
    int multicast = 1;           // blocks that share the loads of B
    int splits = 1;              // of k, for each tile
    int units = 0;               // of work: what a cluster (or a block) does at a time
    int at_once = 1;             // how many units the machine works on at a time
    int steps = 0;               // stages of k of a unit
    int blocks = 0;              // of the grid
    int box = 0;                 // convolutions on wgmma: channels of a copy
    // Where stream-K divides k (on wgmma: wgrad, and fprop's and dgrad's last wave): stages of the
    // busiest cluster, and how many tiles of partial sums are written; units and steps are the
    // undivided ones. 0: it does not.
    int longest = 0, partial_tiles = 0;
    int tail = 0;  // units, the last ones, that are divided so; wgrad, which divides all: 0
    int lag = 0;   // stages by which the second consumer of a tile is behind the first
    // dgrad by views: the last wave's units that are done in two halves each, of half the height by
    // twice as many clusters (0: the last wave is as the others); positions and taps of a stage's
    // dy, whose copies serve all its taps.
    int halved = 0, positions = 0, taps = 0;

    double waves() const { return double(units) / at_once; }
};

enum class ConvPass { fprop, dgrad, wgrad };

// What a row with a fixed tile fixes ("wgmma_128x256_sm90", "wgmma_single_sm90"); 0: what the
// planner finds cheapest.
struct FixedTile {
    int bm = 0, bn = 0;
    int multicast = 0;  // 1: no blocks share B
    // Convolutions: the last wave whole, or cut along k; both consumers at the same stage.
    bool whole = false, split = false, level = false;
};

// A convolution by Winograd's transforms (conv/winograd_plan.h), as a GPU divides it: the products
// of one part of the tiles, and how many floats pass through memory between the kernels, of all
// parts.
struct WinogradPlan {
    ProductPlan products;
    int out = 0, edge = 0;  // of a tile; of one with its surroundings
    int parts = 1;
    double x = 0, y = 0;  // planes of x's tiles (dgrad: dx's) and of y's (dy's)
    double filters = 0;   // planes of the filters; wgrad: all partial sums of theirs
};

// All plan for planned_sms(). They are of problems that the variant does not refuse.
ProductPlan conv_wgmma_plan(ConvPass pass, const ConvProblem& p, FixedTile only = {});
// Seconds that the planner counts for it: what it chose the tile by, and no more than its estimate.
double conv_wgmma_seconds(ConvPass pass, const ConvProblem& p);
double conv_views_seconds(const ConvProblem& p);
ProductPlan conv_views_plan(const ConvProblem& p, bool level = false);  // dgrad, views_wgmma_sm90
ProductPlan gemm_wgmma_plan(const GemmProblem& p, FixedTile only = {});
// `mma`: of mma_sm80, else of tiled. Folded input (mma_sm80): of the convolution over blocks.
ProductPlan conv_blocks_plan(ConvPass pass, const ConvProblem& p, bool mma);
ProductPlan gemm_blocks_plan(const GemmProblem& p, bool mma);
WinogradPlan conv_winograd_plan(ConvPass pass, const ConvProblem& p);

}  // namespace wt
