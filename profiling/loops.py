#!/usr/bin/env python3
"""What a compiled kernel's loop over k issues: its instructions by kind, counted in the disassembly.

    python3 profiling/loops.py OBJECT [PART OF A KERNEL'S NAME...]      build/cuda/kernels/conv/fprop_mma_sm80.o 'Tile<__nv_bfloat16, 128'
    python3 profiling/loops.py --arch sm_90 ...                         of one architecture only

Of each kernel whose readable name has all the parts: the smallest loop with the most multiplications (HGMMA, HMMA or FFMA) and, where
there are any, the one with the most loads by TMA (UTMALDG). Each instruction counts once, so a loop inside the loop is
counted once however often it runs, and so is a branch that is rarely taken.
"""
import argparse
import collections
import os
import re
import subprocess

from sass import INSTRUCTION, find_tools, readable

ADDRESS = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s")
BRANCH = re.compile(r"\bBRA(?:\.\w+)* .*?(0x[0-9a-f]+)")
MULTIPLY = ("HGMMA", "HMMA", "FFMA")
SHOWN = ("HGMMA", "HMMA", "FFMA", "UTMALDG", "LDGSTS", "LDSM", "LDG", "LDS", "STS", "BAR", "SYNCS")


def kernels(path, env):
    """(architecture, name, [(address, instruction, line)]) of each."""
    out = subprocess.run(["cuobjdump", "--dump-sass", path], stdout=subprocess.PIPE, text=True, env=env, check=True).stdout
    found, arch = [], ""
    for line in out.splitlines():
        if m := re.match(r"\s+code for (\S+)", line):
            arch = m[1]
        elif m := re.match(r"\s+Function : (\S+)", line):
            found.append((arch, m[1], []))
        elif found and (m := INSTRUCTION.match(line)):
            found[-1][2].append((int(ADDRESS.match(line)[1], 16), m[1], line))
    return found


def loops(code):
    """(first, last) address of what lies between a branch back and its target."""
    return [(int(m[1], 16), at) for at, what, line in code if what == "BRA" and (m := BRANCH.search(line)) and int(m[1], 16) < at]


def densest(code, what):
    best = None
    for first, last in loops(code):
        count = collections.Counter(w for at, w, _ in code if first <= at <= last)
        if count[what] and (best is None or (count[what], -count.total()) > (best[what], -best.total())):
            best = count
    return best


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("object")
    p.add_argument("parts", nargs="*")
    p.add_argument("--arch")
    a = p.parse_args()
    env = dict(os.environ, PATH=find_tools(os.path.dirname(os.path.dirname(os.path.abspath(__file__)))))
    all_kernels = kernels(a.object, env)
    names = readable([name for _, name, _ in all_kernels])
    for arch, name, code in all_kernels:
        if (a.arch and arch != a.arch) or not all(part in names[name] for part in a.parts):
            continue
        print(f"{arch} {names[name]}")
        counts = collections.Counter(w for _, w, _ in code)
        multiply = next((w for w in MULTIPLY if counts[w]), None)
        for what in (multiply, "UTMALDG"):
            count = densest(code, what) if what else None
            if count:
                print(f"  {count.total():>5} instructions in the loop: " + ", ".join(f"{count[w]} {w}" for w in SHOWN if count[w]))


if __name__ == "__main__":
    main()
