// What a variant is: one way to compute an operation, listed in that operation's table.
//
// An operation's folder has problem.h (extents, flops, bytes; the pointers; the table's
// declaration), variants.cpp (the table) and one file per variant. Adding a variant is one file,
// and a declaration and a row in variants.cpp: the unit tests, bin/compare and LAYER.PASS=VARIANT
// find it there. Variant 0 is the plainest: always readable, fits every valid problem.
//
// What every variant promises, and the unit tests check:
//   - It writes every element of every result, and nothing else: not the gaps between rows, not a
//     result that the problem does not ask for (a gradient of biases is written if and only if
//     problem.bias; its pointer may be null otherwise).
//   - It reads only its operands, and its workspace only where it has written it.
//   - Two runs on the same operands leave the same bits, in whatever order blocks run.
//   - What it cannot compute it refuses, in words: every field of the problem that it does not look
//     at must be refused where it is not the default (`refuses_fusions` of some operations does
//     that for folded inputs and what an epilogue would have to do).
//   - It runs its own kernels: none launches another variant because of what its pointers turn out
//     to be. Where their alignment matters it is a field of the problem (`aligned`).
//   - A name is unique in its table. Of a file *_sm90.cu, `sm` is 90.
#pragma once

#include <cstddef>
#include <span>
#include <string>

namespace wt {

struct ProblemFields;  // kernels/fields.h

// How gladly a variant is taken by --kernels auto, own and baseline: of the variants that fit, the
// one with the largest number is, on a real GPU by `gpu`, on a virtual one (a CPU) by `cpu`; the
// two differ, since a CPU emulates tensor cores, shuffles and barriers. 0: only when it is named,
// or measured to be the fastest by --kernels tune.
struct Preference {
    int gpu = 0, cpu = 0;

    constexpr int on(int sm) const { return sm ? gpu : cpu; }
};

// Of a row that is another row's kernels with a fixed choice where that one has a plan (its tile,
// say). As 0; and bin/compare runs it only by name or with --variants all, --kernels tune on real
// GPUs only: a CPU's times say nothing of a tile.
inline constexpr Preference kFixedPlan{.gpu = -1, .cpu = -1};

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
    // C++ for a CPU's own vectors: on virtual GPUs only, and not for `own`, which means kernels
    // that a GPU would run too
    bool cpu = false;
    int sm = 0;  // needs exactly this architecture family (90: sm_90a); 0: any
    // Whether the preference holds for this problem, by a prediction; null: for all that fit.
    // Otherwise the variant is taken only where it is named, or measured.
    bool (*suits)(const Problem&) = nullptr;
    // set in variants.cpp, by preferred(); of variant 0 it is not asked
    Preference preference = {};

    size_t workspace_bytes(const Problem& p) const { return workspace ? workspace(p) : 0; }
};

template <class Problem, class Args>
using Table = std::span<const Variant<Problem, Args>>;

// A row of a table that may be chosen without being named. A row without this is not.
template <class Problem, class Args>
Variant<Problem, Args> preferred(Variant<Problem, Args> variant, Preference preference) {
    variant.preference = preference;
    return variant;
}

template <class Problem>
std::string fits_all(const Problem&) {
    return {};
}

// Which variants a run may use. `automatic`: every variant on virtual GPUs (a laptop trains at a
// useful speed through oneDNN and what is written for CPUs), the project's own ones on real GPUs.
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
    if (v.cpu) return choice != KernelChoice::own;
    if (!v.baseline || choice == KernelChoice::baseline) return true;
    return choice == KernelChoice::automatic && kAutomaticUsesBaselines;
}

// The most preferred variant that fits and suits the problem, and that the choice allows; variant 0
// where none of those with a preference does. `baseline` falls back to the project's own where no
// vendor has the operation.
template <class Problem, class Args>
const Variant<Problem, Args>& choose(Table<Problem, Args> table, const Problem& problem,
                                     KernelChoice choice, int sm) {
    const Variant<Problem, Args>* best = nullptr;
    for (const auto& v : table) {
        const int rank = v.preference.on(sm);
        if (rank <= 0 || !allowed(v, choice, sm)) continue;
        if (best) {
            const bool vendor_first =
                choice == KernelChoice::baseline && v.baseline != best->baseline;
            if (vendor_first ? best->baseline : rank <= best->preference.on(sm)) continue;
        }
        if (v.refuses(problem).empty() && (!v.suits || v.suits(problem))) best = &v;
    }
    return best ? *best : table[0];
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
    if constexpr (requires { p.bytes(); })
        return p.bytes();
    else if constexpr (requires(Args a) { a.dy; })
        return p.backward_bytes();
    else
        return p.forward_bytes();
}

}  // namespace wt
