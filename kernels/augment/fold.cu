// Augmentation that writes 4 x 4 pixels as one of 48 channels (space to depth), as the first
// convolution reads its input on tensor cores: block after block, or in planes of 8 channels
// (kernels/common/planes.h). A block of threads writes one row of such blocks; a thread half of
// one, two of its four image rows: 2 x 12 bytes of the source become 24 neighbouring channels,
// three stores of 16 bytes.
//
// The source's 12 bytes begin anywhere: they come as the four aligned words that hold them, put
// right by three funnel shifts, and are turned round by byte permutations where the image is
// mirrored.
//
// In planes a warp's 16-byte stores are 512 contiguous bytes: 16 sectors a store and 3 stores for
// 32 half blocks, every sector whole, where elements stored one by one, 24 bytes apart from thread
// to thread, are 24 stores of 24 sectors for the same data, and L2 gets every sector 12 times.
// alexnet, batch 256: 40 MB read and 80 MB written, 28 us at 4.3 TB/s. Of 57 x 57 x 256 blocks two
// warps do a row, both halves of a block in a thread: 29,184 warps of 609 instructions (73, and 268
// for a half) are 33,700 issue slots of each scheduler, 19 us at 1.75 GHz; their 16 loads of 4
// wavefronts and 6 stores of 4 are 19,500 wavefronts an SM, 11 us. Predicted, not measured.
#include "kernels/augment/colour.h"
#include "kernels/common/pack.h"
#include "kernels/common/stream.h"
#include "kernels/ptx/griddep.h"

