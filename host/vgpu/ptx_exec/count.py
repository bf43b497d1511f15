"""What the translation adds so that a kernel's instructions and accesses are counted (counted.h).

A kernel is cut into basic blocks. A thread says which block it enters, and in which iteration of the
loops around it; instructions are counted by multiplying what a block holds by how often warps came
through it. Accesses say their address too, and are looked at a warp at a time.
"""
import re

import forms
from parse import SIZES, Symbol

# In the order of counted.h's Class.
CLASSES = ('fp32', 'fp64', 'bf16', 'special', 'integer', 'compare', 'convert', 'move', 'param', 'control',
           'global', 'shared', 'local', 'generic', 'atomic', 'copy', 'matrix', 'warp', 'barrier',
           'mbarrier', 'cluster', 'fence', 'other')

# The first pattern that an opcode begins with says its class.
PATTERNS = [(re.compile(p), c) for p, c in (
    (r'(?:ex2|lg2|sin|cos|tanh|rcp|rsqrt|sqrt)\.', 'special'),
    (r'(?:add|sub|mul|fma|mad|div|min|max|abs|neg|copysign)\b.*\.f32$', 'fp32'),
    (r'(?:add|sub|mul|fma|mad|div|min|max|abs|neg|copysign)\b.*\.f64$', 'fp64'),
    (r'(?:add|sub|mul|fma|max|min|set|neg|abs)\..*bf16', 'bf16'),
    (r'(?:setp|set|selp|slct)\.|(?:and|or|xor|not)\.pred', 'compare'),
    (r'(?:add|sub|mul|mad|div|rem|min|max|abs|neg|and|or|xor|not|lop3|shl|shr|shf|popc|clz|brev|bfe|bfi|'
     r'bfind|prmt|sad|dp4a)\.', 'integer'),
    (r'cvt\.', 'convert'),
    (r'(?:mov|cvta|mapa)\.', 'move'),
    (r'ld\.(?:param|const)', 'param'),
    (r'(?:bra|ret|exit|trap|brx)\b', 'control'),
    (r'(?:ldmatrix|stmatrix)\.', 'shared'),
    (r'(?:ld|st)\.(?:\w+\.)*?shared\b', 'shared'),
    (r'(?:ld|st)\.(?:\w+\.)*?local\b', 'local'),
    (r'(?:ld|st)\.(?:\w+\.)*?global\b', 'global'),
    (r'(?:ld|st)\.', 'generic'),
    (r'(?:atom|red)\.', 'atomic'),
    (r'cp\.async\.mbarrier', 'mbarrier'),
    (r'cp\.async|prefetch', 'copy'),
    (r'(?:mma|wgmma\.mma_async)\.', 'matrix'),
    (r'(?:shfl|vote|redux|match|elect|activemask)\b', 'warp'),
    (r'barrier\.cluster', 'cluster'),
    (r'(?:bar|barrier)\.', 'barrier'),
    (r'mbarrier\.', 'mbarrier'),
    (r'(?:fence|membar|wgmma)\b', 'fence'))]


def class_of(opcode):
    for pattern, name in PATTERNS:
        if pattern.match(opcode):
            return name
    return 'other'


