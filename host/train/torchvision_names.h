// What torchvision's AlexNet calls the parameters of net owt, which is the same network:
// "features.0.weight" is conv1's. Its tensors have the order that our files have (OIHW; the first
// fully connected layer's inputs by C, H, W), so that names are all that differs.
#pragma once

#include <array>
#include <string>

namespace wt {

// The network whose names these are.
inline constexpr const char* kTorchvisionNet = "owt";

// What torchvision's weights expect to be subtracted and divided by, R, G, B, in 0..255 units (its
// own transforms have them for 0..1: 0.485, 0.456, 0.406 and 0.229, 0.224, 0.225).
inline constexpr std::array<float, 3> kTorchvisionMean = {123.675f, 116.28f, 103.53f};
inline constexpr std::array<float, 3> kTorchvisionStd = {58.395f, 57.12f, 57.375f};

// "features.3.bias" for "conv2.bias"; "" for what owt does not have.
std::string torchvision_name(const std::string& param);

}  // namespace wt
