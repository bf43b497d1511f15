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
    constexpr int kMaxItems = 384;
    const int groups = s.c / kGroup, most = (kMaxItems / groups - (s.window - 2)) / 2;
    Forward f;
    f.tiles = static_cast<int>(ceil_div(s.q(), most));
    const int tile_q = static_cast<int>(ceil_div(s.q(), f.tiles));
    f.tiles = static_cast<int>(ceil_div(s.q(), tile_q));
    const int64_t wanted = ceil_div(1500, int64_t(s.n) * f.tiles);
    const int64_t band = std::max<int64_t>(std::min(4, s.p()), ceil_div(s.p(), wanted));
    f.bands = static_cast<int>(ceil_div(s.p(), band));
    f.rows = double(s.p()) / f.bands;
    f.warps = static_cast<int>(ceil_div((2 * tile_q - 2 + s.window) * groups, 32));
    return f;
}

// A block's rounds, and the pairs of rows of each, as backward_fused.cu shares them out.
struct Backward {
    int64_t blocks, an_sm;  // of the grid; of it, at once
    int64_t rounds, rows;
    int64_t last;  // blocks that have work in the last round
    // Rounds of all blocks of the SM that has most to do.
    int64_t busiest() const { return (rounds - 1) * an_sm + ceil_div(last, kReferenceSms); }
};

Backward backward_of(const LrnPoolProblem& s) {
    constexpr int kWarps = 8;
    const int an_sm = s.lrn ? 2 : 3, most = an_sm * kReferenceSms;
    const int groups = s.c / kGroup, lanes = s.lrn ? lrn_lanes(s.c) : 32, row_pairs = (s.h + 1) / 2,
              pairs = (s.w + 1) / 2, period = groups / std::gcd(groups, kWarps * lanes);
    const double begin = s.lrn ? 0.4 : 1;  // of a band, in steps
    Backward best{};
    double best_cost = 0;
    for (int rows = 1; rows <= 14; ++rows) {
        const int64_t items = s.n * ceil_div(row_pairs, rows) * pairs * groups,
                      steps = ceil_div(items, kWarps * lanes),
                      grid = steps <= most ? std::max<int64_t>(steps, 1)
                                           : std::max<int64_t>(period, most / period * period),
                      rounds = ceil_div(steps, grid), last = steps - (rounds - 1) * grid;
        const double last_round = (ceil_div(last, kReferenceSms) + 0.4) / (an_sm + 0.4),
                     cost = (rounds - 1 + last_round) * (rows + begin);
        if (rows > 1 && cost >= best_cost) continue;
        best = {.blocks = grid, .an_sm = an_sm, .rounds = rounds, .rows = rows, .last = last};
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
        const bool is_signed = !problem.lrn || !problem.relu;
        const IssueSlots* slots = issue_of("lrn_pool/forward_fused",
                                           {window + std::string(problem.lrn ? "true" : "false") +
                                            (is_signed ? ", true" : ", false")});
        const Forward f = forward_of(problem);
        const double warps = double(problem.n) * f.tiles * f.bands * f.warps;
        // The loop's code is two rows of the output. Half of the warps skip what writes: 57
        // instructions of a row, as its source counts them. A band's first row is half a turn.
        constexpr double kRows = 2, kSkipped = 57 / 2.0;
        const double turns = f.rows + (problem.window == 3 ? 0.5 : 0);
        p.issue_known = slots;
        p.issue = slots ? issue_us(g, warps * turns * (slots->loop / kRows - kSkipped)) : 0;
        std::snprintf(plan, sizeof plan, "%d x %d blocks an image of %d warps", f.bands, f.tiles,
                      f.warps);
    } else {
        const IssueSlots* slots = issue_of("lrn_pool/backward_fused", {window, norm});
        const Backward b = backward_of(problem);
        p.issue_known = slots;
        // The busiest SM's, as if all had as much.
        p.issue = slots ? issue_us(g, double(b.busiest()) * kReferenceSms * 8 *
                                          (double(b.rows) * slots->loop + slots->unit))
                        : 0;
        std::snprintf(plan, sizeof plan, "%d blocks, %d rounds of %d pairs of rows",
                      static_cast<int>(b.blocks), static_cast<int>(b.rounds),
                      static_cast<int>(b.rows));
        // Another, there when this one ends, adds the blocks' sums.
        if (problem.bias) p.launch += g.early_us + g.small_us;
    }
    p.plan = plan;
    finish_stream(g, p);
}

}  // namespace wt::model
