#include "host/train/examples.h"

#include <algorithm>
#include <cmath>

#include "host/train/per_class.h"

namespace wt {

Examples::Examples(size_t classes)
    : classes_(classes), of_a_class_(std::max<size_t>(1, kShown / std::max<size_t>(1, classes))) {
    if (classes <= kMostClasses) confusion_.resize(classes * classes);
}

// Into a list that `before` has in order. What is too many goes: of its class, or behind the last.
template <class Before>
void Examples::place(const Example& e, std::vector<Example>& list, const Before& before) const {
    list.insert(std::upper_bound(list.begin(), list.end(), e, before), e);
    size_t same = 0;
    for (auto at = list.begin(); at != list.end(); ++at)
        if (at->label == e.label && ++same > of_a_class_) {
            list.erase(at);
            return;
        }
    if (list.size() > kShown) list.pop_back();
}

void Examples::add(int64_t image, int label, const float* logits) {
    const auto own = static_cast<size_t>(label);
    const size_t answer = rank_of(logits, classes_, label).first;
    if (!confusion_.empty()) ++confusion_[own * classes_ + answer];
    double sum = 0;  // of probabilities, as multiples of the likeliest's
    for (size_t k = 0; k < classes_; ++k) sum += std::exp(logits[k] - logits[answer]);
    const Example e{
        .image = image,
        .label = label,
        .answer = static_cast<int>(answer),
        .probability = static_cast<float>(std::exp(logits[own] - logits[answer]) / sum)};
    if (std::isnan(e.probability)) return;  // has no place in an order
    const auto surer = [](const Example& a, const Example& b) {
        return a.probability > b.probability;
    };
    place(e, best_, surer);
    place(e, worst_, [&](const Example& a, const Example& b) { return surer(b, a); });
}

}  // namespace wt
