// How an evaluation went class by class, for --per-class FILE.csv.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace wt {

// Whether the label is the likeliest class, and whether it is among the five likeliest. Of equal
// ones the first counts as likelier; a NaN makes both false.
struct Ranked {
    bool top1 = false, top5 = false;
    size_t first = 0;  // the likeliest class
};
Ranked rank_of(const float* scores, size_t classes, int label);

class PerClass {
public:
    explicit PerClass(std::vector<std::string> classes);
    // An image: scores, one a class (logits or probabilities), and its class.
    void add(int label, const float* scores);
    // class, images, top1_error, top5_error (percent; empty without images), and the class that it
    // was taken for most often where it was wrong. Throws Error when it cannot be written.
    void write(const std::string& path) const;
    std::string summary() const;  // "worst: owl 60.0%, cat 42.1%"

private:
    struct Row {
        int64_t images = 0, top1 = 0, top5 = 0;
        std::vector<int64_t> taken_for;
    };
    std::vector<std::string> classes_;
    std::vector<Row> rows_;
};

}  // namespace wt
