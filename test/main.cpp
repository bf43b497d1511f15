// The unit tests' runner. Says which file's tests it is at, and closes with one line, "N passed, N
// failed", which continuous integration reads.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <chrono>
#include <cstdio>
#include <string>

#include "host/build_kind.h"
#include "host/cuda/architecture.h"
#include "host/cuda/device.h"
#ifdef VGPU
#include "host/vgpu/exec/share.h"
#endif

namespace {

using Clock = std::chrono::steady_clock;

struct Summary : doctest::IReporter {
    const doctest::ContextOptions& options;
    Clock::time_point start = Clock::now();
    std::string file;  // of the test that runs
    unsigned tests = 0;
    explicit Summary(const doctest::ContextOptions& o) : options(o) {}
    void report_query(const doctest::QueryData&) override {}
    void test_run_start() override {}
    void test_run_end(const doctest::TestRunStats& s) override {
        const unsigned ran = s.numTestCasesPassingFilters, failed = s.numTestCasesFailed;
        std::printf("%u passed, %u failed\n", ran - failed, failed);
        std::fflush(stdout);
    }
    void test_case_start(const doctest::TestCaseData& t) override {
        ++tests;
        if (options.quiet || file == t.m_file.c_str()) return;
        file = t.m_file.c_str();
        std::printf("  test %s, from test %u on, after %.0f s\n", file.c_str(), tests,
                    std::chrono::duration<double>(Clock::now() - start).count());
        std::fflush(stdout);
    }
    void test_case_reenter(const doctest::TestCaseData&) override {}
    void test_case_end(const doctest::CurrentTestCaseStats&) override {}
    void test_case_exception(const doctest::TestCaseException&) override {}
    void subcase_start(const doctest::SubcaseSignature&) override {}
    void subcase_end() override {}
    void log_assert(const doctest::AssertData&) override {}
    void log_message(const doctest::MessageData&) override {}
    void test_case_skipped(const doctest::TestCaseData&) override {}
};

}  // namespace

REGISTER_LISTENER("summary", 1, Summary);

int main(int argc, char** argv) {
#ifdef VGPU
    vgpu::share_cores(argv);
#endif
    wt::say_build_kind("unit");
    try {  // else hundreds of tests would say each that there is no kernel image
        if (wt::device_count() > 0) wt::check_architecture({0});
    } catch (const wt::Error& e) {
        std::fprintf(stderr, "unit: %s\n", e.what());
        return 1;
    }
    doctest::Context context(argc, argv);
    return context.run();
}
