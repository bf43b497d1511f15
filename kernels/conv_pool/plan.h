// How folded_wgmma_sm90 shares out its work, for the launch and for the model of it (host/model).
//
// An item is a band of pooled rows of an image. A block works on two at a time, its two warpgroups
// in turn. A turn makes two rows of the convolution; a band of so many pooled rows takes one turn
// more, since its last window reaches into the next band's first row. So bands are whole images,
// unless shorter ones fill the machine better.
#pragma once

#include <algorithm>

#include "kernels/conv_pool/problem.h"
#include "kernels/launch.h"

namespace wt {

struct ConvPoolPlan {
    int bands = 1, rows = 1;  // of an image; pooled rows of a band, the last one's may be fewer
    int items = 0, blocks = 0;
    int turns = 0;     // of the busiest block
    double alone = 0;  // of these, those that no other warpgroup's turn is beside
};

inline ConvPoolPlan conv_pool_plan(const ConvPoolProblem& p, int sms) {
    const int height = p.pool().p();
    ConvPoolPlan best;
    for (int bands = 1; bands <= height; ++bands) {
        ConvPoolPlan plan;
        plan.rows = static_cast<int>(ceil_div(height, bands));
        plan.bands = static_cast<int>(ceil_div(height, plan.rows));
        plan.items = p.n * plan.bands;
        const int of_block = static_cast<int>(ceil_div(plan.items, sms));
        plan.blocks = static_cast<int>(ceil_div(plan.items, of_block));
        plan.turns = of_block * (plan.rows + 1);
        plan.alone = of_block % 2 * (plan.rows + 1);
        // A turn alone is followed by what is done with its sums, some half of it.
        const auto cost = [](const ConvPoolPlan& c) { return c.turns + c.alone / 2; };
        if (bands == 1 || cost(plan) < cost(best)) best = plan;
    }
    return best;
}

}  // namespace wt
