// What the model of a kernel's time (prediction.h) assumes of a GPU: one table, each number with
// its unit and with where it comes from. `bin/compare --predict h200 --json FILE` writes it into
// the file. A number is
//   measured   on such a GPU, by whom the source says (no GPU has run this project yet)
//   published  by somebody who measured, or in a data sheet
//   estimate   by us, from what the source says; the first to replace when a GPU is at hand
#pragma once

#include <span>
#include <string>
#include <vector>

namespace wt::model {

struct Gpu {
    std::string name;
    double sms = 0;
    // rates that large operations reach
    double matrix_bf16 = 0, matrix_tf32 = 0, matrix_fp32 = 0, memory = 0;
    // a kernel's share of `memory`
    double stream_share = 0;
    double sm_memory = 0;  // of one SM
    // of an SM, by the clock
    double tensor_macs = 0, mma_share = 0, lanes = 0, schedulers = 0, shared_bytes = 0,
           l2_bytes = 0, cluster_bytes = 0;
    // clocks
    double tensor_ghz = 0, feed_ghz = 0, issue_ghz = 0, stream_ghz = 0;
    // what of the issue slots is used where issue is the limit
    double issue_share = 0, loop_issue_share = 0;
    double l2_writes = 0;  // of all SMs
    // latencies
    double launch_us = 0, early_us = 0, fill_us = 0, small_us = 0;
    double unit_clocks = 0, fence_us = 0, fence_share = 0, tma_rows = 0, row_clocks = 0;
    double idle_share = 0;  // of a last wave's idle SMs, what another kernel makes of them
};

struct Constant {
    double Gpu::*member;
    const char* name;
    double h200, h100;
    const char* unit;
    const char* what;
    const char* source;
};

std::span<const Constant> constants();
const std::vector<std::string>& gpu_names();  // "h200", "h100"
// Throws UsageError naming the nearest.
Gpu gpu_of(const std::string& name);

}  // namespace wt::model
