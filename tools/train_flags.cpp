#include "tools/train_flags.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <sstream>

#include "host/cuda/device.h"
#include "host/train/recipes.h"
#include "host/train/weights_file.h"

namespace wt {

std::vector<int> parse_gpus(const std::string& text) {
    const int count = device_count();
    if (count == 0)
        throw Error(
            "no GPU is visible: check nvidia-smi and CUDA_VISIBLE_DEVICES, or build with TARGET=vgpu");
    if (text.empty()) return count >= 2 ? std::vector<int>{0, 1} : std::vector<int>{0, 0};
    std::vector<int> gpus;
    std::stringstream parts(text);
    for (std::string part; std::getline(parts, part, ',');) {
        if (part.empty() || part.size() > 4 ||
            part.find_first_not_of("0123456789") != std::string::npos)
            throw UsageError("--gpus " + text +
                             ": must be numbers with commas between, one worker each (0,1)");
        gpus.push_back(std::stoi(part));
        if (gpus.back() >= count)
            throw UsageError("unknown GPU " + part + ": there " +
                             (count == 1 ? "is 1, number 0"
                                         : "are " + std::to_string(count) + ", numbers 0 to " +
                                               std::to_string(count - 1)));
    }
    if (gpus.empty() || gpus.size() > static_cast<size_t>(kMaxRanks))
        throw UsageError("--gpus " + text + ": must name 1 to " + std::to_string(kMaxRanks) +
                         " workers");
    return gpus;
}

std::optional<std::vector<float>> parse_rgb(const std::string& flag, const std::string& text,
                                            bool positive) {
    if (text.empty()) return {};
    std::vector<float> v;
    std::stringstream parts(text);
    for (std::string part; std::getline(parts, part, ',');) {
        char* end = nullptr;
        v.push_back(std::strtof(part.c_str(), &end));
        if (part.empty() || *end || !std::isfinite(v.back()) || (positive && v.back() <= 0))
            v.resize(9);
    }
    if (v.size() != 3)
        throw UsageError(flag + " " + text + ": must be three " + (positive ? "positive " : "") +
                         "numbers R,G,B in 0..255 units");
    return v;
}

namespace {

// Declares every flag on `app`; values land in `f`, which has the recipe's.
void declare(CommandLine& app, Flags& f) {
    TrainOptions& o = f.o;
    app.add_option(
           "--net", o.net,
           "the network; defaults below are its recipe's (--net NAME --help: those of another)")
        ->check(one_of("net", net_names()));
    app.add_option(
        "--data", o.data,
        "fashion-mnist[:DIR], mnist:DIR, cifar10:DIR, folder:DIR, synthetic[:CLASSES[:IMAGES]]");
    app.add_option("--gpus", f.gpus, "one worker per entry: 0,1; 0,0 puts two workers on one GPU")
        ->by_default("0,1, or 0,0 where there is one");
    app.add_option("--recipe", f.recipe,
                   "a file of flags, which those beside it overrule: " + recipe_names_text() +
                       " (data/recipes), or a path")
        ->by_default("none");
    app.add_option("--batch", o.batch, "images per worker at a time")->check(between(1, 1 << 20));
    app.add_option("--accumulate", o.accumulate,
                   "batches whose gradients add up to one step, with the mean over all of them")
        ->check(between(1, 4096));
    app.add_choice(
        "--fc-scheme", o.fc_scheme, kFcSchemes, "fc scheme",
        "how the fully connected layers get their batch (arXiv 1404.5997): a gathers everybody's, b one worker's in each of K passes, "
        "c 1/K of everybody's in each; dp replicates these layers too");
    app.add_choice(
        "--fc-split", o.fc_split, kFcSplits, "split",
        "how they are shared by the workers: columns (all by units), alternate (the first by units, those above by inputs: half of what "
        "is exchanged between them)");
    app.add_choice("--fc-update", o.fc_per_pass, kFcUpdates, "fc update",
                   "accumulate (one update a step), or per-pass: after each pass of b and c");
    app.add_choice(
        "--lr-scale", o.lr_scale, kLrScales, "scale",
        "rate of layers with a batch larger than a worker's: times k (their batches' ratio), sqrt (of it), none");
    app.add_choice("--precision", o.precision, kPrecisions, "precision",
                   "of activations and products");
    app.add_option(
        "--kernels", o.kernels,
        "auto, own, baseline, tune (measures, and remembers), and LAYER.PASS=VARIANT,... (conv2.wgrad=tiled)");
    app.add_choice(
        "--fuse", o.fuse, kFuses, "setting",
        "operations done in one: auto (where that is faster), on (wherever it can be), off");
    app.add_choice("--graph", o.graph, kGraphs, "setting",
                   "replays a step as CUDA graphs: auto (on real GPUs), on, off");
    app.add_option(
        "--overlap", o.overlap,
        "what runs beside other work of a step: auto (on GPUs, what is predicted to gain), "
        "on, off, or PART,... of fc-update[:SMS], wgrad, input");
    app.add_choice(
        "--pdl,--early", o.early, kOnOff, "setting",
        "kernels may start before the one ahead of them is over (programmatic dependent launch)");
    app.add_option("--epochs", o.epochs, "passes over the training images")->check(between(0, 1e6));
    app.add_option("--steps", o.steps, "stop after so many steps instead")
        ->check(between(0, 1e12))
        ->by_default("none");
    app.add_option("--lr", o.lr, "learning rate")->check(between(0, 1e3));
    app.add_option(
        "--lr-policy", o.lr_policy,
        "plateau, step:E1,E2,..., linear, cosine, exponential:G (a factor an epoch), constant");
    app.add_option("--warmup", o.warmup,
                   "epochs over which the rate rises to what the policy says, linearly")
        ->check(between(0, 1e6));
    app.add_option("--label-smoothing", o.label_smoothing,
                   "share of a label that is spread over all classes, in training alone")
        ->check(between(0, 0.99));
    app.add_option("--momentum", o.momentum)->check(between(0, 1));
    app.add_option("--weight-decay", o.weight_decay)->check(between(0, 1));
    app.add_option("--dropout", o.net_options.dropout, "probability of zeroing")
        ->check(between(0, 0.99))
        ->by_default("the network's own");
    app.add_choice("--activation", o.net_options.tanh, kActivations, "activation",
                   "after every layer but the last");
    app.add_choice("--pool", o.net_options.plain_pool, kPools, "pool",
                   "overlap (3x3/2) or plain (2x2/2)");
    app.add_choice("--lrn", o.net_options.lrn, kOnOff, "lrn",
                   "local response normalisation, in networks that have it");
    app.add_option(
        "--init", f.init,
        "paper, he, or a .safetensors file with the weights, whose network, normalisation and data set are taken over");
    app.add_option(
        "--init-except", f.init_except,
        "layers that --init FILE does not fill, commas between (fc8): they begin as the recipe has it");
    app.add_option(
        "--freeze", f.freeze,
        "layers that keep their weights, commas between (conv1,conv2), or none: the others are trained");
    app.add_option(
        "--export", f.export_to,
        "torchvision OUT.safetensors: writes the weights of --resume DIR or --init FILE, of net owt, with the "
        "names of torchvision's AlexNet, and trains nothing");
    app.add_option(
        "--predictions", o.predictions,
        "with --eval-only: a FILE.npy of every held-out image's logits, or a FILE.csv of its likeliest classes");
    app.add_option(
        "--per-class", o.per_class,
        "with --eval-only: a FILE.csv with each class's images, errors and what it is taken for");
    app.add_option("--views", o.views,
                   "with --eval-only: of each image: 1 is its centre; 10 its corners and centre, "
                   "mirrored too, whose probabilities are averaged")
        ->check(one_of("number of views", {"1", "10"}));
    app.add_option("--seed", o.seed, "of everything random");
    app.add_choice("--augment", o.augment, kAugments, "augmentation",
                   "none (centre crop), crop (and mirror), full (and colour noise)");
    app.add_option("--mean", f.mean, "R,G,B subtracted, 0..255 units")
        ->by_default("of the training images");
    app.add_option("--std", f.std_dev, "R,G,B divided by, 0..255 units")
        ->by_default(o.divide_std ? "of the training images" : "1,1,1");
    app.add_option(
           "--out", o.out,
           "folder of the run; with --resume DIR another than DIR begins a run that goes on from DIR's checkpoint")
        ->by_default("runs/NET");
    app.add_option("--save-every", o.save_every, "steps between checkpoints")
        ->check(between(1, 1e12))
        ->by_default("every epoch, and at the end");
    app.add_option("--check-replicas", o.check_replicas,
                   "steps between comparisons of the workers' replicated weights; the run ends "
                   "where they differ; 0: none")
        ->check(between(0, 1e12));
    app.add_option(
           "--watch", o.watch,
           "[N] steps between tables of mean |w|, mean |dw| (what a step changes) and their "
           "ratio, by layer; N is 100 where it is left away; 0: none")
        ->check(between(0, 1e12));
    app.add_option(
           "--eval-every", o.eval_every,
           "steps between evaluations of the held-out images, one at the end besides; 0: that one alone")
        ->check(between(0, 1e12))
        ->by_default("every epoch, and at the end");
    app.add_option(
           "--keep", o.keep,
           "checkpoints kept: the last N, the newest of them in checkpoint.safetensors, older ones "
           "in checkpoint-STEP.safetensors; best.safetensors, of the smallest held-out error, is "
           "kept besides")
        ->check(between(1, 1e6));
    app.add_flag("--overwrite", o.overwrite,
                 "begins anew in a folder that holds a run, whose checkpoints and log are removed");
    app.add_option("--resume", f.resume,
                   "goes on with the run in this folder, with its flags unless given anew");
    app.add_flag(
        "--eval-only", o.eval_only,
        "evaluates the held-out images of --data, or of the weights' own data set (with --resume or --init FILE)");
    app.add_option(
        "--timeline", o.timeline,
        "FILE.svg: a picture of what every worker's streams did in step 3, run without graphs; a trace for chrome://tracing in FILE.json");
    app.add_option("--loader-threads", o.loader_threads, "per worker")->check(between(1, 64));
    app.add_option(
           "--comm", o.comm,
           "workers are threads of this process, or processes that mpirun starts and that exchange over mpi or nccl")
        ->check(one_of("comm", {"threads", "mpi", "nccl"}));
    app.add_choice(
        "--peer", o.links.peer, kPeers, "peer access",
        "auto (GPUs use each other's memory where a trial at the start finds that they can), off (peer access is not asked for: "
        "exchange goes through page-locked host memory)");
    app.add_option("--peer-limit", o.links.limit_s,
                   "seconds that the trial of one link may take before the start is given up")
        ->check(between(0.1, 1e6));
    app.add_option(
           "--lost-after", f.team.lost_after,
           "with mpirun: seconds without a sign of life after which a rank is lost, and the job ends")
        ->check(between(1, 1e6));
    app.add_option(
           "--stuck-after", f.team.stuck_after,
           "with mpirun: seconds that a step may wait for a rank that is alive; 0: for ever")
        ->check(between(0, 1e6));
}

// The network that the arguments name, for its recipe; a name that is none is for the parser to
// refuse.
std::string net_in(const std::vector<std::string>& arguments) {
    std::string net = TrainOptions{}.net;
    for (size_t i = 0; i < arguments.size(); ++i) {
        if (arguments[i].starts_with("--net=")) net = arguments[i].substr(6);
        if (arguments[i] == "--net" && i + 1 < arguments.size()) net = arguments[i + 1];
    }
    const auto& names = net_names();
    return std::find(names.begin(), names.end(), net) == names.end() ? TrainOptions{}.net : net;
}

}  // namespace

Flags parse(const std::vector<std::string>& arguments) {
    Flags f;
    TrainOptions& o = f.o;
    o = recipe_options(net_in(arguments));
    f.init = name_in(kInits, o.init);
    CommandLine app(
        "Trains AlexNet and its kin: convolutional layers replicated on every GPU, fully connected layers sharded across GPUs.",
        /*last_wins=*/true);
    declare(app, f);
    std::vector<const char*> argv{"train"};
    for (const std::string& a : arguments) argv.push_back(a.c_str());
    app.parse(static_cast<int>(argv.size()), argv.data());
    f.given = app.given();
    o.mean = parse_rgb("--mean", f.mean, false);
    o.std_dev = parse_rgb("--std", f.std_dev, true);
    if (f.init == "paper" || f.init == "he")
        o.init = value_in(kInits, "initialisation", f.init);
    else
        o.init_file = f.init;
    const NetSpec net = make_net(o.net, o.net_options);
    if (!f.init_except.empty()) o.init_except = layer_list("--init-except", f.init_except, net);
    if (f.freeze != "none") o.freeze = layer_list("--freeze", f.freeze, net);
    if (o.freeze.size() * 2 == params_of(net).size())
        throw UsageError("--freeze " + f.freeze + ": these are all the layers of " + o.net +
                         ", and nothing is left to train");
    return f;
}

std::vector<std::string> with_recipe(const std::vector<std::string>& typed) {
    std::string name;
    std::vector<std::string> others;
    bool resumes = false, named = false;
    for (size_t i = 0; i < typed.size(); ++i) {
        const std::string flag = typed[i].substr(0, typed[i].find('='));
        resumes = resumes || flag == "--resume";
        if (flag != "--recipe") {
            others.push_back(typed[i]);
            continue;
        }
        named = true;
        if (flag != typed[i])
            name = typed[i].substr(flag.size() + 1);
        else if (++i < typed.size())
            name = typed[i];
        else
            return typed;  // the parser says that a name is missing
    }
    if (!named) return typed;
    if (resumes)
        throw UsageError("--recipe " + name +
                         " begins a run, and --resume goes on with one by its own flags: leave one "
                         "away");
    const RecipeFile recipe = read_recipe(name);
    try {
        parse(recipe.flags);
    } catch (const UsageError& e) {
        throw UsageError("recipe " + recipe.path + ": " + e.what());
    }
    std::vector<std::string> all = recipe.flags;
    all.insert(all.end(), others.begin(), others.end());
    return all;
}

std::string joined(const std::vector<std::string>& arguments) {
    std::string s;
    for (const std::string& a : arguments) s += (s.empty() ? "" : " ") + a;
    return s;
}

std::string shell_text(const std::vector<std::string>& arguments) {
    constexpr const char* kPlain =
        "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_@%+=:,./-";
    std::string s;
    for (const std::string& a : arguments) {
        s += ' ';
        if (!a.empty() && a.find_first_not_of(kPlain) == a.npos) {
            s += a;
            continue;
        }
        s += '\'';
        for (const char c : a) s += c == '\'' ? std::string("'\\''") : std::string(1, c);
        s += '\'';
    }
    return s;
}

std::vector<std::string> without(const std::vector<std::string>& arguments,
                                 const std::vector<std::string>& names) {
    // those that have no value
    const std::vector<std::string> alone = {"--eval-only", "--overwrite"};
    std::vector<std::string> kept;
    for (size_t i = 0; i < arguments.size(); ++i) {
        const std::string flag = arguments[i].substr(0, arguments[i].find('='));
        const bool goes = flag.starts_with("--") &&
                          std::find(names.begin(), names.end(), flag.substr(2)) != names.end();
        if (!goes) {
            kept.push_back(arguments[i]);
        } else if (flag == arguments[i] &&
                   std::find(alone.begin(), alone.end(), flag) == alone.end()) {
            ++i;
        }
    }
    return kept;
}

std::vector<std::string> spelled_out(std::vector<std::string> arguments) {
    for (size_t i = 0; i < arguments.size(); ++i)
        if (arguments[i] == "--watch" &&
            (i + 1 == arguments.size() || arguments[i + 1].starts_with("--")))
            arguments.insert(arguments.begin() + static_cast<long>(i) + 1, "100");
    return arguments;
}

}  // namespace wt
