#include "data/pack.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <mutex>

#include "data/image.h"
#include "data/npy.h"
#include "data/resize.h"
#include "host/cuda/check.h"
#include "host/cuda/regular_file.h"
#include "host/fingerprint.h"
#include "host/json.h"
#include "host/parallel_for.h"

namespace wt {
namespace {

namespace fs = std::filesystem;
using Clock = std::chrono::steady_clock;

constexpr size_t kHeader = 128;   // of images.npy: any number of images fits
constexpr double kSaveEvery = 5;  // seconds of work that a power cut may cost

enum Done : uint64_t { todo = 0, good = 1, unreadable = 2 };

// Of one image: sums over its pixels of R, G, B and of their products RR, GG, BB, RG, RB, GB.
struct Entry {
    uint64_t done = todo, sums[9] = {};
};

struct StateHeader {
    char magic[8] = {'W', 'T', 'P', 'A', 'C', 'K', '1', '\n'};
    uint64_t fingerprint = 0, images = 0, side = 0;
};

uint64_t fingerprint_of(const PackSource& source, int side) {
    Fingerprint f;
    f.add(static_cast<uint64_t>(side));
    f.add(jpeg_decoder());
    for (const std::string& c : source.classes) f.add(c);
    for (const PackSplit& s : source.splits) {
        f.add(s.name);
        for (const PackItem& i : s.items) {
            f.add(i.name);
            f.add(static_cast<uint64_t>(i.label));
            f.add(i.size);
        }
    }
    return f.value();
}

// A file that is written at offsets by several threads.
class OutFile {
public:
    explicit OutFile(const std::string& path) : path_(path) {
        fd_ = ::open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0666);
        if (fd_ < 0) fail("write", errno);
    }
    ~OutFile() { ::close(fd_); }
    OutFile(const OutFile&) = delete;
    OutFile& operator=(const OutFile&) = delete;

    void write(uint64_t offset, const void* bytes, size_t n) {
        for (size_t have = 0; have < n;) {
            const ssize_t put = ::pwrite(fd_, static_cast<const char*>(bytes) + have, n - have,
                                         static_cast<off_t>(offset + have));
            if (put < 0 && errno == EINTR) continue;
            if (put <= 0) fail("write", put < 0 ? errno : ENOSPC);
            have += static_cast<size_t>(put);
        }
    }
    bool read(uint64_t offset, void* bytes, size_t n) const {
        return ::pread(fd_, bytes, n, static_cast<off_t>(offset)) == static_cast<ssize_t>(n);
    }
    uint64_t size() const {
        struct stat info {};
        ::fstat(fd_, &info);
        return static_cast<uint64_t>(info.st_size);
    }
    void resize(uint64_t bytes) {
        if (::ftruncate(fd_, static_cast<off_t>(bytes)) != 0) fail("write", errno);
    }
    void sync() {
        if (::fdatasync(fd_) != 0) fail("write", errno);
    }

private:
    [[noreturn]] void fail(const char* what, int error) const {
        throw Error(std::string("cannot ") + what + " " + path_ + ": " + std::strerror(error));
    }
    std::string path_;
    int fd_ = -1;
};

// A small file: whole under its name, or not there.
void write_whole(const fs::path& path, const std::string& text) {
    const std::string aside = path.string() + ".part";
    {
        OutFile f(aside);
        f.resize(0);
        f.write(0, text.data(), text.size());
        f.sync();
    }
    fs::rename(aside, path);
}

void add_sums(const uint8_t* rgb, size_t pixels, uint64_t (&sums)[9]) {
    for (size_t i = 0; i < pixels; ++i) {
        const uint32_t r = rgb[3 * i], g = rgb[3 * i + 1], b = rgb[3 * i + 2];
        const uint32_t terms[9] = {r, g, b, r * r, g * g, b * b, r * g, r * b, g * b};
        for (int k = 0; k < 9; ++k) sums[k] += terms[k];
    }
}

// One split on its way to OUT/SPLIT.
class SplitPacker {
public:
    SplitPacker(const PackSource& source, const PackSplit& split, const PackOptions& options,
                uint64_t fingerprint)
        : source_(source),
          split_(split),
          side_(options.side),
          threads_(options.threads),
          image_bytes_(size_t(options.side) * options.side * 3),
          folder_(fs::path(options.out) / split.name),
          images_(make(folder_) / "images.npy.part"),
          state_(folder_ / "pack.state") {
        read_state(fingerprint);
    }

