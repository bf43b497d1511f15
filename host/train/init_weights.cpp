#include "host/train/init_weights.h"

#include "host/cuda/check.h"

namespace wt {

namespace {

std::string list_text(const std::vector<std::string>& names) {
    std::string s;
    for (const std::string& n : names) s += (s.empty() ? "" : ", ") + n;
    return s;
}

std::vector<float> made(const NetSpec& net, const Param& p, const InitWeights& how) {
    return initial_values(net, p, {0, p.rows}, how.init, how.seed);
}

std::string summary(const WeightsFile& weights, const std::string& path, const NetSpec& net,
                    const InitWeights& how) {
    std::vector<std::string> read, anew;
    for (const Layer& l : net.layers)
        if (l.weights() > 0) (weights.has(l) ? read : anew).push_back(l.name);
    const std::string names =
        weights.naming() == Naming::torchvision ? " (torchvision's names)" : "";
    if (anew.empty()) return "all layers from " + path + names;
    std::string s = (read.empty() ? "nothing" : list_text(read)) + " from " + path + names + "; " +
                    list_text(anew) + " anew (" + (how.init == Init::he ? "he" : "paper") + ")";
    if (weights.other_classes())
        s += ": " + path + " has " + std::to_string(weights.classes()) + " classes, the data " +
             std::to_string(net.classes());
    return s;
}

}  // namespace

void make_weights(Group& group, const NetSpec& net, const InitWeights& how) {
    group.run([&](Worker& w) {
        const Layout& l = w.layout();
        for (size_t i = 0; i < l.params.size(); ++i)
            w.set_param(static_cast<int>(i),
                        initial_values(net, l.params[i], l.rows[i], how.init, how.seed));
    });
}

std::string read_weights(const SafetensorsFile* file, Group& group, const NetSpec& net,
                         const InitWeights& how) {
    const std::vector<Param>& params = group.worker(0).layout().params;
    if (!group.first()) {
        for (size_t i = 0; i < params.size(); ++i) group.set_param(static_cast<int>(i), {});
        return {};
    }
    const WeightsFile weights(*file, net, how.except);
    if (weights.other_classes() && !how.new_classes)
        throw Error(file->path() + " has " + std::to_string(weights.classes()) +
                    " classes, the data has " + std::to_string(net.classes()) +
                    ": give the data that it was trained for");
    for (size_t i = 0; i < params.size(); ++i) {
        const Param& p = params[i];
        const bool there = weights.has(net.layers[p.layer]);
        group.set_param(static_cast<int>(i),
                        there ? from_file_order(net, p, weights.read(p)) : made(net, p, how));
    }
    return summary(weights, file->path(), net, how);
}

}  // namespace wt
