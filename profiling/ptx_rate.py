#!/usr/bin/env python3
"""PTX instructions a second and core that virtual GPUs execute, outside tensor operations.

    make ptx-rate PTX=1

Runs profiling/ptx_rate.cpp twice: as it is built, for the CPU seconds of each kernel, and with these kernels
translated anew so that every instruction a thread comes to adds one to a counter (those whose predicate is
false too), for their number. Ends with 1 where a kernel is below --least.
"""
import argparse
import os
import re
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
sys.path.insert(0, os.path.join(ROOT, 'host/vgpu/ptx_exec'))
import translate   # noqa: E402

# Whose kernels profiling/ptx_rate.cpp runs.
FILES = ('gemm/naive', 'gemm/tiled', 'conv/fprop_naive', 'conv/dgrad_naive', 'lrn/forward_vec8', 'lrn/forward_shuffle',
         'pool/forward_vec8', 'dropout/vec', 'softmax/row', 'softmax/block', 'sgd/multi', 'lrn_pool/forward_fused')
COUNTER = 'vgpu_ptx_executed'


def counting(code):
    """Translated C++ that counts: an instruction is the line after its #line."""
    return re.sub(r'(?m)^(#line \d+ "[^"]*"\n|#line \d+\n)(?!void loop_)', rf'\1++{COUNTER}; ', code).replace(
        'namespace vgpu::ptx_exec {', f'extern "C" uint64_t {COUNTER};\nnamespace vgpu::ptx_exec {{', 1)


def measured(program):
    env = dict(os.environ, VGPU_THREADS='1', OMP_NUM_THREADS='1')
    done = subprocess.run([program], env=env, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        sys.exit(f'{program} failed')
    return [line.split() for line in done.stdout.splitlines()]


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument('--ptx', required=True, help='folder of the kernels\' PTX')
    p.add_argument('--program', required=True, help='ptx_rate as it is built')
    p.add_argument('--compile', required=True)
    p.add_argument('--link', required=True, help='with the word OBJECTS')
    p.add_argument('--objects', required=True, help='of ptx_rate')
    p.add_argument('--least', type=float, default=50, help='million a second')
    args = p.parse_args()
    with tempfile.TemporaryDirectory() as work:
        objects = args.objects.split()
        counted = []
        for name in FILES:
            replaced = [o for o in objects if o.endswith(f'kernels/{name}.ptx.o')]
            if len(replaced) != 1:
                sys.exit(f'{name}: no object of its PTX')
            objects.remove(replaced[0])
            path = os.path.join(args.ptx, name + '.ptx')
            with open(path, encoding='utf-8') as f:
                code, _ = translate.translate(f.read(), path, lambda p: os.path.relpath(p, ROOT))
            base = os.path.join(work, name.replace('/', '_'))
            with open(base + '.cpp', 'w', encoding='utf-8') as f:
                f.write(counting(code))
            subprocess.run(f'{args.compile} -O0 -c {base}.cpp -o {base}.o', shell=True, check=True)
            counted.append(base + '.o')
        with open(os.path.join(work, 'counter.cpp'), 'w', encoding='utf-8') as f:
            f.write(f'#include <cstdint>\nextern "C" {{ uint64_t {COUNTER} = 0; }}\n')
        all_of_them = ' '.join(objects + counted + [os.path.join(work, 'counter.cpp')])
        program = os.path.join(work, 'ptx_rate')
        subprocess.run(f'{args.link.replace("OBJECTS", all_of_them)} -o {program}', shell=True, check=True)
        numbers = measured(program)
    times = measured(args.program)
    slowest = None
    print(f'{"kernel":26} {"instructions":>14} {"CPU ms":>9} {"million a second and core":>26}')
    for (op, variant, seconds, _), (_, _, _, instructions) in zip(times, numbers, strict=True):
        if instructions == '0':
            sys.exit(f'{op} {variant}: its instructions are not counted: its file is not in FILES')
        rate = int(instructions) / float(seconds) / 1e6
        slowest = rate if slowest is None else min(slowest, rate)
        print(f'{op + " " + variant:26} {int(instructions):14,} {1e3 * float(seconds):9.3f} {rate:26,.0f}')
    print(f'the slowest: {slowest:,.0f} million a second and core; at least {args.least:g} are wanted')
    sys.exit(slowest < args.least)


if __name__ == '__main__':
    main()
