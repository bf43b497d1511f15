#include "host/train/progress.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <cstdlib>
#include <string_view>
#include <sys/ioctl.h>
#include <unistd.h>

namespace wt {
namespace {

template <class... Args>
std::string format(const char* f, Args... args) {
    char s[128];
    std::snprintf(s, sizeof s, f, args...);
    return s;
}

std::string epoch_text(const ProgressState& p) {
    if (p.epochs == 0) return "step";
    return format("epoch %lld/%lld", static_cast<long long>(p.epoch),
                  static_cast<long long>(p.epochs));
}
std::string step_text(const ProgressState& p) {
    return format("%lld/%lld", static_cast<long long>(p.step), static_cast<long long>(p.steps));
}
std::string numbers(const ProgressState& p) {
    std::string s = format("  loss %.4f", p.loss);
    if (p.error >= 0) s += format("  error %.1f%%", p.error);
    s += format("  lr %.3g", p.lr);
    if (p.images_per_s > 0)
        s += format(p.images_per_s < 100 ? "  %.1f images/s" : "  %.0f images/s", p.images_per_s);
    if (p.input_wait >= 0) s += format("  input wait %.0f%%", 100 * p.input_wait);
    if (p.eta >= 0) s += "  eta " + duration_text(p.eta);
    return s;
}

int columns(std::FILE* f) {
    winsize w = {};
    return ioctl(fileno(f), TIOCGWINSZ, &w) == 0 && w.ws_col > 0 ? w.ws_col : 80;
}

bool draws_bars(std::FILE* f) {
    const char* term = std::getenv("TERM");
    return isatty(fileno(f)) && term && std::string_view(term) != "dumb";
}

double steady_seconds() {
    return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch())
        .count();
}

}  // namespace

std::string duration_text(double seconds) {
    if (!(seconds >= 0 && seconds < 1e9)) return "?";
    const long long s = std::llround(seconds), h = s / 3600;
    if (h >= 24) return format("%lld d %02lld:%02lld", h / 24, h % 24, s / 60 % 60);
    if (h > 0) return format("%lld:%02lld:%02lld", h, s / 60 % 60, s % 60);
    return format("%lld:%02lld", s / 60, s % 60);
}

std::string progress_line(const ProgressState& p) {
    return epoch_text(p) + (p.epochs ? "  step " : " ") + step_text(p) + numbers(p);
}

std::string progress_bar(const ProgressState& p, int width) {
    constexpr int kLeast = 10, kMost = 30;  // columns of the bar itself
    const std::string before = epoch_text(p) + " ", after = " " + step_text(p) + numbers(p);
    const int left = width - static_cast<int>(before.size() + after.size()) - 2;
    std::string s;
    if (left < kLeast) {
        s = progress_line(p);
    } else {
        const int n = std::min(left, kMost);
        const double ratio = static_cast<double>(p.step) / static_cast<double>(p.steps);
        const double part = p.steps > 0 ? std::clamp(ratio, 0.0, 1.0) : 0;
        const int full = static_cast<int>(part * n);
        std::string bar(static_cast<size_t>(full), '=');
        if (full < n) bar += '>';
        bar.resize(static_cast<size_t>(n), ' ');
        s = before + "[" + bar + "]" + after;
    }
    return s.substr(0, static_cast<size_t>(std::max(width, 0)));
}

Progress::Progress(std::FILE* out, int64_t run_steps, Options options)
    : out_(out), run_steps_(run_steps), options_(std::move(options)) {
    if (!options_.clock) options_.clock = steady_seconds;
    bar_ = options_.terminal < 0 ? draws_bars(out_) : options_.terminal == 1;
    began_ = shown_ = options_.clock();
}

Progress::~Progress() { end_bar(); }

void Progress::draw(const std::string& text) {
    // Spaces wipe what a longer bar left; no terminal codes but the carriage return.
    std::string s = "\r" + text;
    if (drawn_.size() > text.size()) s.append(drawn_.size() - text.size(), ' ').append("\r" + text);
    std::fputs(s.c_str(), out_);
    std::fflush(out_);
    drawn_ = text;
}

void Progress::update(ProgressState p) {
    const double now = options_.clock();
    if (updates_ == 0) {
        // The first step pays for what is done once: the estimate begins after it.
        began_ = now;
    } else if (p.eta < 0) {
        const int64_t left = std::max<int64_t>(run_steps_ - updates_ - 1, 0);
        p.eta = (now - began_) / static_cast<double>(updates_) * static_cast<double>(left);
    }
    ++updates_;
    errors_ += p.error;
    waits_ += p.input_wait;
    times_ += 1 / p.images_per_s;
    const bool last = p.step >= p.steps;
    const double wait = bar_ ? options_.redraw_seconds : options_.every_seconds;
    const bool counted =
        !bar_ && options_.every_steps > 0 && updates_ - shown_updates_ >= options_.every_steps;
    if (!last && updates_ > 1 && now - shown_ < wait && !counted) return;
    shown_ = now;
    const double since = static_cast<double>(updates_ - shown_updates_);
    p.error = errors_ / since;
    p.input_wait = waits_ / since;
    p.images_per_s = since / times_;
    errors_ = waits_ = times_ = 0;
    shown_updates_ = updates_;
    if (bar_) {
        draw(progress_bar(p, columns(out_) - 1));  // a full last column wraps on some terminals
    } else {
        std::fprintf(out_, "%s\n", progress_line(p).c_str());
        std::fflush(out_);
    }
}

void Progress::message(const std::string& line) {
    if (!drawn_.empty()) {
        const std::string bar = drawn_;
        draw("");
        std::fprintf(out_, "\r%s\n", line.c_str());
        draw(bar);
    } else {
        std::fprintf(out_, "%s\n", line.c_str());
    }
    std::fflush(out_);
}

void Progress::end_bar() {
    if (drawn_.empty()) return;
    std::fputc('\n', out_);
    std::fflush(out_);
    drawn_.clear();
}

}  // namespace wt
