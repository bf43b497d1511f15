#include "host/net/params.h"

#include <algorithm>
#include <cmath>

#include "kernels/common/philox.h"

namespace wt {

std::vector<Param> params_of(const NetSpec& net) {
    std::vector<Param> all;
    for (int i = 0; i < static_cast<int>(net.layers.size()); ++i) {
        const Layer& l = net.layers[i];
        if (l.kind != LayerKind::conv && l.kind != LayerKind::fc) continue;
        const bool fc = l.kind == LayerKind::fc;
        Param w;
        w.name = l.name + ".weight";
        w.layer = i;
        w.sharded = fc;
        w.rows = l.out;
        w.row = l.weights() / l.out;
        if (fc)
            w.shape = {l.out, l.x.count()};
        else
            w.shape = {l.out, l.x.c / l.groups, l.size, l.size};
        Param b = w;
        b.name = l.name + ".bias";
        b.bias = true;
        b.row = 1;
        b.shape = {l.out};
        all.push_back(w);
        all.push_back(b);
    }
    return all;
}

Shard shard_of(int64_t rows, int rank, int workers) {
    const int64_t unit = rows >= int64_t(32) * workers ? 8 : 1, units = (rows + unit - 1) / unit;
    const int64_t first = units * rank / workers * unit,
                  end = std::min(rows, units * (rank + 1) / workers * unit);
    return {first, end - first};
}

namespace {

// The three extents of a row: a filter's R x S x C, or an fc row's H x W x C. Files have C first.
Shape row_shape(const NetSpec& net, const Param& p) {
    const Layer& l = net.layers[p.layer];
    if (l.kind == LayerKind::conv) return {l.size, l.size, l.x.c / l.groups};
    return l.x;
}

// Visits (memory index, file index) of every element.
template <class F>
void each_element(const NetSpec& net, const Param& p, F&& visit) {
    const Shape s = p.bias ? Shape{1, 1, 1} : row_shape(net, p);
    for (int64_t k = 0; k < p.rows; ++k) {
        const int64_t base = k * p.row;
        for (int h = 0; h < s.h; ++h)
            for (int w = 0; w < s.w; ++w)
                for (int c = 0; c < s.c; ++c)
                    visit(base + (int64_t(h) * s.w + w) * s.c + c,
                          base + (int64_t(c) * s.h + h) * s.w + w);
    }
}

}  // namespace

std::vector<float> to_file_order(const NetSpec& net, const Param& p,
                                 const std::vector<float>& memory) {
    std::vector<float> file(memory.size());
    each_element(net, p, [&](int64_t m, int64_t f) { file[f] = memory[m]; });
    return file;
}

std::vector<float> from_file_order(const NetSpec& net, const Param& p,
                                   const std::vector<float>& file) {
    std::vector<float> memory(file.size());
    each_element(net, p, [&](int64_t m, int64_t f) { memory[m] = file[f]; });
    return memory;
}

std::vector<float> initial_values(const NetSpec& net, const Param& p, Shard rows, Init init,
                                  uint64_t seed) {
    const Layer& l = net.layers[p.layer];
    if (p.bias) return std::vector<float>(rows.count, init == Init::paper ? l.bias_init : 0.f);
    const bool last = p.layer + 1 == static_cast<int>(net.layers.size());
    const double sigma = init == Init::paper || last ? 0.01 : std::sqrt(2.0 / p.row);
    std::vector<float> v(rows.count * p.row);
    const int64_t begin = rows.first * p.row, end = begin + static_cast<int64_t>(v.size());
    // Box-Muller on pairs; a counter gives four words, two pairs, four normals. Any part comes out
    // the same on its own.
#pragma omp parallel for if (v.size() > 100000)
    for (int64_t quad = begin / 4; quad < (end + 3) / 4; ++quad) {
        const PhiloxCounter r = philox4x32_10(
            {{uint32_t(quad), uint32_t(quad >> 32), uint32_t(p.layer), 0x696e6974u /* "init" */}},
            {{uint32_t(seed), uint32_t(seed >> 32)}});
        float normal[4];
        for (int pair = 0; pair < 2; ++pair) {
            const double u1 = (r.w[2 * pair] + 1.0) / 4294967296.0,
                         u2 = r.w[2 * pair + 1] / 4294967296.0;
            const double radius = sigma * std::sqrt(-2.0 * std::log(u1)),
                         angle = 2.0 * 3.14159265358979323846 * u2;
            normal[2 * pair] = static_cast<float>(radius * std::cos(angle));
            normal[2 * pair + 1] = static_cast<float>(radius * std::sin(angle));
        }
        for (int64_t i = std::max(begin, quad * 4); i < std::min(end, quad * 4 + 4); ++i)
            v[i - begin] = normal[i - quad * 4];
    }
    return v;
}

}  // namespace wt
