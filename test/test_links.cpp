#include <doctest/doctest.h>

#include <atomic>
#include <chrono>
#include <iostream>
#include <thread>

#include "host/cuda/buffer.h"
#include "host/cuda/device.h"
#include "host/cuda/stream.h"
#include "host/parallel/links.h"
#include "host/parallel/watchdog.h"
#include "test/training.h"

using namespace wt;
using namespace wt::test;

namespace {

bool two_peers() {
    return device_count() >= 2 && enable_peer_access(0, 1) && enable_peer_access(1, 0);
}

}  // namespace

TEST_CASE("links: every ordered pair of distinct devices is tried and timed") {
    CHECK(probe_links({0}).text().empty());
    CHECK(probe_links({0, 0}).links.empty());
    CHECK(probe_links({0, 0}).direct);
    if (!two_peers()) {
        MESSAGE("no two devices with peer access: not tried");
        return;
    }
    const Links l = probe_links({1, 0, 1});
    REQUIRE(l.links.size() == 2);
    CHECK(l.direct);
    CHECK(l.notice().empty());
    CHECK(l.links[0].from == 1);
    CHECK(l.links[0].to == 0);
    for (const Link& link : l.links) {
        CHECK(link.state == Link::State::peer);
        CHECK(link.gb_per_s > 0);
        CHECK(l.text().find(link.text()) != std::string::npos);
    }
    CHECK(l.text().find("link 0 -> 1: peer access, ") != std::string::npos);
    CHECK(l.text().find("GPU 1: " + device_name(1)) != std::string::npos);
}

TEST_CASE(
    "links: peer access that is reported but delivers something else is found, whichever way and word it is") {
    if (!two_peers()) {
        MESSAGE("no two devices with peer access: not tried");
        return;
    }
    for (const char* way : {"kernel's read", "copy", "kernel's write"})
        for (const bool last : {false, true}) {
            INFO(std::string(way));
            LinkProbe probe;
            probe.bytes = 300'000;  // more than one page, and not a whole number of them
            probe.tamper = [&](const Link& link, const std::string& w, void* data, size_t bytes) {
                if (link.from != 1 || w != way) return;
                WT_CUDA(cudaMemset(static_cast<char*>(data) + (last ? bytes - 1 : 4096), 0x5A, 1));
            };
            const Links l = probe_links({0, 1}, probe);
            REQUIRE(l.links.size() == 2);
            CHECK_FALSE(l.direct);
            CHECK(l.links[0].state == Link::State::peer);
            CHECK(l.links[1].state == Link::State::broken);
            CHECK(l.links[1].gb_per_s > 0);
            CHECK(l.links[1].fault ==
                  std::string("after a ") + way + " 1 of 75000 words are wrong");
            CHECK(
                l.notice() ==
                "notice: peer access from GPU 1 to GPU 0 does not work: workers exchange through page-locked host memory, which is "
                "slower");
        }
}

#ifdef VGPU
TEST_CASE(
    "links: without peer access the way is through page-locked memory, and that is said once") {
    const TempDir s;
    const Result r =
        run(s, "VGPU_PEER=0 " + program("unit") + " --no-skip -tc='without peer: links'");
    INFO(r.out << r.err);
    CHECK(r.status == 0);
    CHECK(r.out.find("link 0 -> 1: no peer access, through page-locked host memory, ") !=
          std::string::npos);
    CHECK(r.out.find("1 passed, 0 failed") != std::string::npos);
}

