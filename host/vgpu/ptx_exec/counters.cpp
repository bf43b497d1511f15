#include "host/vgpu/ptx_exec/counters.h"

#include <algorithm>
#include <atomic>
#include <deque>
#include <map>
#include <mutex>
#include <utility>

#include "host/vgpu/ptx_exec/count_state.h"

namespace vgpu::ptx_exec {

namespace {

std::atomic<uint64_t> era{0}, order{0};
std::mutex mutex;                  // of the next
std::deque<CoreCounts>& cores() {  // of all threads that have counted
    static auto* all = new std::deque<CoreCounts>;
    return *all;
}

// What two cores counted of one kernel.
void merge(KernelTotals& to, const KernelTotals& from) {
    if (from.order < to.order) {
        to.order = from.order;
        to.grid = from.grid;
        to.block = from.block;
        to.cluster = from.cluster;
    }
    to.blocks += from.blocks;
    to.warps += from.warps;
    to.block_sectors += from.block_sectors;
    for (size_t b = 0; b < to.issued.size(); ++b) {
        to.issued[b] += from.issued[b];
        to.executed[b] += from.executed[b];
    }
    for (size_t s = 0; s < to.sites.size(); ++s) to.sites[s].add(from.sites[s]);
}

void add_lines(const KernelTotals& t, KernelCounters& out) {
    std::map<std::pair<std::string, std::pair<unsigned, Access>>, AccessCounters> lines;
    for (uint32_t s = 0; s < t.kernel->site_count; ++s) {
        const CountedSite& site = t.kernel->sites[s];
        out.access[static_cast<size_t>(site.access)].add(t.sites[s]);
        if (t.sites[s].requests) lines[{site.file, {site.line, site.access}}].add(t.sites[s]);
    }
    for (const auto& [where, counters] : lines)
        out.lines.push_back({.file = where.first,
                             .line = where.second.first,
                             .access = where.second.second,
                             .counters = counters});
    std::stable_sort(out.lines.begin(), out.lines.end(), [](const auto& a, const auto& b) {
        return a.counters.units > b.counters.units;
    });
}

void add_matrix(const KernelTotals& t, KernelCounters& out) {
    for (uint32_t i = 0; i < t.kernel->matrix_count; ++i) {
        const CountedMatrix& m = t.kernel->matrix[i];
        const uint64_t warps = t.issued[m.block] * m.count;
        if (!warps) continue;
        auto at = std::find_if(out.matrix.begin(), out.matrix.end(),
                               [&](const MatrixCounters& c) { return c.name == m.name; });
        if (at == out.matrix.end()) {
            out.matrix.push_back({.name = m.name});
            at = out.matrix.end() - 1;
        }
        // A wgmma is four warps', 64 rows; its operands lie in shared memory, of bf16 k = 16, of
        // tf32 k = 8: 32 bytes a row and column of the product.
        const bool four = m.name[0] == 'w';
        at->warps += warps;
        at->flops += 2.0 * m.m * m.n * m.k * static_cast<double>(warps) / (four ? 4 : 1);
        if (four) at->shared_bytes += uint64_t{m.m + m.n} * 32 * warps / 4;
    }
}

KernelCounters counters_of(const KernelTotals& t) {
    KernelCounters out{.name = symbol_name(t.host_kernel),
                       .grid = t.grid,
                       .block = t.block,
                       .cluster = t.cluster,
                       .blocks = t.blocks,
                       .warps = t.warps,
                       .block_sectors = t.block_sectors,
                       .matrix = {},
                       .lines = {}};
    for (uint32_t i = 0; i < t.kernel->class_count; ++i) {
        const CountedClass& c = t.kernel->classes[i];
        out.instructions[c.type] += t.issued[c.block] * c.count;
        out.thread_instructions += t.executed[c.block] * c.count;
    }
    add_lines(t, out);
    add_matrix(t, out);
    return out;
}

}  // namespace

const char* name_of(Class c) {
    static const char* const names[] = {
        "fp32",   "fp64",    "bf16",    "special",  "integer", "compare", "convert", "move",
        "param",  "control", "global",  "shared",   "local",   "generic", "atomic",  "copy",
        "matrix", "warp",    "barrier", "mbarrier", "cluster", "fence",   "other"};
    static_assert(std::size(names) == kClasses);
    return names[static_cast<size_t>(c)];
}

const char* name_of(Access a) {
    static const char* const names[] = {
        "global loads",  "global loads past L1", "global stores", "global atomics", "shared loads",
        "shared stores", "shared atomics",       "TMA loads",     "TMA stores"};
    static_assert(std::size(names) == kAccesses);
    return names[static_cast<size_t>(a)];
}

void AccessCounters::add(const AccessCounters& o) {
    requests += o.requests;
    lanes += o.lanes;
    units += o.units;
    least += o.least;
    bytes += o.bytes;
    rows += o.rows;
}

uint64_t KernelCounters::all_instructions() const {
    uint64_t sum = 0;
    for (const uint64_t n : instructions) sum += n;
    return sum;
}

uint64_t counting_era() { return era.load(std::memory_order_relaxed); }

CoreCounts& new_core_counts() {
    const std::lock_guard lock(mutex);
    return cores().emplace_back();
}

KernelTotals& CoreCounts::totals_of(const CountedKernel& kernel, const Grid& grid) {
    std::unique_ptr<KernelTotals>& t = kernels[&kernel];
    if (!t)
        t.reset(new KernelTotals{.kernel = &kernel,
                                 .host_kernel = grid.kernel,
                                 .grid = grid.grid,
                                 .block = grid.block,
                                 .cluster = grid.cluster,
                                 .order = order++,
                                 .issued = std::vector<uint64_t>(kernel.blocks),
                                 .executed = std::vector<uint64_t>(kernel.blocks),
                                 .sites = std::vector<AccessCounters>(kernel.site_count)});
    return *t;
}

void CoreCounts::forget() {
    blocks.clear();
    free.clear();
    made = 0;
    kernels.clear();
    era = counting_era();
}

void start_counting() {
    ++era;
    set_counting(true);
}

std::vector<KernelCounters> stop_counting() {
    set_counting(false);
    std::map<const CountedKernel*, KernelTotals> sums;
    {
        const std::lock_guard lock(mutex);
        for (CoreCounts& core : cores()) {
            if (core.era != era) continue;
            for (const auto& [kernel, totals] : core.kernels)
                if (const auto [it, fresh] = sums.try_emplace(kernel, *totals); !fresh)
                    merge(it->second, *totals);
            core.blocks.clear();
            core.free.clear();
            core.made = 0;
        }
    }
    std::vector<const KernelTotals*> in_order;
    for (const auto& [kernel, totals] : sums) in_order.push_back(&totals);
    std::sort(in_order.begin(), in_order.end(),
              [](const auto* a, const auto* b) { return a->order < b->order; });
    std::vector<KernelCounters> all;
    for (const KernelTotals* t : in_order) all.push_back(counters_of(*t));
    return all;
}

}  // namespace vgpu::ptx_exec
