// The unit tests' runner. Closes with one line, "N passed, N failed", which continuous integration reads.
#define DOCTEST_CONFIG_IMPLEMENT
#include <doctest/doctest.h>

#include <cstdio>

#ifdef VGPU
#include "host/vgpu/share.h"
#endif

namespace {

struct Summary : doctest::IReporter {
    explicit Summary(const doctest::ContextOptions&) {}
    void report_query(const doctest::QueryData&) override {}
    void test_run_start() override {}
    void test_run_end(const doctest::TestRunStats& s) override {
        const unsigned ran = s.numTestCasesPassingFilters, failed = s.numTestCasesFailed;
        std::printf("%u passed, %u failed\n", ran - failed, failed);
        std::fflush(stdout);
    }
    void test_case_start(const doctest::TestCaseData&) override {}
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
    doctest::Context context(argc, argv);
    return context.run();
}
