// How far a run is, for a person: a bar that redraws itself on a terminal, plain lines elsewhere.
//
//   epoch 1/3 [=====>       ] 120/468  loss 0.8123  error 25.0%  lr 0.01  512 images/s
//     input wait 2%  eta 0:42
//   epoch 1/3  step 120/468  loss 0.8123  error 25.0%  lr 0.01  512 images/s
//     input wait 2%  eta 0:42
// (each in one line).
//
// The loss is the last step's; the training error, the rate and the share of the time that was
// spent waiting for images are means over the steps since the last line, or since the bar was last
// drawn.
#pragma once

#include <cstdint>
#include <cstdio>
#include <functional>
#include <string>

namespace wt {

struct ProgressState {
    int64_t epoch, epochs;          // the first is 1; epochs 0: not known (a run of so many steps)
    int64_t step, steps;            // within the epoch, or within the run when epochs is 0
    double loss, lr, images_per_s;  // a rate that is not positive: not known
    double eta = -1;                // seconds; negative: not known yet
    double error = -1;       // top-1, percent, of the step's training images; negative: not known
    double input_wait = -1;  // share of the step's time, 0 to 1; negative: not known
};

// "0:42", "12:05", "3:00:07", "4 d 03:00".
std::string duration_text(double seconds);
// The bar in at most `width` columns, without a line end; narrow terminals lose the bar, then the
// end of the text.
std::string progress_bar(const ProgressState&, int width);
std::string progress_line(const ProgressState&);

class Progress {
public:
    struct Options {
        int64_t every_steps = 0;    // plain lines: after so many updates as well; 0: by time alone
        double every_seconds = 10;  // plain lines
        double redraw_seconds = 0.1;  // the bar
        int terminal = -1;  // 1 a bar, 0 lines, -1: a bar where `out` is a terminal that can
        std::function<double()> clock;  // seconds, for tests
    };
    // `run_steps`: updates of the whole run still to come, from which the remaining time is
    // estimated.
    Progress(std::FILE* out, int64_t run_steps, Options options);
    Progress(std::FILE* out, int64_t run_steps) : Progress(out, run_steps, Options{}) {}
    ~Progress();  // ends the bar's line
    Progress(const Progress&) = delete;
    Progress& operator=(const Progress&) = delete;

    // After every step; shows it when it is time, and always an epoch's last. Fills in `eta`.
    void update(ProgressState state);
    // A line of its own, above the bar.
    void message(const std::string& line);
    // Leaves the bar as it stands and goes to the next line; the next update begins another.
    void end_bar();

private:
    void draw(const std::string& text);
    std::FILE* out_;
    int64_t run_steps_;
    Options options_;
    bool bar_ = false;
    int64_t updates_ = 0, shown_updates_ = 0;
    double began_ = 0, shown_ = 0;
    double errors_ = 0, waits_ = 0, times_ = 0;  // sums over the updates since it was shown
    std::string drawn_;                          // the bar on the screen
};

}  // namespace wt
