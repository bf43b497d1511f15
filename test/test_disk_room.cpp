// Room on the disk for a run's checkpoints.
#include <filesystem>

#include "host/train/disk_room.h"
#include "test/data_files.h"
#include "test/training.h"

using namespace wt;
using namespace wt::test;

namespace {

const std::string kMini = program("train") +
                          " --net mini --data synthetic:10 --batch 4 --lr-policy constant "
                          "--eval-every 0 --gpus 0 ";

}  // namespace

TEST_CASE("disk: room for checkpoints") {
    CHECK(room_for(-1, 100) == Room::enough);  // nobody knows
    CHECK(room_for(99, 100) == Room::none);
    CHECK(room_for(100, 100) == Room::little);
    CHECK(room_for(299, 100) == Room::little);
    CHECK(room_for(300, 100) == Room::enough);
    CHECK(room_text(Room::enough, "r", 1 << 30, 1) == "");
    CHECK(room_text(Room::little, "runs/x", 20 << 20, 10 << 20) ==
          "the disk of runs/x has 20.0 MiB free, and a checkpoint takes 10.0 MiB: make room before "
          "it is full");
    CHECK(has(room_text(Room::none, "runs/x", 1 << 20, 10 << 20), "the next one will fail"));
    const TempDir t;
    CHECK(free_bytes(t.path()) > 0);
    CHECK(free_bytes(t / "nowhere") < 0);
    // As large as they are, within the header's room.
    REQUIRE(run(t, kMini + "--steps 1 --out r").status == 0);
    WorkerConfig c;
    c.net = make_net("mini", {.classes = 10});
    c.batch = 4;
    c.image_h = c.image_w = 72;
    const uint64_t size = std::filesystem::file_size(t / "r/checkpoint.safetensors");
    const uint64_t bytes = checkpoint_bytes(Layout(c));
    CHECK(bytes >= size);
    CHECK(bytes <= size + (64 << 10));
}

TEST_CASE("disk: one that fills up is said before a checkpoint fails") {
    const TempDir t;
    std::filesystem::create_directory(t / "small");
    const std::string mount = "mount -t tmpfs -o size=60M none small";
    if (run(t, "unshare -rm sh -c '" + mount + "'").status != 0) {
        MESSAGE("no small disk can be made here");
        return;
    }
    const Result r = run(t, "unshare -rm sh -c '" + mount + " && " + kMini +
                                "--steps 4 --save-every 1 --keep 5 --out small/r'");
    INFO(r.out << r.err);
    CHECK(r.status == 1);
    CHECK(r.error_lines() == 3);
    const size_t little = r.err.find("a checkpoint takes 16.4 MiB: make room before it is full"),
                 none = r.err.find("a checkpoint takes 16.4 MiB: the next one will fail"),
                 fails = r.err.find("cannot write small/r/checkpoint.safetensors: No space left");
    REQUIRE(little != std::string::npos);
    REQUIRE(none != std::string::npos);
    REQUIRE(fails != std::string::npos);
    CHECK(little < none);
    CHECK(none < fails);
}
