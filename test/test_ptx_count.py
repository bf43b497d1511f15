#!/usr/bin/env python3
"""Tests of what the translation adds for counters: classes, blocks of instructions, loops, sites."""
import os
import sys
import unittest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, 'host/vgpu/ptx_exec'))
import count       # noqa: E402
import parse       # noqa: E402
import translate   # noqa: E402

HEAD = '''.version 9.0
.target sm_90a
.address_size 64
.file 1 "kernels/a/b.cu"
.extern .shared .align 1024 .b8 memory[];
.visible .entry _Z1kPf(
	.param .u64 _Z1kPf_param_0
)
{
	.reg .pred %p<4>;
	.reg .f32 %f<8>;
	.reg .b32 %r<8>;
	.reg .b64 %rd<8>;
	.loc 1 7 3
'''

# Ten instructions before the loops (with the branch), two loops, one in the other.
LOOPS = '''	ld.param.u64 %rd1, [_Z1kPf_param_0];
	mov.u32 %r1, %tid.x;
	setp.gt.s32 %p1, %r1, 5;
	@%p1 bra END;
OUTER:
	ld.global.f32 %f1, [%rd1];
	add.s32 %r2, %r2, 1;
INNER:
	fma.rn.f32 %f1, %f1, %f1, %f1;
	add.s32 %r3, %r3, 1;
	setp.lt.s32 %p2, %r3, 4;
	@%p2 bra INNER;
	.loc 1 9 3
	@%p1 st.shared.v4.f32 [%r4+16], {%f1, %f1, %f1, %f1};
	setp.lt.s32 %p3, %r2, 8;
	@%p3 bra OUTER;
END:
	ret;
}
'''


def kernel_of(body):
    return parse.Parser(HEAD + body).parse().kernels[0]


class Classes(unittest.TestCase):
    def test_opcodes(self):
        for opcode, name in (
                ('fma.rn.f32', 'fp32'), ('add.rn.f32', 'fp32'), ('div.rn.f32', 'fp32'), ('max.f32', 'fp32'),
                ('neg.f32', 'fp32'), ('fma.rn.f64', 'fp64'), ('max.NaN.bf16x2', 'bf16'),
                ('ex2.approx.ftz.f32', 'special'), ('rsqrt.approx.ftz.f32', 'special'),
                ('mad.lo.s32', 'integer'), ('shf.r.wrap.b32', 'integer'), ('mul.wide.u32', 'integer'),
                ('and.b32', 'integer'), ('and.pred', 'compare'), ('setp.lt.f32', 'compare'),
                ('selp.b32', 'compare'), ('cvt.rn.bf16x2.f32', 'convert'), ('mov.b64', 'move'),
                ('cvta.to.global.u64', 'move'), ('ld.param.u64', 'param'), ('bra.uni', 'control'),
                ('ret', 'control'), ('ld.global.nc.v4.f32', 'global'), ('st.global.u8', 'global'),
                ('ld.shared.v2.u64', 'shared'), ('ldmatrix.sync.aligned.m8n8.x4.shared.b16', 'shared'),
                ('ld.local.f32', 'local'), ('ld.v4.f32', 'generic'), ('red.global.add.u32', 'atomic'),
                ('atom.shared.cas.b32', 'atomic'), ('cp.async.cg.shared.global', 'copy'),
                ('cp.async.mbarrier.arrive.noinc.shared::cta.b64', 'mbarrier'),
                ('mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32', 'matrix'),
                ('wgmma.mma_async.sync.aligned.m64n256k16.f32.bf16.bf16', 'matrix'),
                ('wgmma.fence.sync.aligned', 'fence'), ('shfl.sync.bfly.b32', 'warp'),
                ('bar.sync', 'barrier'), ('barrier.cluster.wait.acquire.aligned', 'cluster'),
                ('mbarrier.try_wait.parity.acquire.cta.shared::cta.b64', 'mbarrier'),
                ('griddepcontrol.wait', 'other')):
            self.assertEqual(count.class_of(opcode), name, opcode)

    def test_shapes(self):
        self.assertEqual(count.shape_of('wgmma.mma_async.sync.aligned.m64n96k16.f32.bf16.bf16'),
                         (64, 96, 16, 'wgmma 64x96x16 bf16'))
        self.assertEqual(count.shape_of('mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32'),
                         (16, 8, 8, 'mma 16x8x8 tf32'))


