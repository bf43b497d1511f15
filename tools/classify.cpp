// bin/classify CHECKPOINT IMAGE...: what a trained network says of photographs.
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <filesystem>
#include <map>
#include <numeric>
#include <sstream>

#include "data/image.h"
#include "data/npy.h"
#include "host/cuda/check.h"
#include "host/cuda/regular_file.h"
#include "host/json.h"
#include "host/parallel_for.h"
#include "host/printable.h"
#include "host/train/atomic_file.h"
#include "host/train/predictor.h"
#include "tools/common_cli.h"

namespace {

using namespace wt;
namespace fs = std::filesystem;

// Files as they are given; of a folder all images in it and below, by name.
std::vector<std::string> files_of(const std::vector<std::string>& given) {
    std::vector<std::string> files;
    for (const std::string& path : given) {
        if (!fs::is_directory(path)) {
            files.push_back(path);
            continue;
        }
        const size_t first = files.size();
        for (const auto& e : fs::recursive_directory_iterator(path))
            if (is_image_name(e.path().string())) files.push_back(e.path().string());
        if (files.size() == first) throw Error(path + " has no .jpg, .jpeg or .png");
        std::sort(files.begin() + static_cast<std::ptrdiff_t>(first), files.end());
    }
    return files;
}

struct Answer {
    std::string file, wrong;  // wrong: why it could not be read
    std::vector<float> probabilities, features;
};

// All files, a batch at a time, each decoded on a core of its own.
std::vector<Answer> answers_of(Predictor& predictor, const std::vector<std::string>& files) {
    std::vector<Answer> answers(files.size());
    const size_t classes = predictor.model().classes.size(), bytes = predictor.image_bytes();
    const auto features = static_cast<size_t>(predictor.feature_count());
    std::vector<uint8_t> images(bytes * static_cast<size_t>(predictor.batch()));
    for (size_t first = 0; first < files.size(); first += static_cast<size_t>(predictor.batch())) {
        const int count = static_cast<int>(
            std::min(files.size() - first, static_cast<size_t>(predictor.batch())));
        parallel_for(count, [&](int64_t i) {
            Answer& a = answers[first + static_cast<size_t>(i)];
            a.file = files[first + static_cast<size_t>(i)];
            a.wrong = predictor.read_image(a.file, &images[bytes * static_cast<size_t>(i)]);
        });
        const Predictor::Results r = predictor.run(images, count);
        for (size_t i = 0; i < static_cast<size_t>(count); ++i) {
            Answer& a = answers[first + i];
            if (!a.wrong.empty()) continue;
            const auto p = r.probabilities.begin() + static_cast<std::ptrdiff_t>(i * classes);
            a.probabilities.assign(p, p + static_cast<std::ptrdiff_t>(classes));
            const auto f = r.features.begin() + static_cast<std::ptrdiff_t>(i * features);
            a.features.assign(f, f + static_cast<std::ptrdiff_t>(features));
        }
    }
    return answers;
}

// Numbers of the `most` first in the order of `before`.
template <class Before>
std::vector<size_t> first_of(size_t n, size_t most, const Before& before) {
    std::vector<size_t> order(n);
    std::iota(order.begin(), order.end(), size_t(0));
    most = std::min(most, n);
    std::partial_sort(order.begin(), order.begin() + static_cast<std::ptrdiff_t>(most), order.end(),
                      [&](size_t a, size_t b) { return before(a, b) || (!before(b, a) && a < b); });
    order.resize(most);
    return order;
}

double distance(const std::vector<float>& a, const std::vector<float>& b) {
    double sum = 0;
    for (size_t i = 0; i < a.size(); ++i) sum += (double(a[i]) - b[i]) * (double(a[i]) - b[i]);
    return std::sqrt(sum);
}

struct Near {
    std::string file;
    double distance;
};

// The images among `others` whose features are the nearest, itself left out.
std::vector<Near> nearest_of(const Answer& a, const std::vector<Answer>& others, size_t most) {
    std::vector<Near> all;
    for (const Answer& o : others) {
        std::error_code none;
        if (o.wrong.empty() && !fs::equivalent(o.file, a.file, none))
            all.push_back({o.file, distance(a.features, o.features)});
    }
    std::vector<Near> nearest;
    for (const size_t i : first_of(all.size(), most, [&](size_t x, size_t y) {
             return all[x].distance < all[y].distance;
         }))
        nearest.push_back(all[i]);
    return nearest;
}

void write_features(const std::string& path, const std::vector<Answer>& answers, int64_t count) {
    std::string text = npy_header("<f4", {static_cast<int64_t>(answers.size()), count});
    for (const Answer& a : answers) {
        std::vector<float> row = a.features;
        row.resize(static_cast<size_t>(count), std::nanf(""));
        text.append(reinterpret_cast<const char*>(row.data()), row.size() * sizeof(float));
    }
    atomic_write_file(path, text);
}

// Lines CLASS NAME, as bin/pack writes names.txt; classes that the network does not know are passed
// over.
void rename_classes(const std::string& path, std::vector<std::string>& classes) {
    std::map<std::string, std::string> names;
    std::istringstream in(read_whole(path, ", given by --names"));
    for (std::string line; std::getline(in, line);) {
        const size_t end = line.find_first_of(" \t"),
                     text = end == line.npos ? end : line.find_first_not_of(" \t", end);
        if (text != line.npos) names[line.substr(0, end)] = line.substr(text);
    }
    size_t known = 0;
    for (std::string& c : classes) {
        const auto at = names.find(c);
        if (at == names.end()) continue;
        ++known;
        c = at->second + " (" + c + ")";
    }
    if (known == 0)
        throw Error("--names " + path + " has none of the network's classes (" + classes.front() +
                    ", ...): lines are CLASS NAME");
}

struct Flags {
    std::string checkpoint, net, nearest, names;
    std::vector<std::string> images;
    std::pair<std::string, std::string> features;
    bool json = false;
    int top = 5;
    PredictorOptions predictor;
};

Json json_of(const Answer& a, const Flags& f, const StoredModel& m, const std::vector<Near>& near) {
    Json j;
    j["file"] = a.file;
    if (!a.wrong.empty()) {
        j["error"] = a.wrong;
        return j;
    }
    for (const size_t c :
         first_of(a.probabilities.size(), static_cast<size_t>(f.top),
                  [&](size_t x, size_t y) { return a.probabilities[x] > a.probabilities[y]; }))
        j["classes"].push_back(
            {{"class", m.classes[c]}, {"number", c}, {"probability", a.probabilities[c]}});
    for (const Near& n : near) j["nearest"].push_back({{"file", n.file}, {"distance", n.distance}});
    return j;
}

void print(const Json& j) {
    std::printf("%s\n", printable(j["file"].get<std::string>()).c_str());
    if (j.contains("error")) {
        std::printf("    cannot be read: %s\n", j["error"].get<std::string>().c_str());
        return;
    }
    for (const Json& c : j["classes"])
        std::printf("    %6.2f%%  %s\n", 100 * c["probability"].get<double>(),
                    printable(c["class"].get<std::string>()).c_str());
    if (!j.contains("nearest")) return;
    std::printf("  nearest\n");
    for (const Json& n : j["nearest"])
        std::printf("    %8.3f  %s\n", n["distance"].get<double>(),
                    printable(n["file"].get<std::string>()).c_str());
}

int run(int argc, char** argv) {
    CommandLine app(
        "Classifies images with a trained network: the likeliest classes with their probabilities.");
    Flags f;
    app.add_option("CHECKPOINT", f.checkpoint,
                   "a run's checkpoint.safetensors or best.safetensors, or torchvision's weights")
        ->required();
    app.add_option("IMAGE", f.images, "JPEG and PNG files, and folders of them")->required();
    app.add_option("--net", f.net, "the network, where the file does not say it");
    app.add_option("--names", f.names, "readable names of classes: lines CLASS NAME");
    app.add_option("--top", f.top, "classes that are shown")->check(between(1, 1e6));
    app.add_option("--views", f.predictor.views,
                   "of an image: 1 is its centre; 10 its corners and centre, mirrored too, whose "
                   "probabilities are averaged")
        ->check(one_of("number of views", {"1", "10"}));
    app.add_option("--features", f.features,
                   "LAYER OUT.npy: writes a fully connected layer's output, a row an image, too");
    app.add_option("--nearest", f.nearest,
                   "FOLDER: shows for each image the nearest ones there, by the features of the "
                   "layer below the last");
    app.add_option("--batch", f.predictor.batch, "images at a time")->check(between(1, 4096));
    app.add_option("--gpu", f.predictor.gpu, "which one")->check(between(0, 255));
    app.add_choice("--precision", f.predictor.precision, kPrecisions, "precision",
                   "of activations and products");
    app.add_option("--kernels", f.predictor.kernels, "as in bin/train");
    app.add_flag("--json", f.json, "prints one JSON object an image instead");
    app.parse(argc, argv);

    StoredModel model = open_model(f.checkpoint, f.net);
    if (!f.names.empty()) rename_classes(f.names, model.classes);
    const std::vector<std::string> files = files_of(f.images);
    f.predictor.features = f.features.first;
    if (!f.features.second.empty()) check_output(f.features.second);
    if (!f.nearest.empty()) {
        std::vector<std::string> fc;
        for (const Layer& l : model.net.layers)
            if (l.kind == LayerKind::fc) fc.push_back(l.name);
        if (fc.size() < 2)
            throw UsageError("--nearest: net " + model.net.name + " has no layer below the last");
        if (f.predictor.features.empty()) f.predictor.features = fc[fc.size() - 2];
    }
    f.predictor.batch = std::min<int>(f.predictor.batch, static_cast<int>(files.size()));
    Predictor predictor(std::move(model), f.predictor);
    const std::vector<Answer> answers = answers_of(predictor, files);
    std::vector<Answer> others;
    if (!f.nearest.empty()) others = answers_of(predictor, files_of({f.nearest}));

    size_t unread = 0;
    for (const Answer& a : answers) {
        constexpr size_t kNearest = 6;  // as in the paper's figure 4
        std::vector<Near> near;
        if (!others.empty() && a.wrong.empty()) near = nearest_of(a, others, kNearest);
        const Json j = json_of(a, f, predictor.model(), near);
        if (f.json)
            std::printf("%s\n", json_text(j).c_str());
        else
            print(j);
        unread += !a.wrong.empty();
    }
    if (!f.features.second.empty()) {
        write_features(f.features.second, answers, predictor.feature_count());
        if (!f.json)
            std::printf("wrote %s: %s of %zu images, %lld numbers each\n",
                        f.features.second.c_str(), f.predictor.features.c_str(), answers.size(),
                        static_cast<long long>(predictor.feature_count()));
    }
    return unread == answers.size() ? 1 : 0;
}

}  // namespace

int main(int argc, char** argv) { return run_program(argc, argv, "classify", run); }
