// wgmma: D = A B + D of 64 x N tiles by a warpgroup (4 warps, the first one's number a multiple of
// 4), asynchronously, with A and B in shared memory (PTX 9.7.15). sm_90a.
//
// Order: wgmma_fence before the first and after any access to D; the products; wgmma_commit;
// wgmma_wait<n> before D is read or the operands' shared memory is written again. Operands written
// by ordinary stores need fence_proxy_async.
//
// D of thread T of the warpgroup, with warp = T/32, g = T%32/4, t = T%4: element i of N/2 is row 16
// warp + g + 8 (i/2 % 2), column 8 (i/4) + 2t + i%2.
//
// Descriptor of an operand (9.7.15.5.1.2.2), for tiles as TMA writes them with a swizzle of S =
// 128, 64 or 32 bytes:
//   K-major (k contiguous): rows of S bytes, 8 of them a group; `stride` = bytes from one group to
//     the next (8 S when dense); `leading` is not used. The next 16 k: start + 32 bytes, within the
//     S bytes.
//   MN-major (m or n contiguous; bf16 only; transpose set): rows of S bytes hold S/2 elements along
//     m or n; `stride` = bytes from 8 k to the next 8 (8 S when dense), `leading` = bytes from one
//     slab of S/2 elements to the next. The next 16 k: start + 16 S.
// Swizzled tiles lie at multiples of 8 S bytes, where the swizzle's pattern repeats, and base
// offsets are 0. A descriptor may start at any row of one (test/test_ptx_wgmma_sm90.cu).
#pragma once

#include "kernels/ptx/ptx.h"

