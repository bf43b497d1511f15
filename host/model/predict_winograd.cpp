// Convolutions by Winograd's transforms (kernels/conv/winograd_plan.h): transforms that move
// memory, and for each part of the tiles one launch of short products, one after the other. What
// lies between two kernels is written to memory and read again: a part is larger than L2. A
// resource's time is the sum over the kernels, of which each is bound by its own.
#include <cstdio>

#include "host/model/issue_slots_table.h"
#include "host/model/predict.h"

namespace wt::model {

namespace {

struct Model {
    const Gpu& g;
    ConvPass pass;
    const WinogradPlan& plan;
    Prediction& p;

    // A transform that moves so many floats: `items` threads with a channel of a tile (a filter)
    // each, of the kernel whose name has these parts.
    void transform(double floats, double items, std::initializer_list<std::string> kernel,
                   int launches) {
        static const char* objects[] = {"conv/fprop_winograd", "conv/dgrad_winograd",
                                        "conv/wgrad_winograd"};
        const IssueSlots* slots = issue_of(objects[static_cast<int>(pass)], kernel);
        const double memory = memory_us(g, 4 * floats),
                     issue =
                         slots ? issue_us(g, items / 32 * (slots->loop ? slots->loop : slots->all))
                               : 0;
        p.issue_known &= slots != nullptr;
        p.memory += memory, p.issue += issue;
        p.us += std::max(memory, issue) + launches * g.launch_us;
        p.launch += launches * g.launch_us;
    }
};

}  // namespace

void conv_winograd(const Gpu& g, ConvPass pass, const ConvProblem& problem, bool mma,
                   Prediction& p) {
    const WinogradPlan plan = conv_winograd_plan(pass, problem);
    const ProductPlan& products = plan.products;
    const double planes = double(plan.edge) * plan.edge, x = double(problem.x_count()),
                 y = double(problem.y_count()), w = double(problem.w_count());
    const double x_items = plan.x / planes, y_items = plan.y / planes;
    // The floor is of the multiplications that are left.
    const bool of_inputs = pass == ConvPass::dgrad;
    const double tiles = double(problem.n) *
                         double(ceil_div(of_inputs ? problem.h : problem.p(), plan.out)) *
                         double(ceil_div(of_inputs ? problem.w : problem.q(), plan.out));
    p.floor_us = floor_us(g, 2 * planes * tiles * problem.c * problem.kg(), problem.bytes(),
                          problem.dtype, problem.tf32);
    Model model{g, pass, plan, p};
    const std::string taps = std::to_string(problem.r);
    const std::string transforms =
        pass == ConvPass::wgrad ? "Winograd<" + taps + ", 4>::" : "Winograd<4, " + taps + ">::";
    // The products of all parts: their operands and results through memory, once.
    static const char* layouts[] = {"(GemmLayout)0", "(GemmLayout)1", "(GemmLayout)2"};
    char tile[64];
    std::snprintf(tile, sizeof tile, mma ? "Tile<float, %d, %d" : "Tile<%d, %d>", products.bm,
                  products.bn);
    ProductPlan undivided = products;  // its partial sums are added in the last transform
    undivided.splits = 1;
    Prediction part;
    part.memory = memory_us(g, 4 * (plan.x + plan.y + plan.filters) / plan.parts);
    const IssueSlots* slots =
        issue_of(mma ? "conv/winograd_products_mma_sm80" : "conv/winograd_products",
                 {tile, layouts[static_cast<int>(pass)]});
    add_blocks(g, undivided, slots, DType::f32, mma, 0, part);
    // Sums are so short that what a block does before and behind its loop counts.
    const double warps = mma ? 4 : products.bm * products.bn / 64 / 32,
                 outside = slots ? (slots->all - slots->loop) * warps / g.schedulers : 0,
                 epilogue = double(ceil_div(products.units, static_cast<int64_t>(g.sms))) *
                            us_of(outside / g.issue_share, g.stream_ghz);
    part.us += epilogue;
    p.epilogue = plan.parts * epilogue;
    p.tensor = plan.parts * part.tensor, p.shared = plan.parts * part.shared;
    p.l2 = plan.parts * part.l2, p.issue = plan.parts * part.issue;
    p.memory = plan.parts * part.memory, p.us = plan.parts * part.us;
    p.launch = plan.parts * part.launch;
    p.issue_known = part.issue_known;

    switch (pass) {
        case ConvPass::fprop:
            model.transform(w + plan.filters, plan.filters / planes,
                            {"to_planes", transforms + "G"}, 1);
            model.transform(x + plan.x, x_items, {"to_planes", transforms + "BT"}, plan.parts);
            model.transform(plan.y + y, y_items, {"from_planes", transforms + "AT"}, plan.parts);
            break;
        case ConvPass::dgrad:
            model.transform(w + plan.filters, plan.filters / planes,
                            {"to_planes", transforms + "G"}, 1);
            model.transform(y + plan.y, y_items, {"to_planes", transforms + "BT"}, plan.parts);
            model.transform(plan.x + x * (problem.drelu ? 2 : 1), x_items,
                            {"from_planes", transforms + "AT",
                             problem.drelu ? "(EpilogueOp)2" : "(EpilogueOp)0"},
                            plan.parts);
            break;
        case ConvPass::wgrad:
            model.transform(x + plan.x, x_items, {"to_planes", transforms + "BT"}, plan.parts);
            model.transform(y + plan.y, y_items, {"to_planes", transforms + "G"}, plan.parts);
            model.transform(plan.filters + w, double(problem.k) * problem.cg(),
                            {"from_planes", transforms + "AT"}, 1);
            if (problem.bias)  // dy once more, and the sums of its segments
                model.transform(y, y / 64, {"sum_pixels"}, 2);
            break;
    }
    p.plan = std::to_string(plan.edge) + "x" + std::to_string(plan.edge) + " planes";
    if (plan.parts > 1) p.plan += ", " + std::to_string(plan.parts) + " parts";
    p.plan += ", " + part.plan;
}

}  // namespace wt::model
