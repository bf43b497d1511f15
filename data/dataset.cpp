#include "data/dataset.h"
#include "host/cuda/nearest.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <numeric>

#include "host/parallel_for.h"
#include "data/readers.h"

namespace wt {

int64_t Dataset::bad_count() const {
    std::lock_guard lock(bad_mutex_);
    return int64_t(bad_ids_.size());
}

std::vector<BadImage> Dataset::bad_images() const {
    std::lock_guard lock(bad_mutex_);
    return bad_;
}

void Dataset::note_bad(int64_t id, BadImage bad) const {
    std::lock_guard lock(bad_mutex_);
    if (bad_ids_.insert(id).second && bad_.size() < 10) bad_.push_back(std::move(bad));
}

bool Dataset::load_crop(int64_t i, int y0, int x0, int side, uint8_t* out) const {
    static thread_local std::vector<uint8_t> image;
    image.resize(size_t(height) * width * channels);
    if (!load(i, image.data())) return false;
    copy_crop(image.data(), y0, x0, side, out);
    return true;
}

void Dataset::copy_crop(const uint8_t* image, int y0, int x0, int side, uint8_t* out) const {
    const size_t row = size_t(side) * channels, pitch = size_t(width) * channels;
    const uint8_t* from = image + y0 * pitch + size_t(x0) * channels;
    for (int y = 0; y < side; ++y) std::memcpy(out + y * row, from + y * pitch, row);
}

int stored_size(int net_input, int native) {
    if (native > 0 && net_input <= native && net_input * 4 >= native * 3) return native;
    if (native > 2)
        return std::max(net_input, int(std::lround(net_input * double(native) / (native - 2))));
    if (net_input == 224) return 256;
    return std::max(net_input, int(std::lround(net_input * 256.0 / 227)));
}

namespace {

// Eigenvectors (columns of v) and eigenvalues of a symmetric 3x3 matrix, by Jacobi's rotations.
void eigen3(double a[3][3], double v[3][3], double value[3]) {
    for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 3; ++j) v[i][j] = i == j;
    for (int sweep = 0; sweep < 30; ++sweep)
        for (int p = 0; p < 2; ++p)
            for (int q = p + 1; q < 3; ++q) {
                if (a[p][q] == 0) continue;
                const double theta = (a[q][q] - a[p][p]) / (2 * a[p][q]);
                const double t =
                    (theta < 0 ? -1 : 1) / (std::abs(theta) + std::sqrt(theta * theta + 1));
                const double c = 1 / std::sqrt(t * t + 1), s = t * c;
                for (int k = 0; k < 3; ++k) {
                    const double kp = a[k][p], kq = a[k][q];
                    a[k][p] = c * kp - s * kq, a[k][q] = s * kp + c * kq;
                }
                for (int k = 0; k < 3; ++k) {
                    const double pk = a[p][k], qk = a[q][k];
                    a[p][k] = c * pk - s * qk, a[q][k] = s * pk + c * qk;
                }
                for (int k = 0; k < 3; ++k) {
                    const double kp = v[k][p], kq = v[k][q];
                    v[k][p] = c * kp - s * kq, v[k][q] = s * kp + c * kq;
                }
            }
    for (int i = 0; i < 3; ++i) value[i] = a[i][i];
}

// Sums are integers, so the result depends on no order of threads.
void measure_colours(DataSplits& s, int64_t samples) {
    const Dataset& d = *s.train;
    const int64_t n = std::min(samples, d.size());
    if (n < 1) return;
    struct Sums {
        uint64_t pixels = 0, x[3] = {}, xx[3][3] = {};
    } total;
    std::mutex mutex;
    const int64_t pixels = int64_t(d.height) * d.width;
    parallel_for(n, [&](int64_t k) {
        std::vector<uint8_t> image(pixels * d.channels);
        if (!d.load(k * d.size() / n, image.data())) return;
        Sums sum;
        sum.pixels = pixels;
        if (d.channels == 1) {
            uint64_t x = 0, xx = 0;
            for (int64_t i = 0; i < pixels; ++i) x += image[i], xx += uint32_t(image[i]) * image[i];
            for (int a = 0; a < 3; ++a) {
                sum.x[a] = x;
                for (int b = 0; b < 3; ++b) sum.xx[a][b] = xx;
            }
        } else {
            for (int64_t i = 0; i < pixels; ++i) {
                const uint32_t r = image[i * 3], g = image[i * 3 + 1], b = image[i * 3 + 2];
                sum.x[0] += r;
                sum.x[1] += g;
                sum.x[2] += b;
                sum.xx[0][0] += r * r;
                sum.xx[1][1] += g * g;
                sum.xx[2][2] += b * b;
                sum.xx[0][1] += r * g;
                sum.xx[0][2] += r * b;
                sum.xx[1][2] += g * b;
            }
            sum.xx[1][0] = sum.xx[0][1];
            sum.xx[2][0] = sum.xx[0][2];
            sum.xx[2][1] = sum.xx[1][2];
        }
        std::lock_guard lock(mutex);
        total.pixels += sum.pixels;
        for (int a = 0; a < 3; ++a) {
            total.x[a] += sum.x[a];
            for (int b = 0; b < 3; ++b) total.xx[a][b] += sum.xx[a][b];
        }
    });
    if (!total.pixels) return;
    const double count = double(total.pixels);
    double mean[3], cov[3][3];
    for (int a = 0; a < 3; ++a) {
        mean[a] = double(total.x[a]) / count;
        for (int b = 0; b < 3; ++b)
            cov[a][b] = double(total.xx[a][b]) / count -
                        (double(total.x[a]) / count) * (double(total.x[b]) / count);
    }
    set_colours(s, mean, cov);
}

// What kind of set a folder that was given without one seems to be; "" for no folder.
std::string kind_of_folder(const std::string& dir) {
    namespace fs = std::filesystem;
    std::error_code none;
    if (!fs::is_directory(dir, none)) return {};
    for (const char* name : {"data_batch_1.bin", "cifar-10-batches-bin"})
        if (fs::exists(dir + "/" + name, none)) return "cifar10";
    for (const char* name : {"train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"})
        if (fs::exists(dir + "/" + name, none)) return "mnist";
    if (fs::exists(dir + "/stats.json", none)) return "records";
    return "folder";
}

DataSplits open_kind(const DataSpec& spec) {
    const size_t colon = spec.text.find(':');
    const std::string kind = spec.text.substr(0, colon);
    const std::string argument = colon == std::string::npos ? "" : spec.text.substr(colon + 1);
    const auto folder = [&] {
        if (argument.empty())
            throw UsageError("--data " + spec.text + ": needs a folder: --data " + kind + ":DIR");
        return argument;
    };
    if (kind == "fashion-mnist") return open_fashion_mnist(argument, spec);
    if (kind == "mnist") return open_mnist(folder(), spec);
    if (kind == "cifar10") return open_cifar10(folder(), spec);
    if (kind == "folder") return open_folder(folder(), spec);
    if (kind == "records") return open_records(folder(), spec);
    if (kind == "synthetic") {
        int64_t classes = 1000,
                images = spec.train_images > 0 ? spec.train_images : kSyntheticImages;
        const auto number = [&](const std::string& text, int64_t& value, int64_t most,
                                const char* what) {
            const char* end = text.data() + text.size();
            const auto r = std::from_chars(text.data(), end, value);
            if (r.ec == std::errc() && r.ptr == end && value >= 1 && value <= most) return;
            throw UsageError("--data " + spec.text + ": the number of " + what + " must be 1 to " +
                             std::to_string(most));
        };
        const size_t second = argument.find(':');
        if (colon != std::string::npos)
            number(argument.substr(0, second), classes, 1'000'000, "classes");
        if (second != std::string::npos)
            number(argument.substr(second + 1), images, 1'000'000'000, "images");
        return open_synthetic(static_cast<int>(classes), images, spec);
    }
    if (const std::string guess = kind_of_folder(spec.text); !guess.empty())
        throw UsageError("--data " + spec.text + ": a folder is given with its kind: --data " +
                         guess + ":" + spec.text);
    throw UsageError(
        "--data " + spec.text + ": " +
        unknown_name("kind of data", kind,
                     {"fashion-mnist", "mnist", "cifar10", "folder", "records", "synthetic"}));
}

}  // namespace

void set_colours(DataSplits& s, const double (&mean)[3], double (&cov)[3][3]) {
    double vec[3][3], value[3];
    for (int a = 0; a < 3; ++a) {
        s.mean[a] = float(mean[a]);
        s.std_dev[a] = cov[a][a] > 1e-6 ? float(std::sqrt(cov[a][a])) : 1.0f;
    }
    eigen3(cov, vec, value);
    int by_size[3] = {0, 1, 2};
    std::sort(by_size, by_size + 3, [&](int a, int b) { return value[a] > value[b]; });
    for (int k = 0; k < 3; ++k)
        for (int ch = 0; ch < 3; ++ch)
            s.pca[ch][k] = float(vec[ch][by_size[k]] * std::sqrt(std::max(0.0, value[by_size[k]])));
}

DataSplits open_data(const DataSpec& spec) {
    DataSplits s = open_kind(spec);
    if (s.train && !s.measured) measure_colours(s, spec.statistics_from);
    return s;
}

}  // namespace wt
