#include "data/pack_source.h"

#include <unistd.h>

#include <algorithm>
#include <cctype>
#include <charconv>
#include <filesystem>
#include <cstring>
#include <map>
#include <sstream>

#include "data/ilsvrc_devkit.h"
#include "data/image.h"
#include "data/tar_index.h"
#include "host/cuda/check.h"
#include "host/cuda/regular_file.h"

namespace wt {
namespace {

namespace fs = std::filesystem;

constexpr const char *kTrainTar = "ILSVRC2012_img_train.tar", *kValTar = "ILSVRC2012_img_val.tar",
                     *kDevkit = "ILSVRC2012_devkit_t12.tar.gz";

struct Listing {
    std::vector<std::string> folders, images;  // sorted names
    int64_t others = 0;
};

Listing list(const fs::path& dir) {
    Listing l;
    try {
        for (const fs::directory_entry& e : fs::directory_iterator(dir)) {
            const std::string name = e.path().filename().string();
            if (name[0] == '.') continue;
            if (e.is_directory())
                l.folders.push_back(name);
            else if (is_image_name(name))
                l.images.push_back(name);
            else
                ++l.others;
        }
    } catch (const fs::filesystem_error& e) {
        throw Error("cannot read the folder " + dir.string() + ": " + e.code().message());
    }
    std::sort(l.folders.begin(), l.folders.end());
    std::sort(l.images.begin(), l.images.end());
    return l;
}

uint64_t size_of_file(const fs::path& path) {
    std::error_code wrong;
    const auto size = fs::file_size(path, wrong);
    return wrong ? 0 : static_cast<uint64_t>(size);  // its reading will say what is wrong
}

std::vector<std::string> lines_of(const std::string& path, const char* flag) {
    std::istringstream in(read_whole(path, std::string(", given by ") + flag));
    std::vector<std::string> lines;
    for (std::string line; std::getline(in, line);) {
        while (!line.empty() && (line.back() == '\r' || line.back() == ' ')) line.pop_back();
        if (!line.empty()) lines.push_back(line);
    }
    return lines;
}

class Lister {
public:
    explicit Lister(const PackRequest& request) : request_(request), root_(request.folder) {
        source_.root = request.folder;
    }

    PackSource run() {
        if (!fs::is_directory(root_)) throw Error(request_.folder + ": no such folder");
        const Listing top = list(root_);
        if (fs::exists(root_ / kTrainTar)) {
            list_archives();
        } else if (has(top.folders, "train")) {
            list_folder_split("train", root_ / "train", nullptr);
            for (const char* name : {"val", "test"})
                if (has(top.folders, name)) {
                    list_held_out(name);
                    break;
                }
        } else if (!top.folders.empty()) {
            list_folder_split("train", root_, nullptr);
        } else {
            throw Error(request_.folder + " has neither train/, nor class folders, nor " +
                        kTrainTar);
        }
        read_names();
        return std::move(source_);
    }

private:
    static bool has(const std::vector<std::string>& sorted, const std::string& name) {
        return std::binary_search(sorted.begin(), sorted.end(), name);
    }

    int32_t label_of(const std::string& name, const std::string& where) const {
        const auto at = std::lower_bound(source_.classes.begin(), source_.classes.end(), name);
        if (at == source_.classes.end() || *at != name)
            throw Error(where + ": the class " + name + " is not among the training images'");
        return static_cast<int32_t>(at - source_.classes.begin());
    }

    // `known`: the classes are those of the training split, else they are found here.
    void list_folder_split(const std::string& split, const fs::path& dir,
                           const std::vector<std::string>* known) {
        const Listing classes = list(dir);
        if (classes.folders.empty())
            throw Error(dir.string() + " has no class folders; images belong in " + dir.string() +
                        "/CLASS/*.jpg, .jpeg or .png");
        if (!known) source_.classes = classes.folders;
        PackSplit s{.name = split, .items = {}};
        int64_t others = classes.others + static_cast<int64_t>(classes.images.size());
        const std::string prefix = fs::relative(dir, root_).string();
        for (const std::string& name : classes.folders) {
            const int32_t label = label_of(name, dir.string());
            const Listing files = list(dir / name);
            others += files.others + static_cast<int64_t>(files.folders.size());
            if (files.images.empty())
                source_.notices.push_back((dir / name).string() + ": no .jpg, .jpeg or .png");
            for (const std::string& file : files.images)
                s.items.push_back({.name = (prefix == "." ? "" : prefix + "/") + name + "/" + file,
                                   .label = label,
                                   .size = size_of_file(dir / name / file)});
        }
        if (others)
            source_.notices.push_back(std::to_string(others) + " entries of " + dir.string() +
                                      " that are no images of a class, passed over");
        if (s.items.empty()) throw Error(dir.string() + " has no images");
        source_.splits.push_back(std::move(s));
    }

