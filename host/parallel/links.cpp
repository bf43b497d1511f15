#include "host/parallel/links.h"

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <set>

#include "host/cuda/buffer.h"
#include "host/cuda/stream.h"
#include "host/parallel/watchdog.h"
#include "kernels/probe/pattern.h"

namespace wt {

namespace {

// A device's end of the trials.
struct End {
    int device;
    int64_t words;
    Stream stream;
    Event start, stop;
    DeviceBuffer<uint32_t> source, target;
    DeviceBuffer<int64_t> wrong;

    End(int d, size_t bytes)
        : device(d),
          words(static_cast<int64_t>(bytes / 4)),
          stream(d),
          start(d, true),
          stop(d, true),
          source(d, words, "trial of links"),
          target(d, words, "trial of links"),
          wrong(d, probe::kPatternThreads, "trial of links") {}

    void write(uint32_t* at, uint32_t key) const {
        DeviceGuard guard(device);
        probe::write_pattern(at, words, key, stream.get());
        stream.synchronize();
    }
    // How many words at `at` this device finds wrong.
    int64_t count_wrong(const uint32_t* at, uint32_t key) const {
        DeviceGuard guard(device);
        probe::count_wrong(at, words, key, wrong.data(), stream.get());
        stream.synchronize();
        const auto n = wrong.download();
        return std::accumulate(n.begin(), n.end(), int64_t(0));
    }
    // GB/s of what `work` moves.
    template <class F>
    double rate(F&& work) const {
        DeviceGuard guard(device);
        constexpr int kTimes = 4;
        work();
        start.record(stream.get());
        for (int i = 0; i < kTimes; ++i) work();
        stop.record(stream.get());
        stop.synchronize();
        return kTimes * 4.0 * static_cast<double>(words) /
               std::max(1e-6, stop.since(start) * 1e-3) * 1e-9;
    }
};

// Throws what the device says; returns what is wrong with the data, or nothing.
std::string try_peer_access(const Link& link, const End& from, const End& to,
                            const LinkProbe& probe) {
    const uint32_t key = 0x5EED0000u + static_cast<uint32_t>(link.from * 256 + link.to) * 4;
    const auto judge = [&](const char* way, uint32_t* data, uint32_t k) -> std::string {
        if (probe.tamper) probe.tamper(link, way, data, static_cast<size_t>(to.words) * 4);
        const int64_t n = to.count_wrong(data, k);
        return n ? std::string("after a ") + way + " " + std::to_string(n) + " of " +
                       std::to_string(to.words) + " words are wrong"
                 : "";
    };
    // Whatever lay there before must not pass for what should have come.
    to.write(to.target.data(), ~key);
    from.write(from.source.data(), key);
    if (const std::string why = judge("kernel's read", from.source.data(), key); !why.empty())
        return why;

    from.write(from.source.data(), key + 1);
    {
        DeviceGuard guard(to.device);
        WT_CUDA(cudaMemcpyPeerAsync(to.target.data(), to.device, from.source.data(), from.device,
                                    to.target.bytes(), to.stream.get()));
        to.stream.synchronize();
    }
    if (const std::string why = judge("copy", to.target.data(), key + 1); !why.empty()) return why;

    from.write(to.target.data(), key + 2);  // the peer's kernel, into this one's memory
    return judge("kernel's write", to.target.data(), key + 2);
}

// Either end uses the other's memory: the reader's kernels and the writer's.
bool enable_both(int a, int b) {
    const bool one = enable_peer_access(a, b);
    return enable_peer_access(b, a) && one;
}

// "from GPU 0 to GPU 1", and what helps where peer access hangs.
std::string pair_text(const Link& link) {
    return "from GPU " + std::to_string(link.from) + " to GPU " + std::to_string(link.to);
}
std::string peer_trial(const Link& link) {
    return "peer access " + pair_text(link) +
           " is reported, and hangs when it is tried, usually because of the IOMMU or of PCIe ACS "
           "(turn them off in the BIOS, or boot Linux with iommu=pt): give --peer off, which "
           "exchanges through page-locked host memory";
}

// The process ends: neither the call that hangs nor the thread in it can be got back.
void end_hung(const LinkProbe& probe, const std::string& what) {
    char limit[32];
    std::snprintf(limit, sizeof limit, "%g s: ", probe.limit_s);
    const std::string line = "no answer in " + (limit + what);
    if (probe.hung) probe.hung(line);
    std::fflush(stdout);
    std::fprintf(stderr, "%s: %s\n", program_invocation_short_name, line.c_str());
    std::_Exit(1);
}

std::string pci_address(int device) {
    char text[32] = "";
    WT_CUDA(cudaDeviceGetPCIBusId(text, sizeof text, device));
    return text;
}

}  // namespace

std::string Link::text() const {
    std::string how = "through page-locked host memory";
    if (state == State::peer) how = "peer access";
    if (state == State::none) how = "no peer access, " + how;
    if (state == State::broken) how = "peer access is reported but BROKEN (" + fault + "); " + how;
    char rate[48];
    std::snprintf(rate, sizeof rate, ", %.3g GB/s", gb_per_s);
    return "link " + std::to_string(from) + " -> " + std::to_string(to) + ": " + how + rate;
}

std::string Links::text() const {
    std::string s;
    std::set<int> devices;
    for (const Link& l : links) devices.insert(l.from);
    for (const int d : devices)
        s += "GPU " + std::to_string(d) + ": " + device_name(d) + " at " + pci_address(d) + "\n";
    for (const Link& l : links) s += l.text() + "\n";
    return s;
}

std::string Links::notice() const {
    if (direct) return {};
    const auto first = std::find_if(links.begin(), links.end(),
                                    [](const Link& l) { return l.state != Link::State::peer; });
    if (first->state == Link::State::not_asked)
        return "notice: --peer off: peer access is not asked for, workers exchange through "
               "page-locked host memory";
    return std::string("notice: ") +
           (first->state == Link::State::broken ? "peer access from GPU "
                                                : "no peer access from GPU ") +
           std::to_string(first->from) + " to GPU " + std::to_string(first->to) +
           (first->state == Link::State::broken ? " does not work" : "") +
           ": workers exchange through page-locked host memory, which is slower";
}

Links probe_links(const std::vector<int>& devices, const LinkProbe& probe) {
    Links all;
    std::vector<int> distinct;
    for (const int d : devices)
        if (std::find(distinct.begin(), distinct.end(), d) == distinct.end()) distinct.push_back(d);
    if (distinct.size() < 2) return all;
#ifdef VGPU
    constexpr size_t kBytes = size_t(1) << 20;
#else
    constexpr size_t kBytes = size_t(32) << 20;
#endif
    Watchdog watchdog(probe.limit_s, [&](const std::string& what) { end_hung(probe, what); });
    std::vector<End> ends;
    for (const int d : distinct) ends.emplace_back(d, probe.bytes ? probe.bytes : kBytes);
    PinnedBuffer<uint32_t> between(ends[0].source.size());
    for (const End& from : ends)
        for (const End& to : ends) {
            if (&from == &to) continue;
            Link l;
            l.from = from.device, l.to = to.device;
            watchdog.expect(peer_trial(l));
            if (!probe.peer) {
                l.state = Link::State::not_asked;
            } else if (enable_both(l.from, l.to)) {
                try {
                    l.fault = try_peer_access(l, from, to, probe);
                } catch (const Error& e) {
                    l.fault = e.what();
                }
                l.state = l.fault.empty() ? Link::State::peer : Link::State::broken;
            }
            if (l.state != Link::State::peer)
                watchdog.expect("copies " + pair_text(l) +
                                " through page-locked host memory hang: look for errors of the "
                                "driver with dmesg");
            if (l.state == Link::State::peer)
                l.gb_per_s = to.rate([&] {
                    WT_CUDA(cudaMemcpyPeerAsync(to.target.data(), to.device, from.source.data(),
                                                from.device, to.target.bytes(), to.stream.get()));
                });
            else
                l.gb_per_s = to.rate([&] {  // the host is in the way: one half after the other
                    DeviceGuard guard(from.device);
                    WT_CUDA(cudaMemcpyAsync(between.data(), from.source.data(), between.bytes(),
                                            cudaMemcpyDeviceToHost, from.stream.get()));
                    from.stream.synchronize();
                    WT_CUDA(cudaSetDevice(to.device));
                    WT_CUDA(cudaMemcpyAsync(to.target.data(), between.data(), between.bytes(),
                                            cudaMemcpyHostToDevice, to.stream.get()));
                    to.stream.synchronize();
                });
            all.direct = all.direct && l.state == Link::State::peer;
            all.links.push_back(l);
        }
    return all;
}

}  // namespace wt
