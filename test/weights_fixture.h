// Files of weights for tests: a small network with owt's layers, and random weights under either
// sort of names.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <fstream>
#include <random>
#include <string>
#include <vector>

#include "host/train/torchvision_names.h"
#include "host/train/weights_file.h"

namespace wt::test {

// Layers as owt has them, at a size for loops; its last pooling leaves 3 x 3, so that the order of
// fc6's inputs matters.
inline NetSpec small_owt(int classes = 6, const std::string& name = "owt") {
    NetBuilder n(name, 63, {.classes = classes});
    n.conv("conv1", 8, 5, {.stride = 2, .pad = 2}).act().pool();
    n.conv("conv2", 12, 3, {.pad = 1}).act().pool();
    n.conv("conv3", 10, 3, {.pad = 1}).act().conv("conv4", 9, 3, {.pad = 1}).act();
    n.conv("conv5", 7, 3, {.pad = 1}).act().pool();
    n.dropout().fc("fc6", 24).act().dropout().fc("fc7", 20).act().fc("fc8", classes);
    return n.done();
}

struct Tensor {
    std::string name;
    std::vector<int64_t> shape;
    std::vector<float> values;
};

// Random weights under the names that `naming` has, of a size that keeps activations near 1.
inline std::vector<Tensor> random_tensors(const NetSpec& net, Naming naming) {
    std::mt19937 rng(5);
    std::vector<Tensor> all;
    for (const Param& p : params_of(net)) {
        std::normal_distribution<float> normal(
            0, p.bias ? 0.1f : std::sqrt(2.f / static_cast<float>(p.row)));
        Tensor t{naming == Naming::own ? p.name : torchvision_name(p.name), p.shape,
                 std::vector<float>(p.count())};
        for (float& v : t.values) v = normal(rng);
        all.push_back(std::move(t));
    }
    return all;
}

inline uint16_t to_bf16(float v) { return static_cast<uint16_t>(std::bit_cast<uint32_t>(v) >> 16); }

// Of values that fp16 holds as normal numbers, cut off.
inline uint16_t to_f16(float v) {
    const uint32_t b = std::bit_cast<uint32_t>(v), sign = b >> 16 & 0x8000;
    const int exponent = static_cast<int>(b >> 23 & 255) - 112;
    return static_cast<uint16_t>(
        exponent <= 0 ? sign : sign | static_cast<uint32_t>(exponent) << 10 | (b >> 13 & 0x3ff));
}
inline float of_f16(uint16_t h) {
    const uint32_t magnitude = h & 0x7fff;
    return std::bit_cast<float>(static_cast<uint32_t>(h & 0x8000) << 16 |
                                (magnitude ? (magnitude << 13) + (112u << 23) : 0));
}

// Writes the tensors as `dtype` and gives them the values that were written.
inline void write_tensors(const std::string& path, std::vector<Tensor>& tensors,
                          const std::string& dtype = "F32") {
    std::string header, data;
    for (Tensor& t : tensors) {
        const size_t begin = data.size();
        for (float& v : t.values) {
            const auto put = [&](auto bits) {
                data.append(reinterpret_cast<const char*>(&bits), sizeof bits);
            };
            if (dtype == "F32")
                put(v);
            else if (dtype == "F64")
                put(double(v));
            else if (dtype == "BF16") {
                put(to_bf16(v));
                v = std::bit_cast<float>(uint32_t(to_bf16(v)) << 16);
            } else {
                put(to_f16(v));
                v = of_f16(to_f16(v));
            }
        }
        std::string shape;
        for (const int64_t e : t.shape) shape += (shape.empty() ? "" : ",") + std::to_string(e);
        header += (header.empty() ? "" : ",") +
                  ("\"" + t.name + "\":{\"dtype\":\"" + dtype + "\",\"shape\":[" + shape +
                   "],\"data_offsets\":[" + std::to_string(begin) + "," +
                   std::to_string(data.size()) + "]}");
    }
    header = "{" + header + "}";
    const uint64_t length = header.size();
    std::ofstream f(path, std::ios::binary);
    f.write(reinterpret_cast<const char*>(&length), 8);
    f << header << data;
}

}  // namespace wt::test
