// What a training run is asked to do: bin/train's flags, parsed.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "host/net/kernel_settings.h"
#include "host/net/spec.h"
#include "host/parallel/links.h"

namespace wt {

struct TrainOptions {
    std::string net = "mini";
    std::string data;                 // empty: the recipe's
    std::vector<int> gpus;            // one worker per entry; in a job this process's
    int batch = 0;                    // per worker; 0: the recipe's
    std::string fc_scheme = "a";      // b, c, dp (layout.h)
    std::string fc_split = "columns"; // alternate
    bool fc_per_pass = false;
    std::string lr_scale = "none";    // k, sqrt: of batches larger than a worker's
    std::string precision = "fp32";   // fp32, tf32, bf16
    std::string kernels = "auto";
    std::string fuse = "auto";        // on, off (kernel_settings.h)
    std::string graph = "auto";       // on, off; auto: on real GPUs
    bool early = true;                // kernels that can start before the one ahead of them is over (kernels/launch.h)
    int epochs = -1;                  // negative: the recipe's
    int64_t steps = -1;               // instead of epochs, when not negative
    double lr = -1, momentum = -1, weight_decay = -1;  // negative: the recipe's
    std::string lr_policy;            // empty: the recipe's, and so on
    std::string init, augment;
    NetOptions net_options;           // activation, pool, lrn, dropout
    uint64_t seed = 1;
    std::optional<std::vector<float>> mean, std_dev;   // three each, 0..255 units; absent: of the data
    std::string out;                  // empty: runs/NET
    int64_t save_every = 0;           // steps; 0: every epoch and at the end
    int keep = 1;                     // checkpoints in all, the newest included (run_folder.h)
    bool resume = false;              // from out/checkpoint.safetensors
    bool overwrite = false;           // the checkpoints and the log of a run that is there go
    bool eval_only = false;
    int loader_threads = 1;           // per worker
    std::string timeline;             // FILE.svg: a picture of one step; empty: none
    std::string comm = "threads";     // mpi, nccl: one process a worker (job.h)
    LinkProbe links;                  // between the GPUs: --peer, --peer-limit
    std::vector<std::string> arguments;  // the flags themselves, kept in the checkpoint for --resume
};

}  // namespace wt
