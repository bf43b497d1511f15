#include "host/train/per_class.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <numeric>

#include "host/train/atomic_file.h"
#include "host/train/predictions.h"

namespace wt {

Ranked rank_of(const float* scores, size_t classes, int label) {
    Ranked r;
    r.first = static_cast<size_t>(std::max_element(scores, scores + classes) - scores);
    const auto own = static_cast<size_t>(label);
    size_t ahead = 0;
    for (size_t k = 0; k < classes; ++k)
        ahead += scores[k] > scores[own] || (scores[k] == scores[own] && k < own);
    const bool number = !std::isnan(scores[own]);
    r.top1 = number && ahead == 0;
    r.top5 = number && ahead < 5;
    return r;
}

PerClass::PerClass(std::vector<std::string> classes) : classes_(std::move(classes)) {
    rows_.resize(classes_.size());
}

void PerClass::add(int label, const float* scores) {
    if (label < 0) return;
    const Ranked r = rank_of(scores, classes_.size(), label);
    Row& row = rows_[static_cast<size_t>(label)];
    ++row.images;
    row.top1 += r.top1;
    row.top5 += r.top5;
    if (row.taken_for.empty()) row.taken_for.resize(classes_.size());
    if (!r.top1) ++row.taken_for[r.first];
}

void PerClass::write(const std::string& path) const {
    std::string text = "class,images,top1_error,top5_error,taken_for,times\n";
    for (size_t c = 0; c < classes_.size(); ++c) {
        const Row& row = rows_[c];
        char numbers[96];
        const double n = static_cast<double>(row.images);
        if (row.images)
            std::snprintf(numbers, sizeof numbers, ",%lld,%.4f,%.4f",
                          static_cast<long long>(row.images),
                          100 * (1 - static_cast<double>(row.top1) / n),
                          100 * (1 - static_cast<double>(row.top5) / n));
        else
            std::snprintf(numbers, sizeof numbers, ",0,,");
        text += csv_field(classes_[c]) + numbers;
        const auto most = std::max_element(row.taken_for.begin(), row.taken_for.end());
        if (most != row.taken_for.end() && *most > 0)
            text += "," + csv_field(classes_[static_cast<size_t>(most - row.taken_for.begin())]) +
                    "," + std::to_string(*most) + "\n";
        else
            text += ",,\n";
    }
    atomic_write_file(path, text);
}

std::string PerClass::summary() const {
    std::vector<size_t> order;
    for (size_t c = 0; c < rows_.size(); ++c)
        if (rows_[c].images) order.push_back(c);
    const auto error = [&](size_t c) {
        return 1 - static_cast<double>(rows_[c].top1) / static_cast<double>(rows_[c].images);
    };
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return error(a) > error(b); });
    std::string s = "worst:";
    for (size_t i = 0; i < std::min<size_t>(order.size(), 3); ++i) {
        char number[32];
        std::snprintf(number, sizeof number, " %.1f%%", 100 * error(order[i]));
        s += (i ? ", " : " ") + classes_[order[i]] + number;
    }
    return s;
}

}  // namespace wt
