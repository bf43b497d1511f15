#!/usr/bin/env python3
"""How many files of the project must be open to follow a kernel: its includes, and theirs, counted.

    python3 profiling/files_to_read.py KERNEL.cu...        from the root; without names: every tiled and wgmma kernel
    python3 profiling/files_to_read.py --list KERNEL.cu    and which they are

A kernel's file includes others, and these others. Of all that are reached so:

    follow       what the kernel is made of: its operation's files, kernels/tile
    vocabulary   what every kernel here has, read once: kernels/common, launch.h, variant.h, the problem.h of operations
    PTX          kernels/ptx: one instruction a function, called by its name in the PTX ISA; looked up, not read through
    host         what stands outside kernels/ (errors)

The table counts all of them, and the lines of each sort; nothing that is included is left out.
"""
import argparse
import glob
import os
import re
import sys

INCLUDE = re.compile(r'^\s*#\s*include\s+"((?:kernels|host)/[^"]+)"', re.M)
SORTS = ("follow", "vocabulary", "PTX", "host")


def sort_of(path):
    if path.startswith("kernels/ptx/"):
        return "PTX"
    if not path.startswith("kernels/"):
        return "host"
    if path.startswith("kernels/common/") or path in ("kernels/launch.h", "kernels/variant.h", "kernels/dtype.h", "kernels/step_state.h"):
        return "vocabulary"
    return "vocabulary" if os.path.basename(path) == "problem.h" else "follow"


def reached(root, start):
    """All files that `start` includes, itself first, in the order in which they are met."""
    seen, todo = [], [start]
    while todo:
        path = todo.pop(0)
        if path in seen:
            continue
        try:
            with open(os.path.join(root, path)) as f:
                text = f.read()
        except OSError as e:
            sys.exit(f"files_to_read.py: {path}: {e.strerror}")
        seen.append(path)
        todo += INCLUDE.findall(text)
    return seen


def lines(root, path):
    with open(os.path.join(root, path)) as f:
        return sum(1 for _ in f)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("kernels", nargs="*", help="kernels/conv/fprop_wgmma_sm90.cu")
    p.add_argument("--list", action="store_true", help="names the files")
    p.add_argument("--root", default=os.path.dirname(os.path.dirname(os.path.abspath(__file__))), help="of another checkout")
    a = p.parse_args()
    kernels = a.kernels or sorted(os.path.relpath(f, a.root) for part in ("*_sm90.cu", "*tiled.cu", "*mma_sm80.cu")
                                  for f in glob.glob(os.path.join(a.root, "kernels/*", part)))
    print(f"{'follow':>6} {'vocabulary':>10} {'PTX':>4} {'host':>5} {'all':>4} {'lines to follow':>16} {'all lines':>10}  kernel")
    for kernel in kernels:
        files = {s: [] for s in SORTS}
        for path in reached(a.root, kernel):
            files[sort_of(path)].append(path)
        count = {s: len(files[s]) for s in SORTS}
        length = {s: sum(lines(a.root, f) for f in files[s]) for s in SORTS}
        print(f"{count['follow']:>6} {count['vocabulary']:>10} {count['PTX']:>4} {count['host']:>5} {sum(count.values()):>4} "
              f"{length['follow']:>16} {sum(length.values()):>10}  {kernel}")
        if a.list:
            for s in SORTS:
                for f in files[s]:
                    print(f"       {s:>10}  {lines(a.root, f):>4}  {f}")


if __name__ == "__main__":
    main()
