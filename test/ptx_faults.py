#!/usr/bin/env python3
"""Whether compiled PTX, run on virtual GPUs, shows faults in the assembly of kernels/ptx/.

    make ptx-faults PTX=1      all of them; FAULTS="-k mma" those whose line has these letters

Each fault changes one instruction of a wrapper, as a wrong letter in its assembly would, everywhere in
the PTX of that wrapper's tests: operands swapped, a modifier dropped or changed, a wrong immediate, an
instruction left out. It is caught when the translation refuses it, or when a test fails or hangs under
one of some seeds; races are looked for too. g++'s build compiles no assembly, so it can see none of them.

Prints a line a fault; ends with 1 when one that changes meaning was not caught. SAME faults change
nothing that a program can see: they must not be caught.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, 'host/vgpu/ptx_exec'))
import parse       # noqa: E402
import translate   # noqa: E402

SAME = 'same'
V4 = r'\{([^,}]+),([^,}]+),([^,}]+),([^,}]+)\}'
BF16 = r'(mma\.sync\S+bf16\.f32 )' + V4 + ', ' + V4 + r', \{([^,}]+),([^,}]+)\}'
TF32 = BF16.replace('bf16', 'tf32')
BULK = r'(cp\.async\.bulk\.shared\S+) (\[[^]]+\]), (\[[^]]+\]), (%r\d+), (\[[^]]+\])'
LOAD = r'(cp\.async\.bulk\.tensor\.{}d\.shared::cluster\.global\.mbarrier\S+ )'
STORE = r'(cp\.async\.bulk\.tensor\.{}d\.global\S+ )'
IM2COL = r'(\S+im2col\S+ \[%r\d+\], \[%rd\d+, )\{(\S+), (\S+), (\S+), (\S+)\}\], (\S+), \{(\S+), (\S+)\}'
WGMMA = r'(wgmma\.mma_async\S+bf16 )(\{[^}]+\}), (%rd\d+), (%rd\d+), p, 1, 1, (\d), (\d)'

# tests, what is wrong, the instruction, what stands there instead
FAULTS = [
    ('copy', 'cp.async 4: addresses swapped', r'(\S+ca\.shared\.global) (\[%r\d+\]), (\[%rd\d+\]), 4', r'\1 \3, \2, 4'),
    ('copy', 'cp.async 16: size of the source dropped', r'(cp\.async\.cg\S+ \S+, \S+, 16), %r\d+', r'\1'),
    ('copy', 'cp.async 8: 4 bytes', r'(cp\.async\.ca\S+ \S+, \S+, )8', r'\g<1>4'),
    ('copy', 'cp.async 4: 8 bytes', r'(cp\.async\.ca\S+ \S+, \S+, )4', r'\g<1>8'),
    ('copy', 'cp.async 16: 8 bytes', r'(cp\.async\.cg\S+ \S+, \S+, )16', r'\g<1>8'),
    ('copy', 'cp.async 8: size of the source for size', r'(cp\.async\.ca\S+ \S+, \S+), 8, (%r\d+)', r'\1, \2, 8'),
    ('copy', 'cp.async 16: .ca for .cg', r'cp\.async\.cg', 'cp.async.ca', SAME),
    ('copy', 'cp.async.wait_group: 1 for 0', r'(cp\.async\.wait_group) 0', r'\1 1'),
    ('copy', 'cp.async.wait_group: 2 for 1', r'(cp\.async\.wait_group) 1', r'\1 2'),
    ('copy', 'cp.async.wait_group: 3 for 2', r'(cp\.async\.wait_group) 2', r'\1 3'),
    ('copy', 'cp.async.wait_group left out', r'cp\.async\.wait_group \d', ''),
    ('copy', 'cp.async.commit_group left out', r'cp\.async\.commit_group', ''),
    ('mma', 'mma bf16: A and B swapped', BF16, r'\1{\2,\3,\4,\5}, {\10,\11}, {\6,\7,\8,\9}'),
    ('mma', 'mma bf16: A 0, 1', BF16, r'\1{\2,\3,\4,\5}, {\7,\6,\8,\9}, {\10,\11}'),
    ('mma', 'mma bf16: A 1, 2', BF16, r'\1{\2,\3,\4,\5}, {\6,\8,\7,\9}, {\10,\11}'),
    ('mma', 'mma bf16: B 0, 1', BF16, r'\1{\2,\3,\4,\5}, {\6,\7,\8,\9}, {\11,\10}'),
    ('mma', 'mma bf16: D 0, 1', BF16, r'\1{\3,\2,\4,\5}, {\6,\7,\8,\9}, {\10,\11}'),
    ('mma', 'mma bf16: D 1, 2', BF16, r'\1{\2,\4,\3,\5}, {\6,\7,\8,\9}, {\10,\11}'),
    ('mma', 'mma bf16: .row.row', r'(m16n8k16)\.row\.col', r'\1.row.row'),
    ('mma', 'mma bf16: .f16', r'f32\.bf16\.bf16', 'f32.f16.f16'),
    ('mma', 'mma bf16: .m16n8k8', r'm16n8k16', 'm16n8k8'),
    ('mma', 'mma tf32: A 0, 1', TF32, r'\1{\2,\3,\4,\5}, {\7,\6,\8,\9}, {\10,\11}'),
    ('mma', 'mma tf32: A 2, 3', TF32, r'\1{\2,\3,\4,\5}, {\6,\7,\9,\8}, {\10,\11}'),
    ('mma', 'mma tf32: B 0, 1', TF32, r'\1{\2,\3,\4,\5}, {\6,\7,\8,\9}, {\11,\10}'),
    ('mma', 'mma tf32: D 2, 3', TF32, r'\1{\2,\3,\5,\4}, {\6,\7,\8,\9}, {\10,\11}'),
    ('mma', 'mma tf32: .m16n8k4', r'm16n8k8', 'm16n8k4'),
    ('mma', 'cvt.rna.tf32: .rz', r'cvt\.rna\.tf32', 'cvt.rz.tf32'),
    ('mma', 'ldmatrix x4: .trans added', r'(x4)(\.shared)', r'\1.trans\2'),
    ('mma', 'ldmatrix x4: .trans dropped', r'x4\.trans', 'x4'),
    ('mma', 'ldmatrix x4: registers 0, 1', r'(ldmatrix\S+x4\S+ )' + V4, r'\1{\3,\2,\4,\5}'),
    ('mma', 'ldmatrix x4: registers 2, 3', r'(ldmatrix\S+x4\S+ )' + V4, r'\1{\2,\3,\5,\4}'),
    ('mma', 'ldmatrix x4: .x2', r'(ldmatrix\S+)x4', r'\1x2'),
    ('mma', 'ldmatrix x2: registers 0, 1', r'(ldmatrix\S+x2\.shared\S+ )\{([^,]+),([^}]+)\}', r'\1{\3,\2}'),
    ('mma', 'ldmatrix x2.trans: registers 0, 1', r'(ldmatrix\S+x2\.trans\S+ )\{([^,]+),([^}]+)\}', r'\1{\3,\2}'),
    ('mma', 'ldmatrix x2: .trans dropped', r'x2\.trans', 'x2'),
    ('mma', 'ldmatrix x1: .trans dropped', r'x1\.trans', 'x1'),
    ('mma', 'ldmatrix x1: .trans added', r'x1\.shared', 'x1.trans.shared'),
    ('mbarrier_sm90', 'mbarrier.init: count 1', r'(mbarrier\.init\S+ \S+), %r\d+', r'\1, 1'),
    ('mbarrier_sm90', 'mbarrier.init: operands swapped', r'(mbarrier\.init\S+) \[(%r\d+)\], (%r\d+)', r'\1 [\3], \2'),
    ('mbarrier_sm90', 'mbarrier.arrive left out', r'mbarrier\.arrive\.release\.cta\S+ _, \S+', ''),
    ('mbarrier_sm90', 'mbarrier.expect_tx: operands swapped', r'(mbarrier\.expect_tx\S+) \[(%r\d+)\], (%r\d+)', r'\1 [\3], \2'),
    ('mbarrier_sm90', 'mbarrier.expect_tx: arrives too', r'mbarrier\.expect_tx\.relaxed(\S+) ', r'mbarrier.arrive.expect_tx.release\1 _, '),
    ('mbarrier_sm90', 'mbarrier.arrive.expect_tx: operands swapped', r'(arrive\.expect_tx\S+ _,) \[(%r\d+)\], (%r\d+)', r'\1 [\3], \2'),
    ('mbarrier_sm90', 'mbarrier.arrive.expect_tx: expects nothing', r'arrive\.expect_tx(\S+ _, \S+), %r\d+', r'arrive\1'),
    ('mbarrier_sm90', 'mbarrier.arrive.expect_tx: does not arrive', r'mbarrier\.arrive\.expect_tx\.release(\S+) _,', r'mbarrier.expect_tx.relaxed\1'),
    ('mbarrier_sm90', 'mbarrier.try_wait: parity 0', r'(try_wait\S+ p, \S+), %r\d+', r'\1, 0'),
    ('mbarrier_sm90', 'mbarrier.try_wait: parity 1', r'(try_wait\S+ p, \S+), %r\d+', r'\1, 1'),
    ('mbarrier_sm90', 'mbarrier.try_wait: operands swapped', r'(try_wait\S+ p,) \[(%r\d+)\], (%r\d+)', r'\1 [\3], \2'),
    ('mbarrier_sm90', 'mbarrier.try_wait: .parity dropped', r'try_wait\.parity', 'try_wait'),
    ('mbarrier_sm90', 'mbarrier.try_wait: the other answer', r'(selp\.u32 %r\d+), 1, 0, p', r'\1, 0, 1, p'),
    ('mbarrier_sm90', 'cp.async.mbarrier.arrive: .noinc dropped', r'arrive\.noinc', 'arrive'),
    ('mbarrier_sm90', 'bulk load: barrier and destination swapped', BULK, r'\1 \5, \3, \4, \2'),
    ('mbarrier_sm90', 'bulk load: 16 bytes', BULK, r'\1 \2, \3, 16, \5'),
    ('mbarrier_sm90', 'bulk load: no complete_tx', r'(cp\.async\.bulk\.shared\S+)\.mbarrier::complete_tx::bytes', r'\1'),
    ('tma_sm90', 'TMA load 2d: coordinates', LOAD.format(2) + r'(\S+) (\[%rd\d+), \{(\S+), (\S+)\}', r'\1\2 \3, {\5, \4}'),
    ('tma_sm90', 'TMA load 2d: barrier and destination swapped', LOAD.format(2) + r'(\S+), (\[%rd\d+, \{[^}]+\}\]), (\S+)$', r'\1\4, \3, \2'),
    ('tma_sm90', 'TMA load 3d: coordinates 0, 1', LOAD.format(3) + r'(\S+) (\[%rd\d+), \{(\S+), (\S+), (\S+)\}', r'\1\2 \3, {\5, \4, \6}'),
    ('tma_sm90', 'TMA load 3d: coordinates 1, 2', LOAD.format(3) + r'(\S+) (\[%rd\d+), \{(\S+), (\S+), (\S+)\}', r'\1\2 \3, {\4, \6, \5}'),
    ('tma_sm90', 'TMA load 4d: coordinates 2, 3', LOAD.format(4) + r'(\S+) (\[%rd\d+), \{(\S+), (\S+), (\S+), (\S+)\}', r'\1\2 \3, {\4, \5, \7, \6}'),
    ('tma_sm90', 'TMA load 3d: .2d', r'tensor\.3d\.shared', 'tensor.2d.shared'),
    ('tma_sm90', 'TMA store 2d: coordinates', STORE.format(2) + r'(\[%rd\d+), \{(\S+), (\S+)\}', r'\1\2, {\4, \3}'),
    ('tma_sm90', 'TMA store 3d: coordinates 0, 2', STORE.format(3) + r'(\[%rd\d+), \{(\S+), (\S+), (\S+)\}', r'\1\2, {\5, \4, \3}'),
    ('tma_sm90', 'TMA store 4d: coordinates 1, 2', STORE.format(4) + r'(\[%rd\d+), \{(\S+), (\S+), (\S+), (\S+)\}', r'\1\2, {\3, \5, \4, \6}'),
    ('tma_sm90', 'im2col: w and h', IM2COL, r'\1{\2, \4, \3, \5}], \6, {\7, \8}'),
    ('tma_sm90', 'im2col: h and n', IM2COL, r'\1{\2, \3, \5, \4}], \6, {\7, \8}'),
    ('tma_sm90', 'im2col: offsets swapped', IM2COL, r'\1{\2, \3, \4, \5}], \6, {\8, \7}'),
    ('tma_sm90', 'im2col: modifier and offsets dropped', r'(\S+)\.im2col(\.mbarrier.*), \{[^}]+\}$', r'\1\2'),
    ('tma_sm90', 'bulk commit_group left out', r'cp\.async\.bulk\.commit_group', ''),
    ('tma_sm90', 'bulk wait_group: 1 for 0', r'(cp\.async\.bulk\.wait_group) 0', r'\1 1'),
    ('tma_sm90', 'fence.proxy.async left out', r'fence\.proxy\.async\S*', ''),
    ('cluster_sm90', 'multicast: block 0 alone', r'(multicast::cluster.*), %rs\d+', r'\1, 1'),
    ('cluster_sm90', 'multicast dropped', r'\.multicast::cluster(.*), %rs\d+', r'\1'),
    ('cluster_sm90', 'mapa.u32: rank 0', r'(mapa\.shared\S+ \S+ \S+) %r\d+', r'\1 0'),
    ('cluster_sm90', 'mapa.u32: operands swapped', r'(mapa\.shared\S+ \S+) (\S+), (%r\d+)', r'\1 \3, \2'),
    ('cluster_sm90', 'mapa.u64: rank 0', r'(mapa\.u64 \S+ \S+) %r\d+', r'\1 0'),
    ('cluster_sm90', 'cluster barrier: arrive left out', r'barrier\.cluster\.arrive\S+', ''),
    ('cluster_sm90', 'cluster barrier: wait left out', r'barrier\.cluster\.wait\S+', ''),
    ('cluster_sm90', 'cluster barrier: .relaxed', r'(cluster\.arrive)\.release', r'\1.relaxed'),
    ('cluster_sm90', 'cluster rank: its size', r'%cluster_ctarank', '%cluster_nctarank'),
    ('cluster_sm90', 'cluster size: the rank', r'%cluster_nctarank', '%cluster_ctarank'),
    ('cluster_sm90', 'remote arrival: a local one', r'arrive\.release\.cluster\.shared::cluster', 'arrive.release.cta.shared::cta'),
    ('wgmma_sm90', 'wgmma: descriptors swapped', WGMMA, r'\1\2, \4, \3, p, 1, 1, \5, \6'),
    ('wgmma_sm90', 'wgmma: transpositions swapped', WGMMA, r'\1\2, \3, \4, p, 1, 1, \6, \5'),
    ('wgmma_sm90', 'wgmma: A negated', r'(wgmma\.mma_async.*p), 1, 1', r'\1, -1, 1'),
    ('wgmma_sm90', 'wgmma: the other accumulate', r'setp\.ne\.b32 p,', 'setp.eq.b32 p,'),
    ('wgmma_sm90', 'wgmma: accumulators 0, 1', r'(wgmma\.mma_async\S+ )\{([^,]+),([^,]+),', r'\1{\3,\2,'),
    ('wgmma_sm90', 'wgmma: n of 64 for 96', r'm64n96k', 'm64n64k'),
    ('wgmma_sm90', 'wgmma.fence left out', r'wgmma\.fence\S+', ''),
    ('wgmma_sm90', 'wgmma.commit_group left out', r'wgmma\.commit_group\S+', ''),
    ('wgmma_sm90', 'wgmma.wait_group: 1 for 0', r'(wgmma\.wait_group\S+) 0', r'\1 1'),
    ('wgmma_sm90', 'wgmma.wait_group left out', r'wgmma\.wait_group\S+ 0', ''),
    ('wgmma_sm90', 'setmaxnreg: .inc for .dec', r'setmaxnreg\.dec', 'setmaxnreg.inc'),
    ('wgmma_sm90', 'setmaxnreg: 236', r'(setmaxnreg\.inc\S+) \d+', r'\1 236'),
    ('wgmma_sm90', 'stmatrix x4: registers 0, 1', r'(stmatrix\S+x4\.shared\S+ \S+ )' + V4, r'\1{\3,\2,\4,\5}'),
    ('wgmma_sm90', 'stmatrix x4: .trans dropped', r'(stmatrix\S+)x4\.trans', r'\1x4'),
    ('wgmma_sm90', 'stmatrix x2: .trans dropped', r'(stmatrix\S+)x2\.trans', r'\1x2'),
    ('wgmma_sm90', 'stmatrix x2: registers 0, 1', r'(stmatrix\S+x2\.shared\S+ \S+ )\{([^,]+),([^}]+)\}', r'\1{\3,\2}'),
    ('wgmma_sm90', 'elect.sync: lane 0 alone', r'(elect\.sync \S+) 0xffffffff', r'\1 0x1'),
]


def mutated(text, pattern, to):
    """The PTX with the fault in every instruction that fits, and how many there were."""
    count = 0

    def change(m):
        nonlocal count
        new, n = re.subn(pattern, to, m[2], count=1)
        count += n
        return m[1] + new + (m[3] if new else '')
    # An instruction a line, perhaps behind a brace, and its semicolon.
    return re.sub(r'^([\t {]*)([a-z@][^;\n]*)(;)', change, text, flags=re.M), count


def run(args, name, text, work):
    """How the tests of a PTX file end: 'passed', or what showed the fault."""
    try:
        code, _ = translate.translate(text, name, lambda p: os.path.relpath(p, ROOT))
    except parse.PtxError as error:
        return f'refused: {error.why}'
    cpp, obj, unit = (os.path.join(work, f) for f in ('fault.cpp', 'fault.o', 'unit'))
    with open(cpp, 'w', encoding='utf-8') as f:
        f.write(code)
    subprocess.run(f'{args.compile} -O0 -c {cpp} -o {obj}', shell=True, check=True)
    link = args.link.replace('OBJECTS', f'{args.objects} {obj}')
    subprocess.run(f'{link} -o {unit}', shell=True, check=True)
    for seed in range(args.seeds):
        env = dict(os.environ, VGPU_SEED=str(seed))
        command = [unit, '-ts=kernels', f'-sf=*{name}.*']
        try:
            done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=args.timeout)
        except subprocess.TimeoutExpired:
            return f'hangs (seed {seed})'
        last = re.findall(r'(\d+) passed, (\d+) failed', done.stdout)
        if done.returncode or not last or last[-1][1] != '0':
            return f'{last[-1][1] if last else "all"} tests fail (seed {seed})'
        if last[-1][0] == '0':
            sys.exit(f'no tests in {name}')
    return 'passed'


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument('--ptx', required=True, help='folder of the tests\' PTX')
    p.add_argument('--compile', required=True)
    p.add_argument('--link', required=True, help='with the word OBJECTS')
    p.add_argument('--objects', required=True)
    p.add_argument('--seeds', type=int, default=4)
    p.add_argument('--timeout', type=int, default=120)
    p.add_argument('-k', default='', help='only those whose line has these letters')
    args = p.parse_args()
    caught = missed = 0
    with tempfile.TemporaryDirectory() as work:
        for tests, what, pattern, to, *same in FAULTS:
            if args.k not in f'{tests} {what}':
                continue
            name = f'test_ptx_{tests}'
            with open(os.path.join(args.ptx, name + '.ptx'), encoding='utf-8') as f:
                text, count = mutated(f.read(), pattern, to)
            if not count:
                sys.exit(f'{what}: no instruction of {name}.ptx fits')
            result = run(args, name, text, work)
            good = (result == 'passed') == bool(same)
            caught += good
            missed += not good
            print(f'{"" if good else "MISSED  "}{what}, {count} places: {result}{" (changes nothing)" if same else ""}', flush=True)
    print(f'{caught} caught, {missed} missed')
    sys.exit(1 if missed else 0)


if __name__ == '__main__':
    main()
