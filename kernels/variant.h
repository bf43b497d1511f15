// What a variant is: one way to compute an operation, listed in that operation's table.
//
// An operation's folder has problem.h (extents, flops, bytes; the pointers; the table's
// declaration), variants.cpp (the table) and one file per variant. Adding a variant is one
// file and one line in the table: the unit tests and bin/compare find it there.
//
// A table is ordered from the plainest (variant 0, always readable, fits every valid problem) to the fastest
// known on this target. `choose` takes the last one that fits.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace wt {

struct ProblemFields;  // kernels/fields.h

template <class Problem, class Args>
struct Variant {
    const char* name;
    // "" when the variant can compute this problem, else the reason why not, in words.
    std::string (*refuses)(const Problem&);
    // Bytes of device scratch that `launch` needs in Args::workspace (may be null: needs none).
    size_t (*workspace)(const Problem&);
    // Puts the work on args.stream. Throws wt::Error when the launch is refused.
    void (*launch)(const Problem&, const Args&);
    bool baseline = false;  // a vendor library's: cuDNN, cuBLAS, oneDNN
    int sm = 0;             // needs exactly this architecture family (90: sm_90a); 0: any
    bool cpu_slow = false;  // matrix units, barriers: plain loops are faster where a virtual GPU emulates them; so is all with `sm`

    size_t workspace_bytes(const Problem& p) const { return workspace ? workspace(p) : 0; }
};

template <class Problem, class Args>
using Table = std::span<const Variant<Problem, Args>>;

template <class Problem>
std::string fits_all(const Problem&) { return {}; }

// Which variants a run may use. `automatic`: every variant on virtual GPUs (a laptop trains at a
// useful speed through oneDNN), the project's own ones on real GPUs.
enum class KernelChoice { automatic, own, baseline };

#ifdef VGPU
inline constexpr bool kAutomaticUsesBaselines = true;
#else
inline constexpr bool kAutomaticUsesBaselines = false;
#endif

// Whether `choice` may take the variant at all, on a device of architecture `sm` (0: virtual).
template <class Problem, class Args>
bool allowed(const Variant<Problem, Args>& v, KernelChoice choice, int sm) {
    if (v.sm && v.sm != sm && sm != 0) return false;
    return !v.baseline || choice == KernelChoice::baseline || (choice == KernelChoice::automatic && kAutomaticUsesBaselines);
}

// The last variant of the table that fits the problem and the choice; `baseline` falls back to the project's own where no
// vendor has the operation. On virtual GPUs what is slow on a CPU is taken only where nothing but the plain variant fits.
template <class Problem, class Args>
const Variant<Problem, Args>& choose(Table<Problem, Args> table, const Problem& problem,
                                     KernelChoice choice, int sm) {
    const Variant<Problem, Args>* best = &table[0];
    for (const auto& v : table) {
        if (!allowed(v, choice, sm)) continue;
        if (choice == KernelChoice::baseline && best->baseline && !v.baseline) continue;
        if (sm == 0 && (v.cpu_slow || v.sm) && best != &table[0] && !(best->cpu_slow || best->sm)) continue;
        if (!v.refuses(problem).empty()) continue;
        best = &v;
    }
    return *best;
}

// By name; null when the table has none of that name.
template <class Problem, class Args>
const Variant<Problem, Args>* find(Table<Problem, Args> table, const std::string& name) {
    for (const auto& v : table)
        if (name == v.name) return &v;
    return nullptr;
}

// Bytes that the operation must move at the least; which way it goes, the arguments tell.
template <class Args, class Problem>
double bytes_of(const Problem& p) {
    if constexpr (requires { p.bytes(); }) return p.bytes();
    else if constexpr (requires(Args a) { a.dy; }) return p.backward_bytes();
    else return p.forward_bytes();
}

}  // namespace wt
