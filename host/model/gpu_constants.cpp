#include "host/model/gpu_constants.h"

#include "host/cuda/check.h"
#include "host/cuda/nearest.h"
#include "host/parallel/overlap.h"

namespace wt::model {

// Columns: member, its name, h200, h100, unit; what it is; where it comes from. An H100 is the SXM5
// one: the same chip as an H200 with other memory.
std::span<const Constant> constants() {
    static const Constant table[] = {
        {&Gpu::sms, "sms", 132, 132, "", "multiprocessors", "published: data sheet"},
        {&Gpu::matrix_bf16, "matrix_bf16", 790e12, 790e12, "FLOP/s",
         "large bf16 products, power included: the floor of a product",
         "measured on an H200, 8192 cubed, random data; published for an H100: cuBLAS 716 to 795 "
         "(github.com/pranjalssh/fast.cu)"},
        {&Gpu::matrix_tf32, "matrix_tf32", 395e12, 395e12, "FLOP/s", "large tf32 products",
         "estimate: half of bf16, as the data sheet's peaks are"},
        {&Gpu::matrix_fp32, "matrix_fp32", 66.9e12, 66.9e12, "FLOP/s", "fp32 without tensor cores",
         "published: data sheet"},
        {&Gpu::memory, "memory", 4.3e12, 3.0e12, "bytes/s",
         "read and written by a large copy: the floor of what moves memory",
         "measured on an H200 (the data sheet says 4.8); estimate for an H100: the same share of "
         "3.35"},
        {&Gpu::stream_share, "stream_share", 0.87, 0.87, "",
         "of that rate, what a kernel of several operands reaches", "estimate"},
        {&Gpu::sm_memory, "sm_memory", kMemoryOfSm, kMemoryOfSm, "bytes/s",
         "read and written by one SM, of kernels that get only some of them",
         "estimate: by what an SM has in flight"},
        {&Gpu::tensor_macs, "tensor_macs", 2048, 2048, "multiply-adds a clock and SM",
         "bf16 on wgmma; tf32 half of it", "published: 989 TFLOP/s at 1.83 GHz in the data sheet"},
        {&Gpu::mma_share, "mma_share", 0.63, 0.63, "", "of that rate, what mma.sync reaches",
         "estimate: some two thirds, as is said of Hopper"},
        {&Gpu::lanes, "lanes", 128, 128, "multiply-adds a clock and SM", "fp32 lanes",
         "published: data sheet"},
        {&Gpu::schedulers, "schedulers", 4, 4, "warp instructions a clock and SM", "issue",
         "published: architecture white paper"},
        {&Gpu::shared_bytes, "shared_bytes", 128, 128, "bytes a clock and SM",
         "shared memory; that writes by TMA count against the same bytes is an estimate",
         "published: programming guide"},
        {&Gpu::l2_bytes, "l2_bytes", 40, 40, "bytes a clock and SM", "L2 to SM, when all ask",
         "estimate: DeepGEMM's heuristic counts 46.6; a product without multicast got 37"},
        {&Gpu::cluster_bytes, "cluster_bytes", 13, 13, "bytes a clock and SM",
         "from other blocks' shared memory", "estimate: some 3 TB/s over all SMs"},
        {&Gpu::tensor_ghz, "tensor_ghz", 1.461, 1.461, "GHz",
         "clock of loops that keep the tensor cores busy",
         "derived: at 2048 multiply-adds it is the 790 TFLOP/s above; the real clock is higher and "
         "the pipe not full"},
        {&Gpu::feed_ghz, "feed_ghz", 1.6, 1.6, "GHz",
         "clock of products that wait for L2 or shared memory", "estimate"},
        {&Gpu::issue_ghz, "issue_ghz", 1.75, 1.75, "GHz", "clock of epilogues", "estimate"},
        {&Gpu::stream_ghz, "stream_ghz", 1.85, 1.85, "GHz", "clock of kernels without products",
         "estimate; the data sheet's most is 1.98"},
        {&Gpu::issue_share, "issue_share", 0.75, 0.75, "",
         "of the issue slots, what is used where issue is the limit", "estimate"},
        {&Gpu::loop_issue_share, "loop_issue_share", 0.9, 0.9, "",
         "the same of loops of multiply-adds from registers", "estimate"},
        {&Gpu::l2_writes, "l2_writes", 5.5e12, 5.5e12, "bytes/s",
         "L2 sectors of 32 bytes that are written, whole or in part", "estimate"},
        {&Gpu::launch_us, "launch_us", 2, 2, "us",
         "from one kernel of a graph to the next: the gap and the ramp", "estimate"},
        {&Gpu::early_us, "early_us", 1, 1, "us",
         "the same before a small kernel whose blocks are there when the one before it ends "
         "(programmatic launch)",
         "estimate"},
        {&Gpu::fill_us, "fill_us", 2, 2, "us",
         "of a kernel with a pipeline of copies: filling and draining it", "estimate"},
        {&Gpu::small_us, "small_us", 2, 2, "us",
         "the least that a kernel runs: one trip to memory and back", "estimate"},
        {&Gpu::unit_clocks, "unit_clocks", 300, 300, "clocks",
         "between a tile's last product and the next one's first, besides what is issued",
         "estimate"},
        {&Gpu::fence_us, "fence_us", 0.48, 0.48, "us",
         "the least that a stage takes with a fence of GPU scope on the way to its release",
         "estimate: 500 to 900 clocks to L2 and back"},
        {&Gpu::fence_share, "fence_share", 0.03, 0.03, "",
         "what such a fence adds to a stage that is longer", "estimate"},
        {&Gpu::tma_rows, "tma_rows", 1, 1, "rows of 16 bytes a clock and SM",
         "what TMA copies of boxes without swizzle", "estimate"},
        {&Gpu::row_clocks, "row_clocks", 40, 40, "clocks",
         "one lane's way through a result of softmax", "estimate: the loop's chain of latencies"},
        {&Gpu::idle_share, "idle_share", 0.5, 0.5, "",
         "of the SMs that a last wave leaves idle, what a kernel of another stream gains",
         "estimate: between nothing, where what comes behind ends no earlier for it, and all"},
    };
    return table;
}

const std::vector<std::string>& gpu_names() {
    static const std::vector<std::string> names = {"h200", "h100"};
    return names;
}

Gpu gpu_of(const std::string& name) {
    if (name != "h200" && name != "h100") throw UsageError(unknown_name("GPU", name, gpu_names()));
    Gpu gpu;
    gpu.name = name;
    for (const Constant& c : constants()) gpu.*c.member = name == "h200" ? c.h200 : c.h100;
    return gpu;
}

}  // namespace wt::model
