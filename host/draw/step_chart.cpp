#include "host/draw/step_chart.h"

#include <algorithm>
#include <cmath>

#include "host/draw/page.h"
#include "host/draw/svg.h"

namespace wt::draw {
namespace {

constexpr double kWidth = 1400, kLeft = 170, kRight = 20, kTop = 78, kLane = 28, kBar = 20,
                 kMark = 8, kBetween = 16, kLetter = 5.8, kKeyLetter = 7.2;

// Classes of spans are named as their kinds (name_of).
const std::vector<Fill> kFills = {{"compute", "#2f6fde", "#5b8def"},
                                  {"exchange", "#e07b00", "#f0952b"},
                                  {"wait", "#c9d0d8", "#4a535e"},
                                  {"copy", "#3c9a5f", "#56b87c"},
                                  {"exposed", "#c62828", "#ff6b5e"}};

// 1, 2 or 5 times a power of ten, so that there are about ten to the step.
double tick_of(double ms) {
    const double about = std::max(ms, 1e-6) / 10,
                 power = std::pow(10, std::floor(std::log10(about)));
    for (const double m : {1.0, 2.0, 5.0})
        if (m * power >= about) return m * power;
    return 10 * power;
}

// Lanes by worker, with a row of marks under each worker's.
struct Places {
    std::vector<double> lane, mark;  // top, by lane and by worker
    double bottom = kTop;
    explicit Places(const StepPicture& p) : lane(p.lanes.size()), mark(p.workers.size()) {
        for (size_t w = 0; w < p.workers.size(); ++w) {
            for (size_t i = 0; i < p.lanes.size(); ++i) {
                if (p.lanes[i].worker != static_cast<int>(w)) continue;
                lane[i] = bottom;
                bottom += kLane;
            }
            mark[w] = bottom;
            bottom += kMark + kBetween;
        }
    }
};

class Drawing {
public:
    Drawing(const StepPicture& p, const std::string& title)
        : p_(p),
          title_(title + ": " + summary(p)),
          places_(p),
          svg_(kWidth, places_.bottom + 34, title_),
          scale_((kWidth - kLeft - kRight) / std::max(p.ms, 1e-9)) {}

    std::string draw() {
        svg_.text(16, 26, title_, "title");
        draw_key();
        draw_axis();
        for (size_t w = 0; w < p_.workers.size(); ++w) draw_worker(w);
        for (const Span& span : p_.spans) draw_span(span);
        return svg_.file_text(kFills);
    }

private:
    double x_of(double ms) const { return kLeft + ms * scale_; }
    double wide(double ms) const { return std::max(ms * scale_, 0.3); }
    void draw_key() {
        double at = 16;
        const auto entry = [&](const char* kind, const std::string& what) {
            svg_.rect({at, 42, 14, 12}, kind, "", 2);
            svg_.text(at + 20, 52, what, "muted");
            at += 34 + kKeyLetter * static_cast<double>(what.size());
        };
        entry("compute", "compute");
        entry("exchange", "exchange");
        entry("wait", "wait for another worker");
        entry("copy", "copy");
        entry("exposed", "communication that nothing hides");
    }
    void draw_axis() {
        const double tick = tick_of(p_.ms);
        const int places = tick >= 1 ? 0 : static_cast<int>(std::ceil(-std::log10(tick) - 1e-9));
        for (int i = 0; i * tick <= p_.ms * (1 + 1e-9); ++i) {
            const double x = x_of(i * tick);
            svg_.line(x, kTop - 6, x, places_.bottom);
            svg_.text(x, places_.bottom + 16, fixed(i * tick, places) + (i ? "" : " ms"),
                      "muted small", Svg::Anchor::middle);
        }
    }
    void draw_worker(size_t w) {
        bool first = true;
        for (size_t i = 0; i < p_.lanes.size(); ++i) {
            if (p_.lanes[i].worker != static_cast<int>(w)) continue;
            const double y = places_.lane[i] + 14;
            if (first) {
                svg_.text(16, y, "worker " + std::to_string(w));
                svg_.text(16, y + 15, p_.workers[w], "muted small");
            }
            svg_.text(kLeft - 8, y, p_.lanes[i].name, "muted small", Svg::Anchor::end);
            first = false;
        }
        for (const auto& [start, end] : exposed_parts(p_, static_cast<int>(w)))
            svg_.rect({x_of(start), places_.mark[w] - 4, wide(end - start), kMark}, "exposed",
                      "not hidden: " + ms_text(end - start));
    }
    void draw_span(const Span& span) {
        const double took = span.end - span.start, top = places_.lane[span.lane];
        if (span.kind == SpanKind::wait && took * scale_ < 0.3) return;
        svg_.rect({x_of(span.start), top, wide(took), kBar},
                  std::string("bar ") + name_of(span.kind),
                  span.name + " (" + name_of(span.kind) + "): " + ms_text(took) + ", from " +
                      ms_text(span.start));
        // The name is cut to the room that there is.
        const auto room = static_cast<size_t>(std::max(0.0, (took * scale_ - 6) / kLetter));
        if (room >= std::min<size_t>(span.name.size(), 5) && room > 0 &&
            span.kind != SpanKind::wait)
            svg_.text(x_of(span.start) + 3, top + 14, span.name.substr(0, room), "in");
    }

    const StepPicture& p_;
    const std::string title_;
    const Places places_;
    Svg svg_;
    const double scale_;
};

}  // namespace

std::string step_chart_file(const StepPicture& picture, const std::string& title) {
    return Drawing(picture, title).draw();
}

}  // namespace wt::draw
