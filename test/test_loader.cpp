// Order, augmentation and the prefetching loader: pure functions, whoever asks and however many
// threads load.
#include <doctest/doctest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <map>
#include <mutex>
#include <set>
#include <thread>

#include "data/loader.h"
#include "data/random.h"
#include "test/data_files.h"

using namespace wt;
using namespace wt::test;

namespace {

// n images of 6x6 whose every byte is the index; some cannot be read.
struct Numbered : Dataset {
    int64_t n;
    std::set<int64_t> broken;
    bool throws = false;
    mutable std::atomic<int64_t> loads{0};
    explicit Numbered(int64_t count) : n(count) {
        height = width = 6, channels = 1;
        classes.assign(10, "x");
    }
    int64_t size() const override { return n; }
    int label(int64_t i) const override { return int(i % 10); }
    bool load(int64_t i, uint8_t* out) const override {
        ++loads;
        if (throws && i == 17) throw Error("the disk is gone");
        if (broken.count(i)) {
            note_bad(i, {"image " + std::to_string(i), "broken"});
            return false;
        }
        std::fill(out, out + 36, uint8_t(i));
        return true;
    }
};

struct Row {
    int image, label;
    int16_t y0, x0;
    int32_t mirror;
    float noise;
    bool operator==(const Row&) const = default;
};

LoaderOptions options(int batch) {
    LoaderOptions o;
    o.batch = batch, o.out = 4, o.seed = 5;
    o.mode = AugmentMode::full;
    for (int i = 0; i < 3; ++i) o.pca[i][i] = 10;
    return o;
}

std::vector<std::vector<Row>> take(const Dataset& d, const LoaderOptions& o, int batches) {
    Loader loader(d, o);
    std::vector<std::vector<Row>> all;
    for (int b = 0; b < batches; ++b) {
        Batch& batch = loader.next();
        CHECK(batch.step == o.start_step + b);
        std::vector<Row> rows;
        for (int r = 0; r < batch.count; ++r) {
            const AugmentParams& p = batch.params[r];
            rows.push_back(
                {batch.images[r * 36 + 35], batch.labels[r], p.y0, p.x0, p.mirror, p.noise[1]});
        }
        all.push_back(rows);
        loader.release(batch);
    }
    return all;
}

}  // namespace

