// Weights in formats that are not read here, recognised so that a user is told how to convert them.
#pragma once

#include <string>

namespace wt {

// One line on what the file is and how to make a safetensors file of it: PyTorch's .pth, NumPy's
// .npz and .npy, Caffe's .caffemodel, HDF5. By its content, or where that says nothing by its name.
// "" for a safetensors file, for one that cannot be read, and for what is not known.
std::string how_to_convert(const std::string& path);

}  // namespace wt
