#!/usr/bin/env python3
"""What the compiler made of the kernels: registers, shared memory and occupancy of each, what the tensor-core kernels'
loops issue, and whether the kernels are what they should be. Exits 1 when one is not.

    make sass [TARGET=cuda ARCHS=90]        builds the objects, then runs this
    python3 profiling/sass.py [--all] [--json FILE] OBJECT OR FOLDER OF OBJECTS...      --all: not just those on tensor cores
    python3 profiling/sass.py --dump FILE...                a disassembly in text instead (cuobjdump --dump-sass)
    python3 profiling/sass.py --tools                       whether there is a disassembler; make sass asks that first

Asked of every object *_sm90.o: code for sm_90a, and in it a kernel with wgmma (HGMMA) fed by the copy engine (UTMALDG;
of a convolution at least one such load of im2col kind, but for the first layer's fprop, whose patches are views of
contiguous planes: bulk copies, UBLKCP). Of the kernels of *vec*.o and *multi*.o: those that load vectors (LDG.128) store vectors too, which nvcc takes
apart where a branch stores the same elements singly. Of the compiler's messages, kept beside the objects: no C75xx (wgmma
serialised, setmaxnreg ignored), no spills. Of the memory-bound kernels in VECTORS_ONLY: no single elements moved in their
loops. Of each kernel, what GUARDS below says.

Of each wgmma kernel it prints what a warp issues, along the longest way through its code, with the stall counts' clocks,
which are the least that it takes (profiling/sass_code.py): the loop over k, for a stage; the epilogue, from the last
product of a tile to the next tile; the producer's loop, for a stage. A loop inside these counts as one turn. --json writes
the same and every loop of every kernel, with instructions by class.

Occupancy is what registers and the declared block allow (65536 registers and 64 warps a multiprocessor, as sm_80 and
sm_90 have); shared memory given at launch is not in the object and may allow less.
"""
import argparse
import collections
import functools
import glob
import json
import os
import re
import shutil
import subprocess
import sys

from sass_code import Code, read_dump

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


def is_wgmma(i):
    return i.what == "HGMMA"


def is_copy(i):
    return i.what in ("UTMALDG", "UTMASTG", "UBLKCP")


def loads_a_stage(instructions):
    whats = {i.what for i in instructions}
    return (bool(whats & {"UTMALDG", "UBLKCP"}) and not whats & {"UTMASTG", "HGMMA"} and
            any(i.is_a("SYNCS", "ARRIVE") and "A1T0" not in i.modifiers for i in instructions))


class Kernel:
    def __init__(self, name):
        self.name = name
        self.registers = self.stack = self.shared = self.threads = 0
        self.instructions = []
        self.count = collections.Counter()  # of the instructions that matter

    @property
    def tensor(self):
        return self.count["HGMMA"] + self.count["HMMA"] > 0

    @functools.cached_property
    def code(self):
        return Code(self.instructions)

    def set_code(self, instructions):
        self.instructions = instructions
        self.count["all"] = len(instructions)
        for i in instructions:
            if i.what in ("HGMMA", "HMMA", "UTMALDG", "UBLKCP", "LDL", "STL", "LDG", "STG"):
                self.count[i.what] += 1
                for width in ("64", "128"):
                    self.count[i.what + width] += width in i.modifiers
                self.count["IM2COL"] += i.is_a("UTMALDG", "IM2COL")

    # ---- a wgmma kernel's parts ------------------------------------------------------------------------------------
    def k_loop(self):
        """The innermost loop with the most wgmmas; None without one."""
        return max(self.code.innermost(is_wgmma), key=lambda l: sum(map(is_wgmma, self.code.instructions(l))), default=None)

    def stage_loop(self):
        """The producer's: the smallest loop that expects bytes (an arrival at an mbarrier without A1T0, which is an arrival
        of one thread and no bytes) and loads by TMA, and does not store."""
        fits = [l for l in self.code.loops if loads_a_stage(self.code.instructions(l))]
        return min(fits, key=lambda l: len(self.code.instructions(l)), default=None)

    def parts(self):
        """By name, each a Way or None: `k_loop`, `epilogue`, `producer`."""
        k, stage = self.k_loop(), self.stage_loop()
        epilogue = None
        if k:
            stores = any(i.what == "UTMASTG" for i in self.code.instructions(k.parent)) if k.parent else False
            epilogue = self.code.way_behind(k, (lambda i: i.what == "UTMASTG") if stores else None)
        return {"k_loop": k and self.code.way_through(k), "epilogue": epilogue, "producer": stage and self.code.way_through(stage)}

    def as_json(self, path, arch, name):
        loops, code = [], self.code
        for l in code.loops:
            loops.append({"from": code.block[l.header][0].at, "inside": code.loops.index(l.parent) if l.parent else None,
                          "all_instructions": len(code.instructions(l)), "longest_way": code.way_through(l).as_json()})
        parts = self.parts() if self.count["HGMMA"] else {}
        return {"object": path, "arch": arch, "name": name, "registers": self.registers, "threads": self.threads, "warps": self.warps(),
                "shared": self.shared, "stack": self.stack, "instructions": self.count["all"],
                "classes": dict(sorted(collections.Counter(i.kind for i in self.instructions).items())), "loops": loops,
                **{part: way and way.as_json() for part, way in parts.items()}}

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
    for arch, name, instructions in read_dump(lines("--dump-sass")):
        kernels.setdefault((arch, name), Kernel(name)).set_code(instructions)
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


