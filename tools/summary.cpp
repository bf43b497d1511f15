// bin/summary NET: a network's layers, with output shapes, parameters and multiply-adds.
#include <cstdio>

#include "host/net/spec.h"
#include "tools/common_cli.h"

namespace {

using namespace wt;

std::string grouped(int64_t n) {  // 62378344 -> 62,378,344
    std::string s = std::to_string(n);
    for (int i = static_cast<int>(s.size()) - 3; i > 0; i -= 3) s.insert(i, ",");
    return s;
}

int run(int argc, char** argv) {
    CommandLine app("A table of a network's layers: output shape, parameters, multiply-adds of one image's forward pass, and shares.");
    std::string name;
    NetOptions options;
    app.add_option("NET", name, "alexnet, alexnet2012, owt, cifar, mini")->required()->check(one_of("net", net_names()));
    app.add_option("--classes", options.classes, "units of the last layer")->check(between(2, 1e6));
    app.parse(argc, argv);

    const NetSpec net = make_net(name, options);
    const double parameters = net.parameters(), macs = net.macs();
    std::printf("%-8s %-14s %15s %7s %17s %7s\n", "layer", "output", "parameters", "", "multiply-adds", "");
    std::printf("%-8s %dx%dx%d\n", "input", net.input.h, net.input.w, net.input.c);
    for (const Layer& l : net.layers) {
        const std::string shape = std::to_string(l.y.h) + "x" + std::to_string(l.y.w) + "x" + std::to_string(l.y.c);
        if (l.parameters())
            std::printf("%-8s %-14s %15s %6.2f%% %17s %6.2f%%\n", l.name.c_str(), shape.c_str(), grouped(l.parameters()).c_str(),
                        100 * l.parameters() / parameters, grouped(l.macs()).c_str(), 100 * l.macs() / macs);
        else
            std::printf("%-8s %-14s\n", l.name.c_str(), shape.c_str());
    }
    std::printf("%-8s %-14s %15s %7s %17s\n", "total", "", grouped(net.parameters()).c_str(), "", grouped(net.macs()).c_str());
    return 0;
}

}  // namespace

int main(int argc, char** argv) { return run_program(argc, argv, "summary", run); }
