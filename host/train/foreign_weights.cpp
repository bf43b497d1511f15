#include "host/train/foreign_weights.h"

#include <algorithm>
#include <cctype>
#include <string_view>

#include "host/cuda/regular_file.h"

namespace wt {

namespace {

enum class Format { unknown, safetensors, pytorch, npz, npy, caffe, hdf5 };

unsigned char byte_at(std::string_view head, size_t at) {
    return static_cast<unsigned char>(head[at]);
}

// The name of a zip archive's first file.
std::string_view first_in_zip(std::string_view head) {
    if (!head.starts_with(std::string_view("PK\3\4", 4)) || head.size() < 30) return {};
    const size_t length = byte_at(head, 26) | byte_at(head, 27) << 8;
    return head.substr(30, length);
}

// A NetParameter that begins with its name (field 1) and goes on with a layer: field 2 in files of
// old, 100 in later ones.
bool is_caffe(std::string_view head) {
    if (head.size() < 4 || head[0] != '\n') return false;
    const size_t length = byte_at(head, 1), next = 2 + length;
    if (length == 0 || length >= 128 || head.size() < next + 2) return false;
    const std::string_view name = head.substr(2, length);
    if (!std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isprint(c); }))
        return false;
    return head[next] == '\x12' || head.substr(next, 2) == "\xa2\x06";
}

Format by_content(std::string_view head) {
    if (head.size() > 8 && head[8] == '{') return Format::safetensors;
    const std::string_view first = first_in_zip(head);
    if (first.ends_with(".npy")) return Format::npz;
    if (first.ends_with("/data.pkl")) return Format::pytorch;
    if (head.size() > 2 && head[0] == '\x80' && head[1] >= 2 && head[1] <= 5)
        return Format::pytorch;  // a pickle
    if (head.starts_with("\x93NUMPY")) return Format::npy;
    if (head.starts_with("\x89HDF\r\n")) return Format::hdf5;
    return is_caffe(head) ? Format::caffe : Format::unknown;
}

Format by_name(const std::string& path) {
    const auto ends = [&](const char* end) { return path.ends_with(end); };
    if (ends(".pth") || ends(".pt") || ends(".ckpt")) return Format::pytorch;
    if (ends(".npz")) return Format::npz;
    if (ends(".npy")) return Format::npy;
    if (ends(".caffemodel")) return Format::caffe;
    if (ends(".h5") || ends(".hdf5")) return Format::hdf5;
    return Format::unknown;
}

// "weights.safetensors" of "weights.pth".
std::string converted(const std::string& path) {
    const size_t dot = path.rfind('.'), slash = path.rfind('/');
    const bool has_end = dot != std::string::npos && (slash == std::string::npos || dot > slash);
    return (has_end ? path.substr(0, dot) : path) + ".safetensors";
}

// As text in a Python program that stands between single quotes of a shell.
std::string quoted(const std::string& path) {
    std::string s = "\"";
    for (const char c : path)
        s += c == '"' || c == '\\' ? std::string("\\") + c
             : c == '\''           ? "'\\''"
                                   : std::string(1, c);
    return s + "\"";
}

}  // namespace

std::string how_to_convert(const std::string& path) {
    RegularFile file(path);
    if (!file.wrong().empty()) return {};
    std::string head(512, '\0');
    head.resize(file.read(head.data(), head.size()));
    Format format = by_content(head);
    if (format == Format::unknown) format = by_name(path);
    const std::string from = quoted(path), to = quoted(converted(path));
    const std::string needed = path + " is %, and weights are read from safetensors files: ";
    const auto told = [&](const char* what, const std::string& how) {
        std::string s = needed + how;
        return s.replace(s.find('%'), 1, what);
    };
    const std::string page = "host/train/README.md, Weights from elsewhere";
    switch (format) {
        case Format::pytorch:
            return told(
                "a file of PyTorch",
                "python3 -c 'import torch, safetensors.torch as s; s.save_file(torch.load(" + from +
                    ", weights_only=True), " + to + ")' makes one of a state dict (" + page + ")");
        case Format::npz:
            return told(
                "a file of NumPy",
                "python3 -c 'import numpy, safetensors.numpy as s; s.save_file(dict(numpy.load(" +
                    from + ")), " + to + ")' makes one, if its arrays have the names (" + page +
                    ")");
        case Format::npy:
            return told("one array of NumPy", "they need a name for each tensor (" + page + ")");
        case Format::caffe: return told("a file of Caffe", "a script that makes one is in " + page);
        case Format::hdf5:
            return told("an HDF5 file", "names and layouts that they need are in " + page);
        case Format::safetensors:
        case Format::unknown: break;
    }
    return {};
}

}  // namespace wt