# ---- guards: each is asked of every kernel, with its object's name, and returns what is wrong, in sentences -------------


def no_fence_between_products(_, k):
    """A MEMBAR of GPU scope in the loop over k, or before an arrival at an mbarrier in a loop around it, is an L2 round trip
    for every stage, or tile: what a release of cluster scope compiles to. Before a cluster's barrier it may be meant."""
    if not k.count["HGMMA"]:
        return
    inner = {id(i) for l in k.code.innermost(is_wgmma) for i in k.code.instructions(l)}
    around = {i.at: i for l in k.code.loops if any(map(is_wgmma, k.code.instructions(l))) for i in k.code.instructions(l)}
    bad = 0
    for n, i in enumerate(k.instructions):
        if i.at in around and i.what == "MEMBAR" and ("GPU" in i.modifiers or "SYS" in i.modifiers):
            bad += id(i) in inner or any(j.is_a("SYNCS", "ARRIVE") for j in k.instructions[n:n + 5])
    if bad:
        yield f"waits for memory at each stage: {bad} MEMBAR of GPU scope in a loop with HGMMA"


def no_loop_over_lanes(_, k):
    """Where ptxas does not know that a single thread copies, it goes round once for each lane: ptx::elect_one says how it
    comes to know."""
    bad = [i for n, i in enumerate(k.instructions) if i.is_a("BRA", "U", "ANY") and any(is_copy(j) and i.target <= j.at for j in k.instructions[max(0, n - 24):n])]
    if bad:
        yield f"has a loop over lanes (BRA.U.ANY) around {len(bad)} copies"


# Variants that no default chooses on a GPU may use local memory: by object, and dropout's vec128 by its kernel's name.
NOT_CHOSEN = re.compile(r"^(\w*naive|pixels8|\w+_pixel|\w+_row)\.o |dropout_vec_kernelI\w+Li16E")


def no_local_memory(base, k):
    spills = k.count["LDL"] + k.count["STL"]
    if spills and (k.tensor or not NOT_CHOSEN.search(base + " " + k.name)):
        yield f"goes through local memory: {k.count['LDL']} LDL, {k.count['STL']} STL"


GUARDS = (no_fence_between_products, no_loop_over_lanes, no_local_memory)


def complaints_of(path, kernels):
    """What is wrong with an object."""
    bad, base = [], os.path.basename(path)
    if base.endswith("_sm90.o"):
        mine = [k for (arch, _), k in kernels.items() if arch == "sm_90a"]
        planes = "first_layer_fprop" in path or os.sep + "conv_pool" + os.sep in path
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
        bad += [f"{k.name} ({arch}) {complaint}" for guard in GUARDS for complaint in guard(base, k)]
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


def dump_of(path, env, is_text):
    if is_text:
        with open(path) as f:
            return f.read()
    return subprocess.run(["cuobjdump", "--dump-sass", path], stdout=subprocess.PIPE, text=True, env=env, check=True).stdout


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


