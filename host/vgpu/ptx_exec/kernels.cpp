#include "host/vgpu/ptx_exec/kernels.h"

#include <atomic>
#include <cstdio>
#include <deque>
#include <unordered_map>
#include <vector>

#include "host/vgpu/exec/core.h"
#include "host/vgpu/ptx_exec/counted.h"
#include "host/vgpu/ptx_exec/run.h"

namespace vgpu::ptx_exec {
namespace {

// By name. Filled by static constructors of other files, so made at its first use.
std::unordered_map<std::string, const Kernel*>& by_name() {
    static auto* all = new std::unordered_map<std::string, const Kernel*>;
    return *all;
}

std::unordered_map<std::string, const CountedKernel*>& counted_by_name() {
    static auto* all = new std::unordered_map<std::string, const CountedKernel*>;
    return *all;
}
std::atomic<bool> counting_now{false};

std::string in_hex(uint64_t v) {
    char s[24];
    std::snprintf(s, sizeof s, "0x%llx", static_cast<unsigned long long>(v));
    return s;
}

Found match(const void* host_function, const Signature& host) {
    Found found;
    const Kernel* kernel = nullptr;
    for (const std::string& name : mangled_names(host_function))
        if (const auto it = by_name().find(name); it != by_name().end()) kernel = it->second;
    const std::string name = symbol_name(host_function);
    if (!kernel) {
        found.why = name + ": no PTX of this kernel is in this program (make PTX=1)";
        return found;
    }
    const Signature& ptx = kernel->signature;
    bool same = ptx.count == host.count;
    for (uint32_t i = 0; same && i < ptx.count; ++i)
        same = ptx.parameters[i].size == host.parameters[i].size;
    if (!same) {
        found.why = name + ": its parameters in " + kernel->file + ':' +
                    std::to_string(kernel->line) + " have other sizes than on the host";
        return found;
    }
    // Which are pointers only the host's types tell.
    static auto* parameters = new std::deque<std::vector<Parameter>>;
    static auto* signatures = new std::deque<Signature>;
    parameters->emplace_back(ptx.parameters, ptx.parameters + ptx.count + 1);
    for (uint32_t i = 0; i < ptx.count; ++i)
        parameters->back()[i].pointer = host.parameters[i].pointer;
    signatures->push_back(ptx);
    signatures->back().parameters = parameters->back().data();
    found.signature = &signatures->back();
    if (const CountedKernel* counts = counted_kernel(kernel->name)) {
        signatures->push_back(*found.signature);
        signatures->back().loop = counts->loop;
        found.counting = &signatures->back();
    }
    found.bound = kernel->bound;
    return found;
}

}  // namespace

void add(const Kernel* kernels, size_t count) {
    // A template's instance may be in the PTX of several files: all say the same.
    for (size_t i = 0; i < count; ++i) by_name().try_emplace(kernels[i].name, kernels + i);
}

void add_counted(const CountedKernel* const* kernels, size_t count) {
    for (size_t i = 0; i < count; ++i) counted_by_name().try_emplace(kernels[i]->name, kernels[i]);
}

const CountedKernel* counted_kernel(const std::string& mangled_name) {
    const auto it = counted_by_name().find(mangled_name);
    return it == counted_by_name().end() ? nullptr : it->second;
}

bool can_count() { return !counted_by_name().empty(); }
bool counting() { return counting_now.load(std::memory_order_relaxed); }
void set_counting(bool on) { counting_now = on; }

bool present() { return !by_name().empty(); }

Found find(const void* kernel, const Signature& host) {
    static auto* known = new std::unordered_map<const void*, Found>;
    auto it = known->find(kernel);
    if (it == known->end()) it = known->emplace(kernel, match(kernel, host)).first;
    return it->second;
}

Shared::Shared()
    : base(reinterpret_cast<uint64_t>(context.shared)),
      bytes(static_cast<uint32_t>(context.core->grid->shared)) {}

uint64_t Shared::offset(uint64_t generic, Site site) const {
    if (generic < base || generic - base > bytes) outside_shared(generic - base, 0, site);
    return generic - base;
}

void misaligned(uint64_t address, unsigned bytes, Site site) {
    note_failure(*context.core, cudaErrorMisalignedAddress,
                 "misaligned access at " + describe_site(site) + ": " + std::to_string(bytes) +
                     " bytes at " + in_hex(address));
    abandon(*context.core);
}

void outside_shared(uint64_t address, unsigned bytes, Site site) {
    note_failure(*context.core, cudaErrorIllegalAddress,
                 "access outside shared memory at " + describe_site(site) + ": " +
                     std::to_string(bytes) + " bytes at " + in_hex(address) + " of " +
                     std::to_string(context.core->grid->shared));
    abandon(*context.core);
}

}  // namespace vgpu::ptx_exec
