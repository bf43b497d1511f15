#include "host/train/trainer.h"

#include <chrono>
#include <cmath>
#include <csignal>
#include <cstdio>
#include <filesystem>
#include <memory>
#include <optional>
#include <sstream>

#include "data/dataset.h"
#include "data/loader.h"
#include "host/parallel/group.h"
#include "host/parallel/stop_signals.h"
#include "host/train/checkpoint.h"
#include "host/train/metrics.h"
#include "host/train/progress.h"
#include "host/train/run_folder.h"
#include "host/train/run_lock.h"
#include "host/train/schedule.h"
#include "host/train/step_timeline.h"
#include "host/train/tune.h"
#include "kernels/launch.h"

namespace wt {

namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point t) { return std::chrono::duration<double>(Clock::now() - t).count(); }

struct Evaluation {
    double loss = 0, top1_error = 0, top5_error = 0;  // errors in percent
    int64_t images = 0;
};

class Run {
public:
    Run(const TrainOptions& options, Team* team);
    int train();
    int evaluate_only();

private:
    struct Submitted {
        long ticket = 0;
        int64_t step = 0;
        double lr = 0;
        std::vector<Batch*> batches;
        explicit operator bool() const { return !batches.empty(); }
    };
    void claim_folder();
    void begin_folder();
    void open_data_and_net();
    void configure();
    void make_group();
    void fill_weights();
    void announce();
    std::vector<std::unique_ptr<Loader>> loaders(const Dataset& data, bool evaluation);
    Submitted submit(int64_t step);
    void finish(Submitted& s);
    std::optional<Evaluation> evaluate();
    void log_evaluation(const Evaluation& e);
    bool evaluate_held_out();
    void catch_up_evaluation();
    int stop_asked();
    int interrupted();
    void list_bad_images() const;
    void watch(double loss);
    void save(bool anew = false);
    Position position() const;
    void save_best();
    void announce_best() const;
    void show(StepTimeline& timeline, int64_t step);
    bool first() const { return !team_ || team_->rank() == 0; }
    int first_rank() const { return team_ ? team_->rank() : 0; }  // of the workers here
    int workers() const { return team_ ? team_->ranks() : static_cast<int>(o_.gpus.size()); }
    void announce_links();
    void advise();
    double epoch() const { return double(step_) / double(steps_per_epoch_); }  // passes over the training images so far

    TrainOptions o_;
    Team* team_;
    Recipe recipe_;
    DataSplits data_;
    NetSpec net_;
    AugmentMode augment_ = AugmentMode::crop;
    std::vector<WorkerConfig> configs_;
    std::unique_ptr<Group> group_;
    std::vector<std::unique_ptr<Loader>> train_loaders_;
    Schedule schedule_;
    std::unique_ptr<MetricsLog> log_;
    std::unique_ptr<Progress> progress_;
    int64_t step_ = 0;  // steps done
    int64_t total_steps_ = 0, steps_per_epoch_ = 1, global_batch_ = 0;
    double seconds_before_ = 0;  // of training, before this start
    Clock::time_point start_, last_step_;
    double smooth_loss_ = 0;
    int64_t watched_ = 0;
    bool warned_stuck_ = false;
    int64_t saved_at_ = -1;
    std::unique_ptr<RunLock> lock_;
    Best best_;
    bool evaluation_due_ = false;
    int stop_ = 0;  // the exit status of a stop that was asked for, and in a job agreed on
};

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

// Nobody else is at work in the folder, and what is there would not be lost. Asked before anything
// takes long, and again when the folder, which may be new, is about to be written to.
void Run::claim_folder() {
    if (!first() || o_.eval_only || !std::filesystem::exists(o_.out)) return;
    if (!lock_) lock_ = std::make_unique<RunLock>(o_.out);
    if (o_.resume || o_.overwrite) return;
    if (const std::string held = RunFolder(o_.out).held(); !held.empty())
        throw Error(o_.out + " " + held + ": go on with --resume " + o_.out +
                    ", or begin anew with --overwrite, or give another --out");
}

