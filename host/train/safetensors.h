// Reading and writing safetensors, the format of weights and checkpoints
// (https://github.com/huggingface/safetensors): 8 bytes little-endian header length, a JSON header
// {"name": {"dtype", "shape", "data_offsets"}, "__metadata__": {text: text}}, then the tensors'
// bytes, little-endian, row-major, contiguous from offset 0.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "host/cuda/regular_file.h"

namespace wt {

// A tensor to write: `data` holds product(shape) floats (1 for an empty shape). Not owned.
struct NamedTensor {
    std::string name;
    std::vector<int64_t> shape;
    const float* data;
};

// Writes fp32 tensors in the order given, aside and then renamed (host/train/atomic_file.h): a run
// killed at any moment leaves the old file or the new one. Throws Error "cannot write PATH: No
// space left on device (N bytes needed); the previous checkpoint is kept", or whatever `noun` says.
void write_safetensors(const std::string& path, std::span<const NamedTensor> tensors,
                       const std::map<std::string, std::string>& metadata = {},
                       const std::string& noun = "checkpoint");

// A file opened for reading: its header is checked as a whole on opening, tensors are read on
// demand. Every fault is a wt::Error of one line that names the file and, where there is one, the
// tensor.
class SafetensorsFile {
public:
    // Throws when the file cannot be read, is truncated or has bytes too many, or when its header
    // is not valid: its length, JSON, dtypes, shapes, offsets that do not match them, overlap or
    // leave gaps, names given twice.
    static SafetensorsFile open(const std::string& path);

    const std::string& path() const { return path_; }
    std::vector<std::string> names() const;  // in the order of the file's bytes
    bool has(const std::string& name) const { return tensors_.contains(name); }
    const std::vector<int64_t>& shape(const std::string& name) const;
    const std::string& dtype(const std::string& name) const;  // "F32"
    // Stored as F32, F16 or BF16; other types throw. Of the file that was opened, also where
    // another has been given its name since, as by a run that goes on: all tensors are of one
    // checkpoint.
    std::vector<float> read(const std::string& name) const;
    // The same, and throws unless the shape is this one.
    std::vector<float> read(const std::string& name, std::span<const int64_t> shape) const;
    const std::map<std::string, std::string>& metadata() const { return metadata_; }

private:
    struct Entry {
        std::string dtype;
        std::vector<int64_t> shape;
        uint64_t begin, end;  // from the start of the file
    };
    const Entry& entry(const std::string& name) const;

    std::string path_;
    std::shared_ptr<const RegularFile> file_;
    uint64_t size_ = 0;
    std::map<std::string, Entry> tensors_;
    std::map<std::string, std::string> metadata_;
};

}  // namespace wt
