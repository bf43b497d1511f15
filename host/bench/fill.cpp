#include "host/bench/fill.h"

#include "host/bench/reference.h"

namespace wt::bench {
namespace {

// The state that every operation gets that reads one. Momentum and rate as in training, so that repeated updates stay finite.
const StepState kState{.seed = 1, .step = 2, .lr = 0.01f, .momentum = 0.9f};

// Where a tensor of the problem starts, in elements behind an aligned place.
template <class P>
int64_t off(const P& p) { return p.aligned ? 0 : 1; }

double bias_or_zero(bool has, const Input& bias, int64_t i) { return has ? bias[i] : 0; }

// The layer's stored input. Folded input has its padding in memory, and that is zero.
Input conv_x(const ConvProblem& p, Operands& o) {
    const Input x = o.matrix(p.x_count(), p.dtype);
    if (p.fold > 1)
        o.then([p](void* data, cudaStream_t s) {
            probe::clear_fold_padding(data, p.dtype, {p.n, p.fold_h(), p.fold_w(), p.fold, p.c, p.h, p.w, p.pad_h, p.pad_w}, s);
        });
    return x;
}

}  // namespace

// ---- convolution ----------------------------------------------------------------------------------

void fill(const ConvProblem& p, ConvFpropArgs& a, Operands& o) {
    const Input x = conv_x(p, o), w = o.matrix(p.w_count(), p.dtype), bias = o.random(p.k, DType::f32);
    a.x = x;
    a.w = w;
    a.bias = bias.as<float>();
    a.y = o.output(p.y_count(), p.dtype, double(p.r) * p.s * p.cg(),
                   [=](int64_t i, double) { return exact::conv_fprop(p, x, w, bias, i); });
}

void fill(const ConvProblem& p, ConvDgradArgs& a, Operands& o) {
    const Input dy = o.matrix(p.y_count(), p.dtype), w = o.matrix(p.w_count(), p.dtype);
    const Input x = p.drelu ? o.random(p.x_count(), p.dtype) : Input();
    a.dy = dy;
    a.w = w;
    a.x = x;
    a.dx = o.output(p.x_count(), p.dtype, double(p.r) * p.s * p.kg() / p.stride_h / p.stride_w,
                    [=](int64_t i, double) { return exact::conv_dgrad(p, dy, w, x, i); });
}

void fill(const ConvProblem& p, ConvWgradArgs& a, Operands& o) {
    const Input x = conv_x(p, o), dy = o.matrix(p.y_count(), p.dtype);
    const int64_t pixels = int64_t(p.n) * p.p() * p.q();
    a.x = x, a.dy = dy;
    a.dw = static_cast<float*>(o.output(p.w_count(), DType::f32, pixels, [=](int64_t i, double) { return exact::conv_wgrad(p, x, dy, i); }));
    if (p.bias)
        a.db = static_cast<float*>(o.output(p.k, DType::f32, pixels, [=](int64_t i, double) { return exact::column_sum(dy, pixels, p.k, i); }));
}

// ---- matrix product -------------------------------------------------------------------------------

void fill(const GemmProblem& p, GemmArgs& a, Operands& o) {
    const int64_t before = off(p);
    const Input A = o.matrix(int64_t(p.layout == GemmLayout::tn ? p.k : p.m) * p.lda, p.dtype, before);
    const Input B = o.matrix(int64_t(p.layout == GemmLayout::nt ? p.n : p.k) * p.ldb, p.dtype, before);
    const bool add_bias = p.bias && p.layout == GemmLayout::nt;
    const Input bias = add_bias ? o.random(p.n, DType::f32) : Input();
    const Input mask = p.drelu ? o.random(int64_t(p.m) * p.ldc, p.out) : Input();
    a.a = A;
    a.b = B;
    a.bias = bias.as<float>();
    a.mask = mask;
    a.ld_mask = p.ldc;
    a.mask_scale = p.drelu ? 2.f : 1.f;
    a.layer = 3;
    if (p.dropout > 0 || p.sgd) a.state = o.values(std::vector<StepState>{kState});
    const Operands::Extent c{p.m, p.n, p.ldc};
    if (p.sgd) {
        a.weight_decay = 5e-4f;
        const Input w = o.random(int64_t(p.m) * p.ldc, DType::f32), v = o.random(int64_t(p.m) * p.ldc, DType::f32);
        const auto momentum = [=](int64_t i) {
            const int64_t at = i / p.n * p.ldc + i % p.n;
            return kState.momentum * v[at] - double(5e-4f) * kState.lr * w[at] - kState.lr * exact::gemm(p, A, B, i / p.n, i % p.n);
        };
        a.c = o.changed(w, c, p.k, [=](int64_t i, double) { return w[i / p.n * p.ldc + i % p.n] + momentum(i); });
        a.momentum = static_cast<float*>(o.changed(v, c, p.k, [=](int64_t i, double) { return momentum(i); }));
        if (p.dtype == DType::bf16)
            a.w_bf16 = static_cast<bf16*>(o.output(c, DType::bf16, p.k, [=](int64_t i, double) { return w[i / p.n * p.ldc + i % p.n] + momentum(i); }));
    } else {
        a.c = o.output(c, p.out, p.k, [=](int64_t i, double) {
            const int64_t m = i / p.n, n = i % p.n;
            double v = exact::gemm(p, A, B, m, n) + bias_or_zero(add_bias, bias, n);
            if (p.relu) v = std::max(v, 0.0);
            if (p.dropout > 0) v = exact::kept(kState, 3, m, n, p.dropout) ? v / (1 - double(p.dropout)) : 0;
            if (p.drelu) v = mask[m * p.ldc + n] > 0 ? 2 * v : 0;
            return v;
        });
    }
    if (p.layout == GemmLayout::tn && p.bias)
        a.bias_grad = static_cast<float*>(o.output(p.m, DType::f32, p.k, [=](int64_t i, double) { return exact::column_sum(A, p.k, p.lda, i); }));
}

// ---- normalization and pooling --------------------------------------------------------------------

// LRN's x is a convolution's sums through a ReLU: large enough that the normalization does something.
constexpr float kLrnHigh = 40;

void fill(const LrnProblem& p, LrnForwardArgs& a, Operands& o) {
    const Input x = o.random(p.count(), p.dtype, 0, kLrnHigh, off(p));
    a.x = x;
    a.y = o.output({1, p.count(), p.count(), off(p)}, p.dtype, p.size, [=](int64_t i, double) { return exact::lrn_forward(p, x, i); });
}

void fill(const LrnProblem& p, LrnBackwardArgs& a, Operands& o) {
    const Input x = o.random(p.count(), p.dtype, 0, kLrnHigh, off(p)), dy = o.random(p.count(), p.dtype, -1, 1, off(p));
    a.x = x, a.dy = dy;
    a.dx = o.output({1, p.count(), p.count(), off(p)}, p.dtype, p.size * p.size, [=](int64_t i, double) { return exact::lrn_backward(p, x, dy, i); });
}

void fill(const PoolProblem& p, PoolForwardArgs& a, Operands& o) {
    const Input x = o.random(p.x_count(), p.dtype, -1, 1, off(p));
    a.x = x;
    a.y = o.output({1, p.y_count(), p.y_count(), off(p)}, p.dtype, 1, [=](int64_t i, double) { return exact::pool_forward(p, x, i).value; });
    a.argmax = static_cast<uint8_t*>(o.output({1, p.y_count(), p.y_count(), off(p)}, probe::Kind::u8, 1,
                                              [=](int64_t i, double) { return exact::pool_forward(p, x, i).at; }));
}

// For every window one of its elements inside the image, in no order.
static std::vector<uint8_t> some_argmax(const PoolProblem& p) {
    std::vector<uint8_t> argmax(p.y_count());
    const auto inside = [&](int out, int extent, uint32_t draw) {
        const int first = out * p.stride - p.pad, low = std::max(0, -first), high = std::min(p.window, extent - first);
        return low + static_cast<int>(draw % static_cast<uint32_t>(high - low));
    };
    int64_t i = 0;
    for (int n = 0; n < p.n; ++n)
        for (int y = 0; y < p.p(); ++y)
            for (int x = 0; x < p.q(); ++x)
                for (int c = 0; c < p.c; ++c, ++i) {
                    const uint32_t draw = static_cast<uint32_t>(i) * 2654435761u;
                    argmax[i] = static_cast<uint8_t>(inside(y, p.h, draw >> 8) * p.window + inside(x, p.w, draw >> 20));
                }
    return argmax;
}

void fill(const PoolProblem& p, PoolBackwardArgs& a, Operands& o) {
    const Input dy = o.random(p.y_count(), p.dtype, -1, 1, off(p));
    std::vector<uint8_t> argmax = some_argmax(p);
    a.dy = dy, a.argmax = o.values(argmax, off(p));
    const uint8_t* host = o.host(std::move(argmax));
    a.dx = o.output({1, p.x_count(), p.x_count(), off(p)}, p.dtype, 1, [=](int64_t i, double) { return exact::pool_backward(p, dy, host, i); });
}

void fill(const LrnPoolProblem& p, LrnPoolForwardArgs& a, Operands& o) {
    const Input x = o.random(p.x_count(), p.dtype, -kLrnHigh / 4, kLrnHigh, off(p));
    const exact::LrnPooled normalized{p, x};
    a.x = x;
    a.y = o.output({1, p.y_count(), p.y_count(), off(p)}, p.dtype, p.size * p.window * p.window,
                   [=](int64_t i, double) { return exact::pool_forward(p.pool(), normalized, i).value; });
    // Where rounding decides which of two elements is larger, either is right: what rounds to one bf16 is 2^-7 apart at most.
    const double slack = p.dtype == DType::bf16 ? 1.0 / 128 : 1e-5;
    a.argmax = static_cast<uint8_t*>(o.output({1, p.y_count(), p.y_count(), off(p)}, probe::Kind::u8, p.size * p.window * p.window, [=](int64_t i, double got) {
        const exact::Maximum m = exact::pool_forward(p.pool(), normalized, i);
        double there = -INFINITY;
        exact::each_in_window(p.pool(), i, [&](int place, int64_t in) {
            if (place == got) there = normalized[in];
        });
        return there >= m.value - slack * std::abs(m.value) ? got : m.at;
    }));
    o.last().several = true;
}

void fill(const LrnPoolProblem& p, LrnPoolBackwardArgs& a, Operands& o) {
    const Input dy = o.random(p.y_count(), p.dtype, -1, 1, off(p));
    const Input x = p.lrn ? o.random(p.x_count(), p.dtype, -kLrnHigh / 4, kLrnHigh, off(p)) : Input();
    const Input y = !p.lrn && p.relu ? o.random(p.y_count(), p.dtype, -1, 1, off(p)) : Input();
    std::vector<uint8_t> argmax = some_argmax(p.pool());
    a.dy = dy;
    a.x = x;
    a.y = y;
    a.argmax = o.values(argmax, off(p));
    const exact::LrnPoolBackward dx{p, x, y, dy, o.host(std::move(argmax))};
    const double cost = p.lrn ? 4.0 * p.size * p.size : 4;
    a.dx = o.output({1, p.x_count(), p.x_count(), off(p)}, p.dtype, cost, [=](int64_t i, double) { return dx[i]; });
    if (!p.bias) return;
    const int64_t pixels = p.x_count() / p.c;
    a.db = static_cast<float*>(o.output(p.c, DType::f32, cost * pixels, [=](int64_t i, double) { return exact::column_sum(dx, pixels, p.c, i); }));
    o.last().rounding = p.dtype;  // of dx, which may be summed as it is stored
}

// ---- element by element ---------------------------------------------------------------------------

void fill(const ActivationProblem& p, ActivationForwardArgs& a, Operands& o) {
    const Input x = o.random(p.rows * p.ld_y, p.dtype);
    a.x = x;
    a.y = o.output({p.rows, p.cols, p.ld_y}, p.dtype, 1, [=](int64_t i, double) {
        const double v = x[i / p.cols * p.ld_y + i % p.cols];
        return p.kind == Activation::tanh ? std::tanh(v) : std::max(v, 0.0);
    });
}

void fill(const ActivationProblem& p, ActivationBackwardArgs& a, Operands& o) {
    const Input y = o.random(p.rows * p.ld_y, p.dtype), dy = o.random(p.rows * p.ld_dy, p.dtype);
    a.y = y, a.dy = dy;
    a.dx = o.output({p.rows, p.cols, p.ld_dy}, p.dtype, 1, [=](int64_t i, double) {
        const double v = y[i / p.cols * p.ld_y + i % p.cols], d = dy[i / p.cols * p.ld_dy + i % p.cols];
        return p.kind == Activation::tanh ? d * (1 - v * v) : v > 0 ? d : 0;
    });
}

void fill(const DropoutProblem& p, DropoutArgs& a, Operands& o) {
    const Input x = o.random(p.rows * p.ld_x, p.dtype);
    a.x = x;
    a.state = o.values(std::vector<StepState>{kState});
    a.layer = 3;
    a.row0 = a.col0 = 0;
    a.y = o.output({p.rows, p.cols, p.ld_y}, p.dtype, 1, [=](int64_t i, double) {
        const int64_t r = i / p.cols, c = i % p.cols;
        return exact::kept(kState, 3, r, c, p.p) ? x[r * p.ld_x + c] / (1 - double(p.p)) : 0;
    });
}

void fill(const AugmentProblem& p, AugmentArgs& a, Operands& o) {
    std::vector<uint8_t> images(int64_t(p.n) * p.src_h * p.src_w * p.src_c);
    for (size_t i = 0; i < images.size(); ++i) images[i] = static_cast<uint8_t>(i * 2654435761u >> 24);
    std::vector<AugmentParams> draws(p.n);
    for (int i = 0; i < p.n; ++i) draws[i] = {int16_t(i * 7 % (p.src_h - p.out_h + 1)), int16_t(i * 5 % (p.src_w - p.out_w + 1)), i % 2, {1, 2, 3}};
    a.images = o.values(images), a.params = o.values(draws);
    for (int i = 0; i < 3; ++i) a.mean[i] = 120, a.inv_std[i] = 1 / 60.f;
    const uint8_t* stored = o.host(std::move(images));
    const AugmentParams* drawn = o.host(std::move(draws));
    a.y = o.output(int64_t(p.n) * p.out_h * p.out_w * 3, p.dtype, 1, [=](int64_t i, double) {
        const float mean[3] = {120, 120, 120}, inv_std[3] = {1 / 60.f, 1 / 60.f, 1 / 60.f};
        return exact::augment(p, stored, drawn[i / (int64_t(p.out_h) * p.out_w * 3)], mean, inv_std, i);
    });
}

// ---- loss, update, exchange -----------------------------------------------------------------------

void fill(const SoftmaxProblem& p, SoftmaxArgs& a, Operands& o) {
    const Input z = o.random(int64_t(p.rows) * p.ld_logits, DType::f32, -5, 5);
    std::vector<int> labels(p.rows);
    for (int i = 0; i < p.rows; ++i) labels[i] = i * 7 % p.classes;
    a.logits = z.as<float>(), a.labels = o.values(labels);
    const int* label = o.host(std::move(labels));
    a.dlogits = o.output({p.rows, p.classes, p.ld_dlogits}, p.dtype, p.classes, [=](int64_t i, double) {
        const int64_t row = i / p.classes, first = row * p.ld_logits;
        const int j = static_cast<int>(i % p.classes);
        const exact::Softmax s = exact::softmax(z, first, p.classes);
        return p.scale * (std::exp(z[first + j] - s.top) / s.sum - (j == label[row]));
    });
    a.stats = static_cast<SoftmaxStats*>(o.scratch(sizeof(SoftmaxStats)));
    const double all = double(p.rows) * p.classes;
    o.field(&a.stats->loss_sum, probe::Kind::f64, all, [=](int64_t, double) {
        double loss = 0;
        for (int i = 0; i < p.rows; ++i) {
            const exact::Softmax s = exact::softmax(z, int64_t(i) * p.ld_logits, p.classes);
            loss += std::log(s.sum) - (z[int64_t(i) * p.ld_logits + label[i]] - s.top);
        }
        return loss;
    });
    const auto within = [=](int places) {  // rows whose label is among the first so many classes
        return [=](int64_t, double) {
            double count = 0;
            for (int i = 0; i < p.rows; ++i) {
                const int64_t first = int64_t(i) * p.ld_logits;
                int rank = 0;
                for (int j = 0; j < p.classes; ++j)
                    rank += z[first + j] > z[first + label[i]] || (z[first + j] == z[first + label[i]] && j < label[i]);
                count += rank < places;
            }
            return count;
        };
    };
    o.field(&a.stats->rows, probe::Kind::i32, 1, [=](int64_t, double) { return p.rows; });
    o.field(&a.stats->top1, probe::Kind::i32, all, within(1));
    o.field(&a.stats->top5, probe::Kind::i32, all, within(5));
}

// Tensors of very different sizes, as a network's are.
void fill(const SgdProblem& p, SgdArgs& a, Operands& o) {
    std::vector<SgdTensor> tensors;
    double shares = 0;
    for (int i = 0; i < p.tensors; ++i) shares += std::pow(i + 1, 3);
    int64_t left = p.total;
    for (int i = 0; i < p.tensors; ++i) {
        const int64_t count = i + 1 == p.tensors ? left : std::min(left, static_cast<int64_t>(p.total * std::pow(i + 1, 3) / shares));
        left -= count;
        const Input w = o.random(count, DType::f32), v = o.random(count, DType::f32), g = o.random(count, DType::f32);
        const auto momentum = [=](int64_t j) { return kState.momentum * v[j] - double(5e-4f) * kState.lr * w[j] - kState.lr * g[j]; };
        float* wp = static_cast<float*>(o.changed(w, {1, count, count}, 1, [=](int64_t j, double) { return w[j] + momentum(j); }));
        float* vp = static_cast<float*>(o.changed(v, {1, count, count}, 1, [=](int64_t j, double) { return momentum(j); }));
        tensors.push_back({.w = wp,
                           .v = vp,
                           .g = g.as<float>(),
                           .w_bf16 = nullptr,
                           .count = count,
                           .weight_decay = 5e-4f,
                           .lr_scale = 1});
    }
    a.tensors = o.host(std::move(tensors));
    a.state = o.values(std::vector<StepState>{kState});
}

void fill(const CopyProblem& p, CopyArgs& a, Operands& o) {
    const Input src = o.random(p.rows * p.ld_src, p.dtype);
    a.src = src;
    a.dst = o.output({p.rows, p.cols, p.ld_dst}, p.dtype, 1, [=](int64_t i, double) { return src[i / p.cols * p.ld_src + i % p.cols]; });
}

void fill(const ReduceProblem& p, ReduceArgs& a, Operands& o) {
    std::vector<Input> src;
    for (int r = 0; r < p.sources; ++r) a.src[r] = src.emplace_back(o.random(p.rows * p.ld_src, p.dtype));
    a.dst = o.output({p.rows, p.cols, p.ld_dst}, p.dtype, p.sources, [=](int64_t i, double) {
        double sum = 0;
        for (const Input& s : src) sum += s[i / p.cols * p.ld_src + i % p.cols];
        return sum;
    });
}

}  // namespace wt::bench
