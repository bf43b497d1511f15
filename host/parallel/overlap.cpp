#include "host/parallel/overlap.h"

#include <cstdlib>
#include <sstream>
#include <vector>

#include "host/cuda/check.h"
#include "host/cuda/nearest.h"

namespace wt {

namespace {

struct Row {
    const char* name;
    bool Overlap::*part;
};
constexpr Row kParts[] = {
    {"fc-update", &Overlap::fc_update}, {"wgrad", &Overlap::wgrad}, {"input", &Overlap::input}};

// The SMs of "fc-update:N".
int sms_of(const std::string& part) {
    const std::string number = part.substr(part.find(':') + 1);
    const bool digits = !number.empty() && number.size() <= 4 &&
                        number.find_first_not_of("0123456789") == std::string::npos;
    const int n = digits ? std::atoi(number.c_str()) : -1;
    if (n < 0 || n > 1000)
        throw UsageError("--overlap " + part +
                         ": SMs are a whole number from 0 (no limit) to 1000");
    return n;
}

}  // namespace

OverlapChoice OverlapChoice::parse(const std::string& text) {
    if (text == "auto") return {};
    if (text == "on") return all();
    if (text == "off") return none();
    OverlapChoice choice = none();
    std::vector<std::string> names = {"auto", "on", "off"};
    for (const Row& r : kParts) names.emplace_back(r.name);
    std::istringstream list(text + ",");
    for (std::string part; std::getline(list, part, ',');) {
        const std::string name = part.substr(0, part.find(':'));
        if (name == "auto" || name == "on" || name == "off")
            throw UsageError("--overlap " + text + ": " + name + " stands alone");
        const Row* row = nullptr;
        for (const Row& r : kParts)
            if (name == r.name) row = &r;
        if (!row) throw UsageError("--overlap: " + unknown_name("setting", name, names));
        if (name != part) {
            if (row->part != &Overlap::fc_update)
                throw UsageError("--overlap " + part + ": only fc-update takes a number of SMs");
            choice.fc_sms = sms_of(part);
        }
        choice.parts.*(row->part) = true;
    }
    return choice;
}

std::string text_of(const Overlap& parts) {
    std::string text;
    for (const Row& r : kParts)
        if (parts.*(r.part)) text += (text.empty() ? "" : ",") + std::string(r.name);
    return text.empty() ? "off" : text;
}

}  // namespace wt