namespace wt::augment_fold {
namespace {

constexpr int kFold = 4, kRows = 2;  // rows: of a block, for a thread
constexpr int kRowBytes = 3 * kFold, kWords = kRowBytes / 4;
constexpr int kElements = kRows * kRowBytes, kStores = kElements / kPlaneChannels;

// Where a block's channels go: those of a block, and 8 channels of one, lie so many elements apart.
struct Strides {
    int64_t position, chunk;
};

// Bytes [at, at + 12) of the images, from the 16 that begin at the aligned word before them.
__device__ __forceinline__ void load_row(const uint8_t* images, int64_t at, uint32_t* row) {
    const uint32_t* from = reinterpret_cast<const uint32_t*>(images) + at / 4;
    uint32_t words[kWords + 1];
#pragma unroll
    for (int i = 0; i <= kWords; ++i) words[i] = from[i];
    const unsigned shift = static_cast<unsigned>(at % 4) * 8;
#pragma unroll
    for (int i = 0; i < kWords; ++i) row[i] = __funnelshift_r(words[i], words[i + 1], shift);
}

// The four pixels in the other order: bytes 9 10 11  6 7 8  3 4 5  0 1 2.
__device__ __forceinline__ void mirror_row(uint32_t* row) {
    const uint32_t a = row[0], b = row[1], c = row[2];
    row[0] = __byte_perm(b, c, 0x2765);                          // 9 10 11 6
    row[1] = __byte_perm(__byte_perm(a, b, 0x4307), c, 0x3240);  // 7 8 3 4
    row[2] = __byte_perm(a, b, 0x2105);                          // 5 0 1 2
}

template <class T>
__global__ void augment_fold_kernel(AugmentProblem p, AugmentColour colour, Strides strides,
                                    bool words, const uint8_t* images, const AugmentParams* params,
                                    T* y) {
    // The next kernel's blocks, which wait for this one's end, may start as the last of these do.
    ptx::griddep_launch_dependents();
    const int n = blockIdx.y, first_row = blockIdx.x * kFold - p.pad;
    if (n == p.n) {  // the planes' zeros behind the last position
        if (blockIdx.x) return;
        const float zeros[kPlaneChannels] = {};
        const int rest = static_cast<int>(plane_pitch(p.positions()) - p.positions());
#pragma unroll 1
        for (int plane = 0; plane < 2 * kStores; ++plane)
            for (int i = threadIdx.x; i < rest; i += blockDim.x)
                store_pack<kPlaneChannels>(
                    y + plane * strides.chunk + (p.positions() + i) * strides.position, zeros);
        return;
    }
    const AugmentParams a = params[n];
    const int64_t corner = ((int64_t(n) * p.src_h + a.y0) * p.src_w + a.x0) * p.src_c;
    const int64_t first_position = (int64_t(n) * p.fold_h + blockIdx.x) * p.fold_w;
    float add[3];
    for (int ch = 0; ch < 3; ++ch) add[ch] = (a.noise[ch] - colour.mean[ch]) * colour.inv_std[ch];

    for (int piece = threadIdx.x; piece < p.fold_w * 2; piece += blockDim.x) {
        // Neighbouring threads write neighbouring memory: in planes the same half of neighbouring
        // blocks, else the two halves of one.
        const int half = p.planes ? piece >= p.fold_w : piece % 2;
        const int column = p.planes ? piece - half * p.fold_w : piece / 2;
        const int j = column * kFold - p.pad, left = a.mirror ? p.out_w - kFold - j : j;
        uint32_t row[kRows][kWords] = {};
        bool row_inside[kRows];
#pragma unroll
        for (int r = 0; r < kRows; ++r) {
            const int i = first_row + half * kRows + r, line = a.y0 + i;
            row_inside[r] = i >= 0 && i < p.out_h;
            // A row's words reach into the rows beside it: there must be some.
            const bool between = (line > 0 || n > 0) && (line < p.src_h - 1 || n < p.n - 1);
            if (words && between && row_inside[r]) {
                load_row(images, corner + (i * p.src_w + left) * 3, row[r]);
                if (a.mirror) mirror_row(row[r]);
            } else if (row_inside[r]) {
                // Byte by byte; the first one moves down to its place.
#pragma unroll 1
                for (int e = 0; e < kRowBytes; ++e) {
                    const int b = j + e / 3, col = a.mirror ? p.out_w - 1 - b : b;
                    const int ch = p.src_c == 3 ? e % 3 : 0;
                    uint32_t v = 0;
                    if (b >= 0 && b < p.out_w)
                        v = images[corner + (i * p.src_w + col) * p.src_c + ch];
                    row[r][0] = __funnelshift_r(row[r][0], row[r][1], 8);
                    row[r][1] = __funnelshift_r(row[r][1], row[r][2], 8);
                    row[r][2] = row[r][2] >> 8 | v << 24;
                }
            }
        }
        bool inside[kFold];
#pragma unroll
        for (int b = 0; b < kFold; ++b) inside[b] = j + b >= 0 && j + b < p.out_w;
        float out[kStores][kPlaneChannels];
#pragma unroll
        for (int e = 0; e < kElements; ++e) {
            const int r = e / kRowBytes, b = e % kRowBytes, ch = b % 3;
            const float byte = static_cast<float>(row[r][b / 4] >> b % 4 * 8 & 255u);
            const float v = byte * colour.inv_std[ch] + add[ch];
            out[e / kPlaneChannels][e % kPlaneChannels] = inside[b / 3] & row_inside[r] ? v : 0.0f;
        }
        T* to = y + (first_position + column) * strides.position + half * kStores * strides.chunk;
#pragma unroll
        for (int i = 0; i < kStores; ++i)
            store_pack<kPlaneChannels>(to + i * strides.chunk, out[i]);
    }
}

std::string refuses(const AugmentProblem& p) {
    if (p.fold != kFold) return "writes images folded by 4";
    if (p.n >= kMaxGridY) return "at most 65,534 images";
    if (int64_t(p.src_h) * p.src_w * p.src_c >= int64_t(1) << 31)
        return "images of less than 2^31 bytes";
    return augment_refuses(p);
}

// Whether rows of the source may be read in words: of three channels, and no row of blocks reaches
// further out of the crop than into the stored images' neighbouring rows.
bool in_words(const AugmentProblem& p) {
    const int beyond = std::max(p.pad, p.fold_w * kFold - p.pad - p.out_w);
    return p.src_c == 3 && p.src_w >= beyond + 8;
}

void run(const AugmentProblem& p, const AugmentArgs& a) {
    if (!p.n) return;
    const Strides strides = p.planes
                                ? Strides{.position = kPlaneChannels,
                                          .chunk = plane_pitch(p.positions()) * kPlaneChannels}
                                : Strides{.position = kFold * kRowBytes, .chunk = kPlaneChannels};
    // A thread does both halves of a block, or of two one each: what it works out first pays twice.
    const int threads = std::min<int>(plan_overrides.stream_threads, ceil_div(p.fold_w, 32) * 32);
    by_dtype(p.dtype, [&]<class T>() {
        launch("augment_fold", {dim3(p.fold_h, p.n + (p.planes ? 1 : 0)), dim3(threads), a.stream},
               augment_fold_kernel<T>, p, augment_colour(a), strides, in_words(p), a.images,
               a.params, static_cast<T*>(a.y));
    });
}

}  // namespace

extern const Augment variant;
const Augment variant{.name = "fold", .refuses = refuses, .workspace = nullptr, .launch = run};

}  // namespace wt::augment_fold
