// What most kernels include, compiled once for each set of flags (see the Makefile): g++ then takes
// 0.2 s for a small kernel instead of 1. Every file includes what it uses all the same; it compiles
// without this one (PCH=).
#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <string>
#include <vector>

#include <cuda_runtime.h>

#include "kernels/common/vec.h"
#include "kernels/launch.h"
#include "kernels/variant.h"