class Flow:
    """Basic blocks of a kernel's statements, and the loops around them."""

    def __init__(self, statements):
        self.block_of = {}          # index of the first statement of a block: its number
        self.number = []            # of each statement: its block
        self.after = []             # of each block: the blocks that may follow
        self.instructions = []      # of each block: statements
        labels, begin = {}, True
        for i, s in enumerate(statements):
            if s.label and not (self.block_of and not begin and not self.instructions[-1]):
                begin = True
            if begin:
                self.block_of[i] = len(self.instructions)
                self.instructions.append([])
                begin = False
            if s.label:
                labels[s.label] = len(self.instructions) - 1
            else:
                self.instructions[-1].append(s)
                begin = class_of(s.opcode) == 'control'
            self.number.append(len(self.instructions) - 1)
        for b, inside in enumerate(self.instructions):
            follow, falls = [], b + 1 < len(self.instructions)
            last = inside[-1] if inside else None
            if last is not None and class_of(last.opcode) == 'control':
                if last.opcode.startswith('bra') and last.operands and \
                        isinstance(last.operands[0], Symbol) and last.operands[0].name in labels:
                    follow.append(labels[last.operands[0].name])
                falls = falls and last.predicate is not None
            if falls:
                follow.append(b + 1)
            self.after.append(follow)
        self.loop_of = [None] * len(self.instructions)   # of each block: the innermost loop's number
        self.loops = []                                  # (header block, number of the loop around)
        self._find_loops(set(range(len(self.instructions))), None)

    def _components(self, inside):
        """Strongly connected components, in no order (Tarjan's algorithm without recursion)."""
        index, low, on, stack, found = {}, {}, set(), [], []
        for root in sorted(inside):
            if root in index:
                continue
            work = [(root, iter([x for x in self.after[root] if x in inside]))]
            index[root] = low[root] = len(index)
            stack.append(root)
            on.add(root)
            while work:
                v, following = work[-1]
                step = next(following, None)
                if step is None:
                    work.pop()
                    if work:
                        low[work[-1][0]] = min(low[work[-1][0]], low[v])
                    if low[v] == index[v]:
                        part = set()
                        while True:
                            w = stack.pop()
                            on.discard(w)
                            part.add(w)
                            if w == v:
                                break
                        found.append(part)
                elif step not in index:
                    index[step] = low[step] = len(index)
                    stack.append(step)
                    on.add(step)
                    work.append((step, iter([x for x in self.after[step] if x in inside])))
                elif step in on:
                    low[v] = min(low[v], index[step])
        return found

    def _find_loops(self, inside, parent):
        for part in self._components(inside):
            if len(part) == 1 and not any(b in self.after[b] for b in part):
                continue
            entered = [b for b in sorted(part)
                       if any(b in self.after[a] for a in range(len(self.after)) if a not in part)]
            header = entered[0] if entered else min(part)
            number = len(self.loops)
            self.loops.append((header, parent))
            for b in part:
                self.loop_of[b] = number
            self._find_loops(part - {header}, number)

    def inside(self, block, loop):
        """Whether a block lies in a loop or in one that is in it."""
        at = self.loop_of[block]
        while at is not None and at != loop:
            at = self.loops[at][1]
        return at == loop

    def key(self, loop):
        return '1' if loop is None else f'iteration_{loop}'

    def declarations(self):
        return [f'uint64_t iteration_{i} = 0; uint32_t turn_{i} = 0;' for i in range(len(self.loops))]

    def entry(self, block):
        """What a thread says when it comes into a block."""
        text = ''
        for i, (header, parent) in enumerate(self.loops):
            if header == block:
                text += f'iteration_{i} = iteration_of({self.key(parent)}, ++turn_{i}); '
        text += f'counted.enter({block}, {self.key(self.loop_of[block])});'
        # A loop that follows begins anew. This block is not in it.
        for i, (header, _) in enumerate(self.loops):
            if header in self.after[block] and not self.inside(block, i):
                text += f' turn_{i} = 0;'
        return text


