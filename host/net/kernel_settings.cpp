#include "host/net/kernel_settings.h"

#include <sstream>

namespace wt {

KernelSettings KernelSettings::parse(const std::string& text) {
    KernelSettings s;
    std::stringstream parts(text);
    for (std::string part; std::getline(parts, part, ',');) {
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
            s.by_pass[part.substr(0, eq)] = part.substr(eq + 1);
        else
            throw UsageError("--kernels " + part + ": must be auto, own, baseline, tune or LAYER.PASS=VARIANT (conv2.wgrad=tiled)");
    }
    return s;
}

}  // namespace wt
