// What a network makes of held-out images, one by one: which it is surest of and which it misses
// most, and which class it takes for which.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace wt {

struct Example {
    int64_t image = 0;          // of the data set
    int label = 0, answer = 0;  // its class, and the likeliest
    float probability = 0;      // of its class
};

class Examples {
public:
    static constexpr size_t kShown = 6;         // best and worst each
    static constexpr size_t kMostClasses = 20;  // of a confusion matrix

    explicit Examples(size_t classes);
    // The next image in the data set's order, with a logit a class.
    void add(int64_t image, int label, const float* logits);

    // The highest probabilities of the image's class first, and the lowest; of equal ones the first
    // image. Of each class at most kShown / classes, or one: six horses say less than six classes.
    const std::vector<Example>& best() const { return best_; }
    const std::vector<Example>& worst() const { return worst_; }
    // Images by class and answer, classes x classes; empty where there are too many classes.
    const std::vector<int64_t>& confusion() const { return confusion_; }

private:
    template <class Before>
    void place(const Example& e, std::vector<Example>& list, const Before& before) const;
    size_t classes_, of_a_class_;
    std::vector<Example> best_, worst_;
    std::vector<int64_t> confusion_;
};

}  // namespace wt
