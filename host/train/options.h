// What a training run is asked to do: bin/train's flags, parsed. Names become enums here, once, by
// the tables that the command line takes its allowed names from.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "data/sampling.h"
#include "host/cuda/check.h"
#include "host/cuda/nearest.h"
#include "host/net/kernel_settings.h"
#include "host/net/params.h"
#include "host/net/spec.h"
#include "host/parallel/layout.h"
#include "host/parallel/links.h"

namespace wt {

enum class Precision { fp32, tf32, bf16 };
enum class LrScale { none, k, sqrt };
enum class GraphUse { automatic, on, off };  // automatic: on real GPUs

template <class E>
struct Named {
    const char* name;
    E value;
};
inline constexpr Named<Precision> kPrecisions[] = {
    {"fp32", Precision::fp32}, {"tf32", Precision::tf32}, {"bf16", Precision::bf16}};
inline constexpr Named<LrScale> kLrScales[] = {
    {"k", LrScale::k}, {"sqrt", LrScale::sqrt}, {"none", LrScale::none}};
inline constexpr Named<FcScheme> kFcSchemes[] = {
    {"a", FcScheme::a}, {"b", FcScheme::b}, {"c", FcScheme::c}, {"dp", FcScheme::dp}};
inline constexpr Named<FcSplit> kFcSplits[] = {{"columns", FcSplit::columns},
                                               {"alternate", FcSplit::alternate}};
inline constexpr Named<bool> kFcUpdates[] = {{"accumulate", false}, {"per-pass", true}};
inline constexpr Named<Fuse> kFuses[] = {
    {"auto", Fuse::automatic}, {"on", Fuse::on}, {"off", Fuse::off}};
inline constexpr Named<GraphUse> kGraphs[] = {
    {"auto", GraphUse::automatic}, {"on", GraphUse::on}, {"off", GraphUse::off}};
inline constexpr Named<bool> kOnOff[] = {{"on", true}, {"off", false}};
inline constexpr Named<bool> kPeers[] = {{"auto", true}, {"off", false}};
inline constexpr Named<bool> kActivations[] = {{"relu", false},
                                               {"tanh", true}};  // NetOptions::tanh
inline constexpr Named<bool> kPools[] = {{"overlap", false},
                                         {"plain", true}};  // NetOptions::plain_pool
inline constexpr Named<AugmentMode> kAugments[] = {
    {"none", AugmentMode::none}, {"crop", AugmentMode::crop}, {"full", AugmentMode::full}};
inline constexpr Named<Init> kInits[] = {{"paper", Init::paper}, {"he", Init::he}};

template <class E, size_t N>
const char* name_in(const Named<E> (&rows)[N], E value) {
    for (const Named<E>& row : rows)
        if (row.value == value) return row.name;
    return "?";
}
// The value of a name. Throws UsageError with the names that there are.
template <class E, size_t N>
E value_in(const Named<E> (&rows)[N], const std::string& what, const std::string& name) {
    std::vector<std::string> names;
    for (const Named<E>& row : rows) {
        if (name == row.name) return row.value;
        names.push_back(row.name);
    }
    throw UsageError(unknown_name(what, name, names));
}

struct Origin;  // origin.h

struct TrainOptions {
    std::string net = "mini";
    std::string data;       // KIND[:ARGUMENT]
    std::vector<int> gpus;  // one worker per entry; in a job this process's
    int batch = 0;          // per worker
    int accumulate = 1;     // batches that add up to one step
    FcScheme fc_scheme = FcScheme::a;
    FcSplit fc_split = FcSplit::columns;
    bool fc_per_pass = false;
    LrScale lr_scale = LrScale::none;  // of batches larger than a worker's
    Precision precision = Precision::fp32;
    std::string kernels = "auto";  // KernelSettings::parse
    Fuse fuse = Fuse::automatic;
    GraphUse graph = GraphUse::automatic;
    std::string overlap = "auto";  // OverlapChoice::parse
    // kernels that can start before the one ahead of them is over (kernels/launch.h)
    bool early = true;
    int epochs = 0;
    int64_t steps = -1;  // instead of epochs, when not negative
    double lr = 0, momentum = 0, weight_decay = 0;
    std::string lr_policy;       // Schedule
    double warmup = 0;           // epochs
    float label_smoothing = 0;   // of training, 0 to 1 (kernels/softmax/problem.h)
    int64_t check_replicas = 0;  // steps between comparisons of the workers' weights; 0: none
    int64_t watch = 0;           // steps between looks at the weights' updates; 0: none
    Init init = Init::paper;
    std::string init_file;                 // instead of init: a file of weights
    std::vector<std::string> init_except;  // layers that are made by `init` all the same
    std::vector<std::string> freeze;       // layers that keep the weights that they begin with
    AugmentMode augment = AugmentMode::crop;
    NetOptions net_options;  // activation, pool, lrn, dropout
    uint64_t seed = 1;
    // three each, 0..255 units; absent: of the data
    std::optional<std::vector<float>> mean, std_dev;
    bool divide_std = false;  // by the data's, where std_dev is absent
    std::string out;          // folder of the run
    int64_t save_every = 0;   // steps; 0: every epoch and at the end
    int64_t eval_every = -1;  // steps; negative: every epoch and at the end; 0: at the end
    int keep = 1;             // checkpoints in all, the newest included (run_folder.h)
    bool resume = false;      // the run that `origin` is a checkpoint of goes on
    bool overwrite = false;   // the checkpoints and the log of a run that is there go
    bool eval_only = false;
    int loader_threads = 1;   // per worker
    std::string predictions;  // of an evaluation: FILE.npy or .csv (predictions.h); empty: none
    std::string per_class;    // of an evaluation: FILE.csv (per_class.h); empty: none
    int views = 1;            // of an image that is evaluated: 1 or 10 (data/sampling.h)
    std::string timeline;     // FILE.svg: a picture of one step; empty: none
    std::string comm = "threads";  // mpi, nccl: one process a worker (host/parallel/team.h)
    LinkProbe links;               // between the GPUs: --peer, --peer-limit
    // the flags themselves, kept in the checkpoint for --resume
    std::vector<std::string> arguments;
    std::string command;  // the command line that began this part of the run

    // Where weights come from, and what is known of them; null: they are made.
    std::shared_ptr<const Origin> origin;
    std::vector<std::string> notices;  // to be said at the start
};

// A network's recipe, as options.
TrainOptions recipe_options(const std::string& net);

// What a run's result depends on, as flags and values: {"--lr", "0.01"}; numbers as printed, paths
// of data and weights absolute. Without --mean and --std, which are known only with the data.
// "workers" is the one that is no flag. A value read back by the command line is the same value.
std::map<std::string, std::string> settings_of(const TrainOptions& options, int workers);

// "conv1,conv2", or "none": what --freeze takes.
std::string layers_text(const std::vector<std::string>& layers);

// "12.5,3,4", exact.
std::string rgb_text(const std::vector<float>& values);

}  // namespace wt
