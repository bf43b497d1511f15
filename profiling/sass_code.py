"""Disassembled kernels as code: instructions, the flow between them, loops, and the ways through these. sass.py asks it
what the tensor-core kernels' loops issue.

`cuobjdump --dump-sass` prints an instruction in two lines; the second word's bits 41 to 44 are how many clocks its warp
waits at least before the next one is issued (the stall count, which the assembler sets). Their sum along a way is a lower
bound of its time: what waits for memory, for a barrier or for another warp's turn comes on top.
"""
import collections
import re

LINE = re.compile(r"^\s+/\*([0-9a-f]{4,})\*/\s+(?:@(!?U?P\w+)\s+)?([A-Z][A-Z0-9_]*)((?:\.[A-Za-z0-9_]+)*)\s*(.*?)\s*;?\s*/\*\s*0x([0-9a-f]{16})")
SECOND = re.compile(r"^\s+/\*\s*0x([0-9a-f]{16})\s*\*/\s*$")

# What is counted together, by the unit that an instruction goes to. The first that fits.
CLASSES = (
    ("tensor", r"[HIBQD]G?MMA|IMMA"),
    ("tma_load", r"UTMALDG|UBLKCP|UTMAPF|UBLKPF|UTMACCTL"),
    ("tma_store", r"UTMASTG|UTMAREDG|UTMACMDFLUSH|UBLKRED"),
    ("load_global", r"LDG|LD|LDGSTS|LDGDEPBAR"),
    ("store_global", r"STG|ST|RED|ATOMG?|REDG"),
    ("load_shared", r"LDS|LDSM|ATOMS"),
    ("store_shared", r"STS|STSM"),
    ("local", r"LDL|STL"),
    ("constant", r"LDC|ULDC|LDCU"),
    ("sync", r"SYNCS|BAR|UCGABAR\w*|WARPSYNC|WARPGROUP|WARPGROUPSET|DEPBAR|MEMBAR|FENCE|ERRBAR|CGAERRBAR|ELECT|NANOSLEEP|CCTL\w*|ACQBULK|PREEXIT|"
             r"USETMAXREG|UTMACMDFLUSH|R2UR|VOTEU?|SHFL|REDUX|MATCH|LEPC"),
    ("branch", r"BRA|BRX|BSSY|BSYNC|BREAK|BMOV|EXIT|CALL|RET|YIELD|JMP|WARPSYNC|KILL|NOP"),
    ("special", r"MUFU|I2F\w*|F2I\w*|I2FP|F2F|FRND|POPC|FLO|BREV|S2R|S2UR|CS2R|B2R|R2B"),
    ("float", r"F(FMA|ADD|MUL|SETP|SET|SEL|MNMX|CHK|SWZADD)\w*|H(FMA2|ADD2|MUL2|MNMX2|SET2|SETP2)\w*|F2FP|D(FMA|ADD|MUL)"),
    ("uniform", r"U[A-Z0-9]+"),
)
CLASSES = tuple((name, re.compile(f"(?:{pattern})$")) for name, pattern in CLASSES)


class Instruction:
    __slots__ = ("at", "guard", "what", "modifiers", "operands", "stall")

    def __init__(self, at, guard, what, modifiers, operands):
        self.at, self.guard, self.what, self.modifiers, self.operands, self.stall = at, guard, what, modifiers, operands, 0

    def is_a(self, what, *modifiers):
        return self.what == what and all(m in self.modifiers for m in modifiers)

    @property
    def kind(self):
        return next((name for name, pattern in CLASSES if pattern.match(self.what)), "integer")

    @property
    def target(self):
        m = re.search(r"\b0x([0-9a-f]+)$", self.operands) or re.search(r"\b0x([0-9a-f]+)", self.operands)
        return int(m[1], 16) if m else None


def read_dump(lines):
    """[(architecture, function's name, [Instruction])] of what cuobjdump --dump-sass prints."""
    found, arch = [], ""
    for line in lines:
        if m := LINE.match(line):
            if found:
                found[-1][2].append(Instruction(int(m[1], 16), m[2] or "", m[3], m[4].split(".")[1:], m[5]))
        elif m := SECOND.match(line):
            if found and found[-1][2]:
                found[-1][2][-1].stall = int(m[1], 16) >> 41 & 15
        elif m := re.match(r"\s+code for (\S+)", line):
            arch = m[1]
        elif m := re.match(r"\s+Function : (\S+)", line):
            found.append((arch, m[1], []))
    return found


class Way:
    """Instructions that a warp issues one after the other: the longest way through some code."""

    def __init__(self, instructions):
        self.instructions = instructions

    def __len__(self):
        return len(self.instructions)

    @property
    def clocks(self):
        return sum(i.stall for i in self.instructions)

    def classes(self):
        return dict(sorted(collections.Counter(i.kind for i in self.instructions).items()))

    def as_json(self):
        return {"instructions": len(self), "stall_clocks": self.clocks, "classes": self.classes()}


class Loop:
    def __init__(self, header, blocks):
        self.header, self.blocks, self.parent = header, blocks, None  # numbers of basic blocks

    @property
    def depth(self):
        return 0 if self.parent is None else self.parent.depth + 1