TEST_CASE("links: a run without peer access says so once, and trains the same weights") {
    const TempDir s;
    const std::string train =
        program("train") + " --net mini --data synthetic:10 --batch 4 --steps 3 --gpus 0,1 --out ";
    const Result direct = run(s, train + "direct"),
                 staged = run(s, "VGPU_PEER=0 " + train + "staged");
    INFO(direct.err << staged.err);
    REQUIRE(direct.status == 0);
    REQUIRE(staged.status == 0);
    CHECK(direct.out.find("link 0 -> 1: peer access, ") != std::string::npos);
    CHECK(direct.out.find("notice: no peer access") == std::string::npos);
    const std::string notice =
        "notice: no peer access from GPU 0 to GPU 1: workers exchange through page-locked host memory, which is slower\n";
    const size_t at = staged.out.find(notice);
    CHECK(at != std::string::npos);
    CHECK(staged.out.find(notice, at + 1) == std::string::npos);
    CHECK(same_tensors(s / "direct/checkpoint.safetensors", s / "staged/checkpoint.safetensors"));
}

TEST_CASE("links: a watchdog tells once what takes too long, and nothing while all is in time") {
    std::atomic<int> told{0};
    std::string what;
    {
        Watchdog dog(0.4, [&](const std::string& w) { what = w, ++told; });
        std::this_thread::sleep_for(std::chrono::milliseconds(600));  // nothing is expected yet
        for (int i = 0; i < 6; ++i) {
            dog.expect("a step");
            std::this_thread::sleep_for(std::chrono::milliseconds(100));
        }
        CHECK(told == 0);
        dog.expect("the last");
        for (int i = 0; i < 200 && !told; ++i)
            std::this_thread::sleep_for(std::chrono::milliseconds(50));
    }
    CHECK(told == 1);
    CHECK(what == "the last");
}

TEST_CASE("links: --peer off asks for no peer access, says so once, and trains the same weights") {
    const TempDir s;
    const std::string train =
        program("train") + " --net mini --data synthetic:10 --batch 4 --steps 3 --gpus 0,1 --out ";
    // A link that would hang if it were used.
    const Result direct = run(s, train + "direct"),
                 off = run(s, "VGPU_PEER_FAULT=hang:0-1 timeout 60 " + train + "off --peer off");
    INFO(direct.err << off.err);
    REQUIRE(direct.status == 0);
    REQUIRE(off.status == 0);
    const std::string notice =
        "notice: --peer off: peer access is not asked for, workers exchange through page-locked "
        "host memory\n";
    const size_t at = off.out.find(notice);
    CHECK(at != std::string::npos);
    CHECK(off.out.find("--peer off", at + notice.size()) == std::string::npos);
    CHECK(off.out.find("link 0 -> 1: through page-locked host memory, ") != std::string::npos);
    CHECK(direct.out.find("--peer off") == std::string::npos);
    CHECK(same_tensors(s / "direct/checkpoint.safetensors", s / "off/checkpoint.safetensors"));
    // A run goes on as it was begun.
    const Result more = run(
        s, "VGPU_PEER_FAULT=hang:0-1 timeout 60 " + program("train") + " --resume off --steps 4");
    INFO(more.err);
    CHECK(more.status == 0);
    CHECK(more.out.find(notice) != std::string::npos);
    check_one_line(run(s, train + "bad --peer of"), 2, "must be one of auto, off; nearest is off");
}

TEST_CASE("links: a trial that was told to leave peer access alone leaves it alone") {
    const TempDir s;
    const Result r = run(s, program("unit") + " --no-skip -tc='peer access not asked for: links'");
    INFO(r.out << r.err);
    CHECK(r.status == 0);
    CHECK(r.out.find("1 passed, 0 failed") != std::string::npos);
}

