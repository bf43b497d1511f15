// One training run, for trainer.cpp alone. Its parts by subject:
//
//   run_setup.cpp     options, data, network, workers, first weights
//   run_announce.cpp  what is said before, after and between the steps
//   run_steps.cpp     the loop of steps
//   run_evaluate.cpp  held-out images
//   run_health.cpp    what ends a run that is no longer sound, and what warns of it
//   run_pictures.cpp  what its page shows of held-out images
//   run_saves.cpp     the run's folder: lock, log, checkpoints
#pragma once

#include <array>
#include <chrono>
#include <cstdint>
#include <memory>
#include <optional>
#include <vector>

#include "data/dataset.h"
#include "data/loader.h"
#include "host/parallel/group.h"
#include "host/train/checkpoint.h"
#include "host/train/classes.h"
#include "host/train/disk_room.h"
#include "host/train/examples.h"
#include "host/train/health.h"
#include "host/train/metrics.h"
#include "host/train/options.h"
#include "host/train/origin.h"
#include "host/train/progress.h"
#include "host/train/run_lock.h"
#include "host/train/schedule.h"
#include "host/train/step_timeline.h"

namespace wt {

using Clock = std::chrono::steady_clock;
inline double seconds_since(Clock::time_point t) {
    return std::chrono::duration<double>(Clock::now() - t).count();
}

struct EvaluationFiles;

struct Evaluation {
    double loss = 0, top1_error = 0, top5_error = 0;  // errors in percent
    int64_t images = 0, skipped = 0;                  // counted; of the split, but unreadable
};

class Run {
public:
    Run(const TrainOptions& options, Team* team);
    int train();
    int evaluate_only();

private:
    // A pass over the network that may not be over.
    struct UnderWay {
        long ticket = 0;
        std::vector<Batch*> batches;  // by worker
    };
    // A step, and the last of its passes: of those before, the counts are taken.
    struct Submitted {
        int64_t step = 0;
        double lr = 0;
        double waited = 0;        // seconds for its input, while the devices had nothing to do
        Clock::time_point began;  // its submission
        SoftmaxStats counts{};
        std::vector<UnderWay> passes;
        explicit operator bool() const { return began != Clock::time_point{}; }
    };
    void claim_folder();
    void begin_folder();
    void open_data_and_net();
    void compare_data(const RunRecord& record);
    void go_on_from(const Position& position);
    bool fork() const;
    void configure();
    void make_group();
    void fill_weights();
    void announce();
    std::vector<std::unique_ptr<Loader>> loaders(const Dataset& data, bool evaluation);
    Submitted submit(int64_t step, double rate, Submitted& before);
    SoftmaxStats wait_for(Submitted& s);
    void take_counts(Submitted& s);
    void finish(Submitted& s, const Submitted* next = nullptr);
    std::optional<Evaluation> evaluate();
    void log_evaluation(const Evaluation& e);
    bool evaluate_held_out();
    void catch_up_evaluation();
    int stop_asked();
    int interrupted();
    void announce_weights() const;
    void announce_net_and_data() const;
    void announce_frozen() const;
    bool normalisation_carried() const;
    void announce_notices() const;
    int nothing_left();
    struct Counts;
    void evaluate_in_views(const std::vector<Batch*>& batches, std::vector<float>& scores);
    Counts count_scores(const std::vector<Batch*>& batches, const std::vector<float>& scores,
                        EvaluationFiles& files) const;
    std::vector<int> labels_of(const std::vector<Batch*>& batches) const;
    std::string picture_of(int64_t image) const;
    void keep_pictures(const Examples& examples, int64_t through, int label);
    std::string counted(const Evaluation& e) const;
    void list_bad_images() const;
    void watch(double loss);
    void watch_for_chance(double chance);
    void watch_for_divergence(double chance);
    void warn(double loss, const char* how, const char* where, double chance,
              const std::string& advice);
    void run_steps();
    void check_replicas();
    void remember_state(bool saved);
    void check_finite();
    std::string find_not_finite();
    [[noreturn]] void stop_not_finite(const std::string& what);
    void check_room();
    void show(Watch& watch);
    bool input_ready();
    double input_waits() const;
    bool evaluation_falls_on(int64_t done) const;
    bool save_falls_on(int64_t done) const;
    void save(bool anew = false);
    Position position() const;
    void save_best();
    bool page_is_due(bool last) const;
    void draw_report(bool last);
    void announce_best() const;
    void show(StepTimeline& timeline, int64_t step);
    bool first() const { return !team_ || team_->rank() == 0; }
    int first_rank() const { return team_ ? team_->rank() : 0; }  // of the workers here
    int workers() const { return team_ ? team_->ranks() : static_cast<int>(o_.gpus.size()); }
    int64_t pass_batch() const { return int64_t(o_.batch) * workers(); }  // all workers' images
    // Several views of an image need all of it.
    bool staged_crops() const { return !(o_.eval_only && o_.views > 1); }
    void announce_links();
    void advise();
    // passes over the training images so far
    double epoch() const { return double(step_) / double(steps_per_epoch_); }

    TrainOptions o_;
    Team* team_;
    DataSplits data_;
    bool measured_ = false;  // data_.mean and what is with it
    ClassMatch match_;
    NetSpec net_;
    std::vector<float> mean_, std_dev_;  // as images are normalised
    std::string weights_text_;           // which of the weights came from a file
    std::vector<WorkerConfig> configs_;
    std::unique_ptr<Group> group_;
    std::vector<std::unique_ptr<Loader>> train_loaders_;
    Schedule schedule_;
    std::unique_ptr<MetricsLog> log_;
    std::unique_ptr<Progress> progress_;
    int64_t step_ = 0;  // steps done
    int64_t total_steps_ = 0, steps_per_epoch_ = 1;
    int64_t global_batch_ = 0;   // images of a step: of --accumulate passes
    double seconds_before_ = 0;  // of training, before this start
    Clock::time_point start_, last_step_;
    double smooth_loss_ = 0;                 // over some 50 steps
    std::array<double, 9> recent_losses_{};  // in no order
    int64_t watched_ = 0;
    bool warned_stuck_ = false, warned_high_ = false;
    int64_t saved_at_ = -1;
    // Where the steps that have been submitted since can be run again from, and their rates.
    struct {
        bool saved = false;  // the newest checkpoint has it; else as the run began
        int64_t step = 0;
        std::vector<double> rates;
        Clock::time_point at;
    } known_;
    Room room_ = Room::enough;
    Clock::time_point report_drawn_{};
    bool report_failed_ = false;
    std::unique_ptr<RunLock> lock_;
    Best best_;
    bool evaluation_due_ = false;
    int stop_ = 0;  // the exit status of a stop that was asked for, and in a job agreed on
};

}  // namespace wt
