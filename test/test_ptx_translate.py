#!/usr/bin/env python3
"""Tests of the translation of PTX to C++: what is refused, with the line; what is taken."""
import os
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, 'host/vgpu/ptx_exec'))
import parse       # noqa: E402
import translate   # noqa: E402

HEAD = '''.version 9.0
.target sm_90a
.address_size 64
.file 1 "kernels/a/b.cu"
.file 2 "kernels/ptx/w.h"
.extern .shared .align 1024 .b8 memory[];
.const .align 4 .b8 table[4] = {1, 2, 3, 4};
.visible .entry _Z1kPfi(
	.param .u64 _Z1kPfi_param_0,
	.param .align 8 .b8 _Z1kPfi_param_1[16]
)
.maxntid 256, 1, 1
{
	.local .align 8 .b8 depot[32];
	.reg .pred %p<4>;
	.reg .b16 %rs<4>;
	.reg .f32 %f<64>;
	.reg .f64 %fd<4>;
	.reg .b32 %r<8>;
	.reg .b64 %rd<8>;
'''
TAIL = '\n\tret;\n}\n'
FIRST = HEAD.count('\n') + 1      # the line of the first instruction


def code_of(body):
    return translate.translate(HEAD + body + TAIL, 'a.ptx', lambda path: path)[0]


