// The first weights of a run: made, or read from a file and made where the file has none.
#pragma once

#include <string>
#include <vector>

#include "host/parallel/group.h"
#include "host/train/weights_file.h"

namespace wt {

struct InitWeights {
    Init init = Init::he;  // of what is made
    uint64_t seed = 1;
    std::vector<std::string> except;  // --init-except: layers that are made all the same
    // Whether a last layer of another number of classes is made; otherwise Error says that the file
    // has so many classes and the data so many.
    bool new_classes = false;
};

// Without a file: all is made, on every worker by itself.
void make_weights(Group& group, const NetSpec& net, const InitWeights& how);

// Every tensor of the file is checked before the first one is read. In a job rank 0 has the file
// (elsewhere it is null) and gives to all. Returns what was done, for the user: "conv1 to fc7 from
// FILE (torchvision's names); fc8 anew (he): FILE has 1000 classes, the data 5"; "" on the other
// ranks. Throws Error (weights_file.h).
std::string read_weights(const SafetensorsFile* file, Group& group, const NetSpec& net,
                         const InitWeights& how);

}  // namespace wt
