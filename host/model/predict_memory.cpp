// LRN and pooling in one kernel (kernels/lrn_pool/*_fused.cu; kernels/pool/once.cu is the same
// without LRN): what their threads issue, by the layout of their work, against what they move.
#include <algorithm>
#include <cstdio>
#include <numeric>

#include "host/model/issue_slots_table.h"
#include "host/model/predict.h"

namespace wt::model {

namespace {

constexpr int kGroup = 8;  // channels of a thread

// A block's columns and rows of the output, as forward_fused.cu shares them out.
struct Forward {
    int tiles, bands, warps;
    double rows;  // of a band, on average
};

Forward forward_of(const LrnPoolProblem& s) {
    constexpr int kMaxWarps = 16;
    const int groups = s.c / kGroup, lanes = s.lrn ? lrn_lanes(s.c) : 32,
              most = (kMaxWarps * lanes / groups - (s.window - 2)) / 2;
    Forward f;
    f.tiles = static_cast<int>(ceil_div(s.q(), most));
    const int tile_q = static_cast<int>(ceil_div(s.q(), f.tiles));
    f.tiles = static_cast<int>(ceil_div(s.q(), tile_q));
    const int64_t wanted = ceil_div(1500, int64_t(s.n) * f.tiles);
    const int64_t band = std::max<int64_t>(std::min(4, s.p()), ceil_div(s.p(), wanted));
    f.bands = static_cast<int>(ceil_div(s.p(), band));
    f.rows = double(s.p()) / f.bands;
    f.warps = static_cast<int>(ceil_div((2 * tile_q - 2 + s.window) * groups, lanes));
    return f;
}

// A block's rounds, and the pairs of rows of each, as backward_fused.cu shares them out.
struct Backward {
    int64_t blocks;
    int64_t rounds, rows;
};

Backward backward_of(const LrnPoolProblem& s) {
    constexpr int kWarps = 8, kMaxBlocks = 2 * kReferenceSms;
    const int groups = s.c / kGroup, lanes = s.lrn ? lrn_lanes(s.c) : 32, row_pairs = (s.h + 1) / 2,
              pairs = (s.w + 1) / 2, period = groups / std::gcd(groups, kWarps * lanes);
    Backward best{};
    double best_cost = 0;
    for (int rows = 1; rows <= 8; ++rows) {
        const int64_t items = s.n * ceil_div(row_pairs, rows) * pairs * groups,
                      steps = ceil_div(items, kWarps * lanes),
                      grid = steps <= kMaxBlocks
                                 ? std::max<int64_t>(steps, 1)
                                 : std::max<int64_t>(period, kMaxBlocks / period * period),
                      rounds = ceil_div(steps, grid);
        const double cost = rounds * (rows + 0.3);
        if (rows > 1 && cost >= best_cost) continue;
        best = {.blocks = grid, .rounds = rounds, .rows = rows};
        best_cost = cost;
    }
    return best;
}

}  // namespace

void lrn_pool_fused(const Gpu& g, const LrnPoolProblem& problem, bool forward, Prediction& p) {
    const char* type = problem.dtype == DType::bf16 ? "__nv_bfloat16" : "float";
    const std::string norm = !problem.lrn ? "Norm)0" : problem.beta == 0.75f ? "Norm)1" : "Norm)2";
    char window[64], plan[96];
    std::snprintf(window, sizeof window, "<%s, %d, ", type, problem.window);
    p.memory = memory_us(g, forward ? problem.forward_bytes() : problem.backward_bytes());
    if (forward) {
        const bool is_signed = !problem.lrn || problem.beta != 0.75f || !problem.relu;
        const IssueSlots* slots =
            issue_of("lrn_pool/forward_fused", {window, norm + (is_signed ? ", true" : ", false")});
        const Forward f = forward_of(problem);
        const double warps = double(problem.n) * f.tiles * f.bands * f.warps;
        // a band's first row is half of a turn of the loop
        const double turns = f.rows + (problem.window == 3 ? 0.5 : 0);
        p.issue_known = slots;
        p.issue = slots ? issue_us(g, warps * turns * slots->loop) : 0;
        std::snprintf(plan, sizeof plan, "%d x %d blocks an image of %d warps", f.bands, f.tiles,
                      f.warps);
    } else {
        const IssueSlots* slots = issue_of("lrn_pool/backward_fused", {window, norm});
        const Backward b = backward_of(problem);
        p.issue_known = slots;
        p.issue = slots ? issue_us(g, double(b.blocks) * 8 * b.rounds *
                                          (double(b.rows) * slots->loop + slots->unit))
                        : 0;
        std::snprintf(plan, sizeof plan, "%d blocks, %d rounds of %d pairs of rows",
                      static_cast<int>(b.blocks), static_cast<int>(b.rounds),
                      static_cast<int>(b.rows));
        if (problem.bias) p.launch += g.launch_us + g.small_us;  // adds the blocks' sums
    }
    p.plan = plan;
    finish_stream(g, p);
}

}  // namespace wt::model
