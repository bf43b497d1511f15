// Programs get along with others on the same cores: their threads sleep where they wait, and ask
// for short turns.
#include "test/program.h"

namespace {

using namespace wt::test;

// What the program says of the setting when it is started by `command`.
std::string wait_policy(const std::string& command) {
    const TempDir s;
    const Result r = run(s, command + " VGPU_DEVICES=0 " + program("vgpu"));
    CHECK(r.status == 0);
    const size_t at = r.out.find("OMP_WAIT_POLICY");
    REQUIRE(at != std::string::npos);
    const size_t value = r.out.find_first_not_of(' ', at + 15);
    return r.out.substr(value, r.out.find(' ', value) - value);
}

}  // namespace

TEST_CASE("share: OpenMP's threads sleep where they wait, unless the user says otherwise") {
    CHECK(wait_policy("env -u OMP_WAIT_POLICY -u GOMP_SPINCOUNT") == "passive");
    CHECK(wait_policy("env -u GOMP_SPINCOUNT OMP_WAIT_POLICY=active") == "active");
    CHECK(wait_policy("env -u OMP_WAIT_POLICY GOMP_SPINCOUNT=7") == "-");
}

TEST_CASE("share: libgomp has read the setting, and the program keeps its arguments") {
    const TempDir s;
    const Result r = run(s, "env -u OMP_WAIT_POLICY -u GOMP_SPINCOUNT OMP_DISPLAY_ENV=true " +
                                program("summary") + " owt --classes 7");
    CHECK(r.status == 0);
    CHECK(r.out.find("fc8      1x1x7") != std::string::npos);
    // Two starts, two reports: the first is of before.
    const size_t second = r.err.rfind("OMP_WAIT_POLICY");
    REQUIRE(second != std::string::npos);
    CHECK(r.err.substr(second, 30).find("'PASSIVE'") != std::string::npos);
}
