// Training under other legal orders of a virtual GPU's unordered work than the tests' own.
#include <string>

#include "test/training.h"

using namespace wt::test;

// wgrad's blocks are in pairs, and one without a tile only looks on. Under seeds 5 and 8 a lane of
// it released a stage for its warp that others of the warp had not yet seen filled: the producer
// filled it again, and the launch did not end.
TEST_CASE("train: the same bits in every order of a block that has no tile of its own") {
    const TempDir s;
    const std::string command =
        program("train") +
        " --net cifar --data synthetic:10:8 --gpus 0 --batch 4 --precision bf16 --steps 2"
        " --kernels own,conv2.wgrad=wgmma_sm90 --out run";
    for (const int seed : {0, 5, 8}) {
        CAPTURE(seed);
        const std::string out = std::to_string(seed);
        const Result r = run(s, "VGPU_SEED=" + out + " " + command + out);
        INFO(r.err);
        REQUIRE(r.status == 0);
        CHECK(same_tensors(s / "run0/checkpoint.safetensors",
                           s / ("run" + out + "/checkpoint.safetensors")));
    }
}
