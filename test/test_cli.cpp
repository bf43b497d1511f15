// The command line's one pattern: exit status, one line on a bad argument, the nearest name.
#include "host/build_kind.h"
#include "host/cuda/check.h"
#include "host/cuda/nearest.h"
#include "host/printable.h"
#include "test/program.h"
#include "tools/common_cli.h"

#include <doctest/doctest.h>

#include <cstdio>
#include <fstream>
#include <string>
#include <unistd.h>
#include <vector>

namespace {

using wt::nearest;

// What the body of a program answers to these arguments, "" when it accepts them.
std::string answer(std::vector<const char*> args) {
    wt::CommandLine app("A program.");
    std::string net = "mini";
    int batch = 1;
    double lr = 0, dropout = 0;
    bool eval = false;
    app.add_option("--net", net, "the network")
        ->check(wt::one_of("net", {"alexnet", "owt", "mini"}));
    app.add_option("--batch", batch, "images per worker")->check(wt::at_least(1));
    app.add_option("--lr,-l", lr, "learning rate");
    app.add_option("--dropout", dropout, "of the hidden fc layers")->check(wt::between(0, 0.99));
    app.add_flag("--eval-only", eval);
    args.insert(args.begin(), "program");
    try {
        app.parse(static_cast<int>(args.size()), args.data());
    } catch (const wt::UsageError& e) {
        return e.what();
    }
    return "";
}

// Runs a body that throws what `f` throws, and returns the status and what went to standard error.
template <class F>
std::pair<int, std::string> ends(F f) {
    std::fflush(stderr);
    std::FILE* file = std::tmpfile();
    REQUIRE(file);
    const int saved = dup(2);
    dup2(fileno(file), 2);
    char name[] = "program";
    char* argv[] = {name, nullptr};
    const int status = wt::run_program(1, argv, "program", [&](int, char**) -> int { return f(); });
    std::fflush(stderr);
    dup2(saved, 2);
    close(saved);
    std::rewind(file);
    std::string text;
    for (int c; (c = std::fgetc(file)) != EOF;) text += static_cast<char>(c);
    std::fclose(file);
    return {status, text};
}

}  // namespace

TEST_CASE("nearest name") {
    const std::vector<std::string> nets = {"alexnet", "alexnet2012", "owt", "cifar", "mini"};
    CHECK(nearest("alexnett", nets) == "alexnet");
    CHECK(nearest("alexent", nets) == "alexnet");  // a swap is one edit
    CHECK(nearest("OWT", nets) == "owt");
    CHECK(nearest("alex", nets) == "alexnet");  // a beginning
    CHECK(nearest("alexnet2013", nets) == "alexnet2012");
    CHECK(nearest("resnet50", nets) == "");
    CHECK(nearest("", nets) == "");
    CHECK(nearest("x", {}) == "");
    CHECK(nearest("zz", nets) == "");
    CHECK(wt::edit_distance("", "abc") == 3);
    CHECK(wt::edit_distance("kitten", "sitting") == 3);
    CHECK(wt::edit_distance("ab", "ba") == 1);
    CHECK(wt::unknown_name("net", "mimi", {"owt", "mini"}) ==
          "unknown net 'mimi': must be one of owt, mini; nearest is mini");
    CHECK(wt::unknown_name("split", "q", {"val"}) == "unknown split 'q': must be val");
}

TEST_CASE("bad arguments are answered in one line") {
    CHECK(answer({"--net", "owt", "--batch", "4", "--eval-only", "-l", "0.1"}) == "");
    CHECK(answer({"--bacth", "3"}) ==
          "unknown flag --bacth; did you mean --batch? (--help lists all)");
    CHECK(answer({"--bacth=3"}) ==
          "unknown flag --bacth; did you mean --batch? (--help lists all)");
    CHECK(answer({"--wholly-else"}) == "unknown flag --wholly-else (--help lists all)");
    CHECK(answer({"batch", "3"}) ==
          "unexpected argument 'batch'; did you mean --batch? (--help lists all)");
    CHECK(answer({"--net", "alexnett"}) ==
          "--net: unknown net 'alexnett': must be one of alexnet, owt, mini; nearest is alexnet");
    CHECK(answer({"--batch", "many"}) == "--batch: bad value 'many': must be a number at least 1");
    CHECK(answer({"--batch", "-3"}) == "--batch: bad value '-3': must be at least 1");
    CHECK(answer({"--batch", "3.5"}) ==
          "--batch: bad value '3.5': must be a whole number, at least 1");
    CHECK(answer({"--batch", "99999999999999999999"})
              .starts_with("--batch: bad value '99999999999999999999'"));
    CHECK(answer({"--dropout", "1"}) == "--dropout: bad value '1': must be from 0 to 0.99");
    CHECK(answer({"--dropout", "nan"}).starts_with("--dropout: bad value 'nan'"));
    CHECK(answer({"--lr", "fast"}) == "--lr: bad value 'fast': must be a number");
    CHECK(answer({"--lr"}) == "--lr: a value is missing: must be a number");
    CHECK(answer({"--batch", "1", "--batch", "2"}).find("--batch") != std::string::npos);
}

TEST_CASE("how a program ends") {
    using Result = std::pair<int, std::string>;
    // A build that finds faults says first what it is.
    const std::string kind = wt::build_kind().empty() ? "" : "program: " + wt::build_kind() + "\n";
    CHECK(ends([] { return 0; }) == Result{0, kind});
    CHECK(ends([] { return 3; }) == Result{3, kind});
    CHECK(ends([]() -> int { throw wt::Exit{130}; }) == Result{130, kind});
    CHECK(ends([]() -> int { throw wt::UsageError("no such flag"); }) ==
          Result{2, kind + "program: no such flag\n"});
    CHECK(ends([]() -> int { throw wt::Error("a\nb\n"); }) == Result{1, kind + "program: a b\n"});
    CHECK(ends([]() -> int { throw std::runtime_error("x"); }) == Result{1, kind + "program: x\n"});
    CHECK(ends([]() -> int { throw std::bad_alloc(); }).first == 1);
}

TEST_CASE("names from files cannot command the terminal") {
    CHECK(wt::printable("a\x1b[2Jb\nc\td ") == "a?[2Jb c d");
    CHECK(wt::printable("\xc2\x9b"
                        "2J \x7f") == "?2J ?");
    // other characters stay
    CHECK(wt::printable("B\xc3\xa4r \xc2\xa9") == "B\xc3\xa4r \xc2\xa9");
    const wt::test::TempDir s;
    std::ofstream(s / "x.safetensors", std::ios::binary)
        << std::string("\x20\0\0\0\0\0\0\0", 8) << "{\"a\x1b[31m\": {\"dtype\": \"F32\"}}     ";
    const wt::test::Result r = wt::test::run(
        s, wt::test::program("train") + " --net mini --data synthetic --init x.safetensors");
    CHECK(r.status == 1);
    CHECK(r.err.find('\x1b') == std::string::npos);
}
