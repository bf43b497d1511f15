#include "host/net/kernel_settings.h"

#include <algorithm>

namespace wt {

namespace {

void name_variant(KernelSettings& s, const std::string& layer_op, const std::string& variant) {
    const auto [at, first] = s.by_layer_op.emplace(layer_op, variant);
    if (!first)
        throw UsageError("--kernels " + layer_op + " is given twice: " + at->second + " and " +
                         variant);
}

}  // namespace

KernelSettings KernelSettings::parse(const std::string& text) {
    KernelSettings s;
    for (size_t at = 0; at <= text.size();) {
        const size_t end = std::min(text.find(',', at), text.size());
        const std::string part = text.substr(at, end - at);
        at = end + 1;
        const size_t eq = part.find('=');
        if (part == "auto")
            s.choice = KernelChoice::automatic;
        else if (part == "own")
            s.choice = KernelChoice::own;
        else if (part == "baseline")
            s.choice = KernelChoice::baseline;
        else if (part == "tune")
            s.tune = true;
        else if (eq != std::string::npos && part.find('.') < eq && eq + 1 < part.size())
            name_variant(s, part.substr(0, eq), part.substr(eq + 1));
        else if (part.empty())
            throw UsageError("--kernels '" + text +
                             "': an entry is missing: must be auto, own, baseline, tune or "
                             "LAYER.PASS=VARIANT, with commas between");
        else
            throw UsageError(
                "--kernels " + part +
                ": must be auto, own, baseline, tune or LAYER.PASS=VARIANT (conv2.wgrad=tiled)");
    }
    return s;
}

}  // namespace wt
