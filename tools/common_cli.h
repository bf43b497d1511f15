// What every program's main has in common: how it ends, and how it answers a bad command line.
//
//   int run(int argc, char** argv) {
//       CLI::App app("Trains a network.");
//       app.add_option("--net", net, "which network")->check(wt::one_of("net", names));
//       app.add_option("--batch", batch, "images per worker")->check(wt::at_least(1));
//       wt::parse_command_line(app, argc, argv);
//       ...
//       return 0;
//   }
//   int main(int argc, char** argv) { return wt::run_program(argc, argv, "train", run); }
#pragma once

#include <CLI/CLI.hpp>

#include <functional>
#include <string>
#include <vector>

namespace wt {

// Thrown to end the program with this status and nothing further to say (after --help, for one).
struct Exit {
    int status;
};

// Runs `body` and returns the program's exit status. UsageError: one line "NAME: ..." on standard error and 2.
// Any other exception: one such line and 1. Exit: its status. Otherwise what `body` returns.
int run_program(int argc, char** argv, const char* name, const std::function<int(int, char**)>& body);

// Parses, and throws UsageError with one line that says what was given, what is allowed and, for a name, the
// nearest one. --help prints the options on standard output and throws Exit{0}.
void parse_command_line(CLI::App& app, int argc, const char* const* argv);

// A check for an option whose value is one of these names.
CLI::Validator one_of(const std::string& what, const std::vector<std::string>& names);

// A check for an option whose value is a number, ends included (CLI11's own answer with 300 digits).
CLI::Validator between(double least, double most);
CLI::Validator at_least(double least);

}  // namespace wt
