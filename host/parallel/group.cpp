#include "host/parallel/group.h"

#include <map>
#include <set>

namespace wt {

namespace {

// Bytes needed on each device at this batch a worker.
std::map<int, size_t> needed(std::vector<WorkerConfig> configs, int batch) {
    std::map<int, size_t> by_device;
    for (WorkerConfig& c : configs) {
        c.batch = batch;
        by_device[c.device] += memory_needed(c);
    }
    return by_device;
}

bool fits(const std::vector<WorkerConfig>& configs, int batch) {
    try {
        for (const auto& [device, bytes] : needed(configs, batch))
            if (bytes > device_free_bytes(device)) return false;
    } catch (const UsageError&) {
        return false;  // too few samples for the scheme
    }
    return true;
}

// Tried once a process.
const Links& links_of(const std::vector<WorkerConfig>& configs, const LinkProbe& probe) {
    static std::mutex mutex;
    static std::map<std::pair<std::set<int>, bool>, Links> known;
    std::set<int> devices;
    for (const WorkerConfig& c : configs) devices.insert(c.device);
    std::lock_guard lock(mutex);
    const auto [at, fresh] = known.try_emplace({devices, probe.peer});
    if (fresh) at->second = probe_links({devices.begin(), devices.end()}, probe);
    return at->second;
}

}  // namespace

void check_memory(const std::vector<WorkerConfig>& configs) {
    const int batch = configs[0].batch;
    for (const auto& [device, bytes] : needed(configs, batch)) {
        const size_t free = device_free_bytes(device);
        if (bytes <= free) continue;
        int good = 0;  // the largest batch known to fit
        for (int step = batch / 2; step > 0; step /= 2)
            if (fits(configs, good + step)) good += step;
        const WorkerConfig* first = nullptr;
        int on_device = 0;
        for (const WorkerConfig& c : configs)
            if (c.device == device) first = first ? first : &c, ++on_device;
        std::string s = "out of memory on GPU " + std::to_string(device) + ": " + first->net.name +
                        " at batch " + std::to_string(batch) + " needs " + human_bytes(bytes);
        if (on_device > 1) s += " for " + std::to_string(on_device) + " workers";
        s += " (" + Layout(*first).plan.text() + (on_device > 1 ? " each" : "") + "), " +
             human_bytes(free) + " is free; ";
        s += good > 0 ? "--batch " + std::to_string(good) + " fits" : "not even --batch 1 fits";
        throw Error(s);
    }
}

Group::Group(std::vector<WorkerConfig> configs, Team* team, const LinkProbe& links) : team_(team) {
    const int workers = static_cast<int>(configs.size());
    for (WorkerConfig& c : configs) c.packed = c.packed || (team && c.workers > 1);
    check_memory(configs);
    links_ = links_of(configs, links);
    if (team) team->use_links(links);
    for (WorkerConfig& c : configs) c.packed = c.packed || !links_.direct;
    if (!links_.direct) check_memory(configs);  // with what that takes
    if (workers > 1) mailbox_ = std::make_unique<Mailbox>(workers, configs[0].packed);
    workers_.resize(configs.size());
    for (size_t r = 0; r < configs.size(); ++r)
        threads_.emplace_back([this, r] { serve(static_cast<int>(r)); });
    try {
        run_on_threads([&](int r) {
            std::unique_ptr<Exchange> exchange;
            if (mailbox_) exchange = std::make_unique<PeerExchange>(*mailbox_, r);
            if (team_ && configs[r].workers > 1) exchange = team_->exchange();
            workers_[r] = std::make_unique<Worker>(configs[r], std::move(exchange));
        });
    } catch (...) {
        shut_down();
        throw;
    }
}

Group::~Group() { shut_down(); }

void Group::shut_down() {
    try {
        run_on_threads([&](int r) {
            if (workers_[r]) workers_[r]->synchronize();
        });
    } catch (...) {  // what failed has been reported where it was run
    }
    {
        std::lock_guard lock(mutex_);
        stop_ = true;
        changed_.notify_all();
    }
    for (std::thread& t : threads_) t.join();
}

void Group::serve(int rank) {
    long seen = 0;
    std::unique_lock lock(mutex_);
    for (;;) {
        changed_.wait(lock, [&] { return stop_ || round_ > seen; });
        if (stop_) return;
        seen = round_;
        lock.unlock();
        std::exception_ptr failure;
        try {
            task_(rank);
        } catch (const Aborted&) {
        } catch (...) {
            failure = std::current_exception();
            if (mailbox_) mailbox_->abort();
        }
        lock.lock();
        if (failure && !failure_) failure_ = failure;
        if (--running_ == 0) changed_.notify_all();
    }
}

void Group::run_on_threads(const std::function<void(int)>& task) {
    std::unique_lock lock(mutex_);
    task_ = task;
    running_ = static_cast<int>(threads_.size());
    failure_ = nullptr;
    ++round_;
    changed_.notify_all();
    changed_.wait(lock, [&] { return running_ == 0; });
    if (failure_) std::rethrow_exception(failure_);
}

void Group::run(const std::function<void(Worker&)>& task) {
    run_on_threads([&](int r) { task(*workers_[r]); });
}

// Own elements of all workers, put together in memory order where they all are.
std::vector<float> Group::gather(int i, const std::function<std::vector<float>(Worker&)>& own) {
    std::vector<float> all;
    for (auto& w : workers_) {
        const auto part = own(*w);
        all.insert(all.end(), part.begin(), part.end());
    }
    if (team_) all = team_->gather(all);
    return first() ? workers_[0]->layout().whole(i, std::move(all)) : all;
}

std::vector<float> Group::get_param(int i, bool momentum) {
    return gather(i, [&](Worker& w) { return momentum ? w.get_momentum(i) : w.get_param(i); });
}

std::vector<float> Group::get_gradient(int i) {
    return gather(i, [&](Worker& w) { return w.get_gradient(i); });
}

// A head that is shared has everybody's samples, else each has its own.
std::vector<float> Group::get_logits() {
    if (workers_[0]->layout().config.scheme != FcScheme::dp)
        return first() ? workers_[0]->get_logits() : std::vector<float>{};
    std::vector<float> all;
    for (auto& w : workers_) {
        const auto part = w->get_logits();
        all.insert(all.end(), part.begin(), part.end());
    }
    return team_ ? team_->gather(all) : all;
}

void Group::set_param(int i, const std::vector<float>& given, bool momentum) {
    const std::vector<float> values = team_ ? team_->broadcast(given) : given;
    for (auto& w : workers_) {
        const Shard s = w->layout().rows[i];
        const int64_t row = w->layout().params[i].row;
        const std::vector<float> part(values.begin() + s.first * row,
                                      values.begin() + (s.first + s.count) * row);
        momentum ? w->set_momentum(i, part) : w->set_param(i, part);
    }
}

}  // namespace wt
