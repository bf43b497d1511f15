#include "host/train/run_folder.h"

#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstring>
#include <filesystem>

#include "host/cuda/check.h"
#include "host/cuda/regular_file.h"
#include "host/train/atomic_file.h"
#include "host/train/checkpoint.h"

namespace wt {
namespace {

namespace fs = std::filesystem;

constexpr const char* kBefore = "checkpoint-";
constexpr const char* kBehind = ".safetensors";

// The step of "checkpoint-STEP.safetensors", written as we write it; -1 for any other name.
int64_t step_of(const std::string& name) {
    const size_t before = std::strlen(kBefore), behind = std::strlen(kBehind);
    if (!name.starts_with(kBefore) || !name.ends_with(kBehind) || name.size() <= before + behind)
        return -1;
    const std::string digits = name.substr(before, name.size() - before - behind);
    if (digits.size() > 18 || digits.find_first_not_of("0123456789") != std::string::npos)
        return -1;
    const int64_t step = std::stoll(digits);
    return std::to_string(step) == digits ? step : -1;
}

bool there(const std::string& path) {
    std::error_code none;
    return fs::symlink_status(path, none).type() != fs::file_type::not_found;
}

}  // namespace

RunFolder::RunFolder(std::string dir, int (*hard_link)(const char*, const char*))
    : dir_(std::move(dir)), hard_link_(hard_link ? hard_link : link) {}

std::string RunFolder::older(int64_t step) const {
    return dir_ + "/" + kBefore + std::to_string(step) + kBehind;
}

std::vector<int64_t> RunFolder::older_steps() const {
    std::vector<int64_t> steps;
    std::error_code none;
    for (fs::directory_iterator i(dir_, none), end; !none && i != end; i.increment(none))
        if (const int64_t s = step_of(i->path().filename().string()); s >= 0) steps.push_back(s);
    std::sort(steps.begin(), steps.end());
    return steps;
}

std::string RunFolder::held() const {
    std::vector<std::string> all{newest()};
    for (const int64_t s : older_steps()) all.insert(all.begin() + 1, older(s));
    all.push_back(best());
    std::erase_if(all, [](const std::string& path) { return !there(path); });
    if (all.empty()) return {};
    try {
        const Position p = read_position(all.front());
        return "holds a run of " + p.net + ", at step " + std::to_string(p.step);
    } catch (const Error&) {
        return "holds " + fs::path(all.front()).filename().string() + ", which cannot be read";
    }
}

void RunFolder::clear() const {
    const auto remove = [](const std::string& path) {
        if (unlink(path.c_str()) != 0 && errno != ENOENT)
            throw Error("cannot remove " + path + ": " + std::strerror(errno) +
                        ": remove it, or give another --out");
    };
    remove(newest());
    for (const int64_t s : older_steps()) remove(older(s));
    remove(best());
    sync_folder_of(newest());  // a crash must not leave the old run beside a new log
    for (const char* name : {"/metrics.jsonl", "/pictures.json", "/timeline.svg"})
        remove(dir_ + name);
}

// Makes `name` one for the file at `path`; what had that name before goes.
void RunFolder::add_name(const std::string& path, const std::string& name) const {
    const std::string aside = name + ".tmp";
    unlink(aside.c_str());
    if (hard_link_(path.c_str(), aside.c_str()) == 0) {
        const bool done = rename(aside.c_str(), name.c_str()) == 0;
        const int error = errno;
        unlink(aside.c_str());  // renaming does nothing where both are names of one file
        if (!done) throw Error("cannot write " + name + ": " + std::strerror(error));
        sync_folder_of(name);
        return;
    }
    RegularFile from(path);
    if (!from.wrong().empty()) throw Error("cannot read " + path + ": " + from.wrong());
    AtomicFile to(name, static_cast<uint64_t>(from.size()), "checkpoint");
    std::vector<char> piece(1 << 20);
    for (size_t n; (n = from.read(piece.data(), piece.size())) > 0;) to.write(piece.data(), n);
    to.commit();
}

void RunFolder::copy_from(const std::string& dir, int64_t step) const {
    const RunFolder from(dir.empty() ? "." : dir);
    RegularFile log(from.dir_ + "/metrics.jsonl");
    if (log.wrong().empty()) atomic_write_file(dir_ + "/metrics.jsonl", log.rest());
    try {
        if (there(from.best()) && read_position(from.best()).step <= step)
            add_name(from.best(), best());
    } catch (const Error&) {  // none that can be used
    }
}

void RunFolder::set_aside(int64_t step) const { add_name(newest(), older(step)); }

void RunFolder::make_best() const { add_name(newest(), best()); }

void RunFolder::prune(int64_t step, int keep) const {
    std::vector<int64_t> steps = older_steps();
    const auto later = std::lower_bound(steps.begin(), steps.end(), step);
    const int64_t stay = std::min<int64_t>(keep - 1, later - steps.begin());
    steps.erase(later - stay, later);
    for (const int64_t s : steps)
        if (unlink(older(s).c_str()) != 0 && errno != ENOENT)
            std::fprintf(stderr, "warning: cannot remove %s: %s\n", older(s).c_str(),
                         std::strerror(errno));
}

Best RunFolder::recall(const Best& remembered, int64_t step, std::string& notice) const {
    Best file;
    try {
        if (there(best())) {
            const Position p = read_position(best());
            if (p.best.step == p.step) file = p.best;
        }
    } catch (const Error&) {  // none that can be used
    }
    // Whoever saved the checkpoint was stopped before it had its second name.
    if (remembered.step == step && file.beaten_by(remembered.error)) {
        make_best();
        return remembered;
    }
    if (remembered && !file) {
        char text[64];
        std::snprintf(text, sizeof text, " (step %lld, top-1 error %.2f%%)",
                      static_cast<long long>(remembered.step), remembered.error);
        notice = best() + text + " is gone: the best is looked for anew";
    }
    return file;
}

}  // namespace wt
