// The parameters that every worker holds whole: each worker sums the gradients of its segment of
// every bucket, updates it and shares it, all on the exchange stream.
#include "host/parallel/step_planner.h"

namespace wt {

// The gradients of parameter `weight` and its bias are computed. If they are the last of a bucket,
// it is posted, with those of the micro-steps before.
void StepPlanner::bucket_ready(int weight) {
    if (workers_ == 1 || !updates()) return;
    finish_buckets();
    for (size_t b = 0; b < layout_.buckets.size(); ++b)
        if (layout_.buckets[b].weights.back() == weight) {
            add_up(layout_.buckets[b].grads);
            put(Post{layout_.ids.grads[b], layout_.buckets[b].grads});
            posted_.push_back(static_cast<int>(b));
        }
}

// The layers of the buckets posted so far read their weights no more, so these may be written.
// `at_once`: that was so when the bucket was posted; the post already orders it, and no other event
// is needed.
void StepPlanner::bucket_free(bool at_once) {
    if (posted_.empty()) return;
    if (!at_once) put(Record{Events::released});
    for (const int b : posted_) free_.push_back({b, at_once});
    posted_.clear();
}

// Sums, updates and shares the buckets whose weights may be written. It is called one graph segment
// late, so that the host does not wait for the peers' gradients before it has given its own device
// the next segment to do.
void StepPlanner::finish_buckets() {
    if (free_.empty()) return;
    const Layout& l = layout_;
    const StreamName before = std::exchange(stream_, StreamName::exchange);
    span_ = SpanKind::exchange;
    for (const auto& [b, at_once] : free_) {
        const Bucket& bucket = l.buckets[b];
        const Shard own = l.segment(bucket, rank_);
        const int grads = l.ids.grads[b], values = l.ids.values[b];
        put(Collect{grads});
        range_ = "exchange weights.reduce";
        if (own.count)
            launch(bucket.name + ".reduce", bucket.reduce,
                   [grads, to = bucket.grads.plus(own.first * 4), workers = workers_](Operands& o) {
                       ReduceArgs a{.src = {}, .dst = o.out(to), .stream = nullptr};
                       for (int r = 0; r < workers; ++r) a.src[r] = o.view(grads, r);
                       return a;
                   });
        if (!at_once) put(Await{Events::released, "released", b});
        span_ = SpanKind::compute;
        update(bucket.update, bucket.updates);
        span_ = SpanKind::exchange;
        put(Post{values, bucket.values});
        put(Collect{values});
        range_ = "exchange weights.share";
        for (int r = 0; r < workers_; ++r)
            if (l.transfers[values].moves(r, rank_))
                launch(bucket.name + ".share", bucket.share[r],
                       [values, r,
                        to = bucket.values.plus(bucket.value_offset(l.segment(bucket, r).first))](
                           Operands& o) {
                           return CopyArgs{
                               .src = o.view(values, r), .dst = o.out(to), .stream = nullptr};
                       });
    }
    range_.clear();
    span_ = SpanKind::compute;
    stream_ = before;
    free_.clear();
}

}  // namespace wt
