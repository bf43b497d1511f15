#include "host/model/step_model.h"

#include <algorithm>
#include <set>

#include "host/cuda/check.h"
#include "host/cuda/nearest.h"
#include "host/cuda/regular_file.h"
#include "host/json.h"
#include "host/parallel/layout.h"

namespace wt::model {

const std::vector<Machine>& machines() {
    // The H200 rates are 70% of a measured 790 TFLOP/s (bf16) and 4.3 TB/s. The K20's matrix rate
    // is the one fitted number: it makes one GPU take the 98.05 hours of Table 1; its memory is 75%
    // of 208 GB/s, its link what PCIe 2.0 x16 reaches.
    static const std::vector<Machine> list = {
        {.name = "h200",
         .about = "H200s, 8 to a box over NVLink, boxes over one 400 Gb/s InfiniBand port a GPU",
         .flops = 553e12,
         .memory = 3.0e12,
         .link = 370e9,
         .network = 45e9,
         .box = 8,
         .latency = 6e-6,
         .gap = 2e-6,
         .bytes = 2},
        {.name = "k20",
         .about = "K20s of Table 1, 8 to a box over PCIe 2.0",
         .flops = 1.362e12,
         .memory = 156e9,
         .link = 6e9,
         .network = 1e9,
         .box = 8,
         .latency = 20e-6,
         .gap = 8e-6,
         .bytes = 4},
    };
    return list;
}

Machine machine_of(const std::string& name) {
    std::vector<std::string> names;
    for (const Machine& m : machines()) {
        if (m.name == name) return m;
        names.push_back(m.name);
    }
    throw UsageError(unknown_name("machine", name, names));
}

namespace {

// Without the library's "[json.exception.type_error.302] ".
std::string in_words(const Json::exception& e) {
    const std::string what = e.what();
    const size_t end = what.starts_with("[json.exception.") ? what.find("] ") : std::string::npos;
    return end == std::string::npos ? what : what.substr(end + 2);
}

}  // namespace

MeasuredTimes read_times(const std::string& path) {
    const std::string text = read_whole(path, "give a file that bin/compare --json wrote");
    MeasuredTimes t;
    t.source = path;
    try {
        const Json j = parse_json(text);
        if (!j.is_object() || !j.contains("problems") || !j.contains("batch"))
            throw Error(path + " is no result of bin/compare --json: it has no problems and batch");
        if (!j.at("batch").is_number() || !j.contains("net") || !j.at("net").is_string())
            throw Error(path + " is of a single problem: run bin/compare --net NET --json FILE");
        if (!j.value("complete", true))
            throw Error(path +
                        " is of a bin/compare that was stopped before its end: run it again");
        t.batch = j.at("batch");
        t.device = j.value("device", ""), t.precision = j.value("precision", "");
        t.net = j.at("net");
        if (j.contains("matrix_ceiling") && !j.at("matrix_ceiling").is_null())
            t.flops = j.at("matrix_ceiling").at("tflop_per_s").get<double>() * 1e12;
        if (j.contains("copy_ceiling") && !j.at("copy_ceiling").is_null())
            t.memory = j.at("copy_ceiling").at("gb_per_s").get<double>() * 1e9;
        for (const auto& problem : j.at("problems")) {
            double ms = 0;
            for (const auto& row : problem.at("variants")) {
                if (!row.contains("ms")) continue;
                const double its = row.at("ms");
                const bool taken =
                    problem.contains("automatic") && row.at("variant") == problem.at("automatic");
                if (taken || ms == 0 || its < ms) ms = its;
                if (taken) break;
            }
            if (ms > 0) t.apart[problem.at("name")] = ms / 1e3;
        }
        t.seconds = t.apart;
        for (const auto& problem : j.at("problems")) {
            const std::string name = problem.at("name");
            if (!problem.value("automatic_fuses", false) || !t.apart.contains(name)) continue;
            bool first = true;
            for (const auto& part : problem.at("parts")) {
                t.seconds[part.get<std::string>()] = first ? t.apart[name] : 0;
                first = false;
            }
        }
    } catch (const Json::exception& e) {
        throw Error(path + " is no result of bin/compare --json: " + in_words(e));
    }
    if (t.seconds.empty() || t.batch <= 0)
        throw Error(path + " has no timed variants: run bin/compare --json without --check-only");
    return t;
}

Machine virtual_machine(const MeasuredTimes& t) {
    if (t.flops <= 0 || t.memory <= 0)
        throw Error(t.source + " has no ceilings: run bin/compare --json for a whole network");
    Machine m;
    m.name = "virtual", m.about = t.device + " and its like: virtual time, measured rates";
    m.flops = t.flops;
    m.memory = t.memory;
    m.link = m.network = t.memory / 2;
    m.box = 1 << 20;
    m.latency = m.gap = 0;
    m.bytes = t.precision == "bf16" ? 2 : 4;
    m.sums_on_cores = true;
    return m;
}

namespace {

struct Work {
    double flops = 0, bytes = 0;
};

// The plan of one worker's step with `batch` images: with everything fused that can be, or nothing.
WorkerConfig planned(const NetSpec& net, const Machine& m, int batch, bool fused) {
    WorkerConfig c;
    c.net = net;
    c.batch = batch;
    c.dtype = m.bytes == 2 ? DType::bf16 : DType::f32;
    c.sm = 0;  // the same on whatever machine this runs
    c.kernels.fuse = fused ? Fuse::on : Fuse::off;
    return c;
}

std::string layer_of(const std::string& name) { return name.substr(0, name.find('.')); }

// A step of one worker, added to a simulation task by task.
class StepModel {
public:
    StepModel(const NetSpec& net, const Machine& m, const MeasuredTimes& times, const Case& c)
        : net_(net),
          m_(m),
          times_(times),
          c_(c),
          K_(c.workers),
          plan_(planned(net, m, c.batch, times.seconds.empty())),
          measured_plan_(planned(net, m, std::max(1, times.batch), times.seconds.empty())),
          compute_(sim_.resource("compute")),
          link_(sim_.resource("link")),
          network_(sim_.resource("network")) {
        for (const Step& s : measured_plan_.training_steps)
            if (const auto* l = std::get_if<Launch>(&s.action))
                measured_at_[l->name] = {l->flops, l->bytes};
    }