namespace wt::ptx {

// as descriptors encode them
enum class Swizzle : uint8_t { none = 0, b128 = 1, b64 = 2, b32 = 3 };

constexpr Swizzle swizzle_of(int bytes) {
    return bytes == 128  ? Swizzle::b128
           : bytes == 64 ? Swizzle::b64
           : bytes == 32 ? Swizzle::b32
                         : Swizzle::none;
}

__device__ __forceinline__ uint64_t wgmma_descriptor(const void* start, uint32_t leading,
                                                     uint32_t stride, Swizzle swizzle) {
#ifdef VGPU
    const uint32_t address = vgpu::shared_address(start);
#else
    const uint32_t address = shared_address(start);
#endif
    return static_cast<uint64_t>((address & 0x3ffff) >> 4) |
           static_cast<uint64_t>((leading & 0x3ffff) >> 4) << 16 |
           static_cast<uint64_t>((stride & 0x3ffff) >> 4) << 32 |
           static_cast<uint64_t>(swizzle) << 62;
}
// The descriptor of the tile that starts `bytes` further on.
__device__ __forceinline__ uint64_t wgmma_advance(uint64_t descriptor, uint32_t bytes) {
    return descriptor + (bytes >> 4);
}

__device__ __forceinline__ void wgmma_fence(WT_SITE) {
#ifdef VGPU
    vgpu::wgmma_fence(site);
#else
    asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
#endif
}

__device__ __forceinline__ void wgmma_commit(WT_SITE) {
#ifdef VGPU
    vgpu::wgmma_commit(site);
#else
    asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
#endif
}

// Waits until at most the n newest groups are under way.
template <int n>
__device__ __forceinline__ void wgmma_wait(WT_SITE) {
#ifdef VGPU
    vgpu::wgmma_wait(n, site);
#else
    asm volatile("wgmma.wait_group.sync.aligned %0;" ::"n"(n) : "memory");
#endif
}

// Keeps the compiler from moving accesses to accumulators across a fence or wait. No instruction.
template <int n>
__device__ __forceinline__ void wgmma_keep([[maybe_unused]] float (&d)[n]) {
#ifndef VGPU
#pragma unroll
    for (int i = 0; i < n; ++i) asm volatile("" : "+f"(d[i])::"memory");
#endif
}

#ifndef VGPU
// Operand lists of the instructions below, 8 registers at a time.
#define WT_R0 "%0,%1,%2,%3,%4,%5,%6,%7"
#define WT_R8 ",%8,%9,%10,%11,%12,%13,%14,%15"
#define WT_R16 ",%16,%17,%18,%19,%20,%21,%22,%23"
#define WT_R24 ",%24,%25,%26,%27,%28,%29,%30,%31"
#define WT_R32 ",%32,%33,%34,%35,%36,%37,%38,%39"
#define WT_R40 ",%40,%41,%42,%43,%44,%45,%46,%47"
#define WT_R48 ",%48,%49,%50,%51,%52,%53,%54,%55"
#define WT_R56 ",%56,%57,%58,%59,%60,%61,%62,%63"
#define WT_R64 ",%64,%65,%66,%67,%68,%69,%70,%71"
#define WT_R72 ",%72,%73,%74,%75,%76,%77,%78,%79"
#define WT_R80 ",%80,%81,%82,%83,%84,%85,%86,%87"
#define WT_R88 ",%88,%89,%90,%91,%92,%93,%94,%95"
#define WT_R96 ",%96,%97,%98,%99,%100,%101,%102,%103"
#define WT_R104 ",%104,%105,%106,%107,%108,%109,%110,%111"
#define WT_R112 ",%112,%113,%114,%115,%116,%117,%118,%119"
#define WT_R120 ",%120,%121,%122,%123,%124,%125,%126,%127"
#define WT_D8(i)                                                                                \
    "+f"(d[i]), "+f"(d[i + 1]), "+f"(d[i + 2]), "+f"(d[i + 3]), "+f"(d[i + 4]), "+f"(d[i + 5]), \
        "+f"(d[i + 6]), "+f"(d[i + 7])
#endif

// D = A B + (accumulate ? D : 0). transpose: the operand is MN-major.
template <int N, bool TransposeA = false, bool TransposeB = false>
__device__ __forceinline__ void wgmma_bf16(float (&d)[N / 2], uint64_t a, uint64_t b,
                                           bool accumulate WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::wgmma(d, N, vgpu::WgmmaType::bf16, a, b, accumulate, TransposeA, TransposeB, site);
#else
    if constexpr (N == 16) {
        asm volatile(
            "{\n.reg .pred p;\nsetp.ne.b32 p, %10, 0;\n"
            "wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {" WT_R0
            "}, %8, %9, p, 1, 1, %11, %12;\n}\n"
            : WT_D8(0)
            : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(int(TransposeA)),
              "n"(int(TransposeB)));
    } else if constexpr (N == 32) {
        asm volatile(
            "{\n.reg .pred p;\nsetp.ne.b32 p, %18, 0;\n"
            "wgmma.mma_async.sync.aligned.m64n32k16.f32.bf16.bf16 {" WT_R0 WT_R8
            "}, %16, %17, p, 1, 1, %19, %20;\n}\n"
            : WT_D8(0), WT_D8(8)
            : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(int(TransposeA)),
              "n"(int(TransposeB)));
    } else if constexpr (N == 48) {
        asm volatile(
            "{\n.reg .pred p;\nsetp.ne.b32 p, %26, 0;\n"
            "wgmma.mma_async.sync.aligned.m64n48k16.f32.bf16.bf16 {" WT_R0 WT_R8 WT_R16
            "}, %24, %25, p, 1, 1, %27, %28;\n}\n"
            : WT_D8(0), WT_D8(8), WT_D8(16)
            : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(int(TransposeA)),
              "n"(int(TransposeB)));
    } else if constexpr (N == 64) {
        asm volatile(
            "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
            "wgmma.mma_async.sync.aligned.m64n64k16.f32.bf16.bf16 {" WT_R0 WT_R8 WT_R16 WT_R24
            "}, %32, %33, p, 1, 1, %35, %36;\n}\n"
            : WT_D8(0), WT_D8(8), WT_D8(16), WT_D8(24)
            : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(int(TransposeA)),
              "n"(int(TransposeB)));
    } else if constexpr (N == 96) {
        asm volatile(
            "{\n.reg .pred p;\nsetp.ne.b32 p, %50, 0;\n"
            "wgmma.mma_async.sync.aligned.m64n96k16.f32.bf16.bf16 {" WT_R0 WT_R8 WT_R16 WT_R24
                WT_R32 WT_R40 "}, %48, %49, p, 1, 1, %51, %52;\n}\n"
            : WT_D8(0), WT_D8(8), WT_D8(16), WT_D8(24), WT_D8(32), WT_D8(40)
            : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(int(TransposeA)),
              "n"(int(TransposeB)));
    } else if constexpr (N == 112) {
        asm volatile(
            "{\n.reg .pred p;\nsetp.ne.b32 p, %58, 0;\n"
            "wgmma.mma_async.sync.aligned.m64n112k16.f32.bf16.bf16 {" WT_R0 WT_R8 WT_R16 WT_R24
                WT_R32 WT_R40 WT_R48 "}, %56, %57, p, 1, 1, %59, %60;\n}\n"
            : WT_D8(0), WT_D8(8), WT_D8(16), WT_D8(24), WT_D8(32), WT_D8(40), WT_D8(48)
            : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(int(TransposeA)),
              "n"(int(TransposeB)));
    } else if constexpr (N == 128) {
        asm volatile(
            "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
            "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16 {" WT_R0 WT_R8 WT_R16 WT_R24
                WT_R32 WT_R40 WT_R48 WT_R56 "}, %64, %65, p, 1, 1, %67, %68;\n}\n"
            : WT_D8(0), WT_D8(8), WT_D8(16), WT_D8(24), WT_D8(32), WT_D8(40), WT_D8(48), WT_D8(56)
            : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(int(TransposeA)),
              "n"(int(TransposeB)));
    } else if constexpr (N == 160) {
        asm volatile(
            "{\n.reg .pred p;\nsetp.ne.b32 p, %82, 0;\n"
            "wgmma.mma_async.sync.aligned.m64n160k16.f32.bf16.bf16 {" WT_R0 WT_R8 WT_R16 WT_R24
                WT_R32 WT_R40 WT_R48 WT_R56 WT_R64 WT_R72 "}, %80, %81, p, 1, 1, %83, %84;\n}\n"
            : WT_D8(0), WT_D8(8), WT_D8(16), WT_D8(24), WT_D8(32), WT_D8(40), WT_D8(48), WT_D8(56),
              WT_D8(64), WT_D8(72)
            : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(int(TransposeA)),
              "n"(int(TransposeB)));
    } else if constexpr (N == 192) {
        asm volatile(
            "{\n.reg .pred p;\nsetp.ne.b32 p, %98, 0;\n"
            "wgmma.mma_async.sync.aligned.m64n192k16.f32.bf16.bf16 {" WT_R0 WT_R8 WT_R16 WT_R24
                WT_R32 WT_R40 WT_R48 WT_R56 WT_R64 WT_R72 WT_R80 WT_R88
            "}, %96, %97, p, 1, 1, %99, %100;\n}\n"
            : WT_D8(0), WT_D8(8), WT_D8(16), WT_D8(24), WT_D8(32), WT_D8(40), WT_D8(48), WT_D8(56),
              WT_D8(64), WT_D8(72), WT_D8(80), WT_D8(88)
            : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(int(TransposeA)),
              "n"(int(TransposeB)));
    } else if constexpr (N == 256) {
        asm volatile(
            "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"
            "wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16 {" WT_R0 WT_R8 WT_R16 WT_R24
                WT_R32 WT_R40 WT_R48 WT_R56 WT_R64 WT_R72 WT_R80 WT_R88 WT_R96 WT_R104 WT_R112
                    WT_R120 "}, %128, %129, p, 1, 1, %131, %132;\n}\n"
            : WT_D8(0), WT_D8(8), WT_D8(16), WT_D8(24), WT_D8(32), WT_D8(40), WT_D8(48), WT_D8(56),
              WT_D8(64), WT_D8(72), WT_D8(80), WT_D8(88), WT_D8(96), WT_D8(104), WT_D8(112),
              WT_D8(120)
            : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)), "n"(int(TransposeA)),
              "n"(int(TransposeB)));
    } else {
        static_assert(N == 0, "no wgmma of this width here");
    }
