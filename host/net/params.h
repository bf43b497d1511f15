// A network's parameters: names, shapes, shards, first values, and the order of elements in files.
//
// In memory filters are KRSC and the first fully connected layer's inputs follow the NHWC flatten;
// in files filters are OIHW and those inputs follow (C, H, W), as PyTorch has them.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "host/net/spec.h"

namespace wt {

struct Param {
    std::string name;  // "conv1.weight", "fc8.bias"
    int layer = 0;     // index in NetSpec::layers
    bool bias = false;
    bool sharded = false;        // by rows: a fully connected layer's output units
    int64_t rows = 0, row = 0;   // filters or units, and elements of each (1 for a bias)
    std::vector<int64_t> shape;  // in files: OIHW, {units, inputs}, {units}
    int64_t count() const { return rows * row; }
};

// Weight, bias of each conv and fc layer, in the network's order.
std::vector<Param> params_of(const NetSpec& net);

// Rows of rank's shard: [first, first + count). Contiguous, as even as can be; where there are
// many, in multiples of 8 (but for the last), so that its rows and columns start at 16 bytes.
struct Shard {
    int64_t first = 0, count = 0;
};
Shard shard_of(int64_t rows, int rank, int workers);

// Elements reordered from memory to file order and back; whole parameters (all rows).
std::vector<float> to_file_order(const NetSpec& net, const Param& p,
                                 const std::vector<float>& memory);
std::vector<float> from_file_order(const NetSpec& net, const Param& p,
                                   const std::vector<float>& file);

enum class Init { paper, he };

// First values of rows [first, first + count) of a parameter, in memory order. A pure function of
// (seed, parameter, element), so shards of any size agree.
//   paper  weights N(0, 0.01), biases 1 where the network says so, else 0
//   he     weights N(0, sqrt(2 / inputs)), the last layer N(0, 0.01), biases 0
std::vector<float> initial_values(const NetSpec& net, const Param& p, Shard rows, Init init,
                                  uint64_t seed);

}  // namespace wt
