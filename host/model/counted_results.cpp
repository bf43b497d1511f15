#include "host/model/counted_results.h"

#include <algorithm>

#include "host/cuda/check.h"
#include "host/cuda/regular_file.h"
#include "host/json.h"
#include "host/model/predict.h"

namespace wt::model {

namespace {

std::string key_of(const std::string& operation, const std::string& problem,
                   const std::string& variant) {
    return operation + "\n" + problem + "\n" + variant;
}

Counted counted_of(const Json& variant) {
    Counted c{.instructions = variant.at("instructions"),
              .l2_bytes = variant.at("l2_bytes"),
              .shared_bytes = 128 * variant.at("shared_wavefronts").get<double>(),
              .flops = variant.at("matrix_flops")};
    for (const Json& kernel : variant.at("kernels"))
        for (const Json& access : kernel.at("accesses"))
            if (access.contains("rows")) c.shared_bytes += access.at("bytes").get<double>();  // TMA
    return c;
}

double longest(const Prediction& p) {
    return std::max({p.tensor, p.issue, p.shared, p.l2, p.memory});
}

}  // namespace

CountedResults CountedResults::read(const std::string& path, const Gpu& gpu) {
    CountedResults out;
    const std::string text = read_whole(path, "bin/compare --counters --json writes such a file");
    try {
        const Json j = parse_json(text);
        if (!j.value("counters", false))
            throw Error(path +
                        " has no counters: bin/compare --counters --json writes such a file");
        if (const double sms = j.at("sms"); sms != gpu.sms)
            throw Error(path + ": its kernels were planned for " +
                        std::to_string(static_cast<int>(sms)) + " SMs, and " + gpu.name + " has " +
                        std::to_string(static_cast<int>(gpu.sms)) + ": count again without --sms");
        for (const Json& problem : j.at("problems"))
            for (const Json& variant : problem.at("variants"))
                if (variant.contains("kernels"))
                    out.all_[key_of(problem.at("op"), problem.at("whole_problem"),
                                    variant.at("variant"))] = counted_of(variant);
    } catch (const Json::exception& e) {
        throw Error(path + " is not as bin/compare --counters --json writes it: " + e.what());
    }
    return out;
}

std::optional<Counted> CountedResults::of(const std::string& operation, const std::string& problem,
                                          const std::string& variant) const {
    const auto at = all_.find(key_of(operation, problem, variant));
    return at == all_.end() ? std::nullopt : std::optional(at->second);
}

void take(const Gpu& g, const Counted& counted, Prediction& p) {
    if (!p.known) return;
    const double before = longest(p);
    double busiest = 1;  // its share, of what all SMs would have if they had the same
    if (counted.flops > 0 && p.tensor > 0) {
        const double even = us_of(counted.flops / 2 / (g.tensor_macs * g.sms), g.tensor_ghz);
        busiest = std::max(1.0, p.tensor / even);
    }
    p.l2 = busiest * us_of(counted.l2_bytes / (g.l2_bytes * g.sms), g.feed_ghz);
    p.shared = busiest * us_of(counted.shared_bytes / (g.shared_bytes * g.sms), g.feed_ghz);
    if (!p.issue_known) {
        p.issue = busiest * issue_us(g, counted.instructions);
        p.issue_known = true;
    }
    p.us += longest(p) - before;
    p.counted = true;
    name_bound(p);
}

}  // namespace wt::model
