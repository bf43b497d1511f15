// The models behind prediction.h, by kind of kernel. Each fills in what it knows; `finish` adds up.
#pragma once

#include <algorithm>
#include <initializer_list>
#include <string>

#include "host/cuda/check.h"
#include "host/model/prediction.h"
#include "kernels/common/machine.h"
#include "kernels/launch.h"
#include "kernels/operations.h"
#include "kernels/product_plan.h"

namespace wt::model {

struct IssueSlots;  // issue_slots_table.h

// The row of a kernel whose name has all the parts; null where there is none.
const IssueSlots* issue_of(const char* object, std::initializer_list<std::string> parts);

// Microseconds of `clocks` at `ghz`.
inline double us_of(double clocks, double ghz) { return clocks / ghz / 1e3; }
// Microseconds in which all SMs issue so many warp instructions, where nothing else limits them.
inline double issue_us(const Gpu& g, double warp_instructions) {
    return us_of(warp_instructions / (g.sms * g.schedulers * g.issue_share), g.stream_ghz);
}
inline double memory_us(const Gpu& g, double bytes) {
    return bytes / std::min(g.memory * g.stream_share, g.sms * g.sm_memory) * 1e6;
}
// Lanes of a warp that own 8 channels where LRN's neighbours come by shuffle
// (kernels/lrn/lanes.h, which only device code can include).
inline int lrn_lanes(int channels) { return 32 % (channels / 8) == 0 ? 32 : 30; }
double floor_us(const Gpu& g, double flops, double bytes, DType dtype, bool tf32);

// Plans for this GPU's SMs for as long as it lives.
class PlannedFor {
public:
    explicit PlannedFor(const Gpu& g);
    ~PlannedFor();
    PlannedFor(const PlannedFor&) = delete;

private:
    int before_;
};

// The largest of its resources is its bound; or the launch, where nothing else is as long.
void name_bound(Prediction& p);

// A kernel that moves memory: the longest of its resources, and the gap.
void finish_stream(const Gpu& g, Prediction& p);

// `only`: of a row with a fixed tile.
void conv_wgmma(const Gpu& g, ConvPass pass, const ConvProblem& problem, FixedTile only,
                Prediction& p);
void conv_views(const Gpu& g, const ConvProblem& problem, bool swizzled, bool level, Prediction& p);
void conv_views(const Gpu& g, const ProductPlan& plan, bool swizzled, const IssueSlots* slots,
                const ConvProblem& problem, Prediction& p);
// The same of a plan and of a kernel (null: nobody has counted its instructions).
void conv_wgmma(const Gpu& g, const ProductPlan& plan, const IssueSlots* slots,
                const ConvProblem& problem, Prediction& p);
void gemm_wgmma(const Gpu& g, const ProductPlan& plan, const IssueSlots* slots,
                const GemmProblem& problem, Prediction& p);
void first_layer_wgmma(const Gpu& g, ConvPass pass, const ConvProblem& problem, Prediction& p);
void conv_pool_wgmma(const Gpu& g, const ConvPoolProblem& problem, Prediction& p);
void gemm_wgmma(const Gpu& g, const GemmProblem& problem, FixedTile only, Prediction& p);
// Products of 128 x 128 tiles or smaller, two blocks an SM, by mma.sync or by fp32 lanes.
void conv_blocks(const Gpu& g, ConvPass pass, const ConvProblem& problem, bool mma, Prediction& p);
void gemm_blocks(const Gpu& g, const GemmProblem& problem, bool mma, Prediction& p);
// The same of a plan. `result_bytes`: of all of C, as the partial sums store it.
void add_blocks(const Gpu& g, const ProductPlan& plan, const IssueSlots* slots, DType dtype,
                bool mma, double result_bytes, Prediction& p);
// By Winograd's transforms, the products on fp32 lanes or by mma.sync.
void conv_winograd(const Gpu& g, ConvPass pass, const ConvProblem& problem, bool mma,
                   Prediction& p);
void lrn_pool_fused(const Gpu& g, const LrnPoolProblem& problem, bool forward, Prediction& p);

}  // namespace wt::model