def ways_table(rows):
    print(f"{'k loop':>14} {'epilogue':>14} {'producer':>14}  kernel: instructions (clocks) that a warp issues for a stage, a tile, a stage")
    for name, parts in rows:
        cell = lambda part: f"{len(parts[part])} ({parts[part].clocks})" if parts[part] else "-"
        print(f"{cell('k_loop'):>14} {cell('epilogue'):>14} {cell('producer'):>14}  {name}")


def objects_in(places):
    found = []
    for place in places:
        inside = sorted(glob.glob(os.path.join(place, "**", "*.o"), recursive=True)) if os.path.isdir(place) else [place]
        if not inside:
            sys.exit(f"sass.py: {place} has no objects: run make TARGET=cuda first")
        found += inside
    return found


def read_text(path):
    with open(path) as f:
        kernels = {}
        for arch, name, instructions in read_dump(f):
            kernels[arch, name] = Kernel(name)
            kernels[arch, name].set_code(instructions)
    if not kernels:
        sys.exit(f"sass.py: {path} has no disassembled function in it (cuobjdump --dump-sass)")
    return kernels


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("places", nargs="*", metavar="OBJECT OR FOLDER", help="build/cuda/kernels")
    p.add_argument("--tools", action="store_true", help="only asks whether the disassembler is here")
    p.add_argument("--dump", action="store_true", help="the files are disassemblies in text")
    p.add_argument("--all", action="store_true", help="every kernel, not just those on tensor cores")
    p.add_argument("--json", metavar="FILE", help="writes all counts there")
    a = p.parse_args()
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    env = None if a.dump else dict(os.environ, PATH=find_tools(root))
    if a.tools:
        return 0
    if not a.places:
        p.error("which folder? build/cuda/kernels")
    for place in a.places:
        if not os.path.exists(place):
            sys.exit(f"sass.py: {place} is not there: run make TARGET=cuda first")
    objects = a.places if a.dump else objects_in(a.places)
    folder = a.places[0] if len(a.places) == 1 and os.path.isdir(a.places[0]) else os.curdir
    bad, kernels_of = [], {}
    for path in objects:
        kernels_of[path] = read_text(path) if a.dump else read_object(path, env)
        bad += [f"{os.path.relpath(path, folder)}: {c}" for c in complaints_of(path, kernels_of[path])]
        if any(path.replace(os.sep, "/").endswith("/" + name) for name in VECTORS_ONLY):
            bad += [f"{os.path.relpath(path, folder)}: {c}" for c in scalar_complaints(path, dump_of(path, env, a.dump))]
    names = readable(sorted({k.name for ks in kernels_of.values() for k in ks.values()}))
    print(f"{'registers':>9} {'threads':>8} {'warps':>6} {'occup.':>7} {'shared':>7} {'stack':>6} {'HGMMA':>6} {'HMMA':>5} {'UTMALDG':>8} {'im2col':>6} {'instr.':>7}  kernel")
    shown, ways, written = 0, [], []
    for path, kernels in kernels_of.items():
        for (arch, _), k in sorted(kernels.items()):
            if a.json:
                written.append(k.as_json(os.path.relpath(path, folder), arch, names[k.name]))
            if not (a.all or k.tensor):
                continue
            shown += 1
            name = f"{os.path.relpath(path, folder)} {arch} {names[k.name]}"
            print(f"{k.registers:>9} {k.threads or '-':>8} {k.warps():>6} {100 * k.warps() // WARPS:>6}% {k.shared:>7} {k.stack:>6} {k.count['HGMMA']:>6} "
                  f"{k.count['HMMA']:>5} {k.count['UTMALDG']:>8} {k.count['IM2COL']:>6} {k.count['all']:>7}  {name}")
            if k.count["HGMMA"]:
                ways.append((name, k.parts()))
    if not shown:
        print("no tensor-core kernels here (--all shows the others)")
    if ways:
        ways_table(ways)
    if not a.dump and not any(o.endswith("_sm90.o") for o in objects):
        print("no sm_90a kernels: there is no *_sm90.o")
    if a.json:
        with open(a.json, "w") as f:
            json.dump(written, f, indent=1)
            f.write("\n")
    for c in bad:
        print("WRONG " + re.sub(r"\b_Z\w+", lambda m: names.get(m[0], m[0]), c))
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
