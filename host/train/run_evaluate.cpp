// Evaluation on the held-out images.
#include <algorithm>
#include <cmath>
#include <cstdio>

#include "host/printable.h"
#include "host/train/per_class.h"
#include "host/train/predictions.h"
#include "host/train/predictor.h"
#include "host/train/run.h"

namespace wt {

// What --eval-only writes besides, and what the page of a run shows.
struct EvaluationFiles {
    std::optional<Examples> examples;
    std::optional<Predictions> predictions;
    std::optional<PerClass> per_class;
};

// Sums over images that count.
struct Run::Counts {
    double loss = 0;
    int64_t top1 = 0, top5 = 0, images = 0;
};

// None when a stop cut it short.
std::optional<Evaluation> Run::evaluate() {
    const auto eval_loaders = loaders(*data_.held_out, true);
    const int64_t batches = eval_loaders[0]->steps_per_epoch();
    EvaluationFiles files;
    if (o_.eval_only && !o_.predictions.empty())
        files.predictions.emplace(o_.predictions, match_.classes);
    if (o_.eval_only && !o_.per_class.empty()) files.per_class.emplace(match_.classes);
    if (!o_.eval_only) files.examples.emplace(match_.classes.size());
    const bool in_views = o_.eval_only && o_.views > 1;
    const bool scored = in_views || files.predictions || files.per_class || files.examples;
    Counts sum;
    struct Passed {
        std::vector<Batch*> batches;
        long ticket = -1;
        SoftmaxStats stats{};
        std::vector<float> scores;
        explicit operator bool() const { return ticket >= 0; }
    } last;
    const auto fetch = [&](Passed& p) {
        for (int r = 0; r < group_->workers(); ++r) p.stats = group_->worker(r).wait(p.ticket);
        if (!scored) return;
        p.scores = group_->get_logits();
        if (in_views) evaluate_in_views(p.batches, p.scores);
    };
    const auto count = [&](Passed& p) {
        Counts counted{.loss = p.stats.loss_sum,
                       .top1 = p.stats.top1,
                       .top5 = p.stats.top5,
                       .images = p.stats.rows};
        if (scored) {
            const Counts of_scores = count_scores(p.batches, p.scores, files);
            if (in_views) counted = of_scores;
        }
        for (int r = 0; r < group_->workers(); ++r) eval_loaders[r]->release(*p.batches[r]);
        p.ticket = -1;
        sum.loss += counted.loss;
        sum.top1 += counted.top1;
        sum.top5 += counted.top5;
        sum.images += counted.images;
    };
    bool whole = true;
    for (int64_t b = 0; b < batches; ++b) {
        whole = o_.eval_only || !stop_asked();
        if (!whole) break;
        Passed now;
        for (auto& l : eval_loaders) now.batches.push_back(&l->next());
        // The next batch takes the place of its logits.
        if (last && scored) fetch(last);
        std::vector<long> tickets(now.batches.size());
        group_->run([&](Worker& w) {
            const int r = w.layout().config.rank - first_rank();
            const Batch& of = *now.batches[r];
            tickets[r] = w.evaluate({of.images, of.params, of.labels});
        });
        now.ticket = tickets[0];
        // The device has that while the host looks at the one before.
        if (last && !scored) fetch(last);
        if (last) count(last);
        last = std::move(now);
    }
    // The image in the first row of the last batch, whose activations stay.
    int64_t through = -1;
    int label = -1;
    if (last) {
        fetch(last);
        const Batch& of = *last.batches[0];
        label = of.labels[0];
        if (label >= 0) through = of.first + batch_rows(configs_[0], configs_[0].rank)[0];
        count(last);
    }
    if (!whole) return {};
    if (files.examples) keep_pictures(*files.examples, through, label);
    if (files.predictions) {
        files.predictions->write();
        std::printf("wrote %s: %s\n", o_.predictions.c_str(), files.predictions->summary().c_str());
    }
    if (files.per_class) {
        files.per_class->write(o_.per_class);
        std::printf("wrote %s: %s\n", o_.per_class.c_str(),
                    printable(files.per_class->summary()).c_str());
    }
    const double n = std::max<int64_t>(1, sum.images);
    Evaluation e;
    e.images = sum.images;
    e.skipped = data_.held_out->size() + data_.held_out->left_out - sum.images;
    e.loss = sum.loss / n;
    e.top1_error = 100.0 * (1.0 - sum.top1 / n);
    e.top5_error = 100.0 * (1.0 - sum.top5 / n);
    return e;
}

// The batch has been evaluated in its first view, and these are its logits. They become the
// logarithms of the probabilities' means over all views.
void Run::evaluate_in_views(const std::vector<Batch*>& batches, std::vector<float>& scores) {
    const auto classes = static_cast<size_t>(net_.classes());
    const size_t rows = scores.size() / classes;
    std::vector<float> sums(scores.size());
    const Dataset& data = *data_.held_out;
    const int views = view_count(o_.views, data.mirrors);
    for (int v = 0; v < views; ++v) {
        for (Batch* b : batches)
            std::fill_n(b->params, b->count,
                        view_of(v, o_.views, data.height, data.width, net_.input.h));
        group_->run([&](Worker& w) {
            const Batch& b = *batches[static_cast<size_t>(w.layout().config.rank - first_rank())];
            w.wait(w.evaluate({b.images, b.params, b.labels}));
        });
        const std::vector<float> logits = group_->get_logits();
        for (size_t i = 0; i < rows; ++i)
            add_probabilities(&logits[i * classes], classes, &sums[i * classes]);
    }
    for (size_t i = 0; i < sums.size(); ++i)
        scores[i] = std::log(sums[i] / static_cast<float>(views));
}

// The batch's labels in the data set's order, whichever worker had the samples; in a job on rank 0
// alone, and all call it.
std::vector<int> Run::labels_of(const std::vector<Batch*>& batches) const {
    std::vector<float> by_worker;  // as a team gathers them
    for (const Batch* b : batches)
        by_worker.insert(by_worker.end(), b->labels, b->labels + b->count);
    if (team_) by_worker = team_->gather(by_worker);
    std::vector<int> labels(static_cast<size_t>(pass_batch()), -1);
    auto next = by_worker.begin();
    for (int r = 0; r < workers() && next != by_worker.end(); ++r)
        for (const int row : batch_rows(configs_[0], r))
            labels[static_cast<size_t>(row)] = static_cast<int>(*next++);
    return labels;
}

// Of the batch that has just been evaluated: its samples in the data set's order.
Run::Counts Run::count_scores(const std::vector<Batch*>& batches, const std::vector<float>& scores,
                              EvaluationFiles& files) const {
    Counts counts;
    const std::vector<int> labels = labels_of(batches);
    if (!first()) return counts;
    const auto classes = static_cast<size_t>(net_.classes());
    const int64_t first = batches[0]->first,
                  end = std::min(first + pass_batch(), data_.held_out->size());
    for (int64_t i = first; i < end; ++i) {
        const auto row = static_cast<size_t>(i - first);
        const float* s = &scores[row * classes];
        const int label = labels[row];
        if (files.predictions) files.predictions->add(data_.held_out->name(i), label, s);
        if (files.per_class) files.per_class->add(label, s);
        if (label < 0) continue;
        if (files.examples) {
            files.examples->add(i, label, s);
            continue;
        }
        const Ranked ranked = rank_of(s, classes, label);
        ++counts.images;
        counts.top1 += ranked.top1;
        counts.top5 += ranked.top5;
        counts.loss -= s[label];  // of scores that are logarithms of probabilities
    }
    return counts;
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