    Outcome run() {
        trunk_forward();
        if (c_.scheme == FcScheme::dp)
            head_alone();
        else
            head_sharded();
        trunk_backward();
        update();
        Outcome o;
        o.seconds = sim_.run();
        o.compute = sim_.busy(compute_) - sums_;
        o.activations = activations_, o.gradients = gradients_;
        o.unmeasured.assign(unmeasured_.begin(), unmeasured_.end());
        o.tasks = sim_.tasks();
        o.resources = sim_.resources();
        return o;
    }

private:
    double floor(Work w) const { return std::max(w.flops / m_.flops, w.bytes / m_.memory); }
    // The time of `op` (LAYER.OP) on other extents than it was measured on: scaled by the ratio of
    // the floors.
    double seconds(const std::string& op, Work w, Work measured_at, bool apart = false) {
        const auto& known = apart ? times_.apart : times_.seconds;
        const auto it = known.find(op);
        if (it == known.end()) {
            if (measured()) unmeasured_.insert(op);
            return floor(w) + m_.gap;
        }
        return it->second * floor(w) / floor(measured_at);
    }
    Simulation::Id kernel(const std::string& op, Work w, Work measured_at,
                          Simulation::Id extra = -1) {
        return last_ = sim_.add(op, {compute_}, seconds(op, w, measured_at), {last_, extra});
    }
    // A kernel of the plan, or `share` of it.
    void planned_kernel(const std::string& name, Work w, double share = 1,
                        Simulation::Id need = -1) {
        const auto at = measured_at_.find(name);
        w.flops *= share;
        w.bytes *= share;
        const double s = seconds(name, w, at == measured_at_.end() ? w : at->second);
        if (s > 0) last_ = sim_.add(name, {compute_}, s, {last_, need});
    }
    template <class Problem, class Args>
    void elementwise(const std::string& name, const Bound<Problem, Args>& bound, double share,
                     Simulation::Id need = -1) {
        if (bound) planned_kernel(name, {0, bytes_of<Args>(bound.problem)}, share, need);
    }
    bool measured() const { return !times_.seconds.empty(); }

