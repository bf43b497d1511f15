// The loop of steps.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>

#include "host/parallel/stop_signals.h"
#include "host/train/run.h"

namespace wt {

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

}  // namespace wt
