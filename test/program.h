// Programs of this build, run as their users run them.
#pragma once

#include <doctest/doctest.h>
#include <sys/wait.h>

#include <algorithm>
#include <cstdlib>
#include <filesystem>
#include <string>

#include "test/temp_dir.h"

namespace wt::test {

struct Result {
    int status = -1;
    std::string out, err;
    int error_lines() const { return static_cast<int>(std::count(err.begin(), err.end(), '\n')); }
};

// Its path: the programs lie beside the tests.
inline std::string program(const char* name) {
    return (std::filesystem::read_symlink("/proc/self/exe").parent_path() / name).string();
}

// Standard error without the lines that say which build it is, of a build that has something to
// say.
inline std::string without_build_kind(std::string err) {
    for (size_t at; (at = err.find(": built with ")) != std::string::npos;) {
        const size_t begin = err.rfind('\n', at) + 1, end = err.find('\n', at);
        err.erase(begin, end == std::string::npos ? end : end + 1 - begin);
    }
    return err;
}

// In the folder, by the shell.
inline Result run(const TempDir& s, const std::string& command) {
    Result r;
    const int status = std::system(
        ("cd " + s.path() + " && ( " + command + " ) >out.txt 2>err.txt </dev/null").c_str());
    r.status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    r.out = slurp(s / "out.txt");
    r.err = without_build_kind(slurp(s / "err.txt"));
    return r;
}

// It ended with this status and one line on standard error that has `part` in it.
inline void check_one_line(const Result& r, int status, const std::string& part) {
    INFO("status " << r.status << ", stderr: " << r.err);
    CHECK(r.status == status);
    CHECK(r.error_lines() == 1);
    CHECK(r.err.find(part) != std::string::npos);
}

}  // namespace wt::test
