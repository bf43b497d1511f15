// How a run begins: options, data, network, workers, first weights.
#include <algorithm>
#include <cmath>

#include "host/train/run.h"
#include "host/train/tune.h"
#include "kernels/launch.h"

namespace wt {

Run::Run(const TrainOptions& options, Team* team) : o_(options), team_(team), recipe_(recipe_of(options.net)) {
    // What the command line left open is the recipe's.
    if (o_.data.empty()) o_.data = recipe_.data;
    if (o_.batch <= 0) o_.batch = recipe_.batch;
    if (o_.epochs < 0) o_.epochs = recipe_.epochs;
    if (o_.lr < 0) o_.lr = recipe_.lr;
    if (o_.momentum < 0) o_.momentum = recipe_.momentum;
    if (o_.weight_decay < 0) o_.weight_decay = recipe_.weight_decay;
    if (o_.lr_policy.empty()) o_.lr_policy = recipe_.lr_policy;
    if (o_.init.empty()) o_.init = recipe_.init;
    if (o_.augment.empty()) o_.augment = recipe_.augment;
    if (o_.out.empty()) o_.out = "runs/" + o_.net;
    augment_ = o_.augment == "none" ? AugmentMode::none : o_.augment == "crop" ? AugmentMode::crop : AugmentMode::full;
    global_batch_ = int64_t(o_.batch) * workers();
    advise();
    claim_folder();

    open_data_and_net();
    if (!o_.eval_only) {
        steps_per_epoch_ = data_.train->size() / global_batch_;
        total_steps_ = o_.steps >= 0 ? o_.steps : o_.epochs * steps_per_epoch_;
    }
    schedule_ = Schedule(o_.lr_policy, o_.lr, std::max<int64_t>(1, steps_per_epoch_), std::max<int64_t>(1, total_steps_));
    if (o_.resume) {
        const Position p = read_position(checkpoint_path(o_.out), team_);
        if (p.net != o_.net)
            throw Error(checkpoint_path(o_.out) + " is of net " + p.net + " (step " + std::to_string(p.step) + "), not of " + o_.net +
                        ": leave --net out, or give another --out");
        if (!o_.eval_only) {
            if (p.global_batch != global_batch_)
                throw Error(checkpoint_path(o_.out) + " was made with " + std::to_string(p.global_batch) + " images a step, this run has " +
                            std::to_string(global_batch_) + ": give a --batch that makes batch x workers the same");
            step_ = saved_at_ = p.step;
            advise();
            o_.seed = p.seed;
            seconds_before_ = p.seconds;
            schedule_.restore(p.schedule);
            best_ = p.best;
            evaluation_due_ = p.evaluation_due;
        }
    }
    configure();
    if (!o_.eval_only) train_loaders_ = loaders(*data_.train, false);
    make_group();
    fill_weights();
}

void Run::open_data_and_net() {
    NetOptions options = o_.net_options;
    NetSpec probe = make_net(o_.net, options);  // its input size does not depend on the classes
    data_ = open_data({o_.data, probe.input.h, o_.seed, o_.mean && o_.std_dev && augment_ != AugmentMode::full ? 0 : 1000});
    options.classes = static_cast<int>(data_.train->classes.size());
    net_ = make_net(o_.net, options);
    if (team_) {  // copies of the data on several machines may have come apart
        std::string text = std::to_string(data_.train->size()) + "+" + std::to_string(data_.held_out ? data_.held_out->size() : 0) + " images, mean";
        for (const float m : data_.mean) {
            char number[32];
            std::snprintf(number, sizeof number, " %.9g", m);
            text += number;
        }
        team_->same("data", text);
    }
    if (o_.eval_only && !data_.held_out) throw Error("--eval-only: " + o_.data + " has no held-out images (no val/ or test/ folder)");
}

// Rates of layers whose batch is larger than a worker's by k are k times those, or sqrt(k): section 5 of the paper.
void Run::configure() {
    early_starts = o_.early;
    for (size_t r = 0; r < o_.gpus.size(); ++r) {
        WorkerConfig c;
        c.net = net_;
        c.rank = first_rank() + static_cast<int>(r);
        c.workers = workers();
        c.device = o_.gpus[r];
        c.batch = o_.batch;
        c.dtype = o_.precision == "bf16" ? DType::bf16 : DType::f32;
        c.tf32 = o_.precision == "tf32";
        c.kernels = KernelSettings::parse(o_.kernels);
        if (o_.fuse != "auto") c.kernels.fuse = o_.fuse == "on" ? Fuse::on : Fuse::off;
        if (o_.graph != "auto") c.graph = o_.graph == "on";
        c.image_h = data_.train->height, c.image_w = data_.train->width, c.image_c = data_.train->channels;
        c.training = !o_.eval_only;
        c.scheme = o_.fc_scheme == "b" ? FcScheme::b : o_.fc_scheme == "c" ? FcScheme::c : o_.fc_scheme == "dp" ? FcScheme::dp : FcScheme::a;
        c.split = o_.fc_split == "alternate" ? FcSplit::alternate : FcSplit::columns;
        c.per_pass = o_.fc_per_pass && c.pass_count() > 1;
        const auto scale = [&](int64_t images) {
            const double k = double(images) / o_.batch;
            return static_cast<float>(o_.lr_scale == "k" ? k : o_.lr_scale == "sqrt" ? std::sqrt(k) : 1);
        };
        c.conv_lr_scale = scale(c.rows());
        c.fc_lr_scale = scale(c.per_pass ? c.pass_rows() : c.rows());
        configs_.push_back(c);
    }
}

void Run::make_group() {
    choose_kernels(configs_, 0.3, team_);
    group_ = std::make_unique<Group>(configs_, team_);
    Normalisation n;
    for (int i = 0; i < 3; ++i) {
        n.mean[i] = o_.mean ? (*o_.mean)[i] : data_.mean[i];
        const float std_dev = o_.std_dev ? (*o_.std_dev)[i] : recipe_.divide_std ? data_.std_dev[i] : 1.f;
        n.inv_std[i] = 1.f / std_dev;
    }
    group_->run([&](Worker& w) {
        w.set_normalisation(n);
        w.set_weight_decay(static_cast<float>(o_.weight_decay));
    });
}

void Run::fill_weights() {
    if (o_.resume) return load_weights(checkpoint_path(o_.out), *group_, net_, !o_.eval_only);
    if (o_.init != "paper" && o_.init != "he") {
        load_weights(o_.init, *group_, net_, false);
    } else {
        const Init init = o_.init == "he" ? Init::he : Init::paper;
        group_->run([&](Worker& w) {
            const Layout& l = w.layout();
            for (size_t i = 0; i < l.params.size(); ++i)
                w.set_param(static_cast<int>(i), initial_values(net_, l.params[i], l.rows[i], init, o_.seed));
        });
    }
    if (o_.eval_only) return;
    group_->run([](Worker& w) {
        for (size_t i = 0; i < w.layout().params.size(); ++i)
            w.set_momentum(static_cast<int>(i), std::vector<float>(w.layout().rows[i].count * w.layout().params[i].row));
    });
}

std::vector<std::unique_ptr<Loader>> Run::loaders(const Dataset& data, bool evaluation) {
    std::vector<std::unique_ptr<Loader>> all;
    for (size_t r = 0; r < o_.gpus.size(); ++r) {
        LoaderOptions l;
        l.batch = o_.batch;
        l.global_batch = static_cast<int>(global_batch_);
        l.rows = batch_rows(configs_[r], configs_[r].rank);
        l.shuffle = !evaluation;
        l.seed = o_.seed;
        l.mode = evaluation ? AugmentMode::none : augment_;
        l.out = net_.input.h;
        std::copy(&data_.pca[0][0], &data_.pca[0][0] + 9, &l.pca[0][0]);
        l.threads = o_.loader_threads;
        l.depth = 4;
        l.start_step = evaluation ? 0 : step_;
        l.evaluation = evaluation;
        all.push_back(std::make_unique<Loader>(data, l));
    }
    return all;
}

}  // namespace wt
