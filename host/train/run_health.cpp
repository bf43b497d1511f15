// A run that is no longer sound: values that are not finite, replicas that differ, a disk that is
// nearly full; and what --watch shows.
#include <cmath>
#include <cstdio>
#include <optional>

#include "host/parallel/replicas.h"
#include "host/train/disk_room.h"
#include "host/train/run.h"

namespace wt {

// Before a checkpoint of this step is written: what the last one has was alike.
void Run::check_replicas() {
    const std::string differs = differing_replica(*group_);
    if (differs.empty()) return;
    throw Error("--check-replicas: after step " + std::to_string(step_) + " " + differs +
                ": a fault of memory or of an exchange; " +
                (saved_at_ > 0
                     ? checkpoint_path(o_.out) + " is of step " + std::to_string(saved_at_) +
                           ", --resume " + o_.out + " goes on from there"
                     : "no checkpoint has been written yet"));
}

// From here on the steps can be run again: the state is that of the newest checkpoint (`saved`), or
// of the run's beginning.
void Run::remember_state(bool saved) {
    known_.saved = known_.saved || saved;
    known_.step = step_;
    known_.rates.clear();
    known_.at = Clock::now();
}

// Before a checkpoint of this step is written: what is not finite never is again, so a run that
// went on from it would be lost.
void Run::check_finite() {
    const std::string bad = first_bad_weight(*group_);
    if (!bad.empty()) stop_not_finite(bad + " is not finite after step " + std::to_string(step_));
}

// Which value was the first, where the steps since the last checkpoint can be run again in a short
// time: they are the same bit for bit, and after every one of them it is looked. "" where they
// cannot, or nothing was found.
std::string Run::find_not_finite() {
    constexpr double kLongest = 60;  // seconds that the run has taken since
    std::string soon = seconds_since(known_.at) <= kLongest ? "yes" : "";
    if (team_) soon = team_->broadcast(soon);
    if (soon.empty()) return "";
    group_->run([](Worker& w) { w.synchronize(); });
    if (known_.saved) {
        std::optional<SafetensorsFile> file;
        if (first()) file = SafetensorsFile::open(checkpoint_path(o_.out));
        load_weights(file ? &*file : nullptr, *group_, net_, true);
    } else {
        fill_weights();
    }
    step_ = known_.step;
    train_loaders_ = loaders(*data_.train, false);
    for (size_t i = 0; i < known_.rates.size(); ++i) {
        Submitted none;
        Submitted s = submit(known_.step + static_cast<int64_t>(i), known_.rates[i], none);
        const bool good_loss = std::isfinite(wait_for(s).loss_sum);
        const std::string weight = first_bad_weight(*group_);
        if (good_loss && weight.empty()) continue;
        const std::string output = first_bad_output(*group_),
                          when = " in step " + std::to_string(s.step + 1);
        if (!output.empty()) return output + when;
        return weight.empty() ? "" : weight + when;
    }
    return "";
}

// Ends the run; on every rank of a job.
void Run::stop_not_finite(const std::string& what) {
    if (progress_) progress_->end_bar();
    NotFinite n{.what = what,
                .first = "",
                .rate = known_.rates.empty() ? o_.lr : known_.rates.back(),
                .folder = o_.out,
                .saved = known_.saved || (o_.resume && !fork()) ? known_.step : -1,
                .step = step_,
                .paper = !o_.origin && o_.init == Init::paper};
    if (first())
        log_->done({step_, epoch(), "not finite", seconds_before_ + seconds_since(start_)});
    draw_report(true);
    n.first = find_not_finite();
    throw Error(text_of(n));
}

// Said when the run begins and after checkpoints; again where it has become worse.
void Run::check_room() {
    if (!first()) return;
    const uint64_t needed = checkpoint_bytes(group_->worker(0).layout());
    const int64_t free = free_bytes(o_.out);
    const Room room = room_for(free, needed);
    if (room > room_) {
        if (progress_) progress_->end_bar();
        std::fprintf(stderr, "warning: %s\n", room_text(room, o_.out, free, needed).c_str());
    }
    room_ = room;
}

void Run::show(Watch& watch) {
    const std::vector<WatchedParam> params = watch.after();
    if (!first()) return;
    progress_->end_bar();
    std::printf("step %lld: mean |w|, mean |dw| and their ratio\n%s", static_cast<long long>(step_),
                text_of(params).c_str());
    std::fflush(stdout);
    log_->watch({.step = step_,
                 .epoch = epoch(),
                 .params = params,
                 .seconds = seconds_before_ + seconds_since(start_)});
}

}  // namespace wt
