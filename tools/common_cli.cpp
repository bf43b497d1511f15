#include "tools/common_cli.h"

#include <CLI/CLI.hpp>

#include "host/build_kind.h"
#include "host/cuda/check.h"
#include "host/cuda/nearest.h"
#include "host/printable.h"
#ifdef VGPU
#include "host/vgpu/exec/share.h"
#endif

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <deque>
#include <exception>
#include <iostream>
#include <new>
#include <type_traits>

namespace wt {
namespace {

void complain(const char* name, const std::string& what) {
    std::cout.flush();
    std::fflush(stdout);
    std::fprintf(stderr, "%s: %s\n", name, printable(what).c_str());
}

std::vector<std::string> flags_of(const CLI::App& app) {
    std::vector<std::string> names;
    for (const CLI::Option* o : app.get_options()) {
        for (const auto& l : o->get_lnames()) names.push_back("--" + l);
        for (const auto& s : o->get_snames()) names.push_back("-" + s);
    }
    return names;
}

// CLI11's type names in words, as the object of "must be".
std::string in_words(std::string type) {
    std::string checks;  // their descriptions follow: "INT:at least 1"
    if (const size_t colon = type.find(':'); colon != std::string::npos) {
        checks = ", " + type.substr(colon + 1);
        type.resize(colon);
    }
    if (type == "INT")
        type = "a whole number";
    else if (type == "UINT")
        type = "a whole number that is not negative";
    else if (type == "FLOAT")
        type = "a number";
    else if (type == "BOOLEAN")
        type = "true or false";
    else if (type == "TEXT" || type.empty())
        type = "a text";
    return type + checks;
}

// "--batch" of "--batch: ..." and "--batch = ...".
std::string leading_name(const std::string& s) { return s.substr(0, s.find_first_of(" :=")); }

std::string type_of(const CLI::App& app, const std::string& name) {
    const CLI::Option* o = name.empty() ? nullptr : app.get_option_no_throw(name);
    return o ? in_words(o->get_type_name()) : "a value";
}

std::string unknown_argument(const CLI::App& app) {
    const std::vector<std::string> rest = app.remaining();
    for (const auto& arg : rest) {
        if (arg.size() < 2 || arg[0] != '-') continue;
        const std::string flag = arg.substr(0, arg.find('='));
        const std::string n = nearest(flag, flags_of(app));
        return "unknown flag " + flag + (n.empty() ? "" : "; did you mean " + n + "?") +
               " (--help lists all)";
    }
    const std::string given = rest.empty() ? "" : rest.front();
    const std::string n = nearest("--" + given, flags_of(app)),
                      hint = n.empty() ? "" : "; did you mean " + n + "?";
    return "unexpected argument '" + given + "'" + hint + " (--help lists all)";
}

}  // namespace

int run_program(int argc, char** argv, const char* name,
                const std::function<int(int, char**)>& body) {
#ifdef VGPU
    vgpu::share_cores(argv);
#endif
    say_build_kind(name);
    try {
        return body(argc, argv);
    } catch (const Exit& e) {
        return e.status;
    } catch (const UsageError& e) {
        complain(name, e.what());
        return 2;
    } catch (const std::bad_alloc&) {
        complain(name, "out of memory on the host: use a smaller --batch or fewer workers");
        return 1;
    } catch (const std::exception& e) {
        complain(name, e.what());
        return 1;
    }
}

struct CommandLine::Impl {
    CLI::App app;
    std::deque<Option> options;
};

CommandLine::CommandLine(const std::string& about, bool last_wins)
    : impl_(new Impl{CLI::App(about), {}}) {
    if (last_wins)
        impl_->app.option_defaults()->multi_option_policy(CLI::MultiOptionPolicy::TakeLast);
}
CommandLine::~CommandLine() = default;

CommandLine::Option* CommandLine::Option::check(const Check& check) {
    static_cast<CLI::Option*>(option_)->check(CLI::Validator(
        [check](std::string& given) { return check.problem(given); }, check.allowed));
    return this;
}
CommandLine::Option* CommandLine::Option::required() {
    static_cast<CLI::Option*>(option_)->required();
    return this;
}
CommandLine::Option* CommandLine::Option::by_default(const std::string& text) {
    static_cast<CLI::Option*>(option_)->default_str(text);
    return this;
}

template <class T>
CommandLine::Option* CommandLine::add(const std::string& names, T& value,
                                      const std::string& about) {
    CLI::Option* option = impl_->app.add_option(names, value, about);
    impl_->options.emplace_back().option_ = option;
    if (value > T{}) option->capture_default_str();
    // An empty text is most often a shell's variable that is not set: it is not taken for a flag
    // left away.
    if constexpr (std::is_same_v<T, std::string>)
        option->check(CLI::Validator(
            [](std::string& given) {
                return std::string(given.empty()
                                       ? "must not be empty: leave the flag out, or give it a value"
                                       : "");
            },
            ""));
    return &impl_->options.back();
}
CommandLine::Option* CommandLine::add_text(const std::string& names,
                                           std::function<void(const std::string&)> set,
                                           const std::string& about) {
    impl_->options.emplace_back().option_ =
        impl_->app.add_option_function<std::string>(names, std::move(set), about);
    return &impl_->options.back();
}
CommandLine::Option* CommandLine::add_option(const std::string& names, std::string& value,
                                             const std::string& about) {
    return add(names, value, about);
}
CommandLine::Option* CommandLine::add_option(const std::string& names, double& value,
                                             const std::string& about) {
    return add(names, value, about);
}
CommandLine::Option* CommandLine::add_option(const std::string& names, float& value,
                                             const std::string& about) {
    return add(names, value, about);
}
CommandLine::Option* CommandLine::add_option(const std::string& names, int& value,
                                             const std::string& about) {
    return add(names, value, about);
}
CommandLine::Option* CommandLine::add_option(const std::string& names, int64_t& value,
                                             const std::string& about) {
    return add(names, value, about);
}
CommandLine::Option* CommandLine::add_option(const std::string& names, uint64_t& value,
                                             const std::string& about) {
    return add(names, value, about);
}
CommandLine::Option* CommandLine::add_option(const std::string& names,
                                             std::pair<std::string, std::string>& value,
                                             const std::string& about) {
    impl_->options.emplace_back().option_ = impl_->app.add_option(names, value, about);
    return &impl_->options.back();
}
CommandLine::Option* CommandLine::add_option(const std::string& names,
                                             std::vector<std::string>& value,
                                             const std::string& about) {
    impl_->options.emplace_back().option_ = impl_->app.add_option(names, value, about);
    return &impl_->options.back();
}
CommandLine::Option* CommandLine::add_flag(const std::string& names, bool& value,
                                           const std::string& about) {
    impl_->options.emplace_back().option_ = impl_->app.add_flag(names, value, about);
    return &impl_->options.back();
}

void CommandLine::parse(int argc, const char* const* argv) {
    CLI::App& app = impl_->app;
    try {
        app.parse(argc, argv);
    } catch (const CLI::CallForHelp&) {
        std::cout << app.help() << std::flush;
        throw Exit{0};
    } catch (const CLI::CallForAllHelp&) {
        std::cout << app.help("", CLI::AppFormatMode::All) << std::flush;
        throw Exit{0};
    } catch (const CLI::CallForVersion& e) {
        std::cout << e.what() << std::endl;
        throw Exit{0};
    } catch (const CLI::ExtrasError&) {
        throw UsageError(unknown_argument(app));
    } catch (const CLI::ConversionError& e) {
        // "Could not convert: --batch = abc"
        const std::string what = e.what(), prefix = "Could not convert: ";
        if (!what.starts_with(prefix)) throw UsageError(what);
        const std::string name = leading_name(what.substr(prefix.size()));
        const size_t eq = what.find(" = ");
        const std::string given = eq == std::string::npos ? "" : what.substr(eq + 3);
        throw UsageError(name + ": bad value '" + given + "': must be " + type_of(app, name));
    } catch (const CLI::ArgumentMismatch& e) {
        // "--batch: 1 required INT missing"
        const std::string what = e.what(), name = leading_name(what);
        if (what.find(" missing") == std::string::npos) throw UsageError(what);
        throw UsageError(name + ": a value is missing: must be " + type_of(app, name));
    } catch (const CLI::RequiredError& e) {
        throw UsageError(std::string(e.what()) + " (--help tells more)");
    } catch (const CLI::ParseError& e) {
        throw UsageError(e.what());
    }
}

std::vector<std::string> CommandLine::given() const {
    std::vector<std::string> names;
    for (const CLI::Option* o : impl_->app.get_options())
        if (o->count() > 0 && !o->get_lnames().empty()) names.push_back(o->get_lnames().front());
    return names;
}

Check one_of(const std::string& what, const std::vector<std::string>& names) {
    std::string list;
    for (const auto& n : names) list += (list.empty() ? "{" : ",") + n;
    return {list + "}", [what, names](const std::string& given) {
                return std::find(names.begin(), names.end(), given) == names.end()
                           ? unknown_name(what, given, names)
                           : std::string();
            }};
}

Check between(double least, double most) {
    auto text = [](double v) {
        char s[32];
        std::snprintf(s, sizeof s, "%.10g", v);
        return std::string(s);
    };
    const std::string allowed =
        std::isinf(most) ? "at least " + text(least) : "from " + text(least) + " to " + text(most);
    return {allowed, [=](const std::string& given) {
                double v = 0;
                const bool number = CLI::detail::lexical_cast(given, v);
                if (number && v >= least && v <= most) return std::string();  // false for a NaN
                return "bad value '" + given + "': must be " + (number ? "" : "a number ") +
                       allowed;
            }};
}

Check at_least(double least) { return between(least, HUGE_VAL); }

Check not_empty() {
    return {
        "", [](const std::string& given) {
            return given.empty()
                       ? std::string("must not be empty: leave the flag out, or give it a value")
                       : "";
        }};
}

}  // namespace wt
