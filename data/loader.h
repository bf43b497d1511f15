// Prefetching loader: threads fill pinned batches ahead of the trainer, in an order and with
// contents that do not depend on how many threads or workers there are.
#pragma once

#include <condition_variable>
#include <cstdint>
#include <exception>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "data/dataset.h"
#include "data/sampling.h"
#include "host/cuda/buffer.h"
#include "kernels/augment/problem.h"

namespace wt {

struct LoaderOptions {
    int batch = 0;          // rows of this worker
    int global_batch = 0;   // rows of all workers; 0: batch
    int row0 = 0;           // this worker's first row within the global batch
    std::vector<int> rows;  // or each of its rows there, where they are not one after the other
    bool shuffle = true;
    uint64_t seed = 1;
    AugmentMode mode = AugmentMode::crop;
    int out = 0;  // side of the crop: the network's input
    // Batches have the crops alone, out x out, whose draws then begin at (0, 0): they take less
    // memory and less of the way to the device.
    bool crops = false;
    float pca[3][3] = {};    // for AugmentMode::full, from DataSplits
    int threads = 1;         // that load; they sleep when `depth` batches are ready
    int depth = 3;           // batches in memory, given out ones included; at least 2
    int64_t start_step = 0;  // global batch to begin at: a resumed run sees the same ones
    // of training: an epoch has a whole number of so many global batches
    int batches_per_step = 1;
    std::vector<int> unit_of;  // the network's number of each of the set's classes; empty: the same
    // keep the last partial batch, padded with label -1; unreadable images too
    bool evaluation = false;
};

// Filled rows of one global batch, in pinned memory; the caller's from next() until release().
struct Batch {
    // [count, height, width, channels], or, of crops alone, [count, out, out, channels]
    uint8_t* images = nullptr;
    int* labels = nullptr;            // [count]; -1: a row that does not count (evaluation only)
    AugmentParams* params = nullptr;  // [count]
    int count = 0;                    // rows: LoaderOptions::batch
    int valid = 0;                    // rows with a label >= 0
    int64_t step = 0;                 // global step: epoch * steps_per_epoch + place in the epoch
    uint64_t epoch = 0;
    int64_t first = 0;  // position in the epoch's order of the global batch's row 0
};

// Batch t of epoch e holds positions [t * G, (t + 1) * G) of that epoch's order (G the global
// batch), of which this worker has rows row0 .. row0 + batch, or those of `rows`. In training a
// last partial batch is dropped; in evaluation it is padded. next() goes on into the following
// epoch by itself.
class Loader {
public:
    // Throws Error when a training split is smaller than the global batch. The data set must
    // outlive the loader.
    Loader(const Dataset& data, const LoaderOptions& options);
    Loader(const Loader&) = delete;
    Loader& operator=(const Loader&) = delete;

    // Returns whether next() would not wait.
    bool ready();
    // The next batch in order; waits for it. Rethrows what failed in a loading thread. Throws when
    // all `depth` batches are given out. next() and release() belong to one thread.
    Batch& next();
    // Gives the buffers back to be filled again; call it when the copy to the device has finished.
    void release(Batch& batch);

    int64_t steps_per_epoch() const { return steps_per_epoch_; }
    // Training samples that an epoch leaves out, other ones each time; 0 in evaluation.
    int64_t dropped_per_epoch() const;
    // How long next() has waited in all: time the input was too slow for the trainer.
    double wait_seconds() const { return wait_seconds_; }

private:
    enum class State { free, filling, ready, given };
    struct Slot {
        PinnedBuffer<uint8_t> images;
        PinnedBuffer<int> labels;
        PinnedBuffer<AugmentParams> params;
        Batch batch;
        State state = State::free;
        int rows_done = 0;
    };
    void work(std::stop_token stop);
    void begin(Slot& slot);
    void place(Batch& batch, int64_t step) const;
    void expect(const Batch& batch) const;
    size_t image_bytes() const;  // of an image in a batch
    bool load(int64_t sample, const AugmentParams& draw, uint8_t* to) const;
    int64_t sample_at(const Batch& batch, int row) const;  // row: of the global batch
    void load_row(Slot& slot, int row);

    const Dataset& data_;
    LoaderOptions options_;
    int64_t steps_per_epoch_ = 0;
    double wait_seconds_ = 0;
    int64_t next_step_ = 0;  // that next() gives out
    int64_t fill_step_ = 0;  // whose rows from fill_row_ on no thread has taken yet
    int fill_row_ = 0;
    int64_t expected_ = 0;     // first step whose images the data set has not been told of
    std::vector<Slot> slots_;  // step s lives in slot s % depth
    std::exception_ptr failure_;
    std::mutex mutex_;
    std::condition_variable_any can_fill_;
    std::condition_variable is_ready_;
    std::vector<std::jthread> threads_;  // last: they stop before what they use goes
};

}  // namespace wt