    void list_held_out(const std::string& name) {
        const Listing l = list(root_ / name);
        if (!l.folders.empty()) return list_folder_split(name, root_ / name, &source_.classes);
        if (l.images.empty()) throw Error((root_ / name).string() + " has no images");
        if (request_.val_labels.empty())
            throw Error(
                (root_ / name).string() +
                " has images but no class folders: give --val-labels FILE, a line an image");
        PackSplit s{.name = name, .items = {}};
        for (const std::string& file : l.images)
            s.items.push_back(
                {.name = name + "/" + file, .size = size_of_file(root_ / name / file)});
        label_by_file(s);
        source_.splits.push_back(std::move(s));
    }

    // A class's name, or its place in sorted order.
    int32_t label_of_text(const std::string& text, const std::string& line) const {
        const std::string& path = request_.val_labels;
        if (std::binary_search(source_.classes.begin(), source_.classes.end(), text))
            return label_of(text, path);
        int32_t number = 0;
        const auto r = std::from_chars(text.data(), text.data() + text.size(), number);
        if (r.ec != std::errc() || r.ptr != text.data() + text.size())
            throw Error(path + ": '" + line + "': the class " + text +
                        " is not among the training images'");
        if (number < 0 || number >= static_cast<int32_t>(source_.classes.size()))
            throw Error(path + ": '" + line + "': a class's number must be 0 to " +
                        std::to_string(source_.classes.size() - 1) +
                        ", its place among the sorted names");
        return number;
    }

    void label_by_file(PackSplit& s) const {
        const std::string& path = request_.val_labels;
        std::map<std::string, int32_t> by_file;
        std::vector<int32_t> in_order;
        for (const std::string& line : lines_of(path, "--val-labels")) {
            std::string words = line;
            std::replace(words.begin(), words.end(), ',', ' ');
            std::replace(words.begin(), words.end(), '\t', ' ');
            std::istringstream in(words);
            std::string first, second;
            in >> first >> second;
            if (first == "ImageId") continue;  // Kaggle's heading
            if (second.empty()) {
                if (!std::binary_search(source_.classes.begin(), source_.classes.end(), first))
                    throw Error(path + ": '" + line +
                                "': lines of one word must be classes' names; numbers of "
                                "ILSVRC's ground truth mean nothing without " +
                                kDevkit);
                in_order.push_back(label_of(first, path));
            } else {
                by_file[fs::path(first).stem().string()] = label_of_text(second, line);
            }
        }
        if (!in_order.empty() && !by_file.empty())
            throw Error(path + ": some lines have one word and some have two");
        if (!in_order.empty() && in_order.size() != s.items.size())
            throw Error(path + " has " + std::to_string(in_order.size()) + " lines, and " + s.name +
                        "/ " + std::to_string(s.items.size()) + " images");
        for (size_t i = 0; i < s.items.size(); ++i) {
            if (!in_order.empty()) {
                s.items[i].label = in_order[i];
                continue;
            }
            const auto at = by_file.find(fs::path(s.items[i].name).stem().string());
            if (at == by_file.end()) throw Error(path + " says nothing of " + s.items[i].name);
            s.items[i].label = at->second;
        }
    }

    // Indexes an archive, which it adds to the source's.
    std::vector<TarMember> open_archive(const std::string& name, int32_t& number) {
        const std::string path = (root_ / name).string();
        const RegularFile file(path);
        if (!file.wrong().empty()) throw Error("cannot read " + path + ": " + file.wrong());
        number = static_cast<int32_t>(source_.archives.size());
        source_.archives.push_back(path);
        return index_tar(path, static_cast<uint64_t>(file.size()), reader_of(file.fd(), 0));
    }
    static ReadAt reader_of(int fd, uint64_t begin) {
        return [=](uint64_t offset, void* out, size_t n) {
            return ::pread(fd, out, n, static_cast<off_t>(begin + offset)) ==
                   static_cast<ssize_t>(n);
        };
    }

