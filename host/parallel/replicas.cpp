#include "host/parallel/replicas.h"

#include <algorithm>

#include "host/fingerprint.h"

namespace wt {
namespace {

// Over the bits, in four numbers that a float holds exactly: a team gathers floats.
void add_checksum(const std::vector<float>& values, std::vector<float>& to) {
    Fingerprint f;
    f.add(values.data(), values.size() * sizeof(float));
    for (int part = 0; part < 4; ++part)
        to.push_back(static_cast<float>(f.value() >> (16 * part) & 0xffff));
}

bool is_replicated(const Layout& l, size_t i) {
    const Param& p = l.params[i];
    return l.rows[i].count == p.rows && l.columns[i].count == p.row;
}

std::vector<float> checksums_of(Worker& w) {
    std::vector<float> sums;
    for (size_t i = 0; i < w.layout().params.size(); ++i)
        if (is_replicated(w.layout(), i)) add_checksum(w.get_values(static_cast<int>(i)), sums);
    return sums;
}

// `sums`: as many for each worker, one after another.
std::string compare(const Layout& l, const std::vector<float>& sums) {
    std::vector<std::string> names;
    for (size_t i = 0; i < l.params.size(); ++i)
        if (is_replicated(l, i)) names.push_back(l.params[i].name);
    const size_t each = 4 * names.size();
    for (size_t i = 0; i < names.size(); ++i)
        for (size_t w = 1; w * each < sums.size(); ++w)
            if (!std::equal(&sums[4 * i], &sums[4 * i] + 4, &sums[w * each + 4 * i]))
                return names[i] + " of worker " + std::to_string(w) + " is not what worker 0 has";
    return "";
}

}  // namespace

std::string differing_replica(Group& group) {
    std::vector<std::vector<float>> sums(static_cast<size_t>(group.workers()));
    const int first = group.worker(0).layout().config.rank;
    group.run([&](Worker& w) {
        sums[static_cast<size_t>(w.layout().config.rank - first)] = checksums_of(w);
    });
    std::vector<float> all;
    for (const auto& s : sums) all.insert(all.end(), s.begin(), s.end());
    if (!group.team()) return compare(group.worker(0).layout(), all);
    all = group.team()->gather(all);
    return group.team()->broadcast(group.first() ? compare(group.worker(0).layout(), all)
                                                 : std::string());
}

}  // namespace wt
