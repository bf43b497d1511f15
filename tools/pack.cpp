// bin/pack FOLDER OUT: image folders or ILSVRC's archives to records, which training maps into
// memory. bin/pack FOLDER --check: looks the images over and packs nothing.
#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <filesystem>

#include "data/pack.h"
#include "data/pack_check.h"
#include "host/cuda/check.h"
#include "host/cuda/device.h"
#include "host/parallel/stop_signals.h"
#include "host/printable.h"
#include "host/train/progress.h"
#include "tools/common_cli.h"

namespace {

using namespace wt;
using Clock = std::chrono::steady_clock;

// Redraws a line on a terminal; elsewhere prints one now and then.
class Line {
public:
    ~Line() { end(); }
    void show(const std::string& text, bool last) {
        const auto now = Clock::now();
        const double since = std::chrono::duration<double>(now - shown_).count();
        if (!last && since < (terminal_ ? 0.1 : 10)) return;
        shown_ = now;
        std::printf(terminal_ ? "\r%-78s" : "%s\n", text.c_str());
        std::fflush(stdout);
        open_ = terminal_;
        if (last) end();
    }
    void end() {
        if (open_) std::printf("\n");
        open_ = false;
    }

private:
    bool terminal_ = isatty(fileno(stdout)) != 0, open_ = false;
    Clock::time_point shown_ = Clock::now();
};

void print_findings(const SetFindings& f) {
    const auto section = [](const char* what, const std::vector<std::string>& lines) {
        std::printf("%-34s %s\n", what, grouped(static_cast<int64_t>(lines.size())).c_str());
        constexpr size_t kMost = 20;
        for (size_t i = 0; i < std::min(lines.size(), kMost); ++i)
            std::printf("    %s\n", lines[i].c_str());
        if (lines.size() > kMost)
            std::printf("    and %s more\n",
                        grouped(static_cast<int64_t>(lines.size() - kMost)).c_str());
    };
    std::printf("%-34s %s\n", "images", grouped(f.images).c_str());
    std::printf("%-34s %s to %s, the median %s\n", "training images a class",
                grouped(f.smallest_class).c_str(), grouped(f.largest_class).c_str(),
                grouped(f.median_class).c_str());
    section("unreadable", f.unreadable);
    section("duplicates by content", f.duplicates);
    section("held-out images seen in training", f.leaked);
    section(("short side below " + std::to_string(kTinySide)).c_str(), f.tiny);
    section("one side 4 times the other", f.extreme);
    section("classes under a tenth of the median", f.poor);
}

int check(const PackSource& source, int threads) {
    Line line;
    const auto stop = [] { return stop_status() != 0; };
    const SetFindings f = check_set(
        source, threads,
        [&](int64_t done, int64_t images) {
            line.show("looked at " + grouped(done) + "/" + grouped(images), done == images);
        },
        stop);
    line.end();
    if (stop()) return stop_status();
    print_findings(f);
    return 0;
}

void announce(const PackSource& source, const PackOptions& o) {
    for (const std::string& n : source.notices) std::printf("notice  %s\n", n.c_str());
    for (const PackSplit& s : source.splits)
        std::printf("%-7s %s images\n", s.name.c_str(),
                    grouped(static_cast<int64_t>(s.items.size())).c_str());
    std::printf("classes %s, numbered in the order of their names\n",
                grouped(static_cast<int64_t>(source.classes.size())).c_str());
    const uint64_t needed = pack_bytes(source, o.side);
    std::error_code wrong;
    std::filesystem::create_directories(o.out, wrong);
    const auto space = std::filesystem::space(o.out, wrong);
    if (wrong) throw Error("cannot make " + o.out + ": " + wrong.message());
    uint64_t there = 0;
    for (const PackSplit& s : source.splits)
        for (const char* name : {"images.npy", "images.npy.part"}) {
            const auto size =
                std::filesystem::file_size(std::filesystem::path(o.out) / s.name / name, wrong);
            if (!wrong) there += size;
        }
    std::printf("disk    %s needed in %s, %s free%s\n", human_bytes(needed).c_str(), o.out.c_str(),
                human_bytes(space.available).c_str(),
                there ? (", " + human_bytes(there) + " there already").c_str() : "");
    std::fflush(stdout);
    if (!o.overwrite && needed > space.available + there)
        throw Error("the disk of " + o.out + " has " + human_bytes(space.available) +
                    " free, and the records need " + human_bytes(needed) +
                    ": free some, or give another folder");
}

int run(int argc, char** argv) {
    CommandLine app(
        "Packs images into records: decoded, resized and cropped once, for bin/train --data "
        "records:OUT and for NumPy. Stopped, killed or out of room, the same command goes on.");
    PackRequest request;
    PackOptions options;
    bool check_only = false;
    app.add_option("FOLDER", request.folder,
                   "DIR/train/CLASS/* with DIR/val or DIR/test likewise, DIR/CLASS/*, or a folder "
                   "with ILSVRC2012's three archives")
        ->required();
    app.add_option("OUT", options.out, "the folder of the records");
    app.add_option("--val-labels", request.val_labels,
                   "classes of a flat val folder: lines FILE CLASS, FILE NUMBER or CLASS");
    app.add_option("--names", request.names, "readable names of classes: lines CLASS NAME");
    app.add_option("--side", options.side, "of the stored images: the short side, then the centre")
        ->check(between(8, 4096));
    app.add_option("--threads", options.threads, "that decode")
        ->check(between(1, 4096))
        ->by_default("one a core");
    app.add_flag("--overwrite", options.overwrite, "what OUT has of other records is removed");
    app.add_flag("--check", check_only,
                 "reads every image and reports broken, duplicate, tiny and extreme ones and small "
                 "classes; packs nothing");
    app.parse(argc, argv);
    if (check_only == !options.out.empty())
        throw UsageError(check_only ? "--check packs nothing: leave OUT away"
                                    : "OUT is missing: bin/pack FOLDER OUT, or FOLDER --check");
    catch_stop_signals();
    const PackSource source = list_pack_source(request);
    on_stop_signal(OnStop::note);
    if (check_only) return check(source, options.threads);

    announce(source, options);
    Line line;
    const auto show = [&](const PackProgress& p) {
        const double rate = static_cast<double>(p.done - p.before) / std::max(p.seconds, 1e-9);
        const double left = static_cast<double>(p.images - p.done) / std::max(rate, 1e-9);
        char text[160];
        std::snprintf(text, sizeof text, "%-7s %s/%s  %.0f images/s  eta %s", p.split.c_str(),
                      grouped(p.done).c_str(), grouped(p.images).c_str(), rate,
                      duration_text(left).c_str());
        line.show(text, p.done == p.images);
    };
    const PackResult r = pack(source, options, show, [] { return stop_status() != 0; });
    line.end();
    if (r.stopped) {
        std::printf("stopped by %s: the same command goes on from here\n",
                    stop_name(stop_status()));
        return stop_status();
    }
    std::printf("packed  %s images into %s", grouped(r.images).c_str(), options.out.c_str());
    if (r.unreadable)
        std::printf("; %s unreadable ones are in %s/unreadable.txt", grouped(r.unreadable).c_str(),
                    options.out.c_str());
    std::printf("\n");
    return 0;
}

}  // namespace

int main(int argc, char** argv) { return run_program(argc, argv, "pack", run); }
