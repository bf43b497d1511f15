#include "host/train/classes.h"

#include <algorithm>
#include <map>

#include "host/cuda/check.h"
#include "host/cuda/nearest.h"

namespace wt {

std::string classes_text(const std::vector<std::string>& classes) {
    constexpr size_t kShown = 5;
    std::string names;
    for (size_t i = 0; i < std::min(classes.size(), kShown); ++i)
        names += (i ? ", " : "") + classes[i];
    if (classes.size() > kShown) names += ", ...";
    return std::to_string(classes.size()) + (classes.size() == 1 ? " class (" : " classes (") +
           names + ")";
}

ClassMatch match_classes(const std::vector<std::string>& known,
                         const std::vector<std::string>& found, WeightsUse use,
                         const std::string& path, const std::string& data) {
    if (known.empty() || known == found) return {.classes = found, .unit_of = {}, .notice = {}};
    std::map<std::string, int> units;
    for (size_t i = 0; i < known.size(); ++i) units.emplace(known[i], static_cast<int>(i));
    std::vector<int> unit_of;
    std::string unknown;
    for (const std::string& name : found) {
        const auto at = units.find(name);
        if (at == units.end()) {
            unknown = name;
            break;
        }
        unit_of.push_back(at->second);
    }
    const bool fewer = found.size() < known.size();
    const std::string was = path + " is of " + classes_text(known),
                      is = data + " has " + classes_text(found);
    if (use == WeightsUse::evaluate) {
        if (!unknown.empty()) {
            const std::string near = nearest(unknown, known);
            throw Error(data + " has the class '" + unknown + "', and " + was +
                        (near.empty() ? "" : "; nearest is '" + near + "'") +
                        ": evaluate on images of those, in folders of those names");
        }
        return {.classes = known,
                .unit_of = unit_of,
                .notice = fewer ? "only " + std::to_string(found.size()) + " of the network's " +
                                      std::to_string(known.size()) + " classes are in " + data
                                : "classes are numbered as in " + path + ", by their names"};
    }
    if (unknown.empty() && !fewer)
        return {.classes = known,
                .unit_of = unit_of,
                .notice = "classes are numbered as in " + path + ", by their names"};
    if (use == WeightsUse::resume)
        throw Error(was + ", and " + is +
                    ": a run goes on with its own classes; begin a new one with --init " + path);
    return {.classes = found,
            .unit_of = {},
            .notice = was + ", and " + is + ": the last layer is trained for these"};
}

}  // namespace wt
