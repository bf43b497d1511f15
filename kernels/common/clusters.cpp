#include "kernels/common/clusters.h"

#include <algorithm>
#include <map>
#include <mutex>
#include <tuple>

#include "kernels/common/machine.h"

namespace wt {

namespace {

// What the device answers; -1: nothing.
int ask_device(LaunchShape shape, const void* kernel) {
    shape.grid = dim3(shape.cluster);
    shape.pdl = false;
    const LaunchConfig config(shape, kernel);  // allows the kernel its shared memory first
    int clusters = 0;
    if (cudaOccupancyMaxActiveClusters(&clusters, kernel, config.get()) == cudaSuccess)
        return clusters;
    cudaGetLastError();  // planning needs no answer; a launch that cannot be says why
    return -1;
}

}  // namespace

int clusters_at_once(LaunchShape shape, const void* kernel) {
    const int most = planned_sms() / static_cast<int>(shape.cluster);
    if (shape.cluster == 1 || most == 0) return most;
    int device = 0;
    if (cudaGetDevice(&device) != cudaSuccess) return most;
    static std::mutex mutex;
    static std::map<std::tuple<int, const void*, unsigned, size_t>, int> known;
    const std::lock_guard lock(mutex);
    const auto [at, fresh] = known.try_emplace({device, kernel, shape.cluster, shape.shared}, -1);
    if (fresh) at->second = ask_device(shape, kernel);
    return at->second < 0 ? most : std::min(at->second, most);
}

}  // namespace wt