TEST_CASE(
    "links: a peer copy that never ends is noticed, named and explained, and leaves nothing "
    "behind") {
    const TempDir s;
    const std::string train =
        program("train") + " --net mini --data synthetic:10 --batch 4 --steps 2 --gpus 0,1 --out ";
    REQUIRE(run(s, train + "kept").status == 0);
    const std::string before = slurp(s / "kept/checkpoint.safetensors"),
                      log = slurp(s / "kept/metrics.jsonl");

    // The copy itself, and a start that nobody watches: they hang.
    CHECK(run(s, "VGPU_PEER_FAULT=hang:1-0 timeout 2 " + program("unit") +
                     " --no-skip -tc='a copy from peer to peer: links'")
              .status == 124);
    CHECK(run(s, "VGPU_PEER_FAULT=hang:0-1 timeout 60 " + program("unit") +
                     " --no-skip -tc='a copy from peer to peer: links'")
              .status == 0);
    CHECK(
        run(s, "VGPU_PEER_FAULT=hang:1-0 timeout 3 " + train + "fresh --peer-limit 1000").status ==
        124);

    for (const char* out : {"fresh", "kept --overwrite"}) {
        const auto start = std::chrono::steady_clock::now();
        const Result r =
            run(s, "VGPU_PEER_FAULT=hang:1-0 timeout 60 " + train + out + " --peer-limit 0.5");
        check_one_line(r, 1,
                       "train: no answer in 0.5 s: peer access from GPU 1 to GPU 0 is reported, "
                       "and hangs when it is tried, usually because of the "
                       "IOMMU or of PCIe ACS (turn them off in the BIOS, or boot Linux with "
                       "iommu=pt): give --peer off, ");
        CHECK(std::chrono::steady_clock::now() - start < std::chrono::seconds(15));
    }
    CHECK_FALSE(std::filesystem::exists(s / "fresh"));
    CHECK_FALSE(std::filesystem::exists(s / "kept/lock"));
    CHECK(slurp(s / "kept/checkpoint.safetensors") == before);
    CHECK(slurp(s / "kept/metrics.jsonl") == log);
}

TEST_CASE("links: a peer copy that delivers something else is not relied on: the same weights") {
    const TempDir s;
    const std::string train =
        program("train") + " --net mini --data synthetic:10 --batch 4 --steps 3 --gpus 0,1 --out ";
    const Result direct = run(s, train + "direct"),
                 wrong = run(s, "VGPU_PEER_FAULT=wrong:0-1 " + train + "wrong");
    INFO(direct.err << wrong.err);
    REQUIRE(direct.status == 0);
    REQUIRE(wrong.status == 0);
    CHECK(wrong.out.find("link 0 -> 1: peer access is reported but BROKEN (after a copy 1 of ") !=
          std::string::npos);
    CHECK(wrong.out.find("notice: peer access from GPU 0 to GPU 1 does not work: ") !=
          std::string::npos);
    CHECK(same_tensors(s / "direct/checkpoint.safetensors", s / "wrong/checkpoint.safetensors"));
}

TEST_CASE("a copy from peer to peer: links" * doctest::skip()) {
    REQUIRE(two_peers());
    const Stream stream(0);
    DeviceBuffer<int> far(1, 100), near(0, 100);
    WT_CUDA(cudaMemcpyPeerAsync(near.data(), 0, far.data(), 1, near.bytes(), stream.get()));
    stream.synchronize();
}

TEST_CASE("peer access not asked for: links" * doctest::skip()) {
    LinkProbe probe;
    probe.peer = false;
    const Links l = probe_links({0, 1}, probe);
    CHECK_FALSE(l.direct);
    REQUIRE(l.links.size() == 2);
    for (const Link& link : l.links) {
        CHECK(link.state == Link::State::not_asked);
        CHECK(link.gb_per_s > 0);
        const DeviceGuard guard(link.to);
        CHECK(cudaDeviceDisablePeerAccess(link.from) == cudaErrorPeerAccessNotEnabled);
        cudaGetLastError();
    }
}

TEST_CASE("without peer: links" * doctest::skip()) {
    const Links l = probe_links({0, 1});
    CHECK_FALSE(l.direct);
    CHECK(l.links.size() == 2);
    CHECK(
        l.notice() ==
        "notice: no peer access from GPU 0 to GPU 1: workers exchange through page-locked host memory, which is slower");
    std::cout << l.text() << std::flush;
}
#endif
