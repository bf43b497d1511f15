// bin/train's command line, and its flags whose value is a list: --gpus, --mean, --std, --kernels,
// --lr-policy, and what a schedule's state in a checkpoint is.
#include <sstream>

#include "host/train/schedule.h"
#include "test/fuzz/input.h"
#include "tools/train_flags.h"

using namespace wt;

// Input: arguments, one a line.
extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
    fuzz::Input in(data, size);
    std::vector<std::string> arguments;
    std::istringstream lines(in.text());
    for (std::string line; std::getline(lines, line);)
        if (line.find('\0') == std::string::npos && line != "--help" && line != "-h")
            arguments.push_back(line);
    Flags f;
    try {
        fuzz::answers([&] { f = parse(arguments); });
    } catch (const Exit&) {  // --help
    }
    fuzz::answers([&] { parse_gpus(f.gpus); });
    fuzz::answers([&] { parse_rgb("--mean", f.mean, false); });
    fuzz::answers([&] { parse_rgb("--std", f.std_dev, true); });
    fuzz::answers([&] { KernelSettings::parse(f.o.kernels); });
    fuzz::answers([&] {
        Schedule s(f.o.lr_policy, 0.01, 10, 100);
        s.rate(50);
        for (const std::string& a : arguments) s.restore(a);
    });
    without(arguments, {"resume", "out", "eval-only"});
    return 0;
}