    // False when it was stopped.
    bool fill(const std::function<void(const PackProgress&)>& show,
              const std::function<bool()>& stop) {
        std::vector<int64_t> open;
        for (int64_t i = 0; i < images(); ++i)
            if (entries_[static_cast<size_t>(i)].done == todo) open.push_back(i);
        PackProgress p{.split = split_.name,
                       .done = images() - static_cast<int64_t>(open.size()),
                       .images = images()};
        p.before = p.done;
        const auto began = Clock::now();
        auto saved = began;
        std::mutex mutex;
        std::atomic<bool> stopped = false;
        try {
            parallel_for(
                static_cast<int64_t>(open.size()),
                [&](int64_t k) {
                    if (stopped || stop()) {
                        stopped = true;
                        return;
                    }
                    const auto i = static_cast<size_t>(open[static_cast<size_t>(k)]);
                    const Entry e = pack_one(i);
                    std::lock_guard lock(mutex);
                    fresh_.push_back({i, e});
                    ++p.done;
                    const auto now = Clock::now();
                    p.seconds = std::chrono::duration<double>(now - began).count();
                    show(p);
                    if (std::chrono::duration<double>(now - saved).count() > kSaveEvery) {
                        save();
                        saved = now;
                    }
                },
                1, static_cast<unsigned>(threads_));
        } catch (const Error&) {
            save_what_fits();
            throw;
        }
        save();
        return !stopped;
    }

    // Closes the gaps of unreadable images, writes labels, and gives the file its name.
    void finish(std::string& quarantine) {
        std::vector<size_t> gaps;
        int64_t kept = 0;
        for (const Entry& e : entries_) kept += e.done == good;
        order_.resize(static_cast<size_t>(kept));
        size_t last = entries_.size();
        for (size_t i = 0; i < order_.size(); ++i) {
            order_[i] = i;
            if (entries_[i].done == good) continue;
            do --last;
            while (entries_[last].done != good);
            order_[i] = last;
            gaps.push_back(i);
        }
        const uint64_t size = kHeader + image_bytes_ * static_cast<uint64_t>(kept);
        // Shorter already: that was done before the process was killed.
        if (images_.size() > size) {
            std::vector<uint8_t> image(image_bytes_);
            for (const size_t gap : gaps) {
                if (!images_.read(place(order_[gap]), image.data(), image_bytes_))
                    throw Error("cannot read " + (folder_ / "images.npy.part").string());
                images_.write(place(gap), image.data(), image_bytes_);
            }
            images_.sync();
        }
        const std::string header = npy_header("|u1", {kept, side_, side_, 3}, kHeader);
        images_.write(0, header.data(), header.size());
        images_.resize(size);
        images_.sync();

        std::string labels = npy_header("<i8", {kept});
        for (const size_t i : order_) {
            const int64_t label = split_.items[i].label;
            labels.append(reinterpret_cast<const char*>(&label), sizeof label);
        }
        write_whole(folder_ / "labels.npy", labels);
        for (size_t i = 0; i < entries_.size(); ++i)
            if (entries_[i].done == unreadable)
                quarantine += split_.items[i].name + "\t" + reason(i) + "\n";
        fs::rename(folder_ / "images.npy.part", folder_ / "images.npy");
    }
    void forget_state() const { fs::remove(folder_ / "pack.state"); }

    int64_t kept() const { return static_cast<int64_t>(order_.size()); }
    int64_t images() const { return static_cast<int64_t>(split_.items.size()); }
    std::vector<int64_t> per_class() const {
        std::vector<int64_t> n(source_.classes.size());
        for (const size_t i : order_) ++n[static_cast<size_t>(split_.items[i].label)];
        return n;
    }
    void add_to(uint64_t (&sums)[9]) const {
        for (const Entry& e : entries_)
            for (int k = 0; k < 9; ++k) sums[k] += e.sums[k];
    }
    double pixels() const { return static_cast<double>(kept()) * side_ * side_; }

private:
    static fs::path make(const fs::path& folder) {
        std::error_code wrong;
        fs::create_directories(folder, wrong);
        if (wrong) throw Error("cannot make " + folder.string() + ": " + wrong.message());
        // Finished pixels, of a start that was killed before the last file was in place.
        if (fs::exists(folder / "images.npy"))
            fs::rename(folder / "images.npy", folder / "images.npy.part");
        return folder;
    }
    uint64_t place(size_t i) const { return kHeader + image_bytes_ * static_cast<uint64_t>(i); }

