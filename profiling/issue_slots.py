#!/usr/bin/env python3
"""Writes host/model/issue_slots_table.h: how many instructions the compiled kernels issue, counted in their disassembly.
The model behind `--predict` reads them from there, since most machines have neither the objects nor a disassembler.

    make TARGET=cuda OPT=-O0 ARCHS=90 $(profiling/issue_slots.py --objects)     the objects that are asked, for sm_90 only
    profiling/issue_slots.py                                                    the table, from build/cuda/kernels
    profiling/issue_slots.py --check                                            exits 1 where the table is another

Of each kernel:
  all         instructions of the whole code
  loop        of the loop that does its work: the smallest with the most HGMMA, else HMMA, else FFMA (of products on ordinary
              threads), else global stores; 0: no loop
  multiplies  HGMMA, HMMA or FFMA in that loop
  unit        of the loop around that one, without it: what a tile's epilogue and the way to the next tile issue; 0: none
  producer    of the smallest loop with the most loads by TMA: a stage's copies
  fences      MEMBAR of GPU scope inside `loop`
  store       bytes of the narrowest global store in `loop`; 0: none
Each instruction counts once: loops inside a loop, and branches that are rarely taken, make a count an upper bound or a
lower one. Of kernels with HGMMA `loop`, `unit` and `producer` are what lies on the longest way through (profiling/sass_code.py):
of a branch's arms one. An object that is missing is left out, with its kernels: the model then says that their issue is not known.
"""
import argparse
import collections
import os
import re
import subprocess
import sys

from loops import kernels, loops
from sass import find_tools, read_object, readable

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TABLE = "host/model/issue_slots_table.h"
OBJECTS = ["activation/vec8", "augment/fold", "augment/pixels8", "augment/rows", "conv/dgrad_mma_sm80", "conv/dgrad_tiled",
           "conv/dgrad_views_wgmma_sm90", "conv/dgrad_wgmma_sm90", "conv/dgrad_winograd", "conv/first_layer_fprop_wgmma_sm90", "conv/first_layer_wgrad_wgmma_sm90",
           "conv/fprop_mma_sm80", "conv/fprop_tiled", "conv/fprop_wgmma_sm90", "conv/fprop_winograd", "conv/wgrad_mma_sm80", "conv/wgrad_tiled",
           "conv/wgrad_wgmma_sm90", "conv/wgrad_winograd", "conv_pool/folded_wgmma_sm90", "conv/winograd_products", "conv/winograd_products_mma_sm80", "dropout/vec", "exchange/copy_vec8", "exchange/reduce_vec8", "gemm/mma_sm80", "gemm/tiled",
           "gemm/wgmma_sgd_sm90", "gemm/wgmma_sm90", "lrn/backward_shuffle", "lrn/backward_vec8", "lrn/forward_shuffle",
           "lrn/forward_vec8", "lrn_pool/backward_fused", "lrn_pool/forward_fused", "pool/backward_vec8", "pool/forward_vec8",
           "sgd/multi", "softmax/vec"]


def inside(code, first, last):
    return [(what, line) for at, what, line in code if first <= at <= last]


def counted(code, loop):
    return collections.Counter(what for what, _ in inside(code, *loop))


def densest(code, all_loops, kinds):
    """The smallest loop with the most of these instructions; None where no loop has any."""
    best, most = None, (0, 0)
    for loop in all_loops:
        count = counted(code, loop)
        rank = (sum(count[k] for k in kinds), -count.total())
        if rank[0] and rank > most:
            best, most = loop, rank
    return best


def width(line):
    """Bytes a thread of a global store."""
    m = re.search(r"STG\S*?\.(U8|S8|U16|S16|64|128)\b", line)
    return {"U8": 1, "S8": 1, "U16": 2, "S16": 2, "64": 8, "128": 16}[m[1]] if m else 4


def row(name, code):
    all_loops = sorted(set(loops(code)))
    every = collections.Counter(what for _, what, _ in code)
    product = next((k for k in ("HGMMA", "HMMA") if every[k]), "FFMA" if "tiled::" in name or "winograd_tiled" in name else None)
    loop = densest(code, all_loops, (product or "STG",))
    unit = producer = fences = store = 0
    if loop:
        store = min((width(line) for what, line in inside(code, *loop) if what == "STG"), default=0)
        around = [l for l in all_loops if l != loop and l[0] <= loop[0] and l[1] >= loop[1]]
        if around:
            unit = min(counted(code, l).total() for l in around) - counted(code, loop).total()
        fences = sum(what == "MEMBAR" and ".GPU" in line for what, line in inside(code, *loop))
    copies = densest(code, all_loops, ("UTMALDG",))
    if copies:
        producer = counted(code, copies).total()
    count = counted(code, loop) if loop else collections.Counter()
    return dict(all=len(code), loop=count.total(), multiplies=count[product] if product else 0, unit=unit, producer=producer, fences=fences, store=store)