    void list_archives() {
        int32_t archive = 0;
        std::vector<TarMember> classes = open_archive(kTrainTar, archive);
        std::sort(classes.begin(), classes.end(),
                  [](const TarMember& a, const TarMember& b) { return a.name < b.name; });
        const std::string path = source_.archives[static_cast<size_t>(archive)];
        for (const TarMember& m : classes) {
            if (!m.name.ends_with(".tar"))
                throw Error(path + " has " + m.name + ": it should have an archive for each class");
            source_.classes.push_back(fs::path(m.name).stem().string());
        }
        std::sort(source_.classes.begin(), source_.classes.end());
        PackSplit train{.name = "train", .items = {}};
        const RegularFile file(path);
        for (const TarMember& m : classes) {
            const std::string name = fs::path(m.name).stem().string();
            const int32_t label = label_of(name, path);
            auto images = index_tar(path + ": " + m.name, m.size, reader_of(file.fd(), m.offset));
            for (TarMember& image : images) image.offset += m.offset;
            add(train, images, "train/" + name + "/", label, archive);
        }
        source_.splits.push_back(std::move(train));
        if (fs::exists(root_ / kValTar)) list_val_archive();
    }

    void list_val_archive() {
        if (!fs::exists(root_ / kDevkit))
            throw Error((root_ / kDevkit).string() + " is missing: it has the classes of " +
                        kValTar + "'s images");
        const IlsvrcDevkit kit = read_ilsvrc_devkit((root_ / kDevkit).string());
        int32_t archive = 0;
        PackSplit val{.name = "val", .items = {}};
        const std::vector<TarMember> images = open_archive(kValTar, archive);
        add(val, images, "val/", 0, archive);
        if (val.items.size() != kit.validation.size())
            throw Error((root_ / kValTar).string() + " has " + std::to_string(val.items.size()) +
                        " images, and the development kit the classes of " +
                        std::to_string(kit.validation.size()));
        std::map<int, int32_t> label;
        source_.readable.resize(source_.classes.size());
        for (const auto& s : kit.synsets) {
            if (!std::binary_search(source_.classes.begin(), source_.classes.end(), s.wnid))
                continue;
            label[s.id] = label_of(s.wnid, kDevkit);
            source_.readable[static_cast<size_t>(label[s.id])] = s.words;
        }
        for (size_t i = 0; i < val.items.size(); ++i) {
            const auto at = label.find(kit.validation[i]);
            if (at == label.end())
                throw Error((root_ / kDevkit).string() + ": " + val.items[i].name +
                            " is of a class that " + kTrainTar + " lacks");
            val.items[i].label = at->second;
        }
        source_.splits.push_back(std::move(val));
    }

    // Members that are images, by name.
    void add(PackSplit& split, std::vector<TarMember> members, const std::string& prefix,
             int32_t label, int32_t archive) {
        std::sort(members.begin(), members.end(),
                  [](const TarMember& a, const TarMember& b) { return a.name < b.name; });
        for (const TarMember& m : members)
            if (is_image_name(m.name))
                split.items.push_back({.name = prefix + m.name,
                                       .label = label,
                                       .archive = archive,
                                       .offset = m.offset,
                                       .size = m.size});
    }

    void read_names() {
        if (request_.names.empty()) return;
        source_.readable.assign(source_.classes.size(), "");
        for (const std::string& line : lines_of(request_.names, "--names")) {
            const size_t end = line.find_first_of(" \t,");
            const std::string name = line.substr(0, end);
            if (!std::binary_search(source_.classes.begin(), source_.classes.end(), name)) continue;
            const size_t text = end == line.npos ? end : line.find_first_not_of(" \t,", end);
            if (text != line.npos)
                source_.readable[static_cast<size_t>(label_of(name, request_.names))] =
                    line.substr(text);
        }
        for (size_t c = 0; c < source_.classes.size(); ++c)
            if (source_.readable[c].empty())
                throw Error("--names " + request_.names + " has no name for the class " +
                            source_.classes[c] + ": lines are CLASS NAME");
    }

    const PackRequest& request_;
    fs::path root_;
    PackSource source_;
};

}  // namespace

std::string PackSource::read(const PackItem& item, std::vector<uint8_t>& bytes) const {
    if (item.archive < 0) return read_file((fs::path(root) / item.name).string(), bytes);
    const RegularFile file(archives[static_cast<size_t>(item.archive)]);
    if (!file.wrong().empty()) return file.wrong();
    if (item.size > (uint64_t(1) << 30)) return "larger than 1 GiB";
    bytes.resize(item.size);
    for (size_t have = 0; have < bytes.size();) {
        const ssize_t got = ::pread(file.fd(), &bytes[have], bytes.size() - have,
                                    static_cast<off_t>(item.offset + have));
        if (got < 0 && errno == EINTR) continue;
        if (got <= 0) return got < 0 ? std::strerror(errno) : "the archive is cut off";
        have += static_cast<size_t>(got);
    }
    return "";
}

PackSource list_pack_source(const PackRequest& request) { return Lister(request).run(); }

}  // namespace wt