    void read_state(uint64_t fingerprint) {
        entries_.resize(split_.items.size());
        StateHeader want, have;
        want.fingerprint = fingerprint;
        want.images = entries_.size();
        want.side = static_cast<uint64_t>(side_);
        const bool there = state_.read(0, &have, sizeof have);
        if (there && std::memcmp(&have, &want, sizeof have) == 0) {
            // What is behind its end was not saved: it is done again.
            const uint64_t bytes =
                std::min<uint64_t>(state_.size() - sizeof have, entries_.size() * sizeof(Entry));
            if (!state_.read(sizeof have, entries_.data(), bytes / sizeof(Entry) * sizeof(Entry)))
                throw Error("cannot read " + (folder_ / "pack.state").string());
            return;
        }
        if (there)
            throw Error(folder_.string() +
                        " holds a beginning of other records (the source or the side has changed "
                        "since): --overwrite begins anew");
        state_.resize(0);
        state_.write(0, &want, sizeof want);
    }

    Entry pack_one(size_t i) {
        std::vector<uint8_t> bytes;
        Image image;
        Entry e;
        std::string wrong = source_.read(split_.items[i], bytes);
        if (wrong.empty()) wrong = decode_image(bytes, image);
        if (!wrong.empty()) {
            e.done = unreadable;
            return e;
        }
        std::vector<uint8_t> out(image_bytes_);
        resize_short_side(image.rgb.data(), image.height, image.width, 3, side_, out.data());
        images_.write(place(i), out.data(), out.size());
        add_sums(out.data(), out.size() / 3, e.sums);
        e.done = good;
        return e;
    }

    std::string reason(size_t i) const {
        std::vector<uint8_t> bytes;
        Image image;
        std::string wrong = source_.read(split_.items[i], bytes);
        if (wrong.empty()) wrong = decode_image(bytes, image);
        return wrong.empty() ? "could not be read while packing" : wrong;
    }

    // Pixels first: what the state says is done is on the disk.
    void save() {
        if (fresh_.empty()) return;
        images_.sync();
        for (const auto& [i, e] : fresh_) {
            state_.write(sizeof(StateHeader) + i * sizeof(Entry), &e, sizeof e);
            entries_[i] = e;
        }
        state_.sync();
        fresh_.clear();
    }
    void save_what_fits() {
        try {
            save();
        } catch (const Error&) {  // the disk is full: those are done again
        }
    }

