// A folder of image files, one folder a class: DIR/train/<class>/*, DIR/val/<class>/* (or
// DIR/test).
#include <algorithm>
#include <cctype>
#include <filesystem>

#include "data/image.h"
#include "host/parallel_for.h"
#include "data/readers.h"

namespace wt {
namespace {

namespace fs = std::filesystem;

// Up to so many files, each is looked at when the set is opened (two small reads a file). Beyond it
// that would take minutes on a cold disk, and the broken ones are found as they are read.
constexpr int64_t kGlanceLimit = 200'000;

// Sorted names of what is in a folder and passes; those that begin with a dot never do.
template <class Wanted>
std::vector<std::string> list(const fs::path& dir, const Wanted& wanted) {
    std::vector<std::string> names;
    try {
        for (const fs::directory_entry& e : fs::directory_iterator(dir)) {
            const std::string name = e.path().filename().string();
            if (name[0] != '.' && wanted(e)) names.push_back(name);
        }
    } catch (const fs::filesystem_error& e) {
        throw Error("cannot read the folder " + dir.string() + ": " + e.code().message());
    }
    std::sort(names.begin(), names.end());
    return names;
}

std::vector<std::string> list_classes(const fs::path& dir) {
    return list(dir, [](const fs::directory_entry& e) { return e.is_directory(); });
}

class Folder : public Dataset {
public:
    // `known`: the training split's classes, or null where this split's own are all there are.
    Folder(const fs::path& dir, int side, const std::vector<std::string>* known)
        : dir_(dir.string()) {
        height = width = side;
        channels = 3;
        const std::vector<std::string> found = list_classes(dir);
        if (found.empty())
            throw Error(dir_ + " has no class folders; images belong in " + dir_ +
                        "/<class>/*.jpg, .jpeg or .png");
        classes = known ? *known : found;
        if (known && found.size() < known->size()) {
            const auto first =
                std::find_if(known->begin(), known->end(), [&](const std::string& name) {
                    return !std::binary_search(found.begin(), found.end(), name);
                });
            lacks_ = dir_ + " has " + std::to_string(found.size()) + " of the training split's " +
                     std::to_string(known->size()) + " classes (not " + *first + ")";
        }
        for (const std::string& name : found) {
            const auto at = std::lower_bound(classes.begin(), classes.end(), name);
            if (at == classes.end() || *at != name)
                throw Error(dir_ + "/" + name +
                            ": a class the training split lacks; add it there or remove it here");
            const auto files = list(dir / name, [&](const fs::directory_entry& e) {
                if (is_image_name(e.path().string())) return true;
                ++passed_over_;
                if (example_.empty()) example_ = e.path().string();
                return false;
            });
            if (files.empty())
                throw Error(
                    dir_ + "/" + name +
                    ": empty class folder (no .jpg, .jpeg or .png); add images or remove it");
            for (const std::string& f : files) {
                items_.push_back(
                    {names_.size(), int32_t(at - classes.begin()), int32_t(items_.size())});
                names_.append(f).push_back('\0');
            }
        }
        leave_out_broken();
    }
    // What lies in the class folders and has no image's name; "" for nothing.
    std::string passed_over() const {
        if (passed_over_ == 0) return {};
        return std::to_string(passed_over_) + (passed_over_ == 1 ? " entry" : " entries") + " of " +
               dir_ + " not named .jpg, .jpeg or .png, passed over (" + example_ + ")";
    }
    // A line that says that the split lacks some of the known classes; "" where it has all.
    const std::string& lacks() const { return lacks_; }
    int64_t size() const override { return int64_t(items_.size()); }
    int label(int64_t i) const override { return items_[i].label; }
    std::string name(int64_t i) const override { return path(i); }
    bool load(int64_t i, uint8_t* out) const override {
        std::vector<uint8_t> bytes;
        Image image;
        std::string wrong = read_file(path(i), bytes);
        if (wrong.empty()) wrong = decode_image(bytes, image);
        if (!wrong.empty()) {
            note_bad(items_[i].id, {path(i), wrong});
            return false;
        }
        resize_short_side(image.rgb.data(), image.height, image.width, 3, height, out);
        return true;
    }

