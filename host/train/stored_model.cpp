#include "host/train/stored_model.h"

#include "data/dataset.h"
#include "host/cuda/nearest.h"
#include "host/train/options.h"
#include "host/train/torchvision_names.h"

namespace wt {
namespace {

// By the size of the last layer's bias, which all files of weights have.
int classes_in_file(const Origin& from, const std::string& net) {
    const std::string last = make_net(net, {.classes = 2}).layers.back().name + ".bias";
    const std::string name = from.torchvision ? torchvision_name(last) : last;
    if (!from.file->has(name))
        throw Error(from.path + " has no tensor " + name + ": not a file of net " + net);
    return static_cast<int>(from.file->shape(name).at(0));
}

std::string net_of(const Origin& from, const std::string& given) {
    const std::string known = from.position      ? from.position->net
                              : from.torchvision ? kTorchvisionNet
                                                 : std::string();
    if (known.empty() && given.empty())
        throw Error(from.path + " does not say which network it is of: give --net");
    if (!known.empty() && !given.empty() && known != given)
        throw Error("--net " + given + ": " + from.path + " is of net " + known);
    return known.empty() ? given : known;
}

}  // namespace

NetOptions options_of(const RunRecord& record) {
    NetOptions o;
    const auto setting = [&](const char* flag) {
        const auto at = record.settings.find(flag);
        return at == record.settings.end() ? std::string() : at->second;
    };
    if (record.settings.empty()) return o;
    o.tanh = value_in(kActivations, "activation", setting("--activation"));
    o.plain_pool = value_in(kPools, "pool", setting("--pool"));
    o.lrn = value_in(kOnOff, "lrn", setting("--lrn"));
    if (const std::string p = setting("--dropout"); !p.empty()) o.dropout = std::stof(p);
    return o;
}

StoredModel open_model(const std::string& path, const std::string& net) {
    StoredModel m;
    m.origin = open_origin(path, /*must_go_on=*/false);
    const RunRecord& r = m.origin.record();
    const std::string name = net_of(m.origin, net);
    NetOptions options = options_of(r);
    m.classes = r.classes;
    if (m.classes.empty())
        for (int i = 0, n = classes_in_file(m.origin, name); i < n; ++i)
            m.classes.push_back("class " + std::to_string(i));
    options.classes = static_cast<int>(m.classes.size());
    m.net = make_net(name, options);
    m.mean = r.mean;
    m.std_dev = r.std_dev;
    if (m.mean.size() != 3 && m.origin.torchvision) {
        m.mean.assign(kTorchvisionMean.begin(), kTorchvisionMean.end());
        m.std_dev.assign(kTorchvisionStd.begin(), kTorchvisionStd.end());
    }
    if (m.mean.size() != 3)
        throw Error(path +
                    " does not say how its images are normalised: a run's checkpoint does, "
                    "bin/train --init " +
                    path + " makes one");
    m.stored = r.stored > 0 ? r.stored : stored_size(m.net.input.h);
    m.channels = r.channels == 1 ? 1 : 3;
    if (const auto data = r.settings.find("--data"); data != r.settings.end())
        m.mirrors = !data->second.starts_with("mnist");
    return m;
}

}  // namespace wt