TEST_CASE("loader: Philox gives the published values") {
    // Random123's known-answer file, philox4x32 with 10 rounds.
    CHECK(philox({0, 0, 0, 0}, 0) ==
          std::array<uint32_t, 4>{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8});
    CHECK(philox({~0u, ~0u, ~0u, ~0u}, ~uint64_t(0)) ==
          std::array<uint32_t, 4>{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd});
    CHECK(philox({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, 0x299f31d0a4093822) ==
          std::array<uint32_t, 4>{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1});
}

TEST_CASE("loader: an epoch's order is a permutation, another each epoch and seed") {
    for (int64_t n : {1, 2, 3, 4, 5, 7, 8, 100, 257, 4096, 60000}) {
        std::vector<char> seen(n, 0);
        for (int64_t i = 0; i < n; ++i) {
            const int64_t s = shuffled(1, 2, i, n);
            REQUIRE(s >= 0);
            REQUIRE(s < n);
            REQUIRE(!seen[s]++);
        }
    }
    int same_epoch = 0, same_seed = 0;
    for (int64_t i = 0; i < 1000; ++i) {
        same_epoch += shuffled(1, 2, i, 1000) == shuffled(1, 3, i, 1000);
        same_seed += shuffled(1, 2, i, 1000) == shuffled(2, 2, i, 1000);
    }
    // About one coincidence is expected; eight have probability 1e-5, and the draws are fixed.
    CHECK(same_epoch < 8);
    CHECK(same_seed < 8);
    // All orders of four come, about equally often: chi squared with 23 degrees of freedom, mean
    // 23, sigma 6.8.
    std::map<std::string, int> orders;
    const int trials = 24 * 200;
    for (int epoch = 0; epoch < trials; ++epoch) {
        std::string order;
        for (int i = 0; i < 4; ++i) order += char('0' + shuffled(9, epoch, i, 4));
        ++orders[order];
    }
    CHECK(orders.size() == 24);
    double chi = 0;
    for (const auto& [order, count] : orders) chi += std::pow(count - 200.0, 2) / 200;
    CHECK(chi < 60);
    // Neighbours land apart: the mean distance of two random places is n / 3.
    double distance = 0;
    for (int64_t i = 0; i < 9999; ++i)
        distance += std::abs(double(shuffled(3, 0, i, 10000) - shuffled(3, 0, i + 1, 10000)));
    CHECK(distance / 9999 == doctest::Approx(3333).epsilon(0.05));
}

TEST_CASE("loader: augmentation") {
    float pca[3][3] = {{30, 1, 0}, {30, 0, 2}, {30, -1, -2}};
    SUBCASE("none is the centre") {
        const AugmentParams p = draw_augment(AugmentMode::none, 1, 2, 3, 256, 257, 227, pca);
        CHECK(p.y0 == 14);
        CHECK(p.x0 == 15);
        CHECK(p.mirror == 0);
        CHECK(p.noise[0] == 0);
    }
    SUBCASE("a function of its arguments") {
        const auto draw = [&](uint64_t seed, uint64_t epoch, uint64_t sample) {
            const AugmentParams p =
                draw_augment(AugmentMode::full, seed, epoch, sample, 256, 256, 227, pca);
            return std::array<float, 4>{float(p.y0), float(p.x0), float(p.mirror), p.noise[0]};
        };
        CHECK(draw(1, 2, 3) == draw(1, 2, 3));
        CHECK(draw(1, 2, 3) != draw(2, 2, 3));
        CHECK(draw(1, 2, 3) != draw(1, 3, 3));
        CHECK(draw(1, 2, 3) != draw(1, 2, 4));
        CHECK(draw(1, 2, 3) != draw(1, 2, 3 + (uint64_t(1) << 32)));
    }
    SUBCASE("crops cover every place evenly, half are mirrored, noise has its covariance") {
        const int n = 30000;
        std::vector<int> y(30, 0), x(30, 0);
        double mirrored = 0, along[3] = {}, first = 0, together = 0;
        for (int i = 0; i < n; ++i) {
            const AugmentParams p = draw_augment(AugmentMode::full, 7, 0, i, 256, 256, 227, pca);
            REQUIRE(p.y0 >= 0);
            REQUIRE(p.y0 <= 29);
            REQUIRE(p.x0 >= 0);
            REQUIRE(p.x0 <= 29);
            ++y[p.y0], ++x[p.x0];
            mirrored += p.mirror;
            together += (p.y0 - 14.5) * (p.x0 - 14.5);
            for (int ch = 0; ch < 3; ++ch) along[ch] += p.noise[ch] * p.noise[ch];
            first += p.noise[0];
            const AugmentParams c = draw_augment(AugmentMode::crop, 7, 0, i, 256, 256, 227, pca);
            REQUIRE(c.y0 == p.y0);
            REQUIRE(c.noise[2] == 0);
        }
        // 1000 expected in each place with sigma 31: five sigmas.
        for (int k = 0; k < 30; ++k) {
            CHECK(std::abs(y[k] - 1000) < 156);
            CHECK(std::abs(x[k] - 1000) < 156);
        }
        CHECK(std::abs(mirrored / n - 0.5) < 5 * 0.5 / std::sqrt(n));
        // variance of a place: (30^2 - 1) / 12 = 74.9
        CHECK(std::abs(together / n) < 5 * 75 / std::sqrt(n));
        // Variance of channel c is 0.01 * sum over k of pca[c][k]^2, its estimate's relative sigma
        // sqrt(2 / n).
        for (int ch = 0; ch < 3; ++ch) {
            const double want = 0.01 * (pca[ch][0] * pca[ch][0] + pca[ch][1] * pca[ch][1] +
                                        pca[ch][2] * pca[ch][2]);
            CHECK(along[ch] / n == doctest::Approx(want).epsilon(5 * std::sqrt(2.0 / n)));
        }
        CHECK(std::abs(first / n) < 5 * 3 / std::sqrt(n));
    }
    SUBCASE("a crop of the whole image") {
        const AugmentParams p = draw_augment(AugmentMode::crop, 1, 1, 1, 67, 67, 67, pca);
        CHECK(p.y0 == 0);
        CHECK(p.x0 == 0);
    }
}

TEST_CASE("loader: batches do not depend on threads or depth") {
    const Numbered d(103);
    LoaderOptions o = options(20);
    const auto one = take(d, o, 23);
    for (const auto& [threads, depth] : {std::pair{2, 2}, {5, 3}, {3, 8}}) {
        o.threads = threads, o.depth = depth;
        CHECK(take(d, o, 23) == one);
    }
    // And they are what they should be: an epoch sees 100 different images, each with its label.
    std::set<int> seen;
    for (int b = 0; b < 5; ++b)
        for (const Row& r : one[b]) {
            CHECK(r.label == r.image % 10);
            CHECK(seen.insert(r.image).second);
        }
    CHECK(one[0] != one[5]);
}

// Images whose every pixel tells where it is.
struct Places : Dataset {
    bool straight;  // crops are read from where the pixels are
    mutable std::mutex mutex;
    mutable std::vector<int64_t> wanted;
    mutable std::atomic<int64_t> whole{0};
    explicit Places(bool straight_) : straight(straight_) {
        height = 9, width = 8, channels = 3;
        classes.assign(10, "x");
    }
    static uint8_t pixel(int64_t i, int y, int x, int ch) {
        return uint8_t(i * 31 + y * 64 + x * 5 + ch);
    }
    int64_t size() const override { return 50; }
    int label(int64_t i) const override { return int(i % 10); }
    bool load(int64_t i, uint8_t* out) const override {
        ++whole;
        if (i == 20) return false;
        for (int y = 0; y < height; ++y)
            for (int x = 0; x < width; ++x)
                for (int ch = 0; ch < 3; ++ch) *out++ = pixel(i, y, x, ch);
        return true;
    }
    bool load_crop(int64_t i, int y0, int x0, int side, uint8_t* out) const override {
        if (!straight) return Dataset::load_crop(i, y0, x0, side, out);
        if (i == 20) return false;
        std::vector<uint8_t> image(size_t(height) * width * 3);
        for (size_t at = 0; at < image.size(); ++at)
            image[at] = pixel(i, int(at / 3) / width, int(at / 3) % width, int(at % 3));
        copy_crop(image.data(), y0, x0, side, out);
        return true;
    }
    void will_load(int64_t i) const override {
        const std::lock_guard lock(mutex);  // several loaders have one set
        wanted.push_back(i);
    }
};

TEST_CASE("loader: crops alone are the crops of the whole images") {
    for (const bool straight : {false, true})
        for (const bool evaluation : {false, true}) {
            const Places data(straight);
            LoaderOptions o = options(7);
            o.out = 5;
            o.evaluation = evaluation;
            o.mode = evaluation ? AugmentMode::none : AugmentMode::full;
            o.shuffle = !evaluation;
            Loader whole(data, o);
            o.crops = true;
            Loader crops(data, o);
            for (int b = 0; b < 12; ++b) {
                Batch &w = whole.next(), &c = crops.next();
                for (int r = 0; r < 7; ++r) {
                    const AugmentParams p = w.params[r], q = c.params[r];
                    CHECK(c.labels[r] == w.labels[r]);
                    CHECK((q.y0 == 0 && q.x0 == 0 && q.mirror == p.mirror));
                    CHECK(std::equal(p.noise, p.noise + 3, q.noise));
                    bool same = true;
                    for (int y = 0; y < 5; ++y)
                        for (int x = 0; x < 15; ++x)
                            same = same && c.images[(r * 5 + y) * 15 + x] ==
                                               w.images[((r * 9 + p.y0 + y) * 8 + p.x0) * 3 + x];
                    CHECK(same);
                }
                whole.release(w);
                crops.release(c);
            }
        }
}

TEST_CASE("loader: reading begins some batches ahead, in the shuffled order") {
    const Places data(true);
    LoaderOptions o = options(10);
    o.out = 5, o.depth = 2;
    std::vector<int64_t> order;
    for (int64_t i = 0; i < 100; ++i)
        order.push_back(shuffled(o.seed, uint64_t(i / 50), i % 50, 50));
    {
        Loader loader(data, o);
        for (int b = 0; b < 3; ++b) loader.release(loader.next());
    }
    // Batches 0 to 2 were filled, so that of 3 and more is told too, each image once and in order.
    REQUIRE(data.wanted.size() >= 50);
    CHECK(data.wanted.size() % 10 == 0);
    CHECK(data.wanted.size() <= 80);
    CHECK(std::equal(data.wanted.begin(), data.wanted.end(), order.begin()));
}

TEST_CASE("loader: an epoch of steps of several batches drops what is no whole step") {
    const Numbered data(50);
    LoaderOptions o = options(4);
    o.batches_per_step = 3;  // 12 images: 4 steps of an epoch, and 2 images are left
    Loader loader(data, o);
    CHECK(loader.steps_per_epoch() == 12);
    CHECK(loader.dropped_per_epoch() == 2);
    LoaderOptions large = options(12);
    const auto wanted = take(data, large, 9), got = take(data, o, 27);
    for (int step = 0; step < 9; ++step)
        for (int part = 0; part < 3; ++part)
            CHECK(std::equal(got[step * 3 + part].begin(), got[step * 3 + part].end(),
                             wanted[step].begin() + part * 4));
    o.batches_per_step = 13;
    CHECK_THROWS_WITH_AS(Loader(data, o), doctest::Contains("13 batches of 4 images do not fit"),
                         Error);
}

TEST_CASE("loader: two workers share the rows of the one-worker batch") {
    const Numbered d(103);
    LoaderOptions o = options(24);
    const auto whole = take(d, o, 9);
    o.global_batch = 24;
    o.batch = 14;
    const auto first = take(d, o, 9);
    o.batch = 10, o.row0 = 14;
    const auto second = take(d, o, 9);
    for (int b = 0; b < 9; ++b) {
        std::vector<Row> both = first[b];
        both.insert(both.end(), second[b].begin(), second[b].end());
        CHECK(both == whole[b]);
    }
}

TEST_CASE("loader: a run resumed at step k sees what it would have seen") {
    const Numbered d(103);
    LoaderOptions o = options(20);
    const auto all = take(d, o, 14);
    for (int k : {1, 4, 5, 11}) {
        o.start_step = k;
        const auto rest = take(d, o, 14 - k);
        for (int b = 0; b < 14 - k; ++b) CHECK(rest[b] == all[k + b]);
    }
}

TEST_CASE("loader: evaluation pads the last batch and starts over") {
    const Numbered d(45);
    LoaderOptions o = options(10);
    o.global_batch = 20;
    o.shuffle = false, o.evaluation = true, o.mode = AugmentMode::none;
    std::vector<int> seen(45, 0);
    for (int row0 : {0, 10}) {
        o.row0 = row0;
        Loader loader(d, o);
        CHECK(loader.steps_per_epoch() == 3);
        CHECK(loader.dropped_per_epoch() == 0);
        for (int pass = 0; pass < 2; ++pass)
            for (int b = 0; b < 3; ++b) {
                Batch& batch = loader.next();
                CHECK(batch.valid == (b < 2 ? 10 : row0 == 0 ? 5 : 0));
                CHECK(batch.epoch == uint64_t(pass));
                for (int r = 0; r < 10; ++r) {
                    const int64_t position = b * 20 + row0 + r;
                    if (position < 45) {
                        CHECK(batch.labels[r] == position % 10);
                        CHECK(batch.images[r * 36] == position);
                        ++seen[position];
                    } else {
                        CHECK(batch.labels[r] == -1);
                        CHECK(batch.images[r * 36] == 0);
                    }
                }
                loader.release(batch);
            }
    }
    CHECK(std::all_of(seen.begin(), seen.end(), [](int c) { return c == 2; }));
}

TEST_CASE(
    "loader: labels are the network's numbers of classes; ready() says whether next() would wait") {
    const Numbered data(10);
    LoaderOptions o;
    o.batch = 5, o.out = 4, o.evaluation = true, o.shuffle = false;
    Loader plain(data, o);
    o.unit_of = {7, 5, 3, 1, 9, 8, 6, 4, 2, 0};
    Loader mapped(data, o);
    for (int b = 0; b < 2; ++b) {
        const Batch &x = plain.next(), &y = mapped.next();
        for (int i = 0; i < 5; ++i) CHECK(y.labels[i] == o.unit_of[x.labels[i]]);
    }
    while (!plain.ready()) std::this_thread::yield();
    const double waited = plain.wait_seconds();
    plain.next();
    CHECK(plain.wait_seconds() == waited);
}

TEST_CASE("loader: training drops the last partial batch and says how much") {
    const Numbered d(45);
    const Loader loader(d, options(20));
    CHECK(loader.steps_per_epoch() == 2);
    CHECK(loader.dropped_per_epoch() == 5);
}

TEST_CASE("loader: unreadable images") {
    Numbered d(50);
    d.broken = {7, 8, 49};
    LoaderOptions o = options(10);
    SUBCASE("training takes the next readable one, with its label, and counts each once") {
        const auto one = take(d, o, 15);
        CHECK(d.bad_count() == 3);
        std::map<int, int> seen;
        for (int b = 0; b < 5; ++b)
            for (const Row& r : one[b]) {
                CHECK(r.label == r.image % 10);
                ++seen[r.image];
            }
        CHECK(seen.size() == 47);
        CHECK(seen[9] == 3);
        CHECK(seen[0] == 2);
        o.threads = 4;
        CHECK(take(d, o, 15) == one);
    }
    SUBCASE("evaluation counts neither them nor a substitute") {
        o.evaluation = true, o.shuffle = false;
        Loader loader(d, o);
        Batch& batch = loader.next();
        CHECK(batch.valid == 8);
        CHECK(batch.labels[7] == -1);
        CHECK(batch.images[7 * 36] == 0);
        CHECK(batch.labels[9] == 9);
        loader.release(batch);
    }
    SUBCASE("none readable is an error in next()") {
        for (int64_t i = 0; i < 50; ++i) d.broken.insert(i);
        Loader loader(d, o);
        const std::string e = message<Error>([&] { loader.next(); });
        CHECK_MESSAGE((has(e, "no readable image among 50") && has(e, "broken")), e);
    }
}

TEST_CASE("loader: an error in a loading thread surfaces in next()") {
    Numbered d(50);
    d.throws = true;
    LoaderOptions o = options(10);
    o.threads = 3;
    Loader loader(d, o);
    const std::string e = message<Error>([&] {
        for (int b = 0; b < 5; ++b) loader.release(loader.next());
    });
    CHECK(e == "the disk is gone");
}

TEST_CASE("loader: what does not fit is refused") {
    const Numbered d(50);
    LoaderOptions o = options(32);
    o.global_batch = 64;
    const std::string e = message<Error>([&] { Loader loader(d, o); });
    CHECK_MESSAGE((has(e, "a batch of 64 images does not fit: the training split has 50") &&
                   has(e, "--batch 25 or less")),
                  e);
    o = options(10);
    o.out = 7;
    CHECK(has(message<Error>([&] { Loader loader(d, o); }), "a crop of 7 does not fit"));
    o = options(10);
    o.row0 = 5, o.global_batch = 12;
    CHECK(has(message<Error>([&] { Loader loader(d, o); }), "not part of a batch"));
}

TEST_CASE("loader: a batch given out stays as it is, and the threads stop at depth") {
    const Numbered d(100);
    LoaderOptions o = options(10);
    o.depth = 2, o.threads = 2;
    Loader loader(d, o);
    Batch& first = loader.next();
    const std::vector<uint8_t> before(first.images, first.images + 360);
    Batch& second = loader.next();
    CHECK(first.images != second.images);
    CHECK(has(message<Error>([&] { loader.next(); }), "all 2 batches are given out"));
    CHECK(d.loads == 20);  // nothing more fits
    CHECK(std::equal(before.begin(), before.end(), first.images));
    loader.release(first);
    CHECK(has(message<Error>([&] { loader.release(first); }), "not given out"));
    Batch& third = loader.next();
    CHECK(third.step == 2);
    loader.release(second);
    loader.release(third);
}