    const PackSource& source_;
    const PackSplit& split_;
    int side_, threads_;
    size_t image_bytes_;
    fs::path folder_;
    OutFile images_, state_;
    std::vector<Entry> entries_;
    std::vector<std::pair<size_t, Entry>> fresh_;  // done, not saved yet
    std::vector<size_t> order_;                    // which item each place holds in the end
};

std::string lines(const std::vector<std::string>& texts) {
    std::string all;
    for (const std::string& t : texts) all += t + "\n";
    return all;
}

std::string names_text(const PackSource& source) {
    std::string text;
    for (size_t c = 0; c < source.classes.size(); ++c)
        text += source.classes[c] + "\t" + source.readable[c] + "\n";
    return text;
}

std::string stats_text(const PackSource& source, const PackOptions& options, uint64_t fingerprint,
                       const std::vector<std::unique_ptr<SplitPacker>>& splits) {
    Json j;
    j["format"] = "weirdtrick-records-1";
    j["side"] = options.side;
    j["classes"] = source.classes.size();
    j["jpeg_decoder"] = jpeg_decoder();
    j["fingerprint"] = fingerprint;
    for (size_t s = 0; s < splits.size(); ++s) {
        Json& split = j["splits"][source.splits[s].name];
        split["images"] = splits[s]->kept();
        split["unreadable"] = splits[s]->images() - splits[s]->kept();
        split["per_class"] = splits[s]->per_class();
    }
    // Of the first split, which is the training images'.
    uint64_t sums[9] = {};
    splits[0]->add_to(sums);
    const double n = splits[0]->pixels();
    double mean[3], covariance[3][3];
    for (int a = 0; a < 3; ++a) mean[a] = static_cast<double>(sums[a]) / n;
    const int product[3][3] = {{3, 6, 7}, {6, 4, 8}, {7, 8, 5}};
    for (int a = 0; a < 3; ++a)
        for (int b = 0; b < 3; ++b)
            covariance[a][b] = static_cast<double>(sums[product[a][b]]) / n - mean[a] * mean[b];
    j["mean"] = mean;
    j["covariance"] = covariance;
    j["std"] = {std::sqrt(std::max(0.0, covariance[0][0])),
                std::sqrt(std::max(0.0, covariance[1][1])),
                std::sqrt(std::max(0.0, covariance[2][2]))};
    return json_text(j, 2) + "\n";
}

// What a finished stats.json says it is of; 0 where there is none.
uint64_t finished_fingerprint(const fs::path& out) {
    if (!fs::exists(out / "stats.json")) return 0;
    const Json j = try_parse_json(read_whole((out / "stats.json").string()));
    if (!j.is_object() || !j.contains("fingerprint") || !j["fingerprint"].is_number_unsigned())
        return 1;
    return j["fingerprint"].get<uint64_t>();
}

void remove_records(const PackSource& source, const fs::path& out) {
    for (const char* name : {"stats.json", "classes.txt", "names.txt", "unreadable.txt"})
        fs::remove(out / name);
    for (const PackSplit& s : source.splits)
        for (const char* name : {"images.npy", "images.npy.part", "labels.npy", "pack.state"})
            fs::remove(out / s.name / name);
}

}  // namespace

uint64_t pack_bytes(const PackSource& source, int side) {
    uint64_t bytes = 0;
    for (const PackSplit& s : source.splits)
        bytes += kHeader + sizeof(StateHeader) +
                 s.items.size() * (uint64_t(side) * side * 3 + sizeof(Entry) + sizeof(int64_t));
    return bytes;
}

PackResult pack(const PackSource& source, const PackOptions& options,
                const std::function<void(const PackProgress&)>& show,
                const std::function<bool()>& stop) {
    const fs::path out = options.out;
    const uint64_t fingerprint = fingerprint_of(source, options.side);
    if (options.overwrite) remove_records(source, out);
    PackResult result;
    const uint64_t finished = finished_fingerprint(out);
    if (finished == fingerprint) {
        const Json j = parse_json(read_whole((out / "stats.json").string()));
        for (const auto& [name, split] : j["splits"].items()) {
            result.images += split["images"].get<int64_t>();
            result.unreadable += split["unreadable"].get<int64_t>();
        }
        return result;
    }
    if (finished)
        throw Error(options.out +
                    " holds records of something else (another source or side): give another "
                    "folder, or --overwrite");
    std::vector<std::unique_ptr<SplitPacker>> splits;
    std::string quarantine;
    for (const PackSplit& s : source.splits) {
        splits.push_back(std::make_unique<SplitPacker>(source, s, options, fingerprint));
        if (!splits.back()->fill(show, stop)) {
            result.stopped = true;
            return result;
        }
    }
    for (const auto& s : splits) {
        s->finish(quarantine);
        result.images += s->kept();
        result.unreadable += s->images() - s->kept();
        if (s->kept() == 0)
            throw Error("no image of " + source.root +
                        " could be read: " + quarantine.substr(0, quarantine.find('\n')));
    }
    write_whole(out / "classes.txt", lines(source.classes));
    if (!source.readable.empty()) write_whole(out / "names.txt", names_text(source));
    if (!quarantine.empty()) write_whole(out / "unreadable.txt", quarantine);
    write_whole(out / "stats.json", stats_text(source, options, fingerprint, splits));
    for (const auto& s : splits) s->forget_state();
    return result;
}

}  // namespace wt
