#!/usr/bin/env python3
"""What the compiler made of the kernels: registers, shared memory and occupancy of each, and whether the tensor-core
kernels are what they should be. Exits 1 when one is not.

    make sass [TARGET=cuda ARCHS=90]        builds the objects, then runs this
    python3 profiling/sass.py [--all] OBJECTS' FOLDER      --all: every kernel, not just those on tensor cores
    python3 profiling/sass.py --tools                       whether there is a disassembler; make sass asks that first

Asked of every object *_sm90.o: code for sm_90a, and in it a kernel with wgmma (HGMMA) fed by the copy engine (UTMALDG;
of a convolution at least one such load of im2col kind, but for the first layer's fprop, whose patches are views of
contiguous planes: bulk copies, UBLKCP). Of every kernel on tensor cores (HGMMA or HMMA): no registers spilled to local memory (LDL, STL). Of the kernels
of *vec*.o and *multi*.o: those that load vectors (LDG.128) store vectors too, which nvcc takes apart where a branch
stores the same elements singly. Of the memory-bound kernels in VECTORS_ONLY: no single elements moved in their loops.
Of the compiler's messages, kept beside the objects: no C75xx (wgmma serialised, setmaxnreg ignored), no spills.

Occupancy is what registers and the declared block allow (65536 registers and 64 warps a multiprocessor, as sm_80 and
sm_90 have); shared memory given at launch is not in the object and may allow less.
"""
import argparse
import collections
import glob
import os
import re
import shutil
import subprocess
import sys

HOW = ("neither is on PATH, in the CUDA toolkit or in build/deps: install cuda-cuobjdump and cuda-nvdisasm, or run "
       "`make sass-tools`, which fetches them from PyPI")
REGISTERS, WARPS, BLOCKS = 65536, 64, 32  # of a multiprocessor


def find_tools(root):
    """The folder to put before PATH, or None when the tools are on it."""
    for folder in [None, "/usr/local/cuda/bin"] + sorted(glob.glob(os.path.join(root, "build/deps/sass/nvidia/*/bin"))):
        path = os.pathsep.join(filter(None, [folder, os.environ.get("PATH", "")]))
        if all(shutil.which(t, path=path) for t in ("cuobjdump", "nvdisasm")):
            return path
    sys.exit("sass.py: no cuobjdump and nvdisasm: " + HOW)


