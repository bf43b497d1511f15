// bin/train: trains a network. `bin/train` alone trains `mini` on Fashion-MNIST with two workers.
#include <algorithm>
#include <array>
#include <filesystem>
#include <numeric>

#include "host/cuda/architecture.h"
#include "host/cuda/device.h"
#include "host/cuda/nearest.h"
#include "host/parallel/stop_signals.h"
#include "host/parallel/team.h"
#include "host/train/carry.h"
#include "host/train/export_weights.h"
#include "host/train/origin.h"
#include "host/train/atomic_file.h"
#include "host/train/predictions.h"
#include "host/train/torchvision_names.h"
#include "host/train/trainer.h"
#include "host/train/schedule.h"
#include "host/train/weights_file.h"
#include "tools/train_flags.h"

namespace {

using namespace wt;

// Flags that do not describe a run, but where it lies, who runs it and that it goes on.
const std::vector<std::string> kPlace = {"resume",      "out",       "timeline",
                                         "comm",        "eval-only", "overwrite",
                                         "predictions", "per-class", "views"};

// Files of older versions have their run's flags, and no settings: those are what the flags mean.
Origin open_weights(const std::string& path, bool resume, Team* team) {
    Origin from = open_origin(path, resume, team);
    if (!from.position || !from.record().settings.empty()) return from;
    Position& p = *from.position;
    try {
        const TrainOptions o = parse(without(p.arguments, kPlace)).o;
        const int workers =
            static_cast<int>(std::max<int64_t>(1, p.global_batch / std::max(1, o.batch)));
        p.record.settings = settings_of(o, workers);
    } catch (const UsageError& e) {
        throw Error(path + ": the flags that it was made with are not understood (" + e.what() +
                    ")");
    }
    p.record.settings["--net"] = p.net;
    p.record.settings["--seed"] = std::to_string(p.seed);
    return from;
}

// Whether a run goes on in another folder than its own. In a job rank 0 looks, for all.
bool goes_on_elsewhere(const Flags& f, Team* team) {
    if (f.resume.empty() || !f.has("out")) return false;
    const auto same = [&] {
        namespace fs = std::filesystem;
        std::error_code none;
        return fs::path(f.o.out + "/").lexically_normal() ==
                   fs::path(f.resume + "/").lexically_normal() ||
               fs::equivalent(f.o.out, f.resume, none);
    };
    if (!team) return !same();
    return team->broadcast(std::string(team->rank() == 0 && same() ? "same" : "other")) == "other";
}

// What contradicts itself whatever the weights are.
void check_flags(const Flags& f, bool elsewhere) {
    const TrainOptions& o = f.o;
    if (o.overwrite && !f.resume.empty() && !elsewhere)
        throw UsageError("--overwrite begins a run anew, and --resume " + f.resume +
                         " goes on with one: leave one away");
    if (o.overwrite && o.eval_only)
        throw UsageError(
            "--overwrite begins a run anew, and --eval-only trains none: leave one away");
    if (!f.resume.empty() && f.has("init"))
        throw UsageError("--init " + f.init + " says what weights begin with, and --resume " +
                         f.resume + " has them: leave one away");
    if (std::error_code none; std::filesystem::is_regular_file(f.resume, none))
        throw UsageError(
            "--resume " + f.resume +
            ": that is a file; give the run's folder, or begin a new run with --init " + f.resume);
    // This is checked before the data are opened, which may take minutes.
    KernelSettings::parse(o.kernels);
    OverlapChoice::parse(o.overlap);
    Schedule(o.lr_policy, o.lr, 1, 1);
    if (!o.timeline.empty() && (o.timeline.size() < 5 || !o.timeline.ends_with(".svg")))
        throw UsageError("--timeline " + o.timeline + ": must be a file that ends in .svg");
    if (!o.timeline.empty() && o.eval_only)
        throw UsageError(
            "--timeline shows a training step, and --eval-only trains none: leave one away");
    if (!o.timeline.empty() && o.comm != "threads")
        throw UsageError("--timeline shows the workers of one process: leave --comm " + o.comm +
                         " away");
    if (o.eval_only && f.resume.empty() && o.init_file.empty())
        throw UsageError("--eval-only needs weights: give --resume DIR or --init FILE.safetensors");
    if (!f.init_except.empty() && o.init_file.empty())
        throw UsageError("--init-except " + f.init_except +
                         " says what --init FILE does not fill: give that too");
    if (o.eval_only && !f.init_except.empty())
        throw UsageError("--init-except " + f.init_except +
                         " begins layers anew, and --eval-only trains none: leave one away");
    if (!o.predictions.empty()) check_predictions_name(o.predictions);
    if (!o.per_class.empty()) {
        if (!o.per_class.ends_with(".csv"))
            throw UsageError("--per-class " + o.per_class + ": must be a file that ends in .csv");
        if (o.eval_only) check_output(o.per_class);
    }
    const auto of_evaluation = [&](bool given, const std::string& flag) {
        if (!given) return;
        if (!o.eval_only) throw UsageError(flag + " are of an evaluation: give --eval-only too");
        if (o.comm != "threads")
            throw UsageError(flag + " are computed by one process: leave --comm " + o.comm +
                             " away");
    };
    of_evaluation(!o.predictions.empty(), "--predictions " + o.predictions);
    of_evaluation(!o.per_class.empty(), "the classes' errors of --per-class " + o.per_class);
    of_evaluation(o.views != 1, "--views " + std::to_string(o.views));
}

// --export: from a checkpoint or a file of weights to another file.
int export_weights(const Flags& f) {
    const auto& [format, out] = f.export_to;
    const std::string what = "--export " + format + " " + out;
    if (format != "torchvision")
        throw UsageError(what + ": " + unknown_name("format", format, {"torchvision"}));
    for (const std::string& flag : f.given)
        if (flag != "export" && flag != "resume" && flag != "init" && flag != "net")
            throw UsageError(what + " writes weights and trains nothing: leave --" + flag +
                             " away");
    if (f.resume.empty() && f.o.init_file.empty())
        throw UsageError(what + " needs weights: give --resume DIR or --init FILE.safetensors");
    const std::string path = f.resume.empty() ? f.o.init_file : checkpoint_path(f.resume);
    std::error_code none;
    if (std::filesystem::exists(out, none) && !std::filesystem::is_regular_file(out, none))
        throw UsageError(what + ": " + out + " is no regular file");
    if (std::filesystem::equivalent(out, path, none))
        throw UsageError(what + ": that is the file with the weights: give another name");
    const Origin from = open_weights(path, !f.resume.empty(), nullptr);
    const RunRecord& record = from.record();
    const auto setting = [&](const char* flag, const char* otherwise) {
        const auto at = record.settings.find(flag);
        return at == record.settings.end() ? std::string(otherwise) : at->second;
    };
    const std::string net = f.has("net") ? f.o.net : setting("--net", kTorchvisionNet);
    if (net != kTorchvisionNet)
        throw Error(path + " is of net " + net + ", and torchvision's AlexNet is net " +
                    kTorchvisionNet + ": no other can be exported so");
    for (const auto& [flag, has] :
         {std::pair("--activation", "relu"), std::pair("--pool", "overlap")})
        if (setting(flag, has) != has)
            throw Error(path + " was made with " + flag + " " + setting(flag, has) +
                        ", and torchvision's AlexNet has " + has +
                        ": it would compute something else");
    std::printf(
        "export  %s\n",
        export_torchvision(*from.file, {record.mean, record.std_dev, record.classes}, out).c_str());
    return 0;
}

// Puts what the weights say before what the flags say. `f` is of the flags alone; so is its `given`
// afterwards.
void take_over(Flags& f, const std::vector<std::string>& given, Origin from, WeightsUse use,
               bool elsewhere) {
    std::vector<std::string> all;
    if (!f.resume.empty()) {
        std::vector<std::string> anew = f.given;
        if (f.has("epochs")) anew.push_back("steps");  // they are meant now
        all = without(from.position->arguments, anew);
    }
    std::vector<std::string> described = all;
    if (from.torchvision) {
        all.insert(all.end(), {"--net", kTorchvisionNet});
        if (from.record().mean.empty()) {  // nothing is said: as torchvision's own are
            const auto rgb = [](const std::array<float, 3>& v) {
                return rgb_text({v.begin(), v.end()});
            };
            all.insert(all.end(), {"--mean", rgb(kTorchvisionMean), "--std", rgb(kTorchvisionStd)});
        }
    }
    const auto carried = carried_flags(from.record(), use, f.given);
    all.insert(all.end(), carried.begin(), carried.end());
    all.insert(all.end(), given.begin(), given.end());
    described.insert(described.end(), given.begin(), given.end());
    const std::vector<std::string> names = f.given;
    const std::string resume = f.resume;
    f = parse(all);
    f.given = names;
    f.o.arguments = without(described, kPlace);
    f.o.resume = !resume.empty();
    if (f.o.resume && !elsewhere) f.o.out = resume;
    if (!f.o.resume) f.o.init_file = from.path;
    f.o.origin = std::make_shared<const Origin>(std::move(from));
}

// What the weights say and the flags do not: refused, or told.
void compare(Flags& f, WeightsUse use, int workers) {
    TrainOptions& o = f.o;
    const Origin& from = *o.origin;
    const RunRecord& record = from.record();
    auto now = settings_of(o, workers);
    if (o.mean) now["--mean"] = rgb_text(*o.mean);
    if (o.std_dev) now["--std"] = rgb_text(*o.std_dev);
    o.notices = compare_settings(from.path, record, now, use);
    if (from.torchvision && record.mean.empty() && !(f.has("mean") && f.has("std")))
        o.notices.push_back(
            from.path +
            " does not say how its images are normalised: as torchvision does it, --mean " +
            rgb_text(*o.mean) + " --std " + rgb_text(*o.std_dev));
    if (from.torchvision && record.classes.empty())
        o.notices.push_back(from.path + " does not say of which classes it is: taken from " +
                            o.data);
    else if (!record.whole())
        o.notices.push_back(
            from.path +
            " does not say of which classes it is, nor how its images were normalised: taken from the flags and " +
            o.data);
    const auto was = record.settings.find("--data");
    if (use == WeightsUse::fine_tune && was != record.settings.end() &&
        was->second == now["--data"] && o.data.starts_with("synthetic") &&
        record.settings.at("--seed") != now["--seed"])
        o.notices.push_back(from.path + " was trained on synthetic images of seed " +
                            record.settings.at("--seed") + "; those of seed " + now["--seed"] +
                            " are others");
}

// The device of this process's worker: the entry of `gpus` that its place among those of its
// machine names.
int own_gpu(const Team& team, const std::string& gpus, const std::string& comm) {
    std::vector<int> all(device_count());
    std::iota(all.begin(), all.end(), 0);
    if (all.empty() || !gpus.empty()) all = parse_gpus(gpus);
    if (comm == "nccl" && team.local_ranks() > static_cast<int>(all.size()))
        throw UsageError("--comm nccl: " + std::to_string(team.local_ranks()) +
                         " processes on a machine with " + std::to_string(all.size()) +
                         (all.size() == 1 ? " GPU" : " GPUs") +
                         ", and NCCL wants one each: start fewer, or use --comm mpi");
    return all[team.local_rank() % all.size()];
}

// `typed`: as the command line has them; `given`: with its recipe's.
int train(const std::vector<std::string>& typed, const std::vector<std::string>& given, Flags f,
          Team* team, bool explain_next) {
    if (f.has("export")) return export_weights(f);
    const bool elsewhere = goes_on_elsewhere(f, team);
    check_flags(f, elsewhere);
    const bool speaks = !team || team->rank() == 0;
    if (speaks && f.resume.empty() && !f.o.init_file.empty() &&
        !std::filesystem::exists(f.o.init_file))
        throw UsageError("--init " + f.o.init_file +
                         ": must be paper, he or an existing .safetensors file");
    f.o.arguments = without(given, kPlace);
    const WeightsUse use = f.o.eval_only      ? WeightsUse::evaluate
                           : f.resume.empty() ? WeightsUse::fine_tune
                                              : WeightsUse::resume;
    if (!f.resume.empty() || !f.o.init_file.empty()) {
        const std::string path = f.resume.empty() ? f.o.init_file : checkpoint_path(f.resume);
        Origin from = open_weights(path, !f.resume.empty(), team);
        if (!from.position && !from.torchvision && !f.has("net"))
            throw UsageError("--init " + path + " does not say which network it is of: give --net");
        if (!from.position && f.o.eval_only && !f.has("data"))
            throw UsageError("--eval-only: " + path +
                             " does not say which data it is of: give --data");
        take_over(f, given, std::move(from), use, elsewhere);
    }
    TrainOptions& o = f.o;
    o.command = "bin/train" + shell_text(typed);
    if (team) team->same("command line", joined(o.arguments));
    o.gpus = team ? std::vector<int>{own_gpu(*team, f.gpus, o.comm)} : parse_gpus(f.gpus);
    check_architecture(o.gpus);
    const int workers = team ? team->ranks() : static_cast<int>(o.gpus.size());
    if (o.resume && !o.eval_only &&
        !f.has("batch"))  // another number of workers shares the same batch
        if (const int64_t all = o.origin->position->global_batch, each = workers * o.accumulate;
            all % each == 0)
            o.batch = static_cast<int>(all / each);
    if (o.origin) compare(f, use, workers);
    const int status = run_training(o, team);
    if (status == 0 && explain_next)
        std::printf(
            "\nnext:\n  bin/train --resume %s --epochs 4        goes on\n  bin/train --data cifar10:DIR              other data (--help lists all)\n"
            "  bin/summary alexnet                       a network's layers\n  bin/train --net alexnet --data folder:DIR  ImageNet, see README.md\n",
            o.out.c_str());
    return status;
}

int run(int argc, char** argv) {
    const std::vector<std::string> typed = spelled_out({argv + 1, argv + argc});
    std::vector<std::string> arguments;
    Flags f;
    std::unique_ptr<Team> team;
    try {
        arguments = with_recipe(typed);
        f = parse(arguments);
        if (f.o.comm == "threads" && launched_ranks() > 1)
            throw UsageError(
                "started as " + std::to_string(launched_ranks()) +
                " processes that know nothing of each other: give --comm mpi (or nccl), or leave mpirun away");
        f.team.comm = f.o.comm;
        catch_stop_signals();
        if (f.o.comm != "threads") team = join_team(f.team);
    } catch (const UsageError&) {
        if (launched_rank() > 0) throw Exit{2};  // rank 0 says it for all
        throw;
    }
    // The default run, as `make run` has it too.
    const bool plain = arguments.empty() || arguments == std::vector<std::string>{"--overwrite"};
    if (!team) return train(typed, arguments, f, nullptr, plain);
    std::string why;
    int status = 1;
    try {
        return train(typed, arguments, f, team.get(), false);
    } catch (const UsageError& e) {
        why = e.what(), status = 2;
    } catch (const std::exception& e) {
        why = e.what();
    }
    team->fail(why, status);
}

}  // namespace

int main(int argc, char** argv) { return run_program(argc, argv, "train", run); }
