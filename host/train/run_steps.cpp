// The loop of steps.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "host/cuda/device.h"
#include "host/parallel/stop_signals.h"
#include "host/train/run.h"

namespace wt {

bool Run::input_ready() {
    for (auto& l : train_loaders_)
        if (!l->ready()) return false;
    return true;
}

double Run::input_waits() const {
    double seconds = 0;
    for (const auto& l : train_loaders_) seconds += l->wait_seconds();
    return seconds;
}

// Two passes over the network may be under way (Worker::train): the devices have the next one when
// the host waits for one. `before`: the step before, or none.
Run::Submitted Run::submit(int64_t step, double rate, Submitted& before) {
    Submitted s;
    s.step = step;
    s.lr = rate;
    StepState state{.seed = o_.seed,
                    .step = static_cast<uint64_t>(step),
                    .lr = static_cast<float>(s.lr),
                    .momentum = static_cast<float>(o_.momentum)};
    for (int pass = 0; pass < o_.accumulate; ++pass) {
        // Without input they have nothing to do anyhow: the wait for it begins when they are done.
        const size_t most = pass > 0 && !input_ready() ? 0 : 1;
        while (before.passes.size() + s.passes.size() > most)
            take_counts(before.passes.empty() ? s : before);
        UnderWay now;
        const double waited = input_waits();
        for (auto& l : train_loaders_) now.batches.push_back(&l->next());
        s.waited += input_waits() - waited;
        if (pass == 0) s.began = Clock::now();
        state.row0 = pass * pass_batch();
        std::vector<long> tickets(now.batches.size());
        group_->run([&](Worker& w) {
            const int r = w.layout().config.rank - first_rank();
            const Batch& b = *now.batches[r];
            tickets[r] = w.train({b.images, b.params, b.labels}, state, pass);
        });
        now.ticket = tickets[0];
        s.passes.push_back(std::move(now));
    }
    return s;
}

// Of the first pass that is under way, once it is over.
void Run::take_counts(Submitted& s) {
    const UnderWay pass = std::move(s.passes.front());
    s.passes.erase(s.passes.begin());
    SoftmaxStats counts{};
    for (int r = 0; r < group_->workers(); ++r) {
        const SoftmaxStats mine = group_->worker(r).wait(pass.ticket);
        if (r == 0) counts = mine;
        train_loaders_[r]->release(*pass.batches[r]);
    }
    s.counts.loss_sum += counts.loss_sum;
    s.counts.rows += counts.rows;
    s.counts.top1 += counts.top1;
    s.counts.top5 += counts.top5;
}

SoftmaxStats Run::wait_for(Submitted& s) {
    while (!s.passes.empty()) take_counts(s);
    s.began = {};  // nothing is submitted
    step_ = s.step + 1;
    return s.counts;
}

// `next`: the step that has been submitted meanwhile.
void Run::finish(Submitted& s, const Submitted* next) {
    const Clock::time_point asked = Clock::now();
    const SoftmaxStats stats = wait_for(s);
    const double rows = std::max(1, stats.rows);
    const double loss = stats.loss_sum / rows, error = 100.0 * (1.0 - stats.top1 / rows);
    // A submission may take as long as the step (messages between processes go through the host).
    // Where this one was done without a wait it was so before the next submission, whose time is
    // the next step's.
    Clock::time_point done = Clock::now();
    if (next && done - asked < (asked - next->began) / 10) done = next->began;
    const double took = std::max(std::chrono::duration<double>(done - last_step_).count(), 1e-9);
    last_step_ = done;
    const double rate = global_batch_ / took, wait = std::min(1.0, s.waited / took);
    if (log_)
        log_->step({.step = step_,
                    .epoch = epoch(),
                    .loss = loss,
                    .top1_error = error,
                    .lr = s.lr,
                    .images_per_s = rate,
                    .input_wait = wait,
                    .seconds = seconds_before_ + seconds_since(start_)});
    if (progress_) {
        ProgressState p{.epoch = 1,
                        .epochs = 0,
                        .step = step_,
                        .steps = total_steps_,
                        .loss = loss,
                        .lr = s.lr,
                        .images_per_s = rate,
                        .error = error,
                        .input_wait = wait};
        if (o_.steps < 0) {  // of the epoch, where the run is so many epochs
            p.epoch = s.step / steps_per_epoch_ + 1;
            p.epochs = o_.epochs;
            p.step = s.step % steps_per_epoch_ + 1;
            p.steps = steps_per_epoch_;
        }
        progress_->update(p);
    }
    if (!std::isfinite(loss))
        stop_not_finite("the loss is not finite at step " + std::to_string(step_));
    watch(loss);
}

// Says once each that a run learns nothing: it stays at the loss of guessing, ln(classes), or is
// far above it.
void Run::watch(double loss) {
    smooth_loss_ = watched_ == 0 ? loss : 0.98 * smooth_loss_ + 0.02 * loss;
    recent_losses_[watched_ % recent_losses_.size()] = loss;
    ++watched_;
    if (!first()) return;
    const double chance = std::log(static_cast<double>(net_.classes()));
    watch_for_chance(chance);
    watch_for_divergence(chance);
}

// The paper's initialisation can stay there for long.
void Run::watch_for_chance(double chance) {
    if (warned_stuck_ || watched_ < 200 || std::abs(smooth_loss_ - chance) > 0.01 * chance) return;
    warned_stuck_ = true;
    warn(smooth_loss_, "still", "that", chance,
         !o_.origin && o_.init == Init::paper ? "; --init he starts faster"
                                              : "; check --lr and the labels");
}

// A rate that is too high for this network and data, though not so high that the loss overflows.
// The median passes over single steps; the first ones of a sound run can be above chance by a
// little.
void Run::watch_for_divergence(double chance) {
    if (warned_high_ || watched_ <= static_cast<int64_t>(recent_losses_.size())) return;
    auto sorted = recent_losses_;
    std::sort(sorted.begin(), sorted.end());
    const double median = sorted[sorted.size() / 2];
    if (median < 2 * chance + 1) return;
    warned_high_ = true;
    char advice[64];
    std::snprintf(advice, sizeof advice, ": lower --lr (%g now)", schedule_.rate(step_));
    warn(median, "about", "far above that", chance, advice);
}

void Run::warn(double loss, const char* how, const char* where, double chance,
               const std::string& advice) {
    progress_->end_bar();
    std::fprintf(
        stderr,
        "warning: after %lld steps the loss is %s %.3f, %s of guessing among %d classes (ln %d = %.3f)%s\n",
        static_cast<long long>(step_), how, loss, where, net_.classes(), net_.classes(), chance,
        advice.c_str());
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

// Drawing is not what the run is for: where it fails the run goes on.
void Run::show(StepTimeline& timeline, int64_t step) {
    const StepPicture picture = timeline.read();
    const std::string name = "step " + std::to_string(step + 1);
    const std::string title = net_.name + ", batch " + std::to_string(o_.batch) + " a worker, " +
                              name_in(kPrecisions, o_.precision) + ", " + name;
    progress_->end_bar();
    try {
        const std::string trace = write_timeline(picture, o_.timeline, title);
        write_timeline_of_run(picture, o_.out, title);
        const std::string sent =
            workers() > 1 ? ", " + human_bytes(static_cast<size_t>(timeline.bytes_sent())) + " sent"
                          : "";
        std::printf("%s: %s%s; wrote %s and %s\n", name.c_str(), summary(picture).c_str(),
                    sent.c_str(), o_.timeline.c_str(), trace.c_str());
        std::fflush(stdout);
    } catch (const Error& e) {
        std::fprintf(stderr, "warning: --timeline: %s\n", e.what());
    }
}

bool Run::evaluation_falls_on(int64_t done) const {
    if (!data_.held_out) return false;
    if (done == total_steps_) return true;
    if (o_.eval_every < 0) return done % steps_per_epoch_ == 0;
    return o_.eval_every > 0 && done % o_.eval_every == 0;
}

bool Run::save_falls_on(int64_t done) const {
    return done == total_steps_ ||
           done % (o_.save_every > 0 ? o_.save_every : steps_per_epoch_) == 0;
}

// 0: there is nothing that failed.
int Run::nothing_left() {
    if (!first()) return 0;
    announce_notices();
    std::printf(
        "nothing to train: %s is at step %lld, and this run has %lld; give more --epochs or --steps to train on\n",
        o_.origin->path.c_str(), static_cast<long long>(step_),
        static_cast<long long>(total_steps_));
    return 0;
}

int Run::train() {
    const bool owes_evaluation = evaluation_due_ && evaluation_falls_on(step_);
    if (o_.resume && step_ >= total_steps_ && !owes_evaluation) return nothing_left();
    // From here on the folder holds what only a checkpoint makes whole.
    on_stop_signal(OnStop::note);
    if (team_) team_->begin_steps();
    start_ = Clock::now();
    begin_folder();
    if (first()) {
        Progress::Options progress;
        if (team_) progress.terminal = 0;  // what mpirun has of a terminal is none
        progress_ = std::make_unique<Progress>(stdout, total_steps_ - step_, progress);
    }
    announce();
    const int64_t began_at = step_;
    if (o_.resume && first())
        std::printf("resumed at step %lld of %lld\n", static_cast<long long>(step_),
                    static_cast<long long>(total_steps_));
    start_ = last_step_ = Clock::now();
    catch_up_evaluation();
    stop_asked();
    last_step_ = Clock::now();
    run_steps();
    if (team_) team_->verdict();
    if (progress_) progress_->end_bar();
    list_bad_images();
    if (stop_ && (step_ < total_steps_ || evaluation_due_)) return interrupted();
    const double seconds = seconds_before_ + seconds_since(start_);
    if (total_steps_ == 0) save();
    if (!first()) return 0;
    log_->done({step_, epoch(), "finished", seconds});
    draw_report(true);
    if (began_at > 0)
        std::printf("trained %lld more steps (%lld in all)",
                    static_cast<long long>(step_ - began_at), static_cast<long long>(step_));
    else
        std::printf("trained %lld steps", static_cast<long long>(step_));
    std::printf(" in %.1f s; wrote %s and %s/metrics.jsonl\n", seconds,
                checkpoint_path(o_.out).c_str(), o_.out.c_str());
    announce_best();
    return 0;
}

void Run::run_steps() {
    if (!known_.saved) remember_state(false);
    check_room();
    // The first steps make plans and handles.
    const int64_t shown_step = o_.timeline.empty() ? -1 : std::min(step_ + 2, total_steps_ - 1);
    Submitted pending;
    for (int64_t next = step_; next < total_steps_ && !stop_; ++next) {
        std::optional<StepTimeline> timeline;
        std::optional<Watch> watched;
        const bool watches = o_.watch > 0 && (next + 1) % o_.watch == 0;
        // Without input the devices get nothing to do anyhow: then the wait for it begins when they
        // are done, and all of it is time that they lose.
        if (pending && (next == shown_step || watches || !input_ready())) finish(pending);
        if (next == shown_step) timeline.emplace(*group_);
        if (watches) {
            watched.emplace(*group_);
            last_step_ = Clock::now();  // copying is no part of the step's time
        }
        known_.rates.push_back(schedule_.rate(next));
        Submitted now = submit(next, known_.rates.back(), pending);
        if (timeline) show(*timeline, next);
        // the device has the next step while the host looks at this one
        if (pending) finish(pending, &now);
        pending = std::move(now);
        const int64_t done = next + 1;
        stop_asked();
        const bool evaluates = evaluation_falls_on(done), saves = stop_ || save_falls_on(done),
                   checks = o_.check_replicas > 0 && done % o_.check_replicas == 0;
        if (!evaluates && !saves && !checks && !watches) continue;
        finish(pending);
        if (watched) show(*watched);
        if (checks) check_replicas();
        if (!evaluates && !saves) {
            last_step_ = Clock::now();
            continue;
        }
        const bool better = evaluates && evaluate_held_out();
        if (saves || stop_) save();
        if (better) save_best();
        draw_report(false);
        last_step_ = Clock::now();
    }
}

}  // namespace wt
