// What every program's main has in common: how it ends, and how it answers a bad command line.
//
//   int run(int argc, char** argv) {
//       wt::CommandLine app("Trains a network.");
//       app.add_option("--net", net, "which network")->check(wt::one_of("net", names));
//       app.add_option("--batch", batch, "images per worker")->check(wt::at_least(1));
//       app.parse(argc, argv);
//       ...
//       return 0;
//   }
//   int main(int argc, char** argv) { return wt::run_program(argc, argv, "train", run); }
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace wt {

// Thrown to end the program with this status and nothing further to say (after --help, for one).
struct Exit {
    int status;
};

// What a value must be: in words for --help, and "" or what is wrong with the value that was given.
struct Check {
    std::string allowed;
    std::function<std::string(const std::string& given)> problem;
};

// Accepts one of these names.
Check one_of(const std::string& what, const std::vector<std::string>& names);
// A number, ends included.
Check between(double least, double most);
Check at_least(double least);
// Something: an empty text is a variable of a script that is not set, most of the time.
Check not_empty();

// A program's options and what they say about themselves, over CLI11, whose headers only
// common_cli.cpp reads: they cost each file 2 s of compiling.
class CommandLine {
public:
    class Option {
    public:
        Option* check(const Check& check);
        Option* required();
        // What --help shows as the default, where that is not the value itself.
        Option* by_default(const std::string& text);

    private:
        friend class CommandLine;
        void* option_ = nullptr;  // CLI11's
    };

    // last_wins: an option may be given more than once.
    explicit CommandLine(const std::string& about, bool last_wins = false);
    ~CommandLine();

    // Names as CLI11 takes them: "--batch", "--device,--gpu", "NET". `value` keeps what it holds
    // where the option is not given; --help shows that as the default, unless it is an empty text
    // or a number that is not positive, which stand for something else.
    Option* add_option(const std::string& names, std::string& value, const std::string& about = "");
    Option* add_option(const std::string& names, double& value, const std::string& about = "");
    Option* add_option(const std::string& names, float& value, const std::string& about = "");
    Option* add_option(const std::string& names, int& value, const std::string& about = "");
    Option* add_option(const std::string& names, int64_t& value, const std::string& about = "");
    Option* add_option(const std::string& names, uint64_t& value, const std::string& about = "");
    // Any number of words: "IMAGE" without dashes takes all that are no flags'.
    Option* add_option(const std::string& names, std::vector<std::string>& value,
                       const std::string& about = "");
    // Two words after the flag: "--export torchvision OUT".
    Option* add_option(const std::string& names, std::pair<std::string, std::string>& value,
                       const std::string& about = "");
    Option* add_flag(const std::string& names, bool& value, const std::string& about = "");

    // Accepts one of the table's names, whose value `value` takes; the table has rows {name,
    // value}.
    template <class Value, class Rows>
    Option* add_choice(const std::string& names, Value& value, const Rows& rows,
                       const std::string& what, const std::string& about) {
        std::vector<std::string> allowed;
        std::string now;
        for (const auto& row : rows) {
            allowed.push_back(row.name);
            if (row.value == value) now = row.name;
        }
        const auto set = [&value, &rows](const std::string& given) {
            for (const auto& row : rows)
                if (given == row.name) value = row.value;
        };
        return add_text(names, set, about)->check(one_of(what, allowed))->by_default(now);
    }

    // Throws UsageError with one line that says what was given, what is allowed and, for a name,
    // the nearest one. --help prints the options on standard output and throws Exit{0}.
    void parse(int argc, const char* const* argv);

    // The long names, without dashes, of the options that the parsed arguments had.
    std::vector<std::string> given() const;

private:
    Option* add_text(const std::string& names, std::function<void(const std::string&)> set,
                     const std::string& about);
    template <class T>
    Option* add(const std::string& names, T& value, const std::string& about);
    struct Impl;
    std::unique_ptr<Impl> impl_;
};

// First gets along with other programs (host/vgpu/exec/share.h). Runs `body` and returns the
// program's exit status. UsageError: one line "NAME: ..." on standard error and 2. Any other
// exception: one such line and 1. Exit: its status. Otherwise what `body` returns.
int run_program(int argc, char** argv, const char* name,
                const std::function<int(int, char**)>& body);

}  // namespace wt