    // `bytes` to each of the other workers: those of the box and the rest at the same time.
    Simulation::Id send(const std::string& name, double bytes, std::vector<Simulation::Id> needs,
                        double& counted) {
        if (K_ == 1) return needs.empty() ? -1 : needs.front();
        const int near = std::min(K_, m_.box) - 1, far = K_ - 1 - near;
        counted += bytes * (K_ - 1);
        const auto a = sim_.add(name, {link_}, bytes * near / m_.link, needs, m_.latency);
        if (!far) return a;
        const auto b =
            sim_.add(name + " (network)", {network_}, bytes * far / m_.network, needs, m_.latency);
        return sim_.add(name + " done", {}, 0, {a, b});
    }
    // The workers' numbers of `count` elements are added up where they are needed: `bytes` from
    // each of the others.
    Simulation::Id sum(const std::string& name, double bytes, std::vector<Simulation::Id> needs,
                       double& counted) {
        if (K_ == 1 || !m_.sums_on_cores) return send(name, bytes, std::move(needs), counted);
        counted += bytes * (K_ - 1);
        return sum_here(name, bytes, std::move(needs));
    }
    Simulation::Id sum_here(const std::string& name, double bytes,
                            std::vector<Simulation::Id> needs) {
        const double seconds = bytes * (K_ + 1) / m_.memory;  // K read, one written
        sums_ += seconds;
        return sim_.add(name, {compute_}, seconds, std::move(needs));
    }
    // A layer that every worker holds whole: each sums 1/K of its gradients, updates that, and
    // gives it to the others: 2 (K-1)/K of the bytes leave each. `need`: when the gradients are
    // computed.
    Simulation::Id replicated(const Layer& l, Simulation::Id need) {
        if (K_ == 1) {
            updates_ += l.parameters();
            return need;
        }
        const double bytes = l.parameters() * 4.0;
        gradients_ += 2.0 * (K_ - 1) / K_ * bytes;
        Simulation::Id id = m_.sums_on_cores ? sum_here("exchange " + l.name, bytes / K_, {need})
                                             : half_all_reduce("exchange " + l.name, bytes, need);
        id = sim_.add("update.sgd", {compute_}, sgd_seconds(double(l.parameters()) / K_), {id});
        return half_all_reduce("exchange " + l.name + " share", bytes, id);
    }
    // One half of an all-reduce: the gradients go to their segments' workers, or the new values
    // come from them, in the box and then between boxes.
    Simulation::Id half_all_reduce(const std::string& name, double bytes, Simulation::Id need) {
        const int in_box = std::min(K_, m_.box), boxes = (K_ + m_.box - 1) / m_.box;
        Simulation::Id id = need;
        if (in_box > 1)
            id = sim_.add(name, {link_}, double(in_box - 1) / in_box * bytes / m_.link, {id},
                          m_.latency);
        // Each GPU of a box carries its share of the box's sum to the other boxes.
        if (boxes > 1)
            id =
                sim_.add(name + " (network)", {network_},
                         double(boxes - 1) / boxes * bytes / in_box / m_.network, {id}, m_.latency);
        return id;
    }
    double sgd_seconds(double count) {
        return seconds("update.sgd", {0, 22 * count}, {0, 22.0 * net_.parameters()});
    }

    // A worker's part of an fc layer's product: so many of its units and inputs.
    struct Part {
        double units, inputs;
    };
    static Part whole(const Layer& l) { return {double(l.out), double(l.x.count())}; }
    // A product whose weights are counted with `weight_bytes` bytes each.
    static Work product(double rows, Part p, double es, double weight_bytes) {
        return {2 * rows * p.units * p.inputs,
                (rows * p.inputs + rows * p.units) * es + p.inputs * p.units * weight_bytes};
    }
    Simulation::Id fc(const Layer& l, const char* op, double rows, Part p, double weight_bytes,
                      Simulation::Id need) {
        return kernel(l.name + op, product(rows, p, m_.bytes, weight_bytes),
                      product(std::max(1, times_.batch), whole(l), m_.bytes, weight_bytes), need);
    }

    template <class F>
    void for_launches(std::initializer_list<Stage> stages, F visit) {
        for (const Step& s : plan_.training_steps)
            if (const auto* l = std::get_if<Launch>(&s.action);
                l && !l->operation.empty() &&
                std::find(stages.begin(), stages.end(), s.stage) != stages.end())
                visit(*l);
    }
    void trunk_forward() {
        for_launches({Stage::input, Stage::trunk_forward}, [&](const Launch& l) {
            planned_kernel(l.name, {l.flops, l.bytes});
        });
    }
    // A layer's gradients are there with its wgrad, or, where a fused pooling sums its biases',
    // before.
    void trunk_backward() {
        for_launches({Stage::trunk_backward}, [&](const Launch& l) {
            planned_kernel(l.name, {l.flops, l.bytes});
            if (l.operation == ConvWgradArgs::operation)
                reduced_.push_back(replicated(layer(layer_of(l.name)), last_));
        });
    }
    const Layer& layer(const std::string& name) const {
        return *std::find_if(net_.layers.begin(), net_.layers.end(),
                             [&](const Layer& l) { return l.name == name; });
    }
    std::vector<const Layer*> fcs() const {
        std::vector<const Layer*> all;
        for (const Layer& l : net_.layers)
            if (l.kind == LayerKind::fc) all.push_back(&l);
        return all;
    }