class Kernel:
    def __init__(self, name):
        self.name = name
        self.registers = self.stack = self.shared = self.threads = 0
        self.count = collections.Counter()  # of the instructions that matter

    @property
    def tensor(self):
        return self.count["HGMMA"] + self.count["HMMA"] > 0

    def warps(self):
        """Warps of a multiprocessor that registers leave room for, in whole blocks where the block is known."""
        if not self.registers:
            return WARPS
        a_warp = -(-self.registers * 32 // 256) * 256  # given out 256 at a time
        warps = min(WARPS, REGISTERS // a_warp)
        if not self.threads:
            return warps
        block = -(-self.threads // 32)
        return min(warps // block, BLOCKS) * block


INSTRUCTION = re.compile(r"^\s+/\*[0-9a-f]{4,}\*/\s+(?:@!?U?P\w+\s+)?([A-Z][A-Z0-9_]*)((?:\.[A-Za-z0-9_]+)*)")


def read_object(path, env):
    """Kernels by (architecture, name)."""
    def lines(*flags):
        run = subprocess.run(["cuobjdump", *flags, path], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=env)
        if run.returncode:
            if "does not contain device code" in run.stdout + run.stderr:
                return []
            sys.exit(f"sass.py: cuobjdump {' '.join(flags)} {path} failed: {run.stderr.strip().splitlines()[-1:]}")
        return run.stdout.splitlines()

    kernels, arch, k = {}, "", None
    at = lambda name: kernels.setdefault((arch, name), Kernel(name))
    for line in lines("--dump-resource-usage"):
        if m := re.match(r"arch = (\S+)", line):
            arch = m[1]
        elif m := re.match(r" Function (\S+):", line):
            k = at(m[1])
        elif k and (m := re.match(r"\s+REG:(\d+) STACK:(\d+) SHARED:(\d+)", line)):
            k.registers, k.stack, k.shared = map(int, m.groups())
    arch, k = "", None
    for line in lines("--dump-sass"):
        if m := re.match(r"\s+code for (\S+)", line):
            arch = m[1]
        elif m := re.match(r"\s+Function : (\S+)", line):
            k = at(m[1])
        elif k and (m := INSTRUCTION.match(line)):
            k.count["all"] += 1
            if m[1] not in ("HGMMA", "HMMA", "UTMALDG", "UBLKCP", "LDL", "STL", "LDG", "STG"):
                continue
            k.count[m[1]] += 1
            for width in ("64", "128"):
                k.count[m[1] + width] += width in m[2].split(".")
            if m[1] == "UTMALDG" and "IM2COL" in m[2]:
                k.count["IM2COL"] += 1
    arch, k, attribute = "", None, ""
    for line in lines("--dump-elf"):
        if m := re.match(r"arch = (\S+)", line):
            arch = m[1]
        elif m := re.match(r"\.nv\.info\.(\S+)$", line):
            k = at(m[1])
        elif m := re.search(r"Attribute:\s+(\S+)", line):
            attribute = m[1]
        elif k and attribute == "EIATTR_MAX_THREADS" and (m := re.search(r"Value:\s+((?:0x[0-9a-f]+ ?){3})", line)):
            x, y, z = (int(v, 16) for v in m[1].split())
            k.threads, attribute = x * y * z, ""
    return kernels


def readable(names):
    if not names or not shutil.which("c++filt"):
        return {n: n for n in names}
    out = subprocess.run(["c++filt", "-p"], input="\n".join(names), stdout=subprocess.PIPE, text=True).stdout.splitlines()
    return {n: without_parameters(r.replace("wt::", "").replace("(anonymous namespace)::", "").removeprefix("void ")) for n, r in zip(names, out)}


def without_parameters(name):
    """f<(Kind)1, 64>(int, float*) -> f<(Kind)1, 64>"""
    depth = 0
    for i, c in enumerate(name):
        depth += (c == "<") - (c == ">")
        if c == "(" and depth == 0:
            return name[:i]
    return name


def complaints_of(path, kernels):
    """What is wrong with an object."""
    bad, base = [], os.path.basename(path)
    if base.endswith("_sm90.o"):
        mine = [k for (arch, _), k in kernels.items() if arch == "sm_90a"]
        planes = "first_layer_fprop" in path
        fed = [k for k in mine if k.count["HGMMA"] and k.count["UBLKCP" if planes else "UTMALDG"]]
        if not mine:
            bad.append("has no code for sm_90a")
        elif not any(k.count["HGMMA"] for k in mine):
            bad.append("has no wgmma (HGMMA) in it")
        elif not fed:
            bad.append("has no wgmma kernel that loads by " + ("bulk copies (UBLKCP)" if planes else "TMA (UTMALDG)"))
        elif os.sep + "conv" + os.sep in path and not planes and not any(k.count["IM2COL"] for k in fed):
            bad.append("has no wgmma kernel that loads by im2col TMA (UTMALDG...IM2COL)")
    for (arch, _), k in kernels.items():
        spills = k.count["LDL"] + k.count["STL"]
        if k.tensor and spills:
            bad.append(f"{k.name} ({arch}) goes through local memory: {k.count['LDL']} LDL, {k.count['STL']} STL")
        if ("vec" in base or "multi" in base) and k.count["LDG128"] and not k.count["STG64"] + k.count["STG128"]:
            bad.append(f"{k.name} ({arch}) loads vectors and stores none")
    log = path[:-2] + ".log"
    if os.path.exists(log):
        with open(log, errors="replace") as f:
            bad += [line.strip() for line in f if re.search(r"\bC75\d\d\b|spill", line) and not re.search(r"\b0 bytes spill", line)]
    return bad


# ---- vectors in the loops of memory-bound kernels ---------------------------------------------------------
# Objects of the memory-bound kernels that a GPU run chooses and that refuse what does not start on whole vectors. Those
# that take any pointer (softmax, SGD, dropout, activation) have a scalar path beside the vectors, which no count tells
# from a fault. Beside each: how many loads of 4 or 8 bytes it may have for one of 16: LRN's halo, two channels on
# either side.
VECTORS_ONLY = {"lrn_pool/forward_fused.o": 2, "lrn_pool/backward_fused.o": 2, "lrn/forward_shuffle.o": 0, "lrn/backward_shuffle.o": 0}
GLOBAL_ACCESS = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@!?U?P\w+\s+)?(LDG|STG)((?:\.[A-Za-z0-9_]+)*)")
BACK = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s.*\bBRA(?:\.\w+)* .*?(0x[0-9a-f]+)")


def access_bytes(suffixes):
    """Bytes a thread moves by LDG or STG with these suffixes."""
    words = suffixes.split(".")
    return next((size for word, size in (("128", 16), ("64", 8), ("U8", 1), ("S8", 1), ("U16", 2), ("S16", 2)) if word in words), 4)


def scalar_complaints(path, dump):
    """Of one of VECTORS_ONLY, from its `cuobjdump --dump-sass`: kernels that move single elements in a loop that moves vectors
    (without such a loop: anywhere), or no vectors at all."""
    halo = next((n for name, n in VECTORS_ONLY.items() if path.replace(os.sep, "/").endswith("/" + name)), None)
    if halo is None:
        return []
    kernels, name, arch = {}, "", ""
    for line in dump.splitlines():
        if m := re.match(r"\s+code for (\S+)", line):
            arch = m[1]
        elif m := re.match(r"\s+Function : (\S+)", line):
            name = m[1]
            kernels[arch, name] = ([], [])
        elif name and (m := GLOBAL_ACCESS.match(line)):
            kernels[arch, name][0].append((int(m[1], 16), m[2], access_bytes(m[3])))
        elif name and (m := BACK.match(line)) and int(m[2], 16) < int(m[1], 16):
            kernels[arch, name][1].append((int(m[2], 16), int(m[1], 16)))
    bad = []
    for (arch, name), (accesses, loops) in kernels.items():
        inside = [[a for a in accesses if first <= a[0] <= last] for first, last in loops]
        inside = [a for a in inside if any(size == 16 for _, _, size in a)]
        if accesses and not inside:  # then the grid is its loop
            inside = [accesses]
        for loop in inside:
            wide = sum(what == "LDG" and size == 16 for _, what, size in loop)
            narrow = sum(what == "LDG" and 4 <= size < 16 for _, what, size in loop)
            # argmax is a byte an element: 8 of them beside 16 bytes of a tensor.
            places = sum(what == "LDG" and size == 8 for _, what, size in loop)
            tiny = [f"{what} of {size}" for _, what, size in loop if size < (4 if what == "LDG" else 8)]
            if not any(size == 16 for _, _, size in loop):
                bad.append(f"{name} ({arch}) moves nothing as 16 bytes a thread")
            elif tiny:
                bad.append(f"{name} ({arch}) moves single elements in its loop: {', '.join(sorted(set(tiny)))} bytes")
            elif narrow - places > halo * wide:
                bad.append(f"{name} ({arch}) has {narrow - places} loads of 4 bytes in its loop, for {wide} of 16")
    return bad


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("folder", nargs="?", help="build/cuda/kernels")
    p.add_argument("--tools", action="store_true", help="only asks whether the disassembler is here")
    p.add_argument("--all", action="store_true")
    a = p.parse_args()
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    env = dict(os.environ, PATH=find_tools(root))
    if a.tools:
        return 0
    if not a.folder:
        p.error("which folder? build/cuda/kernels")
    objects = sorted(glob.glob(os.path.join(a.folder, "**", "*.o"), recursive=True))
    if not objects:
        sys.exit(f"sass.py: {a.folder} has no objects: run make TARGET=cuda first")
    bad, kernels_of = [], {}
    for path in objects:
        kernels_of[path] = read_object(path, env)
        bad += [f"{os.path.relpath(path, a.folder)}: {c}" for c in complaints_of(path, kernels_of[path])]
        if any(path.replace(os.sep, "/").endswith("/" + name) for name in VECTORS_ONLY):
            dump = subprocess.run(["cuobjdump", "--dump-sass", path], stdout=subprocess.PIPE, text=True, env=env, check=True).stdout
            bad += [f"{os.path.relpath(path, a.folder)}: {c}" for c in scalar_complaints(path, dump)]
    names = readable(sorted({k.name for ks in kernels_of.values() for k in ks.values()}))
    print(f"{'registers':>9} {'threads':>8} {'warps':>6} {'occup.':>7} {'shared':>7} {'stack':>6} {'HGMMA':>6} {'HMMA':>5} {'UTMALDG':>8} {'im2col':>6} {'instr.':>7}  kernel")
    shown = 0
    for path, kernels in kernels_of.items():
        for (arch, _), k in sorted(kernels.items()):
            if not (a.all or k.tensor):
                continue
            shown += 1
            print(f"{k.registers:>9} {k.threads or '-':>8} {k.warps():>6} {100 * k.warps() // WARPS:>6}% {k.shared:>7} {k.stack:>6} {k.count['HGMMA']:>6} "
                  f"{k.count['HMMA']:>5} {k.count['UTMALDG']:>8} {k.count['IM2COL']:>6} {k.count['all']:>7}  {os.path.relpath(path, a.folder)} {arch} {names[k.name]}")
    if not shown:
        print("no tensor-core kernels here (--all shows the others)")
    if not any(o.endswith("_sm90.o") for o in objects):
        print("no sm_90a kernels: there is no *_sm90.o")
    for c in bad:
        print("WRONG " + c)
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
