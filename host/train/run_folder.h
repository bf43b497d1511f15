// The checkpoints in a run's folder:
//
//   checkpoint.safetensors         the newest; once there was one there always is one, and whole
//   checkpoint-STEP.safetensors    those before it, of which --keep N keeps N - 1
//   best.safetensors               that of the evaluation with the smallest top-1 error
//
// An older one and the best are further names of the same file (hard links), or copies where the
// file system has none. Killed between any two of the steps here, a run goes on from what is there.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace wt {

struct Best {
    double error = 0;   // top-1, in percent
    int64_t step = -1;  // after how many steps; negative: nothing has been evaluated
    explicit operator bool() const { return step >= 0; }
    bool beaten_by(double other) const { return step < 0 || other < error; }
};

class RunFolder {
public:
    // `hard_link` is link, but in tests.
    explicit RunFolder(std::string dir, int (*hard_link)(const char*, const char*) = nullptr);

    std::string newest() const { return dir_ + "/checkpoint.safetensors"; }
    std::string best() const { return dir_ + "/best.safetensors"; }
    std::string older(int64_t step) const;
    std::vector<int64_t> older_steps() const;  // rising

    // What a run that begins anew would lose: "holds a run of mini, at step 468"; "" for nothing.
    std::string held() const;
    // Removes all checkpoints, the newest first, and the log, with what pages are drawn from;
    // nothing else. Throws Error.
    void clear() const;

    // Before the newest, which is of this step, is replaced: it stays as an older one too.
    void set_aside(int64_t step) const;
    // After a checkpoint of this step was saved: of the older ones, the last keep - 1 stay. Those
    // of later steps are of a course that the run has gone back from, and go with its log's lines.
    void prune(int64_t step, int keep) const;
    // A run that goes on from step `step` of the run in another folder has its log, and its best
    // checkpoint where that is not a later one.
    void copy_from(const std::string& dir, int64_t step) const;
    // The newest is the best too.
    void make_best() const;
    // The best so far of a run that goes on from `step`: what best.safetensors says of itself.
    // Where it lacks what the checkpoint remembers, and that is of this very step, makes it.
    // `notice`: a line when the best is lost.
    Best recall(const Best& remembered, int64_t step, std::string& notice) const;

private:
    void add_name(const std::string& path, const std::string& name) const;
    std::string dir_;
    int (*hard_link_)(const char*, const char*);
};

}  // namespace wt
