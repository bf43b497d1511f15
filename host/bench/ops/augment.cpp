// Operands of augmentation.
#include "host/bench/ops/set_pointers.h"
#include "host/bench/reference.h"
#include "kernels/augment/problem.h"

namespace wt::bench {

void set_pointers(const AugmentProblem& p, AugmentArgs& a, Operands& o) {
    std::vector<uint8_t> images(int64_t(p.n) * p.src_h * p.src_w * p.src_c);
    for (size_t i = 0; i < images.size(); ++i)
        images[i] = static_cast<uint8_t>(i * 2654435761u >> 24);
    std::vector<AugmentParams> draws(p.n);
    for (int i = 0; i < p.n; ++i)
        draws[i] = {int16_t(i * 7 % (p.src_h - p.out_h + 1)),
                    int16_t(i * 5 % (p.src_w - p.out_w + 1)),
                    i % 2,
                    {1, 2, 3}};
    a.images = o.values(images), a.params = o.values(draws);
    for (int i = 0; i < 3; ++i) a.mean[i] = 120, a.inv_std[i] = 1 / 60.f;
    const uint8_t* stored = o.host(std::move(images));
    const AugmentParams* drawn = o.host(std::move(draws));
    a.y = o.output(p.y_count(), p.dtype, 1, [=](int64_t i, double) {
        const float mean[3] = {120, 120, 120}, inv_std[3] = {1 / 60.f, 1 / 60.f, 1 / 60.f};
        return exact::augment(p, stored, drawn, mean, inv_std, i);
    });
}

template void fill(const AugmentProblem&, AugmentArgs&, Operands&);

}  // namespace wt::bench