// What the folder needs before the first step, when all else is known to be good.
void Run::begin_folder() {
    const RunFolder folder(o_.out);
    std::string notice;
    if (first()) {
        std::error_code ec;
        std::filesystem::create_directories(o_.out, ec);
        if (ec)
            throw Error("cannot make the folder " + o_.out + ": " + ec.message() +
                        "; give another --out");
        claim_folder();
        if (!lock_->notice().empty()) std::printf("notice  %s\n", lock_->notice().c_str());
        if (o_.overwrite) folder.clear();
        log_ = std::make_unique<MetricsLog>(o_.out, o_.resume ? step_ : MetricsLog::kFresh);
        log_->kernels({step_, group_->worker(0).layout().choices});
        if (o_.resume) best_ = folder.recall(best_, step_, notice);
        if (!notice.empty()) std::printf("notice  %s\n", notice.c_str());
    }
    if (!team_ || !o_.resume) return;
    char text[64];
    std::snprintf(text, sizeof text, "%.17g %lld", best_.error, static_cast<long long>(best_.step));
    std::istringstream(team_->broadcast(std::string(text))) >> best_.error >> best_.step;
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
    pdl_enabled = o_.early;
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

// How the workers reach each other.
void Run::announce_links() {
    if (!team_) {
        std::printf("%s", group_->links().text().c_str());
        if (const std::string notice = group_->links().notice(); !notice.empty()) std::printf("%s\n", notice.c_str());
        return;
    }
    const auto rates = team_->gather({static_cast<float>(team_->message_rate())});
    if (!first()) return;
    std::printf("job     %d processes: %s\n", team_->ranks(), team_->machines().c_str());
    for (int r = 0; r < team_->ranks() && team_->ranks() > 1; ++r)
        std::printf("link %d -> %d: messages, %.3g GB/s\n", r, (r + 1) % team_->ranks(), rates[(r + 1) % team_->ranks()]);
}

// What a message about a lost rank ends with.
void Run::advise() {
    if (!team_) return;
    const std::string again = "mpirun -np " + std::to_string(team_->ranks()) + " bin/train --comm " + o_.comm;
    if (saved_at_ < 0) return team_->set_advice("no checkpoint has been written yet");
    team_->set_advice("the last whole checkpoint is " + checkpoint_path(o_.out) + ", of step " + std::to_string(saved_at_) + "; go on with: " + again +
                     " --resume " + o_.out);
}

void Run::announce() {
    announce_links();
    if (!first()) return;
    std::string gpus;
    for (int g : o_.gpus) gpus += (gpus.empty() ? "" : ", ") + std::to_string(g) + " (" + device_name(g) + ")";
    const MemoryPlan& plan = group_->worker(0).layout().plan;
    std::printf("net     %s: %lld parameters, %.1f M multiply-adds an image\n", net_.name.c_str(), static_cast<long long>(net_.parameters()), net_.macs() / 1e6);
    std::printf("data    %s\n", data_.description.c_str());
    if (team_)
        std::printf("workers %d, one a process, over %s; rank 0 on GPU %s\n", workers(), o_.comm.c_str(), gpus.c_str());
    else
        std::printf("workers %zu: GPU %s\n", o_.gpus.size(), gpus.c_str());
    std::printf("memory  %s a worker: %s\n", human_bytes(plan.total()).c_str(), plan.text().c_str());
    std::printf("batch   %d a worker, %lld in all; rate %g (%s), momentum %g, weight decay %g, %s, kernels %s\n", o_.batch,
                static_cast<long long>(global_batch_), o_.lr, o_.lr_policy.c_str(), o_.momentum, o_.weight_decay, o_.precision.c_str(), o_.kernels.c_str());
    const WorkerConfig& c = configs_[0];
    if (c.workers > 1) {
        const int64_t fc = c.per_pass ? c.pass_rows() : c.rows();
        std::printf("layers  conv: batch %lld, rate %g; fc: batch %lld, rate %g (scheme %s%s, %s, --lr-scale %s)\n", static_cast<long long>(c.rows()),
                    o_.lr * c.conv_lr_scale, static_cast<long long>(fc), o_.lr * c.fc_lr_scale, name_of(c.scheme), c.split == FcSplit::alternate ? " alternate" : "",
                    c.pass_count() == 1 ? "one pass" : c.per_pass ? "updated in every pass" : "updated once", o_.lr_scale.c_str());
    }
    if (const int64_t left = train_loaders_[0]->dropped_per_epoch(); left > 0)
        std::printf("epoch   %lld steps; the last %lld images of each shuffle do not fill a batch and are left out\n",
                    static_cast<long long>(steps_per_epoch_), static_cast<long long>(left));
    const std::string notice = team_ && !o_.eval_only ? team_->stop_notice() : "";
    if (!notice.empty()) std::printf("notice  %s\n", notice.c_str());
    if (!data_.held_out) std::printf("notice  no held-out images: nothing is evaluated\n");
    std::fflush(stdout);
}

// ---- steps ------------------------------------------------------------------------------------

Run::Submitted Run::submit(int64_t step) {
    Submitted s;
    s.step = step;
    s.lr = schedule_.rate(step);
    for (auto& l : train_loaders_) s.batches.push_back(&l->next());
    const StepState state{o_.seed, static_cast<uint64_t>(step), static_cast<float>(s.lr), static_cast<float>(o_.momentum)};
    std::vector<long> tickets(s.batches.size());
    group_->run([&](Worker& w) {
        const int r = w.layout().config.rank - first_rank();
        const Batch& b = *s.batches[r];
        tickets[r] = w.train({b.images, b.params, b.labels}, state);
    });
    s.ticket = tickets[0];
    return s;
}

void Run::finish(Submitted& s) {
    SoftmaxStats stats{};
    for (int r = 0; r < group_->workers(); ++r) {
        const SoftmaxStats mine = group_->worker(r).wait(s.ticket);
        if (r == 0) stats = mine;
        train_loaders_[r]->release(*s.batches[r]);
    }
    s.batches.clear();
    step_ = s.step + 1;
    const double loss = stats.loss_sum / std::max(1, stats.rows);
    const double took = seconds_since(last_step_);
    last_step_ = Clock::now();
    const double rate = global_batch_ / std::max(took, 1e-9);
    if (log_) log_->step({step_, epoch(), loss, s.lr, rate, seconds_before_ + seconds_since(start_)});
    // Of the epoch where the run is so many epochs, of the run where it is so many steps.
    if (!progress_)
        ;
    else if (o_.steps >= 0)
        progress_->update({1, 0, step_, total_steps_, loss, s.lr, rate});
    else
        progress_->update({s.step / steps_per_epoch_ + 1, o_.epochs, s.step % steps_per_epoch_ + 1, steps_per_epoch_, loss, s.lr, rate});
    if (!std::isfinite(loss)) {
        if (progress_) progress_->end_bar();
        throw Error("the loss is not finite at step " + std::to_string(step_) + " (rate " + std::to_string(s.lr) + "): lower --lr, or try --init he; " +
                    (std::filesystem::exists(checkpoint_path(o_.out)) ? "the last checkpoint in " + o_.out + " is kept" : "no checkpoint was written"));
    }
    watch(loss);
}

// The paper's initialisation can stay at loss ln(classes) for long: say so once, with what helps.
void Run::watch(double loss) {
    smooth_loss_ = watched_ == 0 ? loss : 0.98 * smooth_loss_ + 0.02 * loss;
    const double chance = std::log(static_cast<double>(net_.classes()));
    if (!first() || ++watched_ < 200 || warned_stuck_ || std::abs(smooth_loss_ - chance) > 0.01 * chance) return;
    warned_stuck_ = true;
    progress_->end_bar();
    std::fprintf(stderr, "warning: after %lld steps the loss is still %.3f, that of guessing among %d classes (ln %d = %.3f)%s\n",
                 static_cast<long long>(step_), smooth_loss_, net_.classes(), net_.classes(), chance,
                 o_.init == "paper" ? "; --init he starts faster" : "; check --lr and the labels");
}

// 0, or the exit status of a stop. In a job every rank asks at the same places and gets the same
// answer: what they knew when they asked before decides.
int Run::stop_asked() {
    if (stop_) return stop_;
    if (!team_) return stop_ = stop_status();
    stop_ = team_->verdict();
    team_->vote(team_->stop_asked());
    return stop_;
}

// None when a stop cut it short.
std::optional<Evaluation> Run::evaluate() {
    const auto eval_loaders = loaders(*data_.held_out, true);
    const int64_t batches = eval_loaders[0]->steps_per_epoch();
    Evaluation e;
    double loss = 0;
    int64_t top1 = 0, top5 = 0;
    std::vector<Batch*> previous;
    long previous_ticket = -1;
    const auto drain = [&] {
        if (previous_ticket < 0) return;
        SoftmaxStats stats{};
        for (int r = 0; r < group_->workers(); ++r) {
            stats = group_->worker(r).wait(previous_ticket);
            eval_loaders[r]->release(*previous[r]);
        }
        loss += stats.loss_sum, top1 += stats.top1, top5 += stats.top5, e.images += stats.rows;
    };
    bool whole = true;
    for (int64_t b = 0; b < batches; ++b) {
        whole = o_.eval_only || !stop_asked();
        if (!whole) break;
        std::vector<Batch*> now;
        for (auto& l : eval_loaders) now.push_back(&l->next());
        std::vector<long> tickets(now.size());
        group_->run([&](Worker& w) {
            const int r = w.layout().config.rank - first_rank();
            tickets[r] = w.evaluate({now[r]->images, now[r]->params, now[r]->labels});
        });
        drain();
        previous = now;
        previous_ticket = tickets[0];
    }
    drain();
    if (!whole) return {};
    const double n = std::max<int64_t>(1, e.images);
    e.loss = loss / n;
    e.top1_error = 100.0 * (1.0 - top1 / n);
    e.top5_error = 100.0 * (1.0 - top5 / n);
    return e;
}

void Run::log_evaluation(const Evaluation& e) {
    if (!first()) return;
    log_->eval({step_, epoch(), data_.held_out_name, e.loss, e.top1_error, e.top5_error, e.images, seconds_before_ + seconds_since(start_)});
    progress_->end_bar();
    std::printf("%s after %lld steps: loss %.4f, top-1 error %.2f%%, top-5 error %.2f%% (%lld images)\n", data_.held_out_name.c_str(),
                static_cast<long long>(step_), e.loss, e.top1_error, e.top5_error, static_cast<long long>(e.images));
    std::fflush(stdout);
}

// Of the step that is done. True when it is the best so far.
bool Run::evaluate_held_out() {
    const std::optional<Evaluation> e = evaluate();
    evaluation_due_ = !e;
    if (!e) return false;
    log_evaluation(*e);
    const bool better = best_.beaten_by(e->top1_error);
    if (better) best_ = {e->top1_error, step_};
    if (schedule_.evaluated(e->top1_error) && step_ < total_steps_ && first())
        std::printf("no better for 3 evaluations: the rate falls to %g\n", schedule_.rate(step_));
    return better;
}

// What the run owed when it was stopped, unless by its flags of now there is no evaluation here.
void Run::catch_up_evaluation() {
    const bool due = evaluation_due_ && data_.held_out &&
                     (step_ % steps_per_epoch_ == 0 || step_ == total_steps_);
    evaluation_due_ = false;
    if (!due) return;
    const bool better = evaluate_held_out();
    if (!evaluation_due_) save(true);
    if (better) save_best();
}

Position Run::position() const {
    Position p;
    p.net = net_.name;
    p.step = step_;
    p.seed = o_.seed;
    p.global_batch = global_batch_;
    p.schedule = schedule_.state();
    p.seconds = seconds_before_ + seconds_since(start_);
    p.arguments = o_.arguments;
    p.best = best_;
    p.evaluation_due = evaluation_due_;
    return p;
}

// `anew`: what is to be remembered has changed since this step's checkpoint.
void Run::save(bool anew) {
    if (saved_at_ == step_ && !anew) return;
    const RunFolder folder(o_.out);
    if (first() && saved_at_ >= 0 && saved_at_ != step_ && o_.keep > 1) folder.set_aside(saved_at_);
    save_checkpoint(folder.newest(), *group_, net_, position());
    saved_at_ = step_;
    advise();
    if (first()) folder.prune(step_, o_.keep);
}

// After the checkpoint, where one falls on this step: then it is a second name of that.
void Run::save_best() {
    const RunFolder folder(o_.out);
    if (saved_at_ != step_) return save_checkpoint(folder.best(), *group_, net_, position());
    if (first()) folder.make_best();
}

void Run::announce_best() const {
    if (!best_) return;
    std::printf("best    top-1 error %.2f%% after %lld steps: %s\n", best_.error,
                static_cast<long long>(best_.step), RunFolder(o_.out).best().c_str());
}

void Run::show(StepTimeline& timeline, int64_t step) {
    const StepPicture picture = timeline.read();
    const std::string name = "step " + std::to_string(step + 1);
    const std::string title = net_.name + ", batch " + std::to_string(o_.batch) + " a worker, " + o_.precision + ", " + name;
    const std::string trace = write_timeline(picture, o_.timeline, title);
    progress_->end_bar();
    std::printf("%s: %s; wrote %s and %s\n", name.c_str(), summary(picture).c_str(), o_.timeline.c_str(), trace.c_str());
    std::fflush(stdout);
}

int Run::train() {
    // From here on the folder holds what only a checkpoint makes whole.
    on_stop_signal(OnStop::note);
    if (team_) team_->begin_steps();
    begin_folder();
    if (first()) {
        Progress::Options progress;
        if (team_) progress.terminal = 0;  // what mpirun has of a terminal is none
        progress_ = std::make_unique<Progress>(stdout, total_steps_ - step_, progress);
    }
    announce();
    if (o_.resume && first()) std::printf("resumed at step %lld of %lld\n", static_cast<long long>(step_), static_cast<long long>(total_steps_));
    start_ = last_step_ = Clock::now();
    catch_up_evaluation();
    stop_asked();
    last_step_ = Clock::now();
    // The first steps make plans and handles.
    const int64_t shown_step = o_.timeline.empty() ? -1 : std::min(step_ + 2, total_steps_ - 1);
    Submitted pending;
    for (int64_t next = step_; next < total_steps_ && !stop_; ++next) {
        std::optional<StepTimeline> timeline;
        if (next == shown_step) {
            if (pending) finish(pending);
            timeline.emplace(*group_);
        }
        Submitted now = submit(next);
        if (timeline) show(*timeline, next);
        if (pending) finish(pending);  // the device has the next step while the host looks at this one
        pending = std::move(now);
        const int64_t done = next + 1;
        const bool epoch_ends = done % steps_per_epoch_ == 0, last = done == total_steps_;
        stop_asked();
        if (epoch_ends || last || stop_ || (o_.save_every > 0 && done % o_.save_every == 0)) {
            finish(pending);
            const bool better = (epoch_ends || last) && data_.held_out && evaluate_held_out();
            if (o_.save_every == 0 || last || stop_ || done % o_.save_every == 0) save();
            if (better) save_best();
            last_step_ = Clock::now();
        }
    }
    if (team_) team_->verdict();
    if (progress_) progress_->end_bar();
    list_bad_images();
    if (stop_ && (step_ < total_steps_ || evaluation_due_)) return interrupted();
    const double seconds = seconds_before_ + seconds_since(start_);
    if (total_steps_ == 0) save();
    if (!first()) return 0;
    log_->done({step_, epoch(), "finished", seconds});
    std::printf("trained %lld steps in %.1f s; wrote %s and %s/metrics.jsonl\n", static_cast<long long>(step_), seconds,
                checkpoint_path(o_.out).c_str(), o_.out.c_str());
    announce_best();
    return 0;
}

void Run::list_bad_images() const {
    for (const Dataset* d : {data_.train.get(), data_.held_out.get()}) {
        if (!d || d->bad_count() == 0) continue;
        std::printf("skipped %lld unreadable images of the %s split:\n",
                    static_cast<long long>(d->bad_count()),
                    d == data_.train.get() ? "training" : "held-out");
        for (const BadImage& b : d->bad_images())
            std::printf("  %s: %s\n", b.path.c_str(), b.reason.c_str());
    }
}

// Says how to go on. All that is to be kept was written before: nobody may be there to read.
int Run::interrupted() {
    save();  // stopped before the first step
    if (!first()) return stop_;
    std::string again = "bin/train";
    if (team_)
        again = "mpirun -np " + std::to_string(workers()) + " bin/train --comm " + o_.comm;
    std::fprintf(stop_ == 128 + SIGPIPE ? stderr : stdout,
                 "interrupted at step %lld%s; go on with: %s --resume %s\n",
                 static_cast<long long>(step_), evaluation_due_ ? ", before its evaluation" : "",
                 again.c_str(), o_.out.c_str());
    announce_best();
    std::fflush(stdout);
    return stop_;
}

int Run::evaluate_only() {
    const Evaluation e = *evaluate();
    if (!first()) return 0;
    std::printf("%s: loss %.4f, top-1 error %.2f%%, top-5 error %.2f%% (%lld images)\n", data_.held_out_name.c_str(), e.loss, e.top1_error,
                e.top5_error, static_cast<long long>(e.images));
    return 0;
}

}  // namespace

int run_training(const TrainOptions& options, Team* team) {
    Run run(options, team);
    const auto go = [&] { return options.eval_only ? run.evaluate_only() : run.train(); };
    if (!team) return go();
    // Before anything is taken down: that could wait for the others, who will not come.
    std::string why;
    int status = 1;
    try {
        return go();
    } catch (const std::bad_alloc&) {
        why = "out of memory on the host: use a smaller --batch or fewer workers";
    } catch (const UsageError& e) {
        why = e.what(), status = 2;
    } catch (const std::exception& e) {
        why = e.what();
    }
    team->fail(why, status);
}

}  // namespace wt
