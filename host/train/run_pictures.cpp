// What a run's page shows of single held-out images.
#include <algorithm>
#include <cstdio>
#include <numeric>

#include "data/resize.h"
#include "data/sampling.h"
#include "host/draw/page.h"
#include "host/draw/png.h"
#include "host/report/run_pictures.h"
#include "host/train/run.h"

namespace wt {
namespace {

constexpr int kThumbnail = 96;  // pixels of a side at most
constexpr int kExact = 40;      // up to this side a picture keeps every pixel
constexpr int kMaps = 16, kAcross = 8;

// Of `side` pixels, grey or coloured.
std::string address_of(std::vector<uint8_t> pixels, int side, int channels) {
    if (side > kThumbnail) {
        std::vector<uint8_t> small(static_cast<size_t>(kThumbnail * kThumbnail * channels));
        resize_short_side(pixels.data(), side, side, channels, kThumbnail, small.data());
        pixels = std::move(small);
        side = kThumbnail;
    }
    std::vector<uint8_t> rgb(static_cast<size_t>(side * side * 3));
    for (size_t i = 0; i < rgb.size(); ++i) rgb[i] = pixels[channels == 3 ? i : i / 3];
    return side <= kExact ? draw::png_address(draw::png_of(rgb, side, side))
                          : draw::jpeg_address(draw::jpeg_of(rgb, side, side));
}

// "n01440764/7.jpg" of a path: what tells the image, where the folder's is on the page already.
std::string short_name(const std::string& name) {
    const size_t file = name.rfind('/');
    if (file == name.npos || file == 0) return name;
    const size_t folder = name.rfind('/', file - 1);
    return folder == name.npos ? name : name.substr(folder + 1);
}

// The channels whose sums are the largest, in their order. y: pixels x channels.
std::vector<int> strongest(const std::vector<float>& y, int channels, int most) {
    std::vector<double> sums(static_cast<size_t>(channels));
    for (size_t i = 0; i < y.size(); ++i) sums[i % static_cast<size_t>(channels)] += y[i];
    std::vector<int> order(static_cast<size_t>(channels));
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(), [&](int a, int b) {
        return sums[static_cast<size_t>(a)] > sums[static_cast<size_t>(b)];
    });
    order.resize(static_cast<size_t>(std::min(channels, most)));
    std::sort(order.begin(), order.end());
    return order;
}

RunPictures::Maps maps_of(const Worker& worker, const Layer& layer) {
    const std::vector<float> y = worker.get_output(layer.name, 1);
    RunPictures::Maps m{.layer = layer.name,
                        .height = layer.y.h,
                        .width = layer.y.w,
                        .channels = layer.y.c,
                        .shown = 0,
                        .picture = ""};
    const std::vector<int> shown = strongest(y, m.channels, kMaps);
    m.shown = static_cast<int>(shown.size());
    m.picture = draw::png_address(draw::maps_png(y, m.height, m.width, m.channels, shown, kAcross));
    return m;
}

}  // namespace

// The part of a stored image that the network reads in an evaluation, as a picture.
std::string Run::picture_of(int64_t image) const {
    const Dataset& data = *data_.held_out;
    std::vector<uint8_t> all(static_cast<size_t>(data.height * data.width * data.channels));
    if (!data.load(image, all.data())) return "";
    const int side = net_.input.h;
    const AugmentParams view = view_of(0, 1, data.height, data.width, side);
    std::vector<uint8_t> centre;
    for (int y = view.y0; y < view.y0 + side; ++y) {
        const auto row =
            all.begin() + (static_cast<long>(y) * data.width + view.x0) * data.channels;
        centre.insert(centre.end(), row, row + static_cast<long>(side) * data.channels);
    }
    return address_of(std::move(centre), side, data.channels);
}

// Right after an evaluation, whose last batch's activations are still there: `through` is the image
// in worker 0's first row; negative: there is none. Drawing is not what the run is for.
void Run::keep_pictures(const Examples& examples, int64_t through, int label) {
    if (!first() || !page_is_due(step_ == total_steps_)) return;
    RunPictures p;
    p.step = step_;
    p.split = data_.held_out_name;
    const auto class_of = [&](int unit) { return match_.classes[static_cast<size_t>(unit)]; };
    const auto image = [&](const Example& e) {
        return RunPictures::Image{.name = short_name(data_.held_out->name(e.image)),
                                  .label = class_of(e.label),
                                  .answer = class_of(e.answer),
                                  .probability = e.probability,
                                  .picture = picture_of(e.image)};
    };
    try {
        for (const Example& e : examples.best()) p.best.push_back(image(e));
        for (const Example& e : examples.worst()) p.worst.push_back(image(e));
        p.confusion = examples.confusion();
        if (!p.confusion.empty()) p.classes = match_.classes;
        if (through >= 0) {
            p.through.name = short_name(data_.held_out->name(through));
            p.through.label = class_of(label);
            p.through.picture = picture_of(through);
            for (const Layer& l : net_.layers)
                if (l.kind == LayerKind::conv) p.maps.push_back(maps_of(group_->worker(0), l));
        }
        write_pictures(o_.out, p);
    } catch (const Error& e) {
        if (!report_failed_) std::printf("notice  no pictures of this run: %s\n", e.what());
        report_failed_ = true;
    }
}

}  // namespace wt
