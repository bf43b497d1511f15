#include "host/train/carry.h"

#include <algorithm>

#include "host/cuda/check.h"
#include "host/train/options.h"

namespace wt {

const std::vector<SettingRule>& setting_rules() {
    using enum Rule;
    static const std::vector<SettingRule> rules = {
        // setting          resume  fine_tune  evaluate
        {"--net", same, same, same},
        {"--activation", same, notice, same},
        {"--pool", same, same, same},  // shapes depend on it
        {"--lrn", same, notice, same},
        {"--dropout", notice, notice, free},  // evaluation drops nothing
        {"--mean", same, notice, same},
        {"--std", same, notice, same},
        // named at the start; classes.h compares the classes
        {"--data", notice, free, free},
        {"--seed", same, own, same},  // synthetic images depend on it
        {"--augment", notice, own, own},
        {"--batch", same, own, own},  // times workers, times what adds up
        {"--accumulate", notice, own, own},
        {"workers", notice, own, own},
        {"--precision", notice, own, notice},
        {"--kernels", notice, own, own},
        {"--fuse", notice, own, own},
        {"--overlap", free, own, own},  // what it changes is rounding, and that on GPUs alone
        {"--fc-scheme", notice, own, own},
        {"--fc-split", notice, own, own},
        {"--fc-update", notice, own, own},
        {"--lr-scale", notice, own, own},
        {"--lr", notice, own, own},
        {"--lr-policy", notice, own, own},
        {"--warmup", notice, own, own},
        {"--label-smoothing", notice, own, own},
        {"--check-replicas", free, own, own},
        {"--momentum", notice, own, own},
        {"--weight-decay", notice, own, own},
        {"--epochs", free, own, own},
        {"--steps", free, own, own},
        {"--freeze", notice, own, own},
        {"--init", own, own, own},  // refused beside --resume: the weights are there
    };
    return rules;
}

namespace {

// With what it says of normalisation, as flags.
std::map<std::string, std::string> all_settings(const RunRecord& r) {
    std::map<std::string, std::string> all = r.settings;
    if (!r.mean.empty()) all["--mean"] = rgb_text(r.mean);
    if (!r.std_dev.empty()) all["--std"] = rgb_text(r.std_dev);
    return all;
}

}  // namespace

std::vector<std::string> carried_flags(const RunRecord& record, WeightsUse use,
                                       const std::vector<std::string>& given) {
    const auto has = [&](const char* name) {
        return std::find(given.begin(), given.end(), name) != given.end();
    };
    const auto all = all_settings(record);
    std::vector<std::string> flags;
    for (const SettingRule& rule : setting_rules()) {
        const std::string flag = rule.setting;
        const auto value = all.find(flag);
        if (rule.of(use) == Rule::own || !flag.starts_with("--") || value == all.end()) continue;
        // epochs are given anew: they are meant
        if (flag == "--steps" && has("epochs")) continue;
        flags.push_back(flag);
        flags.push_back(value->second);
    }
    return flags;
}

std::vector<std::string> compare_settings(const std::string& path, const RunRecord& record,
                                          const std::map<std::string, std::string>& now,
                                          WeightsUse use) {
    const auto before = all_settings(record);
    std::vector<std::string> notices;
    for (const SettingRule& rule : setting_rules()) {
        const std::string flag = rule.setting;
        const Rule what = rule.of(use);
        if (what == Rule::own || what == Rule::free || flag == "--batch") continue;
        const auto was = before.find(flag), is = now.find(flag);
        const std::string own = "the network's own";  // a dropout that no flag gave
        const std::string a = was == before.end() ? own : was->second,
                          b = is == now.end() ? own : is->second;
        if (a == b || (was == before.end() && flag != "--dropout")) continue;
        if (what == Rule::same)
            throw Error(path + " was made with " + flag + " " + a + ", and " + flag + " " + b +
                        " contradicts it: leave " + flag + " away" +
                        (use == WeightsUse::resume && rule.fine_tune != Rule::same
                             ? ", or begin a new run with --init " + path
                             : std::string()));
        notices.push_back(path + " was made with " + flag + " " + a + "; from here on it is " + b);
    }
    return notices;
}

}  // namespace wt