class Refused(unittest.TestCase):
    def refuse(self, body, why, line=FIRST):
        with self.assertRaises(parse.PtxError) as caught:
            code_of(body)
        self.assertIn(why, caught.exception.why)
        self.assertEqual(caught.exception.line, line)

    def test_forms(self):
        for text in ('add.s33 %r1, %r2, %r3;', 'frobnicate.b32 %r1, %r2;', 'add.rz.f32 %f1, %f2, %f3;',
                     'add.ftz.s32 %r1, %r2, %r3;', 'mad.hi.s32 %r1, %r2, %r3, %r4;',
                     'ld.global.v3.f32 %f1, [%rd1];', 'ld.global.b128 %rd1, [%rd1];',
                     'ldmatrix.sync.aligned.m8n8.x3.shared.b16 {%r1,%r2,%r3}, [%r4];',
                     'ldmatrix.sync.m8n8.x4.shared.b16 {%r1,%r2,%r3,%r4}, [%r5];',
                     'mma.sync.aligned.m16n8k16.col.row.f32.bf16.bf16.f32 {%f1,%f2,%f3,%f4}, '
                     '{%r1,%r2,%r3,%r4}, {%r5,%r6}, {%f1,%f2,%f3,%f4};',
                     'wgmma.mma_async.sync.aligned.m64n16k16.f32.f16.f16 {%f1}, %rd1, %rd2, %p1, 1, 1, 0, 0;',
                     'cvt.rz.bf16.f32 %rs1, %f1;', 'fence.proxy.tensormap;', 'bar.sync.aligned 0;',
                     'mbarrier.arrive.relaxed.cta.shared::cta.b64 _, [%r1];', 'call f;',
                     'cp.async.bulk.tensor.1d.global.shared::cta.bulk_group [%rd1, {%r1}], [%r2];'):
            self.refuse(text, 'is not a form that is known')

    def test_operands(self):
        self.refuse('add.s32 %r1, %r2;', '3 operands, not 2')
        self.refuse('add.s32 %r1, %r2, %r3, %r4;', '3 operands, not 4')
        self.refuse('add.s32 %r1, %r2, %f3;', 'a register of type .f32 where .u32 is expected')
        self.refuse('add.f32 %f1, %f2, %rs3;', 'a register of type .b16 where .f32 is expected')
        self.refuse('add.s64 %rd1, %rd2, %r3;', 'a register of type .b32 where .u64 is expected')
        self.refuse('mul.wide.s32 %r1, %r2, %r3;', 'a register of type .b32 where .s64 is expected')
        self.refuse('setp.lt.s32 %r1, %r2, %r3;', 'a register of type .b32 where .pred is expected')
        self.refuse('selp.f32 %f1, %f2, %f3, %r1;', 'a register of type .b32 where .pred is expected')
        self.refuse('setp.lt.b32 %p1, %r2, %r3;', '.lt of .b32')
        self.refuse('setp.hi.s32 %p1, %r2, %r3;', '.hi of .s32')
        self.refuse('setp.gtu.s32 %p1, %r2, %r3;', '.gtu of .s32')
        self.refuse('setp.lt.and.s32 %p1, %r2, %r3;', 'a predicate to combine with')
        self.refuse('add.f32 %f1, %f2, 0d3FF0000000000000;', 'a number of type .f64')
        self.refuse('add.f32 %f1, %f2, 1;', 'the integer 1 where .f32 is expected')
        self.refuse('add.s32 %r1, %r2, 0f3F800000;', 'a number of type .f32')
        self.refuse('add.s32 5, %r2, %r3;', 'a register of type .u32 is expected')
        self.refuse('ld.global.v4.f32 {%f1, %f2}, [%rd1];', 'a vector of 4 is expected')
        self.refuse('ld.global.v4.f64 {%fd1, %fd1, %fd1, %fd1}, [%rd1];', 'a vector of 32 bytes')
        self.refuse('ld.global.f32 %f1, [%r1];', 'an address is a register of 64 bits')
        self.refuse('ld.global.f32 %f1, %rd1;', 'an address is expected')
        self.refuse('ld.global.f32 %f1, [memory];', 'memory is in shared memory')
        self.refuse('ld.shared.f32 %f1, [depot];', 'depot is not in shared memory')
        self.refuse('ld.global.u64 %r1, [%rd1];', 'a register of type .b32 where .u64 is expected')
        self.refuse('st.global.f32 [%rd1], %fd1;', 'a register of type .f64 where .f32 is expected')
        self.refuse('mov.u32 %r1, nobody;', 'nobody is not declared')
        self.refuse('mov.u32 %r1, %clock;', '%clock is not supported')
        self.refuse('cp.async.cg.shared.global [%r1], [%rd1], 8;', 'the constant 8 is not one of 16')
        self.refuse('wgmma.wait_group.sync.aligned 8;', 'the constant 8 is not one of')
        self.refuse('wgmma.wait_group.sync.aligned %r1;', 'a constant is expected')
        self.refuse('setmaxnreg.inc.sync.aligned.u32 236;', 'the constant 236 is not one of')
        self.refuse('elect.sync %r1|%p1, 0xffffffff;', '_|p')
        self.refuse('mbarrier.arrive.release.cta.shared::cta.b64 %rd1, [%r1];', '_ is expected')
        self.refuse('mbarrier.arrive.release.cta.shared::cluster.b64 %rd1, [%r1];', '_ is expected')
        self.refuse('max.NaN.bf16x2 %r1, %r2, %f3;', 'a register of type .f32')
        self.refuse('bra nowhere;', 'a label of this kernel is expected')
        self.refuse('cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd1, {%r1, %r2, %r3}], [%r4];',
                    'a vector of 2 is expected')
        self.refuse('cp.async.bulk.tensor.2d.global.shared::cta.bulk_group [%rd1], [%r4];',
                    'coordinates of a tensor are expected')

    def test_wgmma(self):
        d = ', '.join(f'%f{i}' for i in range(8))
        form = 'wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16'
        self.refuse(f'{form} {{{d}}}, %rd1, %rd2, %p1, 1, 1, 0;', 'has 6 or 8 operands, not 7')
        self.refuse(f'{form} {{{d}}}, %rd1, %rd2, %p1, 1, 1;', 'the transpositions go with .bf16')
        self.refuse(f'{form} {{{d}}}, %rd1, %rd2, %p1, -1, 1, 0, 0;', 'the constant -1')
        self.refuse(f'{form} {{{d}}}, %rd1, %rd2, %p1, 1, 1, 0, 2;', 'the constant 2')
        self.refuse(f'{form} {{{d}}}, %r1, %rd2, %p1, 1, 1, 0, 0;', 'where .b64 is expected')
        self.refuse(f'{form} {{{d}, %f9}}, %rd1, %rd2, %p1, 1, 1, 0, 0;', '8 accumulators are expected')
        other = ', '.join(f'%f{i}' for i in (1, 0, 2, 3, 4, 5, 6, 7))
        self.refuse(f'{form} {{{d}}}, %rd1, %rd2, %p1, 1, 1, 0, 0;\n'
                    f'{form} {{{other}}}, %rd1, %rd2, %p1, 1, 1, 0, 0;', 'at another place', FIRST + 1)

    def test_syntax(self):
        self.refuse('mov.u32 %r1, %r99;', '%r99 is not declared')
        self.refuse('mov.u32 %r1, ;', 'an operand is missing')
        self.refuse('mov.u32 %r1, 12x;', '12x is no operand')
        self.refuse('mov.f32 %f1, 0f3F8;', '0f3F8 is no number')
        self.refuse('ld.global.f32 %f1, [%rd1 * 4];', 'is no address')
        self.refuse('ld.global.f32 %f1, [5];', 'is no address')
        self.refuse('@%r1 mov.u32 %r1, 0;', '%r1 is no predicate')
        self.refuse('.reg .b32 %r1;', '%r1 is declared twice')
        self.refuse('.reg .b33 %x;', 'not a declaration of registers')
        self.refuse('.shared .align 4 .b8 s[16];', 'a fixed size', HEAD[:HEAD.index('.visible')].count('\n') + 1)
        self.refuse('.callprototype x;', '.callprototype is not supported')
        with self.assertRaisesRegex(parse.PtxError, 'functions that are called'):
            translate.translate('.version 9.0\n.extern .func f;\n', 'a.ptx', str)
        with self.assertRaisesRegex(parse.PtxError, 'no end'):
            translate.translate(HEAD, 'a.ptx', str)