class Code:
    """A kernel's basic blocks, and its loops: those of a flow graph (a branch back to a block that every way to the branch
    has come through), so that parts which the compiler has put elsewhere belong to them."""

    def __init__(self, instructions):
        self.all = instructions
        self._cut()
        self._find_dominators()
        self._find_loops()

    # ---- flow ------------------------------------------------------------------------------------------------------
    def _cut(self):
        number = {i.at: n for n, i in enumerate(self.all)}
        starts = {0}
        for n, i in enumerate(self.all):
            if i.what in ("BRA", "EXIT", "RET", "BRX", "JMP", "KILL"):
                starts.add(n + 1)
                if i.what == "BRA" and i.target in number:
                    starts.add(number[i.target])
        order = sorted(s for s in starts if s < len(self.all))
        self.block = [self.all[a:b] for a, b in zip(order, order[1:] + [len(self.all)])]
        at_block = {b[0].at: n for n, b in enumerate(self.block)}
        self.next = []
        for n, b in enumerate(self.block):
            last, after = b[-1], [n + 1] if n + 1 < len(self.block) else []
            if last.what == "BRA":
                to = [at_block[last.target]] if last.target in at_block else []
                falls_through = bool(last.guard) or "U" in last.modifiers or "DIV" in last.modifiers or "," in last.operands
                after = to + (after if falls_through else [])
            elif last.what in ("EXIT", "RET", "BRX", "JMP", "KILL"):
                after = after if last.guard else []
            self.next.append(list(dict.fromkeys(after)))
        self.before = [[] for _ in self.block]
        for n, after in enumerate(self.next):
            for m in after:
                self.before[m].append(n)

    def _find_dominators(self):
        seen, order = set(), []
        stack = [(0, iter(self.next[0]))] if self.block else []
        seen.add(0)
        while stack:
            n, after = stack[-1]
            m = next((m for m in after if m not in seen), None)
            if m is None:
                order.append(n)
                stack.pop()
            else:
                seen.add(m)
                stack.append((m, iter(self.next[m])))
        order.reverse()
        rank = {n: i for i, n in enumerate(order)}
        parent = {0: 0}
        changed = True
        while changed:  # Cooper, Harvey and Kennedy
            changed = False
            for n in order[1:]:
                new = None
                for p in self.before[n]:
                    if p not in parent:
                        continue
                    if new is None:
                        new = p
                        continue
                    a, b = p, new
                    while a != b:
                        while rank[a] > rank[b]:
                            a = parent[a]
                        while rank[b] > rank[a]:
                            b = parent[b]
                    new = a
                if parent.get(n) != new:
                    parent[n], changed = new, True
        self.parent = parent

    def _dominates(self, a, b):
        while b != a and b:
            b = self.parent[b]
        return a == b

    def _find_loops(self):
        bodies = {}
        for n, after in enumerate(self.next):
            if n not in self.parent:
                continue
            for header in after:
                if not self._dominates(header, n):
                    continue
                body, stack = bodies.setdefault(header, {header}), [n]
                while stack:
                    m = stack.pop()
                    if m not in body:
                        body.add(m)
                        stack += [p for p in self.before[m] if p in self.parent]
        self.loops = sorted((Loop(h, b) for h, b in bodies.items()), key=lambda l: len(l.blocks), reverse=True)
        for i, loop in enumerate(self.loops):
            loop.parent = next((outer for outer in reversed(self.loops[:i]) if loop.blocks < outer.blocks), None)

    # ---- questions -------------------------------------------------------------------------------------------------
    def instructions(self, loop):
        return [i for n in sorted(loop.blocks) for i in self.block[n]]

    def innermost(self, wanted):
        """Loops with an instruction that `wanted` accepts and no loop inside them with one."""
        having = [l for l in self.loops if any(wanted(i) for i in self.instructions(l))]
        return [l for l in having if not any(inner is not l and inner.blocks < l.blocks for inner in having)]

    def way_through(self, loop):
        """The longest way from a loop's first block back to it. A loop inside counts as one turn; of the arms of a branch
        the longer one."""
        return self._longest(loop.header, loop.blocks, lambda n: loop.header in self.next[n])

    def way_behind(self, inner, through=None):
        """The longest way from where the loop `inner` is left to the next turn of the one around it, or to the kernel's end
        where there is none. With `through` only ways with an instruction that it accepts count."""
        outer = inner.parent
        blocks = (outer.blocks if outer else set(self.parent)) - inner.blocks
        ends = (lambda n: outer.header in self.next[n]) if outer else (lambda n: not self.next[n])
        starts = {m for n in inner.blocks for m in self.next[n] if m in blocks}
        return max((self._longest(s, blocks, ends, through) for s in sorted(starts)), key=len, default=Way([]))

    def _longest(self, start, blocks, ends, through=None):
        there = [through is None or any(through(i) for i in b) for b in self.block]
        best, open_ = {}, set()

        def from_(n, passed):  # (instructions, next block), or None where no end is reached
            passed = passed or there[n]
            if (n, passed) in best:
                return best[n, passed]
            open_.add(n)
            found = (len(self.block[n]), None) if passed and ends(n) else None
            for m in self.next[n]:
                if m in blocks and m not in open_ and (way := from_(m, passed)) and (not found or way[0] + len(self.block[n]) > found[0]):
                    found = (way[0] + len(self.block[n]), m)
            open_.discard(n)
            best[n, passed] = found
            return found

        if not from_(start, False):
            return Way([])
        way, n, passed = [], start, False
        while n is not None:
            way += self.block[n]
            passed = passed or there[n]
            n = best[n, passed][1]
        return Way(way)
