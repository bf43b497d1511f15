// oneDNN on virtual GPUs: what the baselines of conv, gemm, LRN and pooling share.
//
// Device memory of a virtual GPU is host memory, so oneDNN reads and writes our tensors in place.
// Where a primitive wants another layout than ours, a Plan copies (oneDNN "reorders") through the
// caller's workspace. Primitives and their scratch sizes are fixed when a plan is made; a step only
// runs them.
#pragma once

#include <cuda_runtime.h>

#include <cstdint>
#include <dnnl.hpp>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "host/cuda/check.h"
#include "kernels/common/dtype.h"
#include "kernels/vendor/plans.h"

namespace wt::onednn {

using Dims = dnnl::memory::dims;
using Desc = dnnl::memory::desc;

dnnl::engine& engine();
dnnl::stream& stream();

// "" or why this CPU should not be asked for the type. bf16 without AVX512_BF16 is refused: oneDNN
// then converts element by element, slower than our own kernels in fp32.
std::string refuses_dtype(DType);
dnnl::memory::data_type type_of(DType);
bool has_avx512();  // and oneDNN is allowed to use it (DNNL_MAX_CPU_ISA)

// NHWC activations of n x h x w x c as oneDNN names them (dimensions n, c, h, w); `pitch` is the
// number of channels from one pixel to the next (more than c for one group's slice), 0: c.
Desc nhwc(int64_t n, int64_t h, int64_t w, int64_t c, DType, int64_t pitch = 0);
// The same dimensions in whatever layout the primitive likes best.
Desc any_like(const Desc&);

// A primitive with its operands' layouts. Operands are numbered in the order they are added.
class Plan {
public:
    // `arg` is the primitive's name of the operand (DNNL_ARG_...), `ours` its layout in memory,
    // `wanted` the primitive's.
    void input(int arg, const Desc& ours, const Desc& wanted) { add(arg, ours, wanted, false); }
    void output(int arg, const Desc& ours, const Desc& wanted) { add(arg, ours, wanted, true); }
    // Made with scratchpad mode `user`.
    void primitive(dnnl::primitive p, const Desc& scratchpad);

    size_t workspace() const { return workspace_; }
    // On the virtual GPU's dispatcher only. `operands` in their order; one may be null where its
    // `ours` was empty.
    void run(std::span<void* const> operands, void* workspace) const;

private:
    struct Operand {
        int arg;
        Desc ours, wanted;
        bool is_output;
        dnnl::reorder reorder;  // empty when the layouts agree
        size_t at = 0;          // in the workspace
    };
    void add(int arg, const Desc& ours, const Desc& wanted, bool is_output);
    size_t reserve(size_t bytes);

    std::vector<Operand> operands_;
    dnnl::primitive primitive_;
    Desc scratchpad_;
    size_t scratchpad_at_ = 0, workspace_ = 0;
};

inline dnnl::primitive_attr user_scratchpad() {
    dnnl::primitive_attr attr;
    attr.set_scratchpad_mode(dnnl::scratchpad_mode::user);
    return attr;
}

// While alive, OpenMP uses the virtual GPU's cores on this thread. oneDNN sizes its scratch for the
// number of threads it sees when a primitive is made, so making and running must agree.
class Threads {
public:
    Threads();
    ~Threads();
    Threads(const Threads&) = delete;
    Threads& operator=(const Threads&) = delete;

private:
    int before_;
};

[[noreturn]] void throw_onednn(const dnnl::error&, const std::string& where);

// A cache of plans by problem. `make()` runs with the threads that will run the plan; when oneDNN
// cannot make it, wt::Error names `where`.
template <class Problem, class P = Plan>
class Cache {
public:
    template <class Make>
    std::shared_ptr<const P> get(const Problem& problem, const char* where, Make&& make) {
        return plans_.get(problem, [&] {
            Threads threads;
            try {
                return make();
            } catch (const dnnl::error& e) {
                throw_onednn(e, where);
            }
        });
    }

private:
    Plans<Problem, P> plans_;
};

// Puts `work` on the stream, behind what is there; oneDNN's failures come out as wt::Error.
void enqueue(cudaStream_t stream, const char* name, std::function<void()> work);

}  // namespace wt::onednn