class Taken(unittest.TestCase):
    def take(self, body, *parts):
        code = code_of(body)
        for part in parts:
            self.assertIn(part, code)

    def test_values(self):
        self.take('add.s32 %r1, %r2, -1;', 'r_r1 = static_cast<uint32_t>(r_r2 + 4294967295u);')
        self.take('add.f32 %f1, %f2, 0f3F800000;', 'r_f1 = r_f2 + std::bit_cast<float>(0x3F800000u);')
        self.take('max.NaN.bf16x2 %r1, %r2, %r3;', 'r_r1 = static_cast<uint32_t>(each_half(r_r2, r_r3, max_nan_bf16));')
        self.take('set.gt.u32.bf16x2 %r1, %r2, %r3;', 'each_half(r_r2, r_r3, greater_bf16)')
        self.take('mbarrier.arrive.release.cta.shared::cluster.b64 _, [%r1];', 'mbarrier_arrive_cluster_read(')
        self.take('mov.b32 %r1, %f1;', 'r_r1 = static_cast<uint32_t>(std::bit_cast<uint32_t>(r_f1));')
        self.take('ld.param.u64 %rd1, [_Z1kPfi_param_1+8];', 'reinterpret_cast<uint64_t>(args + 8) + 8ll')
        self.take('mov.u32 %r1, memory;', 'r_r1 = static_cast<uint32_t>(static_cast<uint32_t>(0));')
        self.take('ld.global.s8 %r1, [%rd1];', 'load<int8_t>(r_rd1, HERE)')
        self.take('mov.b32 {%rs1, _}, %r1;', 'r_rs1 = static_cast<uint16_t>(static_cast<uint16_t>(packed >> 0));')
        self.take('setp.gt.and.f32 %p1|%p2, %f1, %f2, !%p3;', 'combined = !r_p3', 'r_p2 = !compared & combined;')

    def test_predicates_and_labels(self):
        self.take('L1:\n@!%p1 bra L1;', 'L_L1:;', 'if (!r_p1) { goto L_L1; }')
        self.take('@%p1 st.shared.f32 [memory+4], %f1;', 'if (r_p1) { store<float>(shared.at(0 + 4ll, 4')

    def test_scopes(self):
        self.take('{\n.reg .pred p;\nsetp.ne.b32 p, %r1, 0;\n}\n{\n.reg .pred p;\nmov.pred p, 1;\n}',
                  'p = r_r1 != 0u;', 'p__2 = true;')

    def test_accumulators_have_an_array(self):
        d = ', '.join(f'%f{7 - i}' for i in range(8))
        self.take(f'wgmma.mma_async.sync.aligned.m64n16k16.f32.bf16.bf16 {{{d}}}, %rd1, %rd2, %p1, 1, 1, 0, 1;\n'
                  'mov.f32 %f0, 0f00000000;',
                  'float accumulators_0[8]', '::vgpu::wgmma(&accumulators_0[0], 16,', 'false, true, HERE',
                  'accumulators_0[7] = std::bit_cast<float>(0x00000000u);')

    def test_source_lines(self):
        self.take('.loc 1 7 3\nmov.u32 %r1, 0;', '#line 7 "kernels/a/b.cu"')
        # What a wrapper does counts where it is called.
        self.take('.loc 1 9 3\n.loc 2 50 1, function_name $x, inlined_at 1 9 3\nmov.u32 %r1, 0;',
                  '#line 9 "kernels/a/b.cu"')

    def test_names(self):
        nvcc = '_ZN2wt15activation_vec839_GLOBAL__N__0d2a74cc_7_vec8_cu_608156b11fIfLNS_1AE0EEEvl'
        self.assertEqual(translate.anonymous(nvcc), '_ZN2wt15activation_vec812_GLOBAL__N_11fIfLNS_1AE0EEEvl')
        self.assertEqual(translate.anonymous('_Z1kPf'), '_Z1kPf')


if __name__ == '__main__':
    unittest.main()
