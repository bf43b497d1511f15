// Evaluation on the held-out images.
#include <algorithm>
#include <cstdio>

#include "host/train/predictions.h"
#include "host/train/run.h"

namespace wt {

// None when a stop cut it short.
std::optional<Evaluation> Run::evaluate() {
    const auto eval_loaders = loaders(*data_.held_out, true);
    const int64_t batches = eval_loaders[0]->steps_per_epoch();
    Evaluation e;
    double loss = 0;
    int64_t top1 = 0, top5 = 0;
    std::vector<Batch*> previous;
    long previous_ticket = -1;
    std::optional<Predictions> predictions;
    if (o_.eval_only && !o_.predictions.empty())
        predictions.emplace(o_.predictions, match_.classes);
    const auto drain = [&] {
        if (previous_ticket < 0) return;
        SoftmaxStats stats{};
        for (int r = 0; r < group_->workers(); ++r) stats = group_->worker(r).wait(previous_ticket);
        if (predictions) predict(*predictions, previous);
        for (int r = 0; r < group_->workers(); ++r) eval_loaders[r]->release(*previous[r]);
        previous_ticket = -1;
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
        if (predictions) drain();  // before the next batch takes the place of its logits
    }
    drain();
    if (!whole) return {};
    if (predictions) {
        predictions->write();
        std::printf("wrote %s: %s\n", o_.predictions.c_str(), predictions->summary().c_str());
    }
    const double n = std::max<int64_t>(1, e.images);
    e.skipped = data_.held_out->size() + data_.held_out->left_out - e.images;
    e.loss = loss / n;
    e.top1_error = 100.0 * (1.0 - top1 / n);
    e.top5_error = 100.0 * (1.0 - top5 / n);
    return e;
}

// Of the batch that has just been evaluated: its samples in the data set's order, whichever worker
// had them.
void Run::predict(Predictions& predictions, const std::vector<Batch*>& batches) {
    const std::vector<float> logits = group_->get_logits();
    std::vector<int> labels(static_cast<size_t>(global_batch_));
    for (size_t r = 0; r < batches.size(); ++r) {
        const std::vector<int> rows = batch_rows(configs_[r], configs_[r].rank);
        for (size_t i = 0; i < rows.size(); ++i)
            labels[static_cast<size_t>(rows[i])] = batches[r]->labels[i];
    }
    const int64_t first = batches[0]->first,
                  end = std::min(first + global_batch_, data_.held_out->size());
    for (int64_t i = first; i < end; ++i) {
        const auto row = static_cast<size_t>(i - first);
        predictions.add(data_.held_out->name(i), labels[row],
                        &logits[row * static_cast<size_t>(net_.classes())]);
    }
}

// "19 of 20 images; 1 skipped: val/a/7.png (PNG: truncated)".
std::string Run::counted(const Evaluation& e) const {
    if (e.skipped == 0) return std::to_string(e.images) + " images";
    std::string s = std::to_string(e.images) + " of " + std::to_string(e.images + e.skipped) +
                    " images; " + std::to_string(e.skipped) + " skipped";
    const auto bad = data_.held_out->bad_images();  // in a job, those that this process has met
    if (!bad.empty())
        s += ": " + bad[0].path + " (" + bad[0].reason + ")" + (e.skipped > 1 ? ", ..." : "");
    return s;
}

void Run::log_evaluation(const Evaluation& e) {
    if (!first()) return;
    if (log_)
        log_->eval({.step = step_,
                    .epoch = epoch(),
                    .split = data_.held_out_name,
                    .loss = e.loss,
                    .top1_error = e.top1_error,
                    .top5_error = e.top5_error,
                    .images = e.images,
                    .skipped = e.skipped,
                    .seconds = seconds_before_ + seconds_since(start_)});
    if (progress_) progress_->end_bar();
    const std::string when = o_.eval_only ? "" : " after " + std::to_string(step_) + " steps";
    std::printf("%s%s: loss %.4f, top-1 error %.2f%%, top-5 error %.2f%% (%s)\n",
                data_.held_out_name.c_str(), when.c_str(), e.loss, e.top1_error, e.top5_error,
                counted(e).c_str());
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
    const bool due = evaluation_due_ && evaluation_falls_on(step_);
    evaluation_due_ = false;
    if (!due) return;
    const bool better = evaluate_held_out();
    if (!evaluation_due_) save(true);
    if (better) save_best();
}

int Run::evaluate_only() {
    if (first()) {
        announce_weights();
        announce_net_and_data();
        announce_notices();
        std::fflush(stdout);
    }
    const Evaluation e = *evaluate();
    if (e.images == 0) throw Error("--eval-only: no image of " + o_.data + " could be read");
    log_evaluation(e);
    if (first() && e.skipped > 1) list_bad_images();
    return 0;
}

}  // namespace wt