    // Small nets on small images (cifar on 32x32 files): when the first readable image is of a size
    // the input takes three quarters of, all are stored at that size, not resized.
    bool keep_small_size(int net_input) {
        Image image;
        std::vector<uint8_t> bytes;
        for (int64_t i = 0; i < std::min<int64_t>(size(), 100); ++i) {
            if (!read_file(path(i), bytes).empty() || !decode_image(bytes, image).empty()) continue;
            const int native = std::min(image.height, image.width);
            if (stored_size(net_input, native) == native) height = width = native;
            return height == native;
        }
        return false;
    }

private:
    struct Item {
        size_t name;  // offset into names_
        int32_t label;
        int32_t id;  // place in the listing, broken files included
    };
    std::string path(int64_t i) const {
        return dir_ + "/" + classes[items_[i].label] + "/" + &names_[items_[i].name];
    }

    void leave_out_broken() {
        const int64_t n = size();
        if (n > kGlanceLimit) return;
        std::vector<std::string> wrong(n);
        // Waiting for the disk, not computing: more threads than cores.
        parallel_for(
            n, [&](int64_t i) { wrong[i] = glance_at_image(path(i)); }, 64, 8);
        std::vector<Item> good;
        std::vector<char> class_has(classes.size(), 0), class_seen(classes.size(), 0);
        for (int64_t i = 0; i < n; ++i) {
            class_seen[items_[i].label] = 1;
            if (wrong[i].empty()) {
                good.push_back(items_[i]);
                class_has[items_[i].label] = 1;
            } else {
                note_bad(items_[i].id, {path(i), wrong[i]});
            }
        }
        for (size_t c = 0; c < classes.size(); ++c)
            if (class_seen[c] && !class_has[c])
                throw Error(dir_ + "/" + classes[c] + ": no readable image in this class folder (" +
                            bad_images()[0].path + ": " + bad_images()[0].reason +
                            "); add images or remove it");
        left_out = n - int64_t(good.size());
        items_ = std::move(good);
    }

    std::string dir_, example_, lacks_;
    int64_t passed_over_ = 0;
    // one string for a million names: a quarter of the memory of a million strings
    std::string names_;
    std::vector<Item> items_;
};

}  // namespace

DataSplits open_folder(const std::string& dir, const DataSpec& spec) {
    const fs::path root = dir;
    if (!fs::is_directory(root)) throw Error(dir + ": no such folder");
    if (!spec.held_out_only && !fs::is_directory(root / "train"))
        throw Error(
            dir +
            "/train is missing; a folder of images is laid out as DIR/train/<class>/* and DIR/val/<class>/*");
    DataSplits s;
    int side = side_of(spec);
    bool own_size = false;  // the files'
    const auto note = [&](const Folder& f) {
        for (const std::string& line : {f.passed_over(), f.lacks()})
            if (!line.empty()) s.notices.push_back(line);
    };
    if (!spec.held_out_only) {
        auto train = std::make_unique<Folder>(root / "train", side, nullptr);
        if (spec.net_input <= 64 && spec.stored == 0)
            own_size = train->keep_small_size(spec.net_input);
        side = train->height;
        note(*train);
        s.train = std::move(train);
    }
    for (const char* name : {"val", "test"}) {
        if (!fs::is_directory(root / name)) continue;
        auto held_out =
            std::make_unique<Folder>(root / name, side, s.train ? &s.train->classes : nullptr);
        note(*held_out);
        s.held_out = std::move(held_out);
        s.held_out_name = name;
        break;
    }
    if (!s.train && !s.held_out)
        throw Error(dir + " has neither val/ nor test/: images to evaluate belong in " + dir +
                    "/val/<class>/*");
    const auto count = [&](const Dataset& d, const std::string& name) {
        return std::to_string(d.size()) + " " + name +
               (d.left_out ? " (and " + std::to_string(d.left_out) + " unreadable)"
                           : std::string());
    };
    s.description =
        "images in " + dir + ": " + (s.train ? count(*s.train, "training") : std::string()) +
        (s.train && s.held_out ? " and " : "") +
        (s.held_out ? count(*s.held_out, s.held_out_name) : std::string()) + " images, " +
        std::to_string(s.any().classes.size()) + " classes, " +
        (own_size ? "stored at their own size, " : "stored at ") + std::to_string(side) +
        (s.held_out ? "" : "; no " + dir + "/val, so nothing is held out");
    return s;
}

}  // namespace wt
