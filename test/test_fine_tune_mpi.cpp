// Frozen layers with processes: what two of them train is what two threads do.
#include <doctest/doctest.h>

#include "test/mpi.h"
#include "test/training.h"

using namespace wt;
using namespace wt::test;

TEST_CASE(
    "fine-tune with mpirun: every scheme trains what the frozen layers leave, to the bit as threads do") {
    const TempDir s;
    REQUIRE(run(s, train("--kernels own --steps 1 --out first --gpus 0")).status == 0);
    for (const std::string scheme : {"a", "b", "c", "dp"}) {
        if (kSanitized && scheme != "c") continue;
        const std::string flags =
            "--kernels own --init first/checkpoint.safetensors --freeze conv1,conv2,conv3,conv4,fc7 --steps 3 --fc-scheme " +
            scheme + " --out " + scheme;
        REQUIRE(run(s, train(flags + " --gpus 0,1")).status == 0);
        const Result r = run(s, mpirun(2) + train(flags + "mpi --comm mpi"));
        INFO(r.out << r.err);
        REQUIRE(r.status == 0);
        const std::string file = s / (scheme + "/checkpoint.safetensors");
        CHECK(same_tensors(file, s / (scheme + "mpi/checkpoint.safetensors")));
        const auto first = SafetensorsFile::open(s / "first/checkpoint.safetensors"),
                   last = SafetensorsFile::open(file);
        for (const std::string layer :
             {"conv1", "conv2", "conv3", "conv4", "conv5", "fc6", "fc7", "fc8"}) {
            INFO(layer);
            const bool frozen = layer != "conv5" && layer != "fc6" && layer != "fc8";
            for (const std::string part : {".weight", ".bias"})
                CHECK((first.read(layer + part) == last.read(layer + part)) == frozen);
        }
    }
}
