#include "data/pack_check.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>

#include "data/image.h"
#include "host/fingerprint.h"
#include "host/parallel_for.h"

namespace wt {
namespace {

struct Seen {
    std::string wrong;
    uint64_t hash = 0;
    int height = 0, width = 0;
};

struct Place {
    const PackSplit* split;
    const PackItem* item;
};

}  // namespace

SetFindings check_set(const PackSource& source, int threads,
                      const std::function<void(int64_t done, int64_t images)>& show,
                      const std::function<bool()>& stop) {
    std::vector<Place> places;
    for (const PackSplit& s : source.splits)
        for (const PackItem& i : s.items) places.push_back({&s, &i});
    const auto n = static_cast<int64_t>(places.size());
    std::vector<Seen> seen(places.size());
    std::mutex mutex;
    int64_t done = 0;
    parallel_for(
        n,
        [&](int64_t k) {
            if (stop()) return;
            const auto i = static_cast<size_t>(k);
            std::vector<uint8_t> bytes;
            Image image;
            Seen& s = seen[i];
            s.wrong = source.read(*places[i].item, bytes);
            if (s.wrong.empty()) {
                Fingerprint f;
                f.add(bytes.data(), bytes.size());
                s.hash = f.value();  // equal ones are compared
                s.wrong = decode_image(bytes, image);
            }
            s.height = image.height;
            s.width = image.width;
            std::lock_guard lock(mutex);
            show(++done, n);
        },
        1, static_cast<unsigned>(threads));

    SetFindings f;
    f.images = n;
    std::map<std::tuple<uint64_t, uint64_t>, size_t> first;  // by size and hash
    std::vector<int64_t> per_class(source.classes.size());
    for (size_t i = 0; i < places.size(); ++i) {
        const Seen& s = seen[i];
        const PackItem& item = *places[i].item;
        if (places[i].split == &source.splits[0]) ++per_class[static_cast<size_t>(item.label)];
        if (!s.wrong.empty()) {
            f.unreadable.push_back(item.name + ": " + s.wrong);
            continue;
        }
        const std::string size = std::to_string(s.width) + "x" + std::to_string(s.height);
        if (std::min(s.height, s.width) < kTinySide) f.tiny.push_back(item.name + ": " + size);
        if (std::max(s.height, s.width) > kExtremeRatio * std::min(s.height, s.width))
            f.extreme.push_back(item.name + ": " + size);
        const auto [at, fresh] = first.try_emplace({item.size, s.hash}, i);
        if (fresh) continue;
        const Place& other = places[at->second];
        std::vector<uint8_t> a, b;
        if (!source.read(item, a).empty() || !source.read(*other.item, b).empty() || a != b)
            continue;
        const bool leak = places[i].split != other.split;
        (leak ? f.leaked : f.duplicates)
            .push_back(item.name + " is " + other.item->name +
                       (item.label == other.item->label ? "" : ", of another class"));
    }
    std::vector<int64_t> sorted = per_class;
    std::sort(sorted.begin(), sorted.end());
    f.smallest_class = sorted.front();
    f.median_class = sorted[sorted.size() / 2];
    f.largest_class = sorted.back();
    for (size_t c = 0; c < per_class.size(); ++c)
        if (static_cast<double>(per_class[c]) < kPoorShare * static_cast<double>(f.median_class))
            f.poor.push_back(source.classes[c] + ": " + std::to_string(per_class[c]));
    return f;
}

}  // namespace wt