    // The fraction of a layer's activation and dropout, and of their gradients, that so many rows
    // and units are.
    double share(const Layer& l, double rows, double units) const {
        return rows / c_.batch * units / l.out;
    }
    const HeadOp& planned_layer(const Layer& l) const {
        return *std::find_if(plan_.head.begin(), plan_.head.end(),
                             [&](const HeadOp& op) { return op.layer->name == l.name; });
    }
    void fc_activate(const Layer& l, double rows, double units) {
        const HeadOp& op = planned_layer(l);
        elementwise(op.name_act, op.act, share(l, rows, units));
        elementwise(op.name_drop, op.drop, share(l, rows, units));
    }
    void fc_backward(const Layer& l, double rows, double units, Simulation::Id need) {
        const HeadOp& op = planned_layer(l);
        elementwise(l.name + ".drop_backward", op.drop_back, share(l, rows, units), need);
        elementwise(l.name + ".act_backward", op.act_back, share(l, rows, units), need);
    }
    // The weights' gradient, which updates them in the same kernel if it may and training does so.
    void fc_wgrad(const Layer& l, double rows, Part p, bool may_update) {
        const auto alone = times_.seconds.find(l.name + ".update");
        const bool fused = measured() ? alone != times_.seconds.end() && alone->second == 0
                                      : planned_layer(l).wgrad.problem.sgd;
        const double bytes = may_update && fused ? 22 : 4;
        const Work w = product(rows, p, m_.bytes, bytes),
                   at = product(std::max(1, times_.batch), whole(l), m_.bytes, bytes);
        last_ = sim_.add(l.name + ".wgrad", {compute_},
                         seconds(l.name + ".wgrad", w, at, !may_update), {last_});
        if (may_update && !fused)
            updates_ += double(l.parameters()) * p.units * p.inputs / l.weights();
    }

    // Data parallel: whole fc layers on the worker's own images; their gradients are summed like
    // the rest.
    void head_alone() {
        const auto layers = fcs();
        for (const Layer* l : layers) {
            fc(*l, ".fprop", c_.batch, whole(*l), m_.bytes, -1);
            fc_activate(*l, c_.batch, l->out);
        }
        elementwise("loss.softmax", plan_.softmax, 1);
        for (auto it = layers.rbegin(); it != layers.rend(); ++it) {
            fc_backward(**it, c_.batch, (*it)->out, -1);
            fc_wgrad(**it, c_.batch, whole(**it), K_ == 1);
            const Simulation::Id gradient = last_;
            fc(**it, ".dgrad", c_.batch, whole(**it), m_.bytes, -1);
            if (K_ > 1) reduced_.push_back(replicated(**it, gradient));
        }
    }

    // A worker's part of layer i: of its units (column-parallel) or, where the split alternates, of
    // the inputs of all but the first (row-parallel).
    bool row_parallel(size_t i) const { return c_.alternate && K_ > 1 && i > 0; }
    Part part(const Layer& l, size_t i) const {
        Part p = whole(l);
        (row_parallel(i) ? p.inputs : p.units) /= K_;
        return p;
    }