#endif
}

// Count products along k for each of Height x 64 rows: the instructions above, k outermost. Virtual
// GPUs take all of them in one call, which is most of what an instruction costs there. Steps has
// kHeight, kCount and, in bytes from where a and b start, constexpr a(h, j) and b(j): operands of
// accumulators d[h], step j.
template <int N, bool TransposeA, bool TransposeB, class Steps>
__device__ __forceinline__ void wgmma_bf16_tile(float (&d)[Steps::kHeight][N / 2], uint64_t a,
                                                uint64_t b, bool accumulate WT_COMMA_SITE) {
#ifdef VGPU
    struct Table {
        uint32_t of[Steps::kCount][Steps::kHeight + 1];
    };
    static constexpr Table table = [] {
        Table t{};
        for (int j = 0; j < Steps::kCount; ++j) {
            for (int h = 0; h < Steps::kHeight; ++h) t.of[j][h] = Steps::a(h, j) >> 4;
            t.of[j][Steps::kHeight] = Steps::b(j) >> 4;
        }
        return t;
    }();
    vgpu::wgmma_tile(d[0], N, a, b, accumulate, TransposeA, TransposeB, table.of[0], Steps::kHeight,
                     Steps::kCount, site);
#else
#pragma unroll
    for (int j = 0; j < Steps::kCount; ++j)
#pragma unroll
        for (int h = 0; h < Steps::kHeight; ++h)
            wgmma_bf16<N, TransposeA, TransposeB>(d[h], wgmma_advance(a, Steps::a(h, j)),
                                                  wgmma_advance(b, Steps::b(j)),
                                                  accumulate || j > 0);
#endif
}

