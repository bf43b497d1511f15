// How a run begins: options, data, network, workers, first weights.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "host/json.h"
#include "host/train/init_weights.h"
#include "host/train/run.h"
#include "host/train/tune.h"
#include "kernels/launch.h"

namespace wt {

namespace {

// Steps of an epoch of synthetic images, which are as many as that takes: what is done once an
// epoch (an evaluation, a checkpoint) stays a small part of the time, whatever the batch.
constexpr int64_t kSyntheticEpoch = 1000;

// A folder's name may be no UTF-8: as a checkpoint has it then.
std::string as_text(const std::string& name) {
    return parse_json(json_text(name)).get<std::string>();
}

std::string short_text(double v) {
    char s[32];
    std::snprintf(s, sizeof s, "%.3g", v);
    return s;
}

}  // namespace

Run::Run(const TrainOptions& options, Team* team) : o_(options), team_(team) {
    global_batch_ = pass_batch() * o_.accumulate;
    if (!o_.timeline.empty() && first()) check_timeline_paths(o_.timeline);
    advise();
    claim_folder();

    open_data_and_net();
    if (!o_.eval_only) {
        steps_per_epoch_ = data_.train->size() / global_batch_;
        total_steps_ = o_.steps >= 0 ? o_.steps : o_.epochs * steps_per_epoch_;
    }
    schedule_ = Schedule(o_.lr_policy, o_.lr, std::max<int64_t>(1, steps_per_epoch_),
                         std::max<int64_t>(1, total_steps_), o_.warmup);
    if (o_.resume && !o_.eval_only) go_on_from(*o_.origin->position);
    configure();
    if (!o_.eval_only) train_loaders_ = loaders(*data_.train, false);
    make_group();
    fill_weights();
}

void Run::go_on_from(const Position& p) {
    if (p.global_batch != global_batch_)
        throw Error(o_.origin->path + " was made with " + std::to_string(p.global_batch) +
                    " images a step, this run has " + std::to_string(global_batch_) +
                    ": give a --batch that makes batch x workers x accumulate the same");
    step_ = p.step;
    if (!fork()) saved_at_ = p.step;
    advise();
    seconds_before_ = p.seconds;
    schedule_.restore(p.schedule);
    best_ = p.best;
    evaluation_due_ = p.evaluation_due;
    const int64_t before = p.record.total_steps;
    if (schedule_.falls_to_the_end() && before > 0 && before != total_steps_ &&
        step_ < total_steps_)
        o_.notices.push_back("the rate falls to 0 over " + std::to_string(total_steps_) +
                             " steps, before over " + std::to_string(before) + ": it goes on at " +
                             short_text(schedule_.rate(step_)));
}

// Another folder than the one that it goes on from.
bool Run::fork() const { return o_.resume && o_.origin->path != checkpoint_path(o_.out); }

void Run::open_data_and_net() {
    NetOptions options = o_.net_options;
    // its input size does not depend on the classes
    const NetSpec probe = make_net(o_.net, options);
    const RunRecord nothing;
    const RunRecord& record = o_.origin ? o_.origin->record() : nothing;
    const bool same_data = o_.resume || o_.eval_only;  // as the weights were trained on
    const bool chosen = o_.mean && o_.std_dev && o_.augment != AugmentMode::full;
    DataSpec spec;
    spec.text = o_.data;
    spec.net_input = probe.input.h;
    spec.seed = o_.seed;
    // A run that goes on looks whether the images still are what they were.
    measured_ = !chosen || (o_.resume && !o_.eval_only && !record.data_mean.empty());
    spec.statistics_from = measured_ ? 1000 : 0;
    spec.held_out_only = o_.eval_only && record.whole();
    spec.stored = same_data ? record.stored : 0;
    spec.train_images = kSyntheticEpoch * global_batch_;
    data_ = open_data(spec);
    for (const std::string& n : data_.notices) o_.notices.push_back(n);
    if (same_data && record.pca.size() == 9)
        std::copy(record.pca.begin(), record.pca.end(), &data_.pca[0][0]);
    if (o_.eval_only && !data_.held_out)
        throw Error("--eval-only: " + o_.data +
                    " has no held-out images (no val/ or test/ folder)");

    const WeightsUse use = o_.eval_only ? WeightsUse::evaluate
                           : o_.resume  ? WeightsUse::resume
                                        : WeightsUse::fine_tune;
    const std::string path = o_.origin ? o_.origin->path : "";
    std::vector<std::string> found;
    for (const std::string& name : data_.any().classes) found.push_back(as_text(name));
    match_ = match_classes(record.classes, found, use, path, o_.data);
    if (!match_.notice.empty()) o_.notices.push_back(match_.notice);
    options.classes = static_cast<int>(match_.classes.size());
    net_ = make_net(o_.net, options);
    if (o_.resume && !o_.eval_only) compare_data(record);
    if (!team_) return;
    // Copies of the data on several machines may have come apart.
    std::string text = std::to_string(data_.train ? data_.train->size() : 0) + "+" +
                       std::to_string(data_.held_out ? data_.held_out->size() : 0) +
                       " images, mean";
    for (const float m : data_.mean) {
        char number[32];
        std::snprintf(number, sizeof number, " %.9g", m);
        text += number;
    }
    team_->same("data", text);
}

// A run goes on with whatever images are there now; that they are others is said.
void Run::compare_data(const RunRecord& record) {
    const auto counts = [](int64_t train, int64_t held_out) {
        return std::to_string(train) + " training and " + std::to_string(held_out) +
               " held-out images";
    };
    const int64_t held_out = data_.held_out ? data_.held_out->size() : 0;
    if (record.train_images == 0) return;  // nothing is known
    if (record.train_images != data_.train->size() || record.held_out_images != held_out) {
        o_.notices.push_back("the run began with " +
                             counts(record.train_images, record.held_out_images) + ", " + o_.data +
                             " has " + counts(data_.train->size(), held_out) +
                             ": epochs and their order are those of now");
        return;
    }
    const std::vector<float> mean(data_.mean, data_.mean + 3);
    if (!record.data_mean.empty() && record.data_mean != mean)
        o_.notices.push_back(
            "the training images are not those that the run began with: their mean was " +
            rgb_text(record.data_mean) + " and is " + rgb_text(mean));
}

// Rates of layers whose batch is larger than a worker's by k are k times those, or sqrt(k): section
// 5 of the paper.
void Run::configure() {
    pdl_enabled = o_.early;
    for (size_t r = 0; r < o_.gpus.size(); ++r) {
        WorkerConfig c;
        c.net = net_;
        c.rank = first_rank() + static_cast<int>(r);
        c.workers = workers();
        c.device = o_.gpus[r];
        c.batch = o_.batch;
        c.dtype = o_.precision == Precision::bf16 ? DType::bf16 : DType::f32;
        c.tf32 = o_.precision == Precision::tf32;
        c.kernels = KernelSettings::parse(o_.kernels);
        c.kernels.fuse = o_.fuse;
        if (o_.graph != GraphUse::automatic) c.graph = o_.graph == GraphUse::on;
        c.overlap = OverlapChoice::parse(o_.overlap);
        c.image_h = staged_crops() ? net_.input.h : data_.any().height;
        c.image_w = staged_crops() ? net_.input.w : data_.any().width;
        c.image_c = data_.any().channels;
        c.training = !o_.eval_only;
        if (c.training) c.frozen = o_.freeze;
        c.scheme = o_.fc_scheme;
        c.split = o_.fc_split;
        c.per_microbatch = o_.fc_per_pass && c.microbatch_count() > 1;
        c.accumulate = o_.accumulate;
        c.label_smoothing = o_.label_smoothing;
        const auto scale = [&](int64_t images) {
            const double k = double(images) / o_.batch;
            switch (o_.lr_scale) {
                case LrScale::k: return static_cast<float>(k);
                case LrScale::sqrt: return static_cast<float>(std::sqrt(k));
                case LrScale::none: break;
            }
            return 1.f;
        };
        c.conv_lr_scale = scale(global_batch_);
        c.fc_lr_scale = scale(c.per_microbatch ? c.microbatch_rows() : global_batch_);
        configs_.push_back(c);
    }
}

void Run::make_group() {
    choose_kernels(configs_, 0.3, team_);
    LinkProbe links = o_.links;
    links.hung = [this](const std::string& line) {  // the process ends without destructors
        lock_.reset();
        if (team_) team_->fail(line, 1);
    };
    group_ = std::make_unique<Group>(configs_, team_, links);
    mean_.assign(data_.mean, data_.mean + 3);
    if (o_.mean) mean_ = *o_.mean;
    std_dev_.assign(3, 1.f);
    if (o_.divide_std) std_dev_.assign(data_.std_dev, data_.std_dev + 3);
    if (o_.std_dev) std_dev_ = *o_.std_dev;
    Normalisation n;
    for (int i = 0; i < 3; ++i) {
        n.mean[i] = mean_[i];
        n.inv_std[i] = 1.f / std_dev_[i];
    }
    group_->run([&](Worker& w) {
        w.set_normalisation(n);
        w.set_weight_decay(static_cast<float>(o_.weight_decay));
    });
}

void Run::fill_weights() {
    const SafetensorsFile* file = o_.origin && o_.origin->file ? &*o_.origin->file : nullptr;
    if (o_.resume) return load_weights(file, *group_, net_, !o_.eval_only);
    const InitWeights how{
        .init = o_.init, .seed = o_.seed, .except = o_.init_except, .new_classes = !o_.eval_only};
    if (o_.origin)
        weights_text_ = read_weights(file, *group_, net_, how);
    else
        make_weights(*group_, net_, how);
    if (o_.eval_only) return;
    group_->run([](Worker& w) {
        const Layout& l = w.layout();
        for (size_t i = 0; i < l.params.size(); ++i)
            if (!l.frozen(static_cast<int>(i)))
                w.set_momentum(static_cast<int>(i),
                               std::vector<float>(l.rows[i].count * l.params[i].row));
    });
}

std::vector<std::unique_ptr<Loader>> Run::loaders(const Dataset& data, bool evaluation) {
    std::vector<std::unique_ptr<Loader>> all;
    for (size_t r = 0; r < o_.gpus.size(); ++r) {
        LoaderOptions l;
        l.batch = o_.batch;
        l.global_batch = static_cast<int>(pass_batch());
        if (!evaluation) l.batches_per_step = o_.accumulate;
        l.rows = batch_rows(configs_[r], configs_[r].rank);
        l.shuffle = !evaluation;
        l.seed = o_.seed;
        l.mode = evaluation ? AugmentMode::none : o_.augment;
        l.out = net_.input.h;
        l.crops = staged_crops();
        std::copy(&data_.pca[0][0], &data_.pca[0][0] + 9, &l.pca[0][0]);
        l.threads = o_.loader_threads;
        l.depth = 4;
        l.start_step = evaluation ? 0 : step_ * o_.accumulate;
        l.evaluation = evaluation;
        l.unit_of = match_.unit_of;
        all.push_back(std::make_unique<Loader>(data, l));
    }
    return all;
}

}  // namespace wt
