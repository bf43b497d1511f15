#include "data/loader.h"

#include <algorithm>
#include <chrono>
#include <cstring>
#include <string>

#include "host/cuda/nvtx.h"

namespace wt {
namespace {

// Rows a thread takes at a time: few, so that threads finish a batch together; one row of a small
// net is 10 microseconds, a lock well under one.
constexpr int kRowsAtATime = 8;

// A broken image gives way to one of the next in the listing, most often of its own class. Beyond
// so many in a row the set is not fit for training.
constexpr int64_t kMostBrokenInARow = 1000;

// Batches whose reading begins before they are filled: a disk takes milliseconds to answer, and
// memory holds them anyhow.
constexpr int64_t kReadAhead = 3;

}  // namespace

Loader::Loader(const Dataset& data, const LoaderOptions& options) : data_(data), options_(options) {
    LoaderOptions& o = options_;
    if (o.global_batch == 0) o.global_batch = o.batch;
    o.threads = std::max(o.threads, 1);
    o.depth = std::max(o.depth, 2);
    if (o.rows.empty())
        for (int i = 0; i < o.batch; ++i) o.rows.push_back(o.row0 + i);
    if (o.batch < 1 || static_cast<int>(o.rows.size()) != o.batch || std::ranges::min(o.rows) < 0 ||
        std::ranges::max(o.rows) >= o.global_batch)
        throw Error("loader: " + std::to_string(o.rows.size()) + " rows from " +
                    std::to_string(o.row0) + " are not part of a batch of " +
                    std::to_string(o.global_batch));
    if (o.out < 1 || o.out > std::min(data.height, data.width))
        throw Error("loader: a crop of " + std::to_string(o.out) +
                    " does not fit into images stored at " + std::to_string(data.height) + "x" +
                    std::to_string(data.width));
    const int64_t n = data.size(), g = o.global_batch;
    const int64_t together = o.evaluation ? 1 : o.batches_per_step;
    steps_per_epoch_ = o.evaluation ? (n + g - 1) / g : n / (g * together) * together;
    if (steps_per_epoch_ == 0)
        throw Error(
            (together > 1 ? std::to_string(together) + " batches of " : "a batch of ") +
            std::to_string(g) + " images " + (together > 1 ? "do" : "does") + " not fit: the " +
            (o.evaluation ? "held-out" : "training") + " split has " + std::to_string(n) +
            (n > 0 ? "; use --batch " +
                         std::to_string(std::max<int64_t>(1, n / (together * g / o.batch))) +
                         " or less"
                   : ""));
    next_step_ = fill_step_ = expected_ = o.start_step;
    slots_.resize(o.depth);
    for (Slot& s : slots_) {
        s.images = PinnedBuffer<uint8_t>(image_bytes() * o.batch);
        s.labels = PinnedBuffer<int>(o.batch);
        s.params = PinnedBuffer<AugmentParams>(o.batch);
        s.batch.images = s.images.data();
        s.batch.labels = s.labels.data();
        s.batch.params = s.params.data();
        s.batch.count = o.batch;
    }
    for (int t = 0; t < o.threads; ++t)
        threads_.emplace_back([this](std::stop_token stop) { work(stop); });
}

int64_t Loader::dropped_per_epoch() const {
    return options_.evaluation ? 0 : data_.size() - steps_per_epoch_ * options_.global_batch;
}

bool Loader::ready() {
    std::lock_guard lock(mutex_);
    return failure_ || slots_[next_step_ % options_.depth].state == State::ready;
}

Batch& Loader::next() {
    std::unique_lock lock(mutex_);
    Slot& slot = slots_[next_step_ % options_.depth];
    if (slot.state == State::given)
        throw Error("loader: all " + std::to_string(options_.depth) +
                    " batches are given out; release one first");
    const auto ready = [&] { return failure_ || slot.state == State::ready; };
    if (!ready()) {
        const auto begin = std::chrono::steady_clock::now();
        is_ready_.wait(lock, ready);
        wait_seconds_ +=
            std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    }
    if (failure_) std::rethrow_exception(failure_);
    slot.state = State::given;
    slot.batch.valid = int(std::count_if(slot.batch.labels, slot.batch.labels + slot.batch.count,
                                         [](int l) { return l >= 0; }));
    ++next_step_;
    return slot.batch;
}

void Loader::release(Batch& batch) {
    {
        std::lock_guard lock(mutex_);
        Slot& slot = slots_[batch.step % options_.depth];
        if (&slot.batch != &batch || slot.state != State::given)
            throw Error("loader: release of a batch that is not given out");
        slot.state = State::free;
    }
    can_fill_.notify_all();
}

void Loader::work(std::stop_token stop) {
    std::unique_lock lock(mutex_);
    for (;;) {
        // The rows of one step are all taken before those of the next: batches get ready in order.
        const auto can_take = [&] {
            return slots_[fill_step_ % options_.depth].state ==
                   (fill_row_ == 0 ? State::free : State::filling);
        };
        if (!can_fill_.wait(lock, stop, can_take)) return;
        Slot& slot = slots_[fill_step_ % options_.depth];
        if (fill_row_ == 0) begin(slot);
        const int from = fill_row_, to = std::min(from + kRowsAtATime, options_.batch);
        fill_row_ = to;
        if (to == options_.batch) ++fill_step_, fill_row_ = 0;

        lock.unlock();
        std::exception_ptr failure;
        try {
            const Range range("loader");
            for (int row = from; row < to; ++row) load_row(slot, row);
        } catch (...) {
            failure = std::current_exception();
        }
        lock.lock();

        slot.rows_done += to - from;
        if (failure) {
            if (!failure_) failure_ = failure;
            is_ready_.notify_all();
            return;
        }
        if (slot.rows_done == options_.batch) {
            slot.state = State::ready;
            is_ready_.notify_all();
        }
    }
}

void Loader::begin(Slot& slot) {
    slot.state = State::filling;
    slot.rows_done = 0;
    place(slot.batch, fill_step_);
    for (; expected_ <= fill_step_ + kReadAhead; ++expected_) {
        Batch soon;
        place(soon, expected_);
        expect(soon);
    }
    // One thread takes the first rows; the others may wait for the state to change.
    can_fill_.notify_all();
}

void Loader::place(Batch& b, int64_t step) const {
    b.step = step;
    b.epoch = uint64_t(step / steps_per_epoch_);
    b.first = step % steps_per_epoch_ * options_.global_batch;
}

// All rows at once: a disk with many reads under way gives the most.
void Loader::expect(const Batch& b) const {
    const int64_t n = data_.size();
    for (const int row : options_.rows)
        if (b.first + row < n) data_.will_load(sample_at(b, row));
}

int64_t Loader::sample_at(const Batch& b, int row) const {
    const int64_t position = b.first + row;
    return options_.shuffle ? shuffled(options_.seed, b.epoch, position, data_.size()) : position;
}

size_t Loader::image_bytes() const {
    const size_t pixels =
        options_.crops ? size_t(options_.out) * options_.out : size_t(data_.height) * data_.width;
    return pixels * data_.channels;
}

bool Loader::load(int64_t sample, const AugmentParams& draw, uint8_t* to) const {
    if (!options_.crops) return data_.load(sample, to);
    return data_.load_crop(sample, draw.y0, draw.x0, options_.out, to);
}

void Loader::load_row(Slot& slot, int row) {
    const LoaderOptions& o = options_;
    const Batch& b = slot.batch;
    uint8_t* image = b.images + image_bytes() * row;
    const int64_t n = data_.size();
    int label = -1;
    const bool is_there = b.first + o.rows[row] < n;
    const int64_t sample = is_there ? sample_at(b, o.rows[row]) : 0;
    AugmentParams& draw = b.params[row];
    draw = draw_augment(o.mode, o.seed, b.epoch, uint64_t(sample), data_.height, data_.width, o.out,
                        o.pca);
    if (!data_.mirrors) draw.mirror = 0;
    if (is_there) {
        int64_t used = sample;
        bool good = load(used, draw, image);
        // In evaluation a substitute would count twice.
        for (int64_t tried = 1; !good && !o.evaluation; ++tried) {
            if (tried == std::min(n, kMostBrokenInARow)) {
                const auto bad = data_.bad_images();
                throw Error(
                    "no readable image among " + std::to_string(tried) + " in a row" +
                    (bad.empty() ? "" : "; the first: " + bad[0].path + ": " + bad[0].reason));
            }
            used = (used + 1) % n;
            good = load(used, draw, image);
        }
        if (good) label = data_.label(used);
    }
    if (label >= 0 && !o.unit_of.empty()) label = o.unit_of[label];
    if (label < 0) std::memset(image, 0, image_bytes());
    b.labels[row] = label;
    if (o.crops) draw.y0 = draw.x0 = 0;
}

}  // namespace wt
