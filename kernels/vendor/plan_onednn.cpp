#include <omp.h>

#include "host/vgpu/exec/grid.h"
#include "kernels/vendor/onednn.h"

namespace wt::onednn {

dnnl::engine& engine() {
    static dnnl::engine e(dnnl::engine::kind::cpu, 0);
    return e;
}

dnnl::stream& stream() {
    static dnnl::stream s(engine());
    return s;
}

// An instruction set's value has the bits of all that it includes.
static bool has(dnnl::cpu_isa needed) {
    const int isa = static_cast<int>(dnnl::get_effective_cpu_isa()),
              bits = static_cast<int>(needed);
    return (isa & bits) == bits;
}

bool has_avx512() { return has(dnnl::cpu_isa::avx512_core); }

std::string refuses_dtype(DType t) {
    if (t == DType::f32 || has(dnnl::cpu_isa::avx512_core_bf16)) return {};
    return "this CPU has no AVX512_BF16: oneDNN would convert element by element";
}

dnnl::memory::data_type type_of(DType t) {
    return t == DType::f32 ? dnnl::memory::data_type::f32 : dnnl::memory::data_type::bf16;
}

Desc nhwc(int64_t n, int64_t h, int64_t w, int64_t c, DType t, int64_t pitch) {
    if (!pitch) pitch = c;
    return Desc({n, c, h, w}, type_of(t), Dims{h * w * pitch, 1, w * pitch, pitch});
}

Desc any_like(const Desc& d) {
    return Desc(d.dims(), d.data_type(), dnnl::memory::format_tag::any);
}

size_t Plan::reserve(size_t bytes) {
    const size_t at = workspace_;
    // whole pages: no two buffers share a cache line or a page
    workspace_ += (bytes + 4095) / 4096 * 4096;
    return at;
}

void Plan::add(int arg, const Desc& ours, const Desc& wanted, bool is_output) {
    Operand o{arg, ours, wanted, is_output, {}};
    if (ours != wanted) {
        const Desc& from = is_output ? wanted : ours;
        const Desc& to = is_output ? ours : wanted;
        o.reorder = dnnl::reorder(dnnl::reorder::primitive_desc(engine(), from, engine(), to));
        o.at = reserve(wanted.get_size());
    }
    operands_.push_back(std::move(o));
}

void Plan::primitive(dnnl::primitive p, const Desc& scratchpad) {
    primitive_ = std::move(p);
    scratchpad_ = scratchpad;
    scratchpad_at_ = reserve(scratchpad.get_size());
}

void Plan::run(std::span<void* const> pointers, void* workspace) const {
    Threads threads;
    char* base = static_cast<char*>(workspace);
    std::unordered_map<int, dnnl::memory> args;
    for (size_t i = 0; i < operands_.size(); ++i) {
        const Operand& o = operands_[i];
        dnnl::memory ours(o.ours, engine(), pointers[i]);
        if (!o.reorder) {
            args.emplace(o.arg, ours);
            continue;
        }
        dnnl::memory theirs(o.wanted, engine(), base + o.at);
        if (!o.is_output) o.reorder.execute(stream(), ours, theirs);
        args.emplace(o.arg, theirs);
    }
    if (scratchpad_.get_size())
        args.emplace(DNNL_ARG_SCRATCHPAD,
                     dnnl::memory(scratchpad_, engine(), base + scratchpad_at_));
    primitive_.execute(stream(), args);
    for (size_t i = 0; i < operands_.size(); ++i) {
        const Operand& o = operands_[i];
        if (!o.reorder || !o.is_output) continue;
        dnnl::memory ours(o.ours, engine(), pointers[i]);
        o.reorder.execute(stream(), args.at(o.arg), ours);
    }
    stream().wait();
}

Threads::Threads() : before_(omp_get_max_threads()) { omp_set_num_threads(vgpu::core_count()); }
Threads::~Threads() { omp_set_num_threads(before_); }

void throw_onednn(const dnnl::error& e, const std::string& where) {
    throw Error("oneDNN: " + where + ": " + e.message + " (status " + std::to_string(e.status) +
                ")");
}

void enqueue(cudaStream_t stream, const char* name, std::function<void()> work) {
    WT_CUDA(vgpu::enqueue(stream, name, [name, work = std::move(work)] {
        try {
            work();
        } catch (const dnnl::error& e) {
            throw_onednn(e, name);
        }
    }));
}

}  // namespace wt::onednn