    // The weights are sharded. One microbatch is the whole batch (a), or K of them are parts of it
    // (b: one worker's images; c: 1/K of everybody's).
    void head_sharded() {
        const auto layers = fcs();
        const int microbatches = c_.scheme == FcScheme::a ? 1 : K_;
        const double rows = double(K_) * c_.batch / microbatches,
                     flat = double(layers.front()->x.count()) * m_.bytes;
        const Simulation::Id trunk = last_;
        // Rows to each other worker: a and c, everybody's part of the microbatch; b, the whole
        // microbatch from the worker whose samples it has, which this worker is once in K
        // microbatches.
        const double rows_sent = c_.scheme == FcScheme::b ? rows : rows / K_;
        std::vector<Simulation::Id> arrived(microbatches);
        std::vector<Simulation::Id> returned;
        double sent = 0;
        for (int j = 0; j < microbatches; ++j) {
            // The next microbatch is sent while this one is computed: it goes out when this one has
            // arrived.
            arrived[j] = send("exchange trunk.gather", rows_sent * flat,
                              {trunk, j ? arrived[j - 1] : -1}, sent);
        }
        activations_ += c_.scheme == FcScheme::b ? sent / microbatches : sent;
        for (int j = 0; j < microbatches; ++j) {
            Simulation::Id need = arrived[j];
            for (size_t i = 0; i < layers.size(); ++i) {
                const Layer& l = *layers[i];
                const double units = double(l.out) / K_;
                fc(l, ".fprop", rows, part(l, i), m_.bytes, need);
                if (row_parallel(i)) {  // partial sums of own units; of the logits, of all
                    last_ = need = sum("exchange fc.reduce",
                                       rows * (i + 1 == layers.size() ? l.out : units) * m_.bytes,
                                       {last_}, activations_);
                    fc_activate(l, rows, units);
                    continue;
                }
                fc_activate(l, rows, units);
                need = row_parallel(i + 1) && i + 1 < layers.size()
                           ? -1
                           : send("exchange fc.gather", rows * units * m_.bytes, {last_},
                                  activations_);
            }
            elementwise("loss.softmax", plan_.softmax, rows / c_.batch, need);
            for (size_t i = layers.size(); i-- > 0;) {
                const Layer& l = *layers[i];
                const double units = double(l.out) / K_, in = static_cast<double>(l.x.count());
                if (i + 1 == layers.size() || !row_parallel(i + 1))
                    fc_backward(l, rows, units, need);
                fc(l, ".dgrad", rows, part(l, i), m_.bytes, need);
                if (row_parallel(i)) {  // own columns of the gradient need no sum; they go to all
                                        // if the layer below is row-parallel too
                    fc_backward(*layers[i - 1], rows, in / K_, -1);
                    need = row_parallel(i - 1)
                               ? send("exchange fc.gather", rows * in / K_ * m_.bytes, {last_},
                                      activations_)
                               : -1;
                } else if (i == 0) {  // partial sums of the gradient go to the replicas' rows
                    double back = 0;
                    returned.push_back(
                        sum("exchange trunk.reduce", rows_sent * flat, {last_}, back));
                    activations_ += c_.scheme == FcScheme::b ? back / microbatches : back;
                } else {  // or to the owners of the columns
                    need =
                        sum("exchange fc.reduce", rows * in / K_ * m_.bytes, {last_}, activations_);
                }
                // The gradient is computed in every microbatch, with its update, or once for all of
                // them.
                if (c_.per_microbatch || j + 1 == microbatches)
                    fc_wgrad(l, c_.per_microbatch ? rows : rows * microbatches, part(l, i), true);
            }
        }
        returned.push_back(last_);
        last_ = sim_.add("fc passes over", {}, 0, returned);
    }

    // The update of the parameters that nothing has updated yet.
    void update() {
        reduced_.push_back(last_);
        last_ = sim_.add("gradients summed", {}, 0, reduced_);
        if (updates_ > 0)
            last_ = sim_.add("update.sgd", {compute_}, sgd_seconds(updates_), {last_});
    }

    const NetSpec& net_;
    const Machine& m_;
    const MeasuredTimes& times_;
    const Case c_;
    const int K_;
    const Layout plan_, measured_plan_;
    std::map<std::string, Work> measured_at_;
    Simulation sim_;
    Simulation::Resource compute_, link_, network_;
    Simulation::Id last_ = -1;
    std::vector<Simulation::Id> reduced_;
    std::set<std::string> unmeasured_;
    double activations_ = 0, gradients_ = 0;  // bytes
    double sums_ = 0;                         // seconds of adding up on the cores
    double updates_ = 0;                      // fc weights that the update at the end is for
};

}  // namespace

Outcome simulate(const NetSpec& net, const Machine& machine, const MeasuredTimes& times,
                 const Case& c) {
    for (const Layer& l : net.layers)
        if (l.kind == LayerKind::fc && c.scheme != FcScheme::dp && l.out < c.workers)
            throw UsageError("layer " + l.name + " has " + std::to_string(l.out) +
                             " units, fewer than " + std::to_string(c.workers) + " workers");
    return StepModel(net, machine, times, c).run();
}

}  // namespace wt::model
