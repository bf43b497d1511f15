#include "host/vgpu/runtime/faults.h"

#include <cstdio>
#include <cstdlib>
#include <map>
#include <sstream>
#include <vector>

#include "host/vgpu/runtime/arena.h"
#include "host/vgpu/runtime/limits.h"

namespace vgpu {
namespace {

const char* setting(const char* name) {
    const char* s = std::getenv(name);
    return s && *s ? s : nullptr;
}

PeerFault read_peer_fault() {
    const char* s = setting("VGPU_PEER_FAULT");
    if (!s) return {};
    char kind[8] = "", rest = 0;
    PeerFault f;
    const bool whole = std::sscanf(s, "%5[a-z]:%d-%d%c", kind, &f.from, &f.to, &rest) == 3;
    f.kind = std::string(kind) == "hang"    ? PeerFault::Kind::hang
             : std::string(kind) == "wrong" ? PeerFault::Kind::wrong
                                            : PeerFault::Kind::none;
    if (whole && f.kind != PeerFault::Kind::none) return f;
    std::fprintf(stderr,
                 "vgpu: VGPU_PEER_FAULT=%s: must be hang:FROM-TO or wrong:FROM-TO, two devices; "
                 "there is no fault now\n",
                 s);
    return {};
}

// 90 of "9.0"; 0 where it is none.
int parse_capability(const std::string& text) {
    int major = 0, minor = 0;
    char rest = 0;
    const bool whole = std::sscanf(text.c_str(), "%d.%d%c", &major, &minor, &rest) == 2;
    return whole && major > 0 && major < 100 && minor >= 0 && minor < 10 ? major * 10 + minor : 0;
}

std::vector<int> read_capabilities() {
    const char* s = setting("VGPU_CAPABILITY");
    std::vector<int> all;
    std::stringstream parts(s ? s : "9.0");
    for (std::string part; std::getline(parts, part, ',');) all.push_back(parse_capability(part));
    for (const int c : all)
        if (!c) {
            std::fprintf(stderr,
                         "vgpu: VGPU_CAPABILITY=%s: must be a compute capability such as 9.0, or "
                         "one for each device (9.0,7.5); it is 9.0 now\n",
                         s);
            return {90};
        }
    return all;
}

// Sizes of clusters, and how many of each run at once.
std::map<int, int> read_clusters() {
    const char* s = setting("VGPU_CLUSTERS");
    std::map<int, int> counts;
    std::stringstream parts(s ? s : "");
    for (std::string part; std::getline(parts, part, ',');) {
        int size = 0, count = 0;
        char rest = 0;
        if (std::sscanf(part.c_str(), "%d:%d%c", &size, &count, &rest) != 2 || size < 1 ||
            size > int(kClusterBlocksNonPortable) || count < 0) {
            std::fprintf(stderr,
                         "vgpu: VGPU_CLUSTERS=%s: must be sizes of 1 to 16 blocks and how many "
                         "clusters of them run at once (4:31,8:14); it is an H100's now\n",
                         s);
            return {};
        }
        counts[size] = count;
    }
    return counts;
}

}  // namespace

const PeerFault& peer_fault() {
    static const PeerFault fault = read_peer_fault();
    return fault;
}

int compute_capability(int device) {
    static const std::vector<int> all = read_capabilities();
    return device < static_cast<int>(all.size()) ? all[device] : all.back();
}

const std::string& built_architectures() {
    static const std::string all = setting("VGPU_ARCHS") ? setting("VGPU_ARCHS") : "80 90";
    return all;
}

DeviceCode code_for(int capability, const std::string& architectures) {
    DeviceCode best;
    int last = 0;
    std::stringstream list(architectures);
    for (int built; list >> built; last = built)
        if (built / 10 == capability / 10 && built <= capability && built > best.architecture)
            best.architecture = built;
    if (!best.architecture && last && last <= capability) best = {last, true};
    return best;
}

int active_clusters(int size, int per_sm) {
    static const std::map<int, int> told = read_clusters();
    if (const auto it = told.find(size); it != told.end()) return it->second;
    constexpr int kParts = (kClusterSms + kPartSms - 1) / kPartSms, kPairs = kClusterSms / 2;
    int clusters = 0;
    for (int part = 0; part < kParts; ++part)
        clusters += 2 * ((kPairs + part) / kParts) * per_sm / size;
    return clusters;
}

DeviceCode code_for(int device) {
    static const std::vector<DeviceCode> all = [] {  // asked at every launch
        std::vector<DeviceCode> codes;
        for (int d = 0; d < kMaxDevices; ++d)
            codes.push_back(code_for(compute_capability(d), built_architectures()));
        return codes;
    }();
    return all[device];
}

}  // namespace vgpu