// fp32 operands, whose low 13 bits are ignored; K-major both.
template <int N>
__device__ __forceinline__ void wgmma_tf32(float (&d)[N / 2], uint64_t a, uint64_t b,
                                           bool accumulate WT_COMMA_SITE) {
#ifdef VGPU
    vgpu::wgmma(d, N, vgpu::WgmmaType::tf32, a, b, accumulate, false, false, site);
#else
    if constexpr (N == 16) {
        asm volatile(
            "{\n.reg .pred p;\nsetp.ne.b32 p, %10, 0;\n"
            "wgmma.mma_async.sync.aligned.m64n16k8.f32.tf32.tf32 {" WT_R0 "}, %8, %9, p, 1, 1;\n}\n"
            : WT_D8(0)
            : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
    } else if constexpr (N == 32) {
        asm volatile(
            "{\n.reg .pred p;\nsetp.ne.b32 p, %18, 0;\n"
            "wgmma.mma_async.sync.aligned.m64n32k8.f32.tf32.tf32 {" WT_R0 WT_R8
            "}, %16, %17, p, 1, 1;\n}\n"
            : WT_D8(0), WT_D8(8)
            : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
    } else if constexpr (N == 48) {
        asm volatile(
            "{\n.reg .pred p;\nsetp.ne.b32 p, %26, 0;\n"
            "wgmma.mma_async.sync.aligned.m64n48k8.f32.tf32.tf32 {" WT_R0 WT_R8 WT_R16
            "}, %24, %25, p, 1, 1;\n}\n"
            : WT_D8(0), WT_D8(8), WT_D8(16)
            : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
    } else if constexpr (N == 64) {
        asm volatile(
            "{\n.reg .pred p;\nsetp.ne.b32 p, %34, 0;\n"
            "wgmma.mma_async.sync.aligned.m64n64k8.f32.tf32.tf32 {" WT_R0 WT_R8 WT_R16 WT_R24
            "}, %32, %33, p, 1, 1;\n}\n"
            : WT_D8(0), WT_D8(8), WT_D8(16), WT_D8(24)
            : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
    } else if constexpr (N == 96) {
        asm volatile(
            "{\n.reg .pred p;\nsetp.ne.b32 p, %50, 0;\n"
            "wgmma.mma_async.sync.aligned.m64n96k8.f32.tf32.tf32 {" WT_R0 WT_R8 WT_R16 WT_R24 WT_R32
                WT_R40 "}, %48, %49, p, 1, 1;\n}\n"
            : WT_D8(0), WT_D8(8), WT_D8(16), WT_D8(24), WT_D8(32), WT_D8(40)
            : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
    } else if constexpr (N == 128) {
        asm volatile(
            "{\n.reg .pred p;\nsetp.ne.b32 p, %66, 0;\n"
            "wgmma.mma_async.sync.aligned.m64n128k8.f32.tf32.tf32 {" WT_R0 WT_R8 WT_R16 WT_R24
                WT_R32 WT_R40 WT_R48 WT_R56 "}, %64, %65, p, 1, 1;\n}\n"
            : WT_D8(0), WT_D8(8), WT_D8(16), WT_D8(24), WT_D8(32), WT_D8(40), WT_D8(48), WT_D8(56)
            : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
    } else if constexpr (N == 192) {
        asm volatile(
            "{\n.reg .pred p;\nsetp.ne.b32 p, %98, 0;\n"
            "wgmma.mma_async.sync.aligned.m64n192k8.f32.tf32.tf32 {" WT_R0 WT_R8 WT_R16 WT_R24
                WT_R32 WT_R40 WT_R48 WT_R56 WT_R64 WT_R72 WT_R80 WT_R88 "}, %96, %97, p, 1, 1;\n}\n"
            : WT_D8(0), WT_D8(8), WT_D8(16), WT_D8(24), WT_D8(32), WT_D8(40), WT_D8(48), WT_D8(56),
              WT_D8(64), WT_D8(72), WT_D8(80), WT_D8(88)
            : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
    } else if constexpr (N == 256) {
        asm volatile(
            "{\n.reg .pred p;\nsetp.ne.b32 p, %130, 0;\n"
            "wgmma.mma_async.sync.aligned.m64n256k8.f32.tf32.tf32 {" WT_R0 WT_R8 WT_R16 WT_R24
                WT_R32 WT_R40 WT_R48 WT_R56 WT_R64 WT_R72 WT_R80 WT_R88 WT_R96 WT_R104 WT_R112
                    WT_R120 "}, %128, %129, p, 1, 1;\n}\n"
            : WT_D8(0), WT_D8(8), WT_D8(16), WT_D8(24), WT_D8(32), WT_D8(40), WT_D8(48), WT_D8(56),
              WT_D8(64), WT_D8(72), WT_D8(80), WT_D8(88), WT_D8(96), WT_D8(104), WT_D8(112),
              WT_D8(120)
            : "l"(a), "l"(b), "r"(static_cast<int>(accumulate)));
    } else {
        static_assert(N == 0, "no wgmma of this width here");
    }
#endif
}

#ifndef VGPU
#undef WT_R0
#undef WT_R8
#undef WT_R16
#undef WT_R24
#undef WT_R32
#undef WT_R40
#undef WT_R48
#undef WT_R56
#undef WT_R64
#undef WT_R72
#undef WT_R80
#undef WT_R88
#undef WT_R96
#undef WT_R104
#undef WT_R112
#undef WT_R120
#undef WT_D8
#endif

// setmaxnreg (9.7.20.5): this warpgroup gives registers back or takes more, up to N a thread; each
// role of a kernel is one branch of one if. Needs __launch_bounds__ with a minimum of blocks.
template <int N>
__device__ __forceinline__ void registers_decrease(WT_SITE) {
    static_assert(N % 8 == 0 && N >= 24 && N <= 256);
#ifdef VGPU
    vgpu::set_max_registers(N, false, site);
#else
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(N));
#endif
}
template <int N>
__device__ __forceinline__ void registers_increase(WT_SITE) {
    static_assert(N % 8 == 0 && N >= 24 && N <= 256);
#ifdef VGPU
    vgpu::set_max_registers(N, true, site);
#else
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(N));
#endif
}

}  // namespace wt::ptx
