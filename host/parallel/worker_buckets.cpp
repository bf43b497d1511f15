// What every worker holds whole: the sum of its gradients, its update and its sharing, each worker for a segment of every
// bucket. All of it on the second stream.
#include "host/cuda/nvtx.h"
#include "host/parallel/waits.h"
#include "host/parallel/worker.h"

namespace wt {

// Parameter `weight` and its bias have their gradients. Where they are the last of a bucket, it is posted.
void Worker::bucket_ready(int weight) {
    if (!exchange_) return;
    finish_buckets();
    for (size_t b = 0; b < layout_.buckets.size(); ++b)
        if (layout_.buckets[b].weights.back() == weight) {
            exchange_->post(layout_.ids.grads[b], at(layout_.buckets[b].grads), compute_.get());
            posted_.push_back(static_cast<int>(b));
        }
}

// The layers of the buckets posted so far have done their work: their weights may be written. `at_once`: they had when it was
// posted, and who collects it knows that.
void Worker::bucket_free(bool at_once) {
    if (posted_.empty()) return;
    if (!at_once) released_.record(compute_.get());
    for (const int b : posted_) free_.push_back({b, at_once});
    posted_.clear();
}

// Sums, updates and shares the buckets that may be. Called one stretch late, so that the host does not wait for the peers'
// gradients before it has given its own device the next stretch to do.
void Worker::finish_buckets() {
    if (!exchange_) return;
    const cudaStream_t s = comm_.get();
    for (const auto& [b, at_once] : free_) {
        const Bucket& bucket = layout_.buckets[b];
        const Shard own = layout_.segment(bucket, rank_);
        const Range range("exchange weights");
        const auto grads = exchange_->collect(layout_.ids.grads[b], s);
        replay_.stretch(comm_, [&] {
            if (!own.count) return;
            ReduceArgs a{};
            for (int r = 0; r < workers_; ++r) a.src[r] = grads[r].data;
            a.dst = at(bucket.grads.plus(own.first * 4));
            a.stream = s;
            bucket.reduce(a);
        });
        if (!at_once) wait(s, released_, "released", b);
        replay_.stretch(comm_, [&] { update(bucket.update, bucket.updates, s); });
        exchange_->post(layout_.ids.values[b], at(bucket.values), s);
        const auto values = exchange_->collect(layout_.ids.values[b], s);
        replay_.stretch(comm_, [&] {
            for (int r = 0; r < workers_; ++r)
                if (values[r].data) bucket.share[r]({values[r].data, at(bucket.values.plus(bucket.value_offset(layout_.segment(bucket, r).first))), s});
        });
    }
    free_.clear();
}

}  // namespace wt