class Blocks(unittest.TestCase):
    def setUp(self):
        self.flow = count.Flow(kernel_of(LOOPS).statements)

    def test_blocks(self):
        self.assertEqual([len(b) for b in self.flow.instructions], [4, 2, 4, 3, 1])
        self.assertEqual([sorted(a) for a in self.flow.after], [[1, 4], [2], [2, 3], [1, 4], []])

    def test_loops(self):
        self.assertEqual(self.flow.loops, [(1, None), (2, 0)])
        self.assertEqual(self.flow.loop_of, [None, 0, 1, 0, None])

    def test_entries(self):
        self.assertEqual(self.flow.entry(0), 'counted.enter(0, 1); turn_0 = 0;')
        self.assertEqual(self.flow.entry(1), 'iteration_0 = iteration_of(1, ++turn_0); '
                                             'counted.enter(1, iteration_0); turn_1 = 0;')
        self.assertEqual(self.flow.entry(2), 'iteration_1 = iteration_of(iteration_0, ++turn_1); '
                                             'counted.enter(2, iteration_1);')
        self.assertEqual(self.flow.entry(3), 'counted.enter(3, iteration_0);')

    def test_two_ways_into_a_loop(self):
        # Not a loop of any language, but PTX may have it: each block belongs to it all the same.
        flow = count.Flow(kernel_of('@%p1 bra B;\nA: add.s32 %r1, %r1, 1;\nB: add.s32 %r1, %r1, 1;\n'
                                    '@%p2 bra A;\nret;\n}\n').statements)
        self.assertEqual(flow.loop_of, [None, 0, 0, None])

    def test_a_label_that_nothing_falls_to(self):
        flow = count.Flow(kernel_of('bra B;\nA: ret;\nB:\nC: bra A;\n}\n').statements)
        self.assertEqual(flow.after[0], [2])
        self.assertEqual(flow.loops, [])


class Emitted(unittest.TestCase):
    def setUp(self):
        self.code = translate.translate(HEAD + LOOPS, 'a.ptx', lambda path: path, True)[0]

    def test_accesses(self):
        # Beside the access, and like it only where the predicate holds.
        self.assertIn('counted.global(0, r_rd1);r_f1 = load<float>(r_rd1, HERE);', self.code)
        self.assertRegex(self.code, r'if \(r_p1\) \{ counted\.shared\(1, r_r4 \+ 16u\);store<V4f32>')
        self.assertIn('{1, Access::load_global, 4, 7, "kernels/a/b.cu"}', self.code)
        self.assertIn('{3, Access::store_shared, 16, 9, "kernels/a/b.cu"}', self.code)

    def test_classes(self):
        index = count.CLASSES.index
        for block, name, n in ((0, 'param', 1), (0, 'move', 1), (0, 'compare', 1), (0, 'control', 1),
                               (1, 'global', 1), (1, 'integer', 1), (2, 'fp32', 1), (3, 'shared', 1),
                               (4, 'control', 1)):
            self.assertIn(f'{{{block}, {index(name)}, {n}}}', self.code)

    def test_ordinary_translation_has_none(self):
        self.assertNotIn('counted', translate.translate(HEAD + LOOPS, 'a.ptx', lambda path: path)[0])

    def test_classes_are_those_of_the_header(self):
        with open(os.path.join(ROOT, 'host/vgpu/ptx_exec/counters.h'), encoding='utf-8') as f:
            text = f.read().split('enum class Class : uint8_t {')[1].split('}')[0]
        self.assertEqual([n.strip() for n in text.split(',')], list(count.CLASSES))


if __name__ == '__main__':
    unittest.main()
