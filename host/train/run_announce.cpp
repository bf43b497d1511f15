// What a run says before, after and between its steps.
#include <csignal>
#include <cstdio>

#include "host/cuda/device.h"
#include "host/printable.h"
#include "host/train/run.h"

namespace wt {

// How the workers reach each other.
void Run::announce_links() {
    if (!team_) {
        std::printf("%s", group_->links().text().c_str());
        if (const std::string notice = group_->links().notice(); !notice.empty())
            std::printf("%s\n", notice.c_str());
        return;
    }
    const auto rates = team_->gather({static_cast<float>(team_->message_rate())});
    if (!first()) return;
    if (!o_.links.peer)
        std::printf("notice: --peer off: %s\n",
                    o_.comm == "nccl"
                        ? "NCCL exchanges without peer access (NCCL_P2P_DISABLE=1)"
                        : "--comm mpi exchanges through page-locked host memory anyway");
    std::printf("job     %d processes: %s\n", team_->ranks(), team_->machines().c_str());
    for (int r = 0; r < team_->ranks() && team_->ranks() > 1; ++r)
        std::printf("link %d -> %d: messages, %.3g GB/s\n", r, (r + 1) % team_->ranks(),
                    rates[(r + 1) % team_->ranks()]);
}

// What a message about a lost rank ends with.
void Run::advise() {
    if (!team_) return;
    const std::string again =
        "mpirun -np " + std::to_string(team_->ranks()) + " bin/train --comm " + o_.comm;
    if (saved_at_ < 0) return team_->set_advice("no checkpoint has been written yet");
    team_->set_advice("the last whole checkpoint is " + checkpoint_path(o_.out) + ", of step " +
                      std::to_string(saved_at_) + "; go on with: " + again + " --resume " + o_.out);
}

// To be read; a checkpoint has them exactly.
static std::string short_rgb(const std::vector<float>& v) {
    char s[64];
    std::snprintf(s, sizeof s, "%.4g,%.4g,%.4g", v[0], v[1], v[2]);
    return s;
}

// Which weights a run begins with, or are evaluated.
void Run::announce_weights() const {
    const Origin& from = *o_.origin;
    if (from.position)
        std::printf("weights %s: of %s, at step %lld\n", from.path.c_str(),
                    printable(from.position->net).c_str(),
                    static_cast<long long>(from.position->step));
    if (!weights_text_.empty()) std::printf("weights %s\n", printable(weights_text_).c_str());
}

void Run::announce_frozen() const {
    if (o_.freeze.empty()) return;
    const Layout& l = group_->worker(0).layout();
    int64_t trained = 0;
    for (size_t i = 0; i < l.params.size(); ++i)
        if (!l.frozen(static_cast<int>(i))) trained += l.params[i].count();
    std::printf(
        "frozen  %s: %lld of %lld parameters are trained, and the backward pass ends at %s\n",
        layers_text(o_.freeze).c_str(), static_cast<long long>(trained),
        static_cast<long long>(net_.parameters()),
        net_.layers[static_cast<size_t>(l.bottom)].name.c_str());
}

void Run::announce_net_and_data() const {
    const NetOptions& n = o_.net_options;
    float dropped = 0;
    for (const Layer& l : net_.layers)
        if (l.kind == LayerKind::dropout) dropped = l.p;
    std::printf(
        "net     %s: %lld parameters, %.1f M multiply-adds an image; %s, %s pooling, LRN %s, dropout %g\n",
        net_.name.c_str(), static_cast<long long>(net_.parameters()), net_.macs() / 1e6,
        name_in(kActivations, n.tanh), name_in(kPools, n.plain_pool), name_in(kOnOff, n.lrn),
        dropped);
    std::printf("data    %s\n", data_.description.c_str());
    std::printf("input   crops of %d%s; less the mean %s, by %s (%s)\n", net_.input.h,
                o_.eval_only
                    ? ", the centre"
                    : (std::string(", --augment ") + name_in(kAugments, o_.augment)).c_str(),
                short_rgb(mean_).c_str(), short_rgb(std_dev_).c_str(),
                normalisation_carried() ? ("as " + o_.origin->path).c_str()
                : o_.mean || o_.std_dev ? "as the flags say"
                                        : "of the training images");
}

bool Run::normalisation_carried() const {
    return o_.origin && o_.mean && o_.std_dev && *o_.mean == o_.origin->record().mean &&
           *o_.std_dev == o_.origin->record().std_dev;
}

void Run::announce_notices() const {
    for (const std::string& n : o_.notices) std::printf("notice  %s\n", printable(n).c_str());
}

void Run::announce() {
    announce_links();
    if (!first()) return;
    std::string gpus;
    for (int g : o_.gpus)
        gpus += (gpus.empty() ? "" : ", ") + std::to_string(g) + " (" + device_name(g) + ")";
    const MemoryPlan& plan = group_->worker(0).layout().plan;
    if (o_.origin && !o_.resume) announce_weights();
    announce_net_and_data();
    announce_frozen();
    if (team_)
        std::printf("workers %d, one a process, over %s; rank 0 on GPU %s\n", workers(),
                    o_.comm.c_str(), gpus.c_str());
    else
        std::printf("workers %zu: GPU %s\n", o_.gpus.size(), gpus.c_str());
    std::printf("memory  %s a worker: %s\n", human_bytes(plan.total()).c_str(),
                plan.text().c_str());
    if (const Overlap& overlap = group_->worker(0).layout().overlap; overlap != Overlap{})
        std::printf("overlap %s: beside other work of a step\n", text_of(overlap).c_str());
    std::printf(
        "batch   %d a worker, %lld in all; rate %g (%s), momentum %g, weight decay %g, %s, kernels %s, seed %llu\n",
        o_.batch, static_cast<long long>(pass_batch()), o_.lr, o_.lr_policy.c_str(), o_.momentum,
        o_.weight_decay, name_in(kPrecisions, o_.precision), o_.kernels.c_str(),
        static_cast<unsigned long long>(o_.seed));
    if (o_.accumulate > 1)
        std::printf("steps   the gradients of %d batches add up to one: %lld images a step\n",
                    o_.accumulate, static_cast<long long>(global_batch_));
    if (o_.label_smoothing > 0)
        std::printf("labels  smoothed by %g in training, whose loss counts that\n",
                    o_.label_smoothing);
    const WorkerConfig& c = configs_[0];
    if (c.workers > 1 || c.accumulate > 1) {
        const int64_t fc = c.per_microbatch ? c.microbatch_rows() : global_batch_;
        std::printf(
            "layers  conv: batch %lld, rate %g; fc: batch %lld, rate %g (scheme %s%s, %s, --lr-scale %s)\n",
            static_cast<long long>(global_batch_), o_.lr * c.conv_lr_scale,
            static_cast<long long>(fc), o_.lr * c.fc_lr_scale, name_of(c.scheme),
            c.split == FcSplit::alternate ? " alternate" : "",
            c.microbatch_count() == 1 ? "one pass"
            : c.per_microbatch        ? "updated in every pass"
                                      : "updated once",
            name_in(kLrScales, o_.lr_scale));
    }
    if (const int64_t left = train_loaders_[0]->dropped_per_epoch(); left > 0)
        std::printf(
            "epoch   %lld steps; the last %lld images of each shuffle do not fill a batch and are left out\n",
            static_cast<long long>(steps_per_epoch_), static_cast<long long>(left));
    const std::string notice = team_ && !o_.eval_only ? team_->stop_notice() : "";
    if (!notice.empty()) std::printf("notice  %s\n", notice.c_str());
    if (!data_.held_out) std::printf("notice  no held-out images: nothing is evaluated\n");
    if (!o_.timeline.empty() && step_ >= total_steps_)
        std::printf("notice  --timeline: no step is run, so none is drawn\n");
    announce_notices();
    std::fflush(stdout);
}

void Run::announce_best() const {
    if (!best_) return;
    std::printf("best    top-1 error %.2f%% after %lld steps: %s\n", best_.error,
                static_cast<long long>(best_.step), RunFolder(o_.out).best().c_str());
}

void Run::list_bad_images() const {
    for (const Dataset* d : {data_.train.get(), data_.held_out.get()}) {
        if (!d || d->bad_count() == 0) continue;
        std::printf("skipped %lld unreadable %s of the %s split:\n",
                    static_cast<long long>(d->bad_count()),
                    d->bad_count() == 1 ? "image" : "images",
                    d == data_.train.get() ? "training" : "held-out");
        for (const BadImage& b : d->bad_images())
            std::printf("  %s: %s\n", printable(b.path).c_str(), printable(b.reason).c_str());
    }
}

// Says how to go on. All that is to be kept was written before: nobody may be there to read.
int Run::interrupted() {
    save();  // stopped before the first step
    if (!first()) return stop_;
    draw_report(true);
    std::string again = "bin/train";
    if (team_) again = "mpirun -np " + std::to_string(workers()) + " bin/train --comm " + o_.comm;
    std::fprintf(stop_ == 128 + SIGPIPE ? stderr : stdout,
                 "interrupted at step %lld%s; go on with: %s --resume %s\n",
                 static_cast<long long>(step_), evaluation_due_ ? ", before its evaluation" : "",
                 again.c_str(), o_.out.c_str());
    announce_best();
    std::fflush(stdout);
    return stop_;
}

}  // namespace wt