class Counting:
    """The additions to one kernel."""

    def __init__(self, k, kernel):
        self.kernel = kernel        # its number in the file
        self.flow = Flow(k.statements)
        self.sites = []

    def site(self, block, kind, bytes_, s):
        self.sites.append((block, kind, bytes_, s.place))
        return len(self.sites) - 1

    def entry(self, i):
        """Before statement i; '' where no block begins."""
        return self.flow.entry(self.flow.block_of[i]) if i in self.flow.block_of else ''

    def access(self, e, s, i):
        """What an instruction says of its accesses, before it makes them."""
        block, op, o = self.flow.number[i], s.opcode, s.operands
        m = re.match(r'(ld|st)\.', op)
        name = class_of(op)
        if m and name in ('global', 'shared', 'generic'):
            n = re.search(r'\.v([24])\.', op)
            size = int(n.group(1) if n else 1) * SIZES[op.rsplit('.', 1)[1]]
            at = o[1] if m.group(1) == 'ld' else o[0]
            kind = 'load' if m.group(1) == 'ld' else 'store'
            if name == 'shared':
                return f'counted.shared({self.site(block, kind + "_shared", size, s)}, {e.shared(at)});'
            cached = 'load_global_uncached' if re.search(r'\.(?:cg|cv|volatile|relaxed|acquire)\b', op) else \
                'load_global'
            kind = cached if kind == 'load' else 'store_global'
            address = e.generic(at, ('global',) if name == 'global' else ())
            return f'counted.{name}({self.site(block, kind, size, s)}, {address});'
        if name == 'atomic':
            at = o[1] if op.startswith('atom') else o[0]
            size = SIZES[op.rsplit('.', 1)[1]]
            if '.shared' in op:
                return f'counted.shared({self.site(block, "atomic_shared", size, s)}, {e.shared(at)});'
            return f'counted.global({self.site(block, "atomic_global", size, s)}, ' \
                   f'{e.generic(at, ("global",))});'
        m = re.match(r'(ld|st)matrix\..*\.x([124])', op)
        if m:
            kind = 'load_shared' if m.group(1) == 'ld' else 'store_shared'
            at = o[1] if m.group(1) == 'ld' else o[0]
            return f'counted.matrix_rows({self.site(block, kind, 16, s)}, {m.group(2)}, {e.shared(at)});'
        m = re.match(r'cp\.async\.(ca|cg)\.shared', op)
        if m:
            size = e.integer(o[2])
            given = e.value(o[3], 'u32') if len(o) == 4 else '1'
            kind = 'load_global' if m.group(1) == 'ca' else 'load_global_uncached'
            return (f'if ({given}) counted.global({self.site(block, kind, size, s)}, '
                    f'{e.generic(o[1], ("global",))}); '
                    f'counted.shared({self.site(block, "store_shared", size, s)}, {e.shared(o[0])});')
        return self.bulk(e, s, block)

    def bulk(self, e, s, block):
        op, o = s.opcode, s.operands
        m = re.match(r'cp\.async\.bulk\.tensor\.(\d)d\.(shared|global)', op)
        if m:
            load, n = m.group(2) == 'shared', int(m.group(1))
            map_, at = forms.tensor(e, o[1] if load else o[0], n)
            if '.im2col' in op:
                offsets = ', '.join(e.value(x, 'u16') for x in e.vector(o[3], 2, 'u16'))
                return f'counted.tma_im2col({self.site(block, "tma_load", 0, s)}, {map_}, ' \
                       f'{", ".join(at)}, {offsets});'
            mask = e.value(o[3], 'b16') if 'multicast' in op else '1'
            number = self.site(block, 'tma_load' if load else 'tma_store', 0, s)
            return (f'{{ const int32_t at[] = {{{", ".join(at)}}}; '
                    f'counted.tma({number}, {map_}, {mask}, at); }}')
        if re.match(r'cp\.async\.bulk\.shared', op):
            return f'counted.bulk({self.site(block, "tma_load", 0, s)}, ' \
                   f'{e.generic(o[1], ("global",))}, {e.value(o[2], "u32")});'
        if re.match(r'cp\.async\.bulk\.global', op):
            return f'counted.bulk({self.site(block, "tma_store", 0, s)}, ' \
                   f'{e.generic(o[0], ("global",))}, {e.value(o[2], "u32")});'
        return ''

    def tables(self, name):
        """C++ of what is known of the kernel before it runs."""
        i = self.kernel
        classes, shapes = [], {}
        for b, inside in enumerate(self.flow.instructions):
            here = {}
            for s in inside:
                c = CLASSES.index(class_of(s.opcode))
                here[c] = here.get(c, 0) + 1
                if CLASSES[c] == 'matrix':
                    key = (b, shape_of(s.opcode))
                    shapes[key] = shapes.get(key, 0) + 1
            classes += [f'{{{b}, {c}, {n}}}' for c, n in sorted(here.items())]
        matrix = [f'{{{b}, {m}, {n}, {k}, "{text}", {count}}}'
                  for (b, (m, n, k, text)), count in sorted(shapes.items())]
        sites = [f'{{{b}, Access::{kind}, {size}, {line}, "{file}"}}'
                 for b, kind, size, (file, line) in self.sites]

        def array(type_, what, rows):
            return f'constexpr {type_} {what}_{i}[] = {{\n' + ',\n'.join(rows + ['{}']) + '};'
        return [array('CountedClass', 'classes', classes), array('CountedMatrix', 'matrix', matrix),
                array('CountedSite', 'sites', sites),
                f'const CountedKernel counted_{i} = {{"{name}", &loop_{i}, '
                f'{len(self.flow.instructions)}, {len(classes)}, {len(matrix)}, {len(self.sites)}, '
                f'classes_{i}, matrix_{i}, sites_{i}}};']


def shape_of(opcode):
    """m, n, k of a warp's share of a product, and the instruction's name."""
    m, n, k = map(int, re.search(r'm(\d+)n(\d+)k(\d+)', opcode).groups())
    kind = 'wgmma' if opcode.startswith('wgmma') else 'mma'
    return m, n, k, f'{kind} {m}x{n}x{k} ' + ('bf16' if 'bf16' in opcode else 'tf32')
