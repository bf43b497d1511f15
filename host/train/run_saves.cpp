// The run's folder: lock, log, checkpoints.
#include <cstdio>
#include <filesystem>
#include <sstream>

#include "host/cuda/device.h"
#include "host/report/run_report.h"
#include "host/train/run.h"
#include "host/versions.h"

namespace wt {

// Nobody else is at work in the folder, and what is there would not be lost. Asked before anything
// takes long, and again when the folder, which may be new, is about to be written to.
void Run::claim_folder() {
    if (!first() || o_.eval_only || !std::filesystem::exists(o_.out)) return;
    if (!lock_) lock_ = std::make_unique<RunLock>(o_.out);
    if ((o_.resume && !fork()) || o_.overwrite) return;
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
        if (fork())
            folder.copy_from(std::filesystem::path(o_.origin->path).parent_path().string(), step_);
        log_ = std::make_unique<MetricsLog>(o_.out, o_.resume ? step_ : MetricsLog::kFresh);
        StartMetrics start{.step = step_,
                           .command = o_.command,
                           .seed = o_.seed,
                           .workers = workers(),
                           .devices = {},
                           .versions = versions()};
        for (const int gpu : o_.gpus) start.devices.push_back(device_name(gpu));
        log_->start(start);
        log_->kernels({step_, group_->worker(0).layout().choices});
    }
    if (fork()) save();
    if (first()) {
        if (o_.resume) best_ = folder.recall(best_, step_, notice);
        if (!notice.empty()) std::printf("notice  %s\n", notice.c_str());
    }
    if (!team_ || !o_.resume) return;
    char text[64];
    std::snprintf(text, sizeof text, "%.17g %lld", best_.error, static_cast<long long>(best_.step));
    std::istringstream(team_->broadcast(std::string(text))) >> best_.error >> best_.step;
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
    RunRecord& r = p.record;
    r.settings = settings_of(o_, workers());
    if (o_.resume && o_.origin->record().settings.contains("--init"))  // how the run began
        r.settings["--init"] = o_.origin->record().settings.at("--init");
    r.classes = match_.classes;
    r.mean = mean_;
    r.std_dev = std_dev_;
    r.stored = data_.any().height;
    r.channels = data_.any().channels;
    if (measured_) r.pca.assign(&data_.pca[0][0], &data_.pca[0][0] + 9);
    r.train_images = data_.train ? data_.train->size() : 0;
    r.held_out_images = data_.held_out ? data_.held_out->size() : 0;
    if (measured_) r.data_mean.assign(data_.mean, data_.mean + 3);
    r.total_steps = total_steps_;
    r.command = o_.command;
    return p;
}

// `anew`: what is to be remembered has changed since this step's checkpoint.
void Run::save(bool anew) {
    if (saved_at_ == step_ && !anew) return;
    check_finite();
    const RunFolder folder(o_.out);
    if (first() && saved_at_ >= 0 && saved_at_ != step_ && o_.keep > 1) folder.set_aside(saved_at_);
    save_checkpoint(folder.newest(), *group_, net_, position());
    saved_at_ = step_;
    advise();
    remember_state(true);
    if (first()) folder.prune(step_, o_.keep);
    check_room();
}

// After the checkpoint, where one falls on this step: then it is a second name of that.
void Run::save_best() {
    const RunFolder folder(o_.out);
    if (saved_at_ != step_) {
        check_finite();
        return save_checkpoint(folder.best(), *group_, net_, position());
    }
    if (first()) folder.make_best();
}

// Not every checkpoint of a quick run has its own page: the log is read anew each time.
bool Run::page_is_due(bool last) const {
    constexpr double kEvery = 10;  // seconds
    return last || seconds_since(report_drawn_) >= kEvery;
}

// The run's page and pictures, of the log and the checkpoint as they are. A run does not end for
// want of a picture.
void Run::draw_report(bool last) {
    if (!first() || !page_is_due(last)) return;
    try {
        write_run_report(o_.out);
    } catch (const Error& e) {
        if (!report_failed_) std::printf("notice  no report of this run: %s\n", e.what());
        report_failed_ = true;
    }
    report_drawn_ = Clock::now();
}

}  // namespace wt