def wgmma_row(kernel):
    k, parts = kernel.k_loop(), kernel.parts()
    inside = kernel.code.instructions(k)
    lengths = {name: len(parts[name] or []) for name in parts}
    return dict(all=len(kernel.instructions), loop=lengths["k_loop"], multiplies=sum(i.what == "HGMMA" for i in inside), unit=lengths["epilogue"],
                producer=lengths["producer"], fences=sum(i.what == "MEMBAR" and bool({"GPU", "SYS"} & set(i.modifiers)) for i in inside), store=0)


def version(nvcc):
    try:
        said = subprocess.run([nvcc, "--version"], stdout=subprocess.PIPE, text=True).stdout
    except OSError:
        return "an nvcc that is not here"
    m = re.search(r"release [\d.]+, (V[\d.]+)", said)
    return f"nvcc {m[1]}" if m else "nvcc"


def git(*arguments):
    return subprocess.run(["git", "-C", ROOT, *arguments], stdout=subprocess.PIPE, text=True).stdout.strip()


def table(folder, nvcc):
    paths = {name: os.path.join(folder, name + ".o") for name in OBJECTS}
    missing = [name for name, path in paths.items() if not os.path.exists(path)]
    if len(missing) == len(paths):
        sys.exit(f"issue_slots.py: {folder} has none of the objects: run make TARGET=cuda OPT=-O0 ARCHS=90 $(profiling/issue_slots.py --objects)")
    env = dict(os.environ, PATH=find_tools(ROOT))
    rows = []
    for name, path in paths.items():
        if name in missing:
            continue
        found = [k for k in kernels(path, env) if k[0] in ("sm_90", "sm_90a")]
        names = readable([n for _, n, _ in found])
        ways = {n: k for (_, n), k in read_object(path, env).items() if k.count["HGMMA"]} if "wgmma" in name else {}
        rows += [(name, names[n], wgmma_row(ways[n]) if n in ways else row(names[n], code)) for _, n, code in found]
    rows.sort(key=lambda r: (r[0], r[1]))
    lines = ["// Made by profiling/issue_slots.py, which says what the numbers are: do not edit.",
             f"// Kernels of {git('log', '-1', '--format=%h', '--', 'kernels/*.cu', 'kernels/*.h', ':!kernels/product_plan.h', ':!kernels/*/product_plan.cu')}, compiled for sm_90 by {version(nvcc)}.",
             "// clang-format off", "#pragma once", "", "namespace wt::model {", "",
             "struct IssueSlots {", "    const char *object, *kernel;", "    int all, loop, multiplies, unit, producer, fences, store;", "};",
             "inline constexpr IssueSlots kIssueSlots[] = {"]
    lines += ['    {"%s", "%s", %d, %d, %d, %d, %d, %d, %d},' % (o, k, *r.values()) for o, k, r in rows]
    lines += ["};", "", "}  // namespace wt::model", ""]
    return "\n".join(lines), missing


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", nargs="?", default=os.path.join(ROOT, "build/cuda/kernels"))
    p.add_argument("--objects", action="store_true", help="prints their paths for make")
    p.add_argument("--check", action="store_true", help="compares, writes nothing")
    p.add_argument("--nvcc", default="nvcc", help="whose version is noted")
    a = p.parse_args()
    if a.objects:
        print(" ".join(f"build/cuda/kernels/{o}.o" for o in OBJECTS))
        return 0
    text, missing = table(a.folder, a.nvcc)
    for name in missing:
        print(f"issue_slots.py: {name}.o is not in {a.folder}: left out", file=sys.stderr)
    path = os.path.join(ROOT, TABLE)
    if a.check:
        with open(path) as f:
            same = [l for l in f.read().splitlines() if not l.startswith("// Kernels of")] == [l for l in text.splitlines() if not l.startswith("// Kernels of")]
        print(f"{TABLE} is {'as' if same else 'not as'} the objects are")
        return 0 if same else 1
    with open(path + ".tmp", "w") as f:
        f.write(text)
    os.replace(path + ".tmp", path)
    print(f"{TABLE}: {text.count(chr(10)) - 15} kernels")
    return 0


if __name__ == "__main__":
    sys.exit(main())
