#include <doctest/doctest.h>

#include <iostream>

#include "host/cuda/device.h"
#include "host/parallel/links.h"
#include "host/train/safetensors.h"
#include "test/program.h"

using namespace wt;
using namespace wt::test;

namespace {

bool two_peers() { return device_count() >= 2 && enable_peer_access(0, 1) && enable_peer_access(1, 0); }

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

TEST_CASE("links: peer access that is reported but delivers something else is found, whichever way and word it is") {
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
            CHECK(l.links[1].fault == std::string("after a ") + way + " 1 of 75000 words are wrong");
            CHECK(l.notice() == "notice: peer access from GPU 1 to GPU 0 does not work: workers exchange through page-locked host memory, which is "
                                "slower");
        }
}

#ifdef VGPU
TEST_CASE("links: without peer access the way is through page-locked memory, and that is said once") {
    const TempDir s;
    const Result r = run(s, "VGPU_PEER=0 " + program("unit") + " --no-skip -tc='without peer: links'");
    INFO(r.out << r.err);
    CHECK(r.status == 0);
    CHECK(r.out.find("link 0 -> 1: no peer access, through page-locked host memory, ") != std::string::npos);
    CHECK(r.out.find("1 passed, 0 failed") != std::string::npos);
}

TEST_CASE("links: a run without peer access says so once, and trains the same weights") {
    const TempDir s;
    const std::string train = program("train") + " --net mini --data synthetic:10 --batch 4 --steps 3 --gpus 0,1 --out ";
    const Result direct = run(s, train + "direct"), staged = run(s, "VGPU_PEER=0 " + train + "staged");
    INFO(direct.err << staged.err);
    REQUIRE(direct.status == 0);
    REQUIRE(staged.status == 0);
    CHECK(direct.out.find("link 0 -> 1: peer access, ") != std::string::npos);
    CHECK(direct.out.find("notice: no peer access") == std::string::npos);
    const std::string notice = "notice: no peer access from GPU 0 to GPU 1: workers exchange through page-locked host memory, which is slower\n";
    const size_t at = staged.out.find(notice);
    CHECK(at != std::string::npos);
    CHECK(staged.out.find(notice, at + 1) == std::string::npos);
    const auto a = SafetensorsFile::open(s / "direct/checkpoint.safetensors"), b = SafetensorsFile::open(s / "staged/checkpoint.safetensors");
    for (const auto& name : a.names()) CHECK(a.read(name) == b.read(name));
}

TEST_CASE("without peer: links" * doctest::skip()) {
    const Links l = probe_links({0, 1});
    CHECK_FALSE(l.direct);
    CHECK(l.links.size() == 2);
    CHECK(l.notice() == "notice: no peer access from GPU 0 to GPU 1: workers exchange through page-locked host memory, which is slower");
    std::cout << l.text() << std::flush;
}
#endif
