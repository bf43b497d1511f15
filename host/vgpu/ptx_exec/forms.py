"""The forms of instructions, each with what its operands must be and what it does, in C++.

A form is a pattern for the whole opcode: what no pattern fits is refused, and so are operands of
another number, kind or type (PTX ISA, 'Operand Size Exceeding Instruction-Type Size' where registers
may be wider). Names in the C++ are those of run.h.
"""
import re

from parse import (SINK, SIZES, Immediate, Memory, Not, Pair, Register, Special, Symbol, Vector)

CPP = {'pred': 'bool', 'b8': 'uint8_t', 'u8': 'uint8_t', 's8': 'int8_t', 'b16': 'uint16_t',
       'u16': 'uint16_t', 's16': 'int16_t', 'b32': 'uint32_t', 'u32': 'uint32_t', 's32': 'int32_t',
       'f32': 'float', 'b64': 'uint64_t', 'u64': 'uint64_t', 's64': 'int64_t', 'f64': 'double'}

SPECIALS = {'laneid': '::vgpu::lane_id()', 'warpid': '::vgpu::linear_thread() / 32',
            'cluster_ctarank': '::vgpu::cluster_rank()',
            'cluster_nctarank': '::vgpu::cluster_size()',
            'lanemask_eq': '(1u << ::vgpu::lane_id())',
            'lanemask_lt': '((1u << ::vgpu::lane_id()) - 1)',
            'lanemask_le': '(~0u >> (31 - ::vgpu::lane_id()))',
            'lanemask_gt': '(~0u << ::vgpu::lane_id() << 1)',
            'lanemask_ge': '(~0u << ::vgpu::lane_id())'}
for _ptx, _cpp in (('tid', 'threadIdx'), ('ctaid', 'blockIdx'), ('ntid', 'blockDim'),
                   ('nctaid', 'gridDim')):
    for _d in 'xyz':
        SPECIALS[f'{_ptx}.{_d}'] = f'{_cpp}.{_d}'


class FormError(Exception):
    pass


def kind(t):
    return t if t == 'pred' else t.rstrip('0123456789')


def agrees(register, instruction):
    """Whether a register of a type may be an operand of another of the same size."""
    if SIZES[register] != SIZES[instruction] or (register == 'pred') != (instruction == 'pred'):
        return False
    r, i = kind(register), kind(instruction)
    if r == 'b' or i == 'b' or r == i:
        return True
    return r in 'us' and i in 'us'


class Emitter:
    """Values and assignments of one kernel's operands."""

    def __init__(self, symbols):
        self.symbols = symbols      # name: (C++ expression of the address, space)
        self.moved = {}             # registers that are elements of an array of accumulators

    def name(self, r):
        return self.moved.get(r.name, r.name)

    def register(self, o, t, wider=False):
        if not isinstance(o, Register):
            raise FormError(f'a register of type .{t} is expected')
        if agrees(o.type, t):
            return
        if wider and o.type != 'pred' and SIZES[o.type] > SIZES[t] and kind(t) != 'f' \
                and kind(o.type) != 'f':
            return
        raise FormError(f'a register of type .{o.type} where .{t} is expected')

    def value(self, o, t, wider=False):
        """A C++ expression of type CPP[t]."""
        if isinstance(o, Immediate):
            return self.immediate(o, t)
        if isinstance(o, Register):
            self.register(o, t, wider)
            name = self.name(o)
            k, rk = kind(t), kind(o.type)
            if t == 'pred':
                return name
            if (k == 'f') != (rk == 'f'):
                return f'std::bit_cast<{CPP[t]}>({name})'
            if k == 'f' or CPP[t] == CPP['b' + str(8 * SIZES[o.type])]:
                return name
            return f'static_cast<{CPP[t]}>({name})'
        if isinstance(o, Special):
            if o.name not in SPECIALS:
                raise FormError(f'%{o.name} is not supported')
            if kind(t) == 'f' or SIZES[t] != 4:
                raise FormError(f'%{o.name} is of 32 bits')
            return f'static_cast<{CPP[t]}>({SPECIALS[o.name]})'
        if isinstance(o, Symbol):
            if SIZES[t] < 4 or kind(t) == 'f':
                raise FormError(f'the address {o.name} where .{t} is expected')
            return f'static_cast<{CPP[t]}>({self.symbol(o)[0]})'
        if isinstance(o, Not) and t == 'pred':
            return '!' + self.value(o.of, t)
        raise FormError(f'an operand of type .{t} is expected')

    def symbol(self, o):
        if o.name not in self.symbols:
            raise FormError(f'{o.name} is not declared')
        return self.symbols[o.name]

    def immediate(self, o, t):
        if t == 'pred':
            if o.text not in ('0', '1', '-1'):
                raise FormError(f'{o.text} is no predicate')
            return 'false' if o.text == '0' else 'true'
        if o.float:
            if kind(t) == 'f' and o.float != t or SIZES[o.float] != SIZES[t] or kind(t) in 'us':
                raise FormError(f'a number of type .{o.float} where .{t} is expected')
            bits = o.text + ('u' if SIZES[t] == 4 else 'ull')
            return f'std::bit_cast<{CPP[t]}>({bits})' if kind(t) == 'f' else bits
        if kind(t) == 'f':
            raise FormError(f'the integer {o.text} where .{t} is expected')
        text = o.text
        n = int(text, 8) if re.match(r'-?0[0-7]+$', text) else int(text, 0)
        bits = 8 * SIZES[t]
        if not -(1 << 63) <= n < 1 << 64:
            raise FormError(f'{text} has more than 64 bits')
        n %= 1 << bits
        if kind(t) == 's':
            n -= (n >> bits - 1) << bits
            return f'static_cast<{CPP[t]}>({n if n > -(1 << 63) else "INT64_MIN"}ll)' \
                if n > -(1 << 63) else 'INT64_MIN'
        return f'{n}ull' if bits == 64 else f'{n}u' if bits == 32 else f'static_cast<{CPP[t]}>({n})'

    def integer(self, o, allowed=None):
        """An immediate's number, which the instruction needs as such."""
        if not isinstance(o, Immediate) or o.float:
            raise FormError('a constant is expected')
        n = int(o.text, 0)
        if allowed is not None and n not in allowed:
            raise FormError(f'the constant {n} is not one of {", ".join(map(str, allowed))}')
        return n

    def assign(self, o, t, expression, wider=False):
        """o = expression, which is of type CPP[t]."""
        if o is SINK:
            return f'(void)({expression});'
        self.register(o, t, wider)
        name, k, rk = self.name(o), kind(t), kind(o.type)
        if t == 'pred':
            return f'{name} = {expression};'
        if k == 'f' and rk == 'f':
            return f'{name} = {expression};'
        if k == 'f':
            return f'{name} = std::bit_cast<{CPP[o.type]}>({expression});'
        if rk == 'f':
            return f'{name} = std::bit_cast<{CPP[o.type]}>(static_cast<{CPP["b" + t[1:]]}>({expression}));'
        return f'{name} = static_cast<{CPP[o.type]}>({expression});'

    def vector(self, o, count, t):
        if not isinstance(o, Vector) or len(o.items) != count:
            raise FormError(f'a vector of {count} is expected')
        return o.items

    # ---- addresses ----

    def memory(self, o, coordinates=False):
        if not isinstance(o, Memory):
            raise FormError('an address is expected')
        if bool(o.coordinates) != coordinates:
            raise FormError('coordinates of a tensor are expected' if coordinates else
                            'coordinates are for tensors')
        return o

    def shared(self, o):
        """An address of the shared window. With a register of 32 bits it wraps, as nvcc counts on."""
        o = self.memory(o)
        if isinstance(o.base, Symbol):
            address, space = self.symbol(o.base)
            if space != 'shared':
                raise FormError(f'{o.base.name} is not in shared memory')
        elif SIZES[o.base.type] in (4, 8) and kind(o.base.type) in 'bus':
            address = self.name(o.base)
        else:
            raise FormError('an address is a register of 32 or 64 bits')
        if isinstance(o.base, Register) and SIZES[o.base.type] == 4:
            return f'{address} + {o.offset % (1 << 32)}u' if o.offset else address
        return f'{address} + {o.offset}ll' if o.offset else address

    def generic(self, o, spaces, coordinates=False):
        o = self.memory(o, coordinates)
        if isinstance(o.base, Symbol):
            address, space = self.symbol(o.base)
            if space not in spaces:
                raise FormError(f'{o.base.name} is in {space} memory')
        elif o.base.type in ('b64', 'u64', 's64'):
            address = self.name(o.base)
        else:
            raise FormError('an address is a register of 64 bits')
        return f'{address} + {o.offset}ll' if o.offset else address

    def pointer(self, o, size, t='void'):
        return f'static_cast<{t}*>(shared.pointer({self.shared(o)}, {size}, HERE))'


FORMS = []


def form(pattern, count):
    """Adds a form: its opcode fits the pattern, and it has so many operands (a number or numbers)."""
    counts = (count,) if isinstance(count, int) else count

    def add(function):
        FORMS.append((re.compile(pattern), counts, function))
        return function
    return add


_known = {}


def find(opcode):
    if opcode not in _known:
        for pattern, counts, function in FORMS:
            m = pattern.fullmatch(opcode)
            if m:
                _known[opcode] = (m, counts, function)
                break
        else:
            raise FormError(f'{opcode} is not a form that is known')
    return _known[opcode]


def emit(e, s):
    """C++ of a statement, without its predicate."""
    m, counts, function = find(s.opcode)
    if len(s.operands) not in counts:
        raise FormError(f'{s.opcode} has {" or ".join(map(str, counts))} operands, not '
                        f'{len(s.operands)}')
    return function(e, m, *s.operands)


# ---- moves and integers ----

INT = '[us](?:16|32|64)'


@form(r'mov\.(pred|[busf](?:16|32|64))', 2)
def _(e, m, d, a):
    t = m[1]
    if isinstance(d, Vector) or isinstance(a, Vector):
        return _pack(e, t, d, a)
    return e.assign(d, t, e.value(a, t))


def _pack(e, t, d, a):
    """mov.b32 d, {lo, hi} and the other way."""
    whole, parts = (d, a) if isinstance(a, Vector) else (a, d)
    if kind(t) != 'b' or isinstance(whole, Vector):
        raise FormError('vectors are packed and unpacked by mov.b32 and mov.b64')
    n = len(parts.items)
    if n not in (2, 4) or SIZES[t] // n not in (1, 2, 4):
        raise FormError(f'a vector of {n} in .{t}')
    part = f'b{8 * SIZES[t] // n}'
    bits = 8 * SIZES[part]
    if isinstance(a, Vector):
        terms = [f'static_cast<{CPP[t]}>({e.value(p, part)}) << {i * bits}'
                 for i, p in enumerate(a.items)]
        return e.assign(d, t, ' | '.join(terms))
    lines = [e.assign(p, part, f'static_cast<{CPP[part]}>(packed >> {i * bits})')
             for i, p in enumerate(d.items) if p is not SINK]
    return f'{{ const {CPP[t]} packed = {e.value(a, t)}; {" ".join(lines)} }}'


@form(rf'(add|sub)\.({INT})', 3)
def _(e, m, d, a, b):
    u = 'u' + m[2][1:]
    op = '+' if m[1] == 'add' else '-'
    return e.assign(d, u, f'{e.value(a, u)} {op} {e.value(b, u)}')


@form(rf'mul\.lo\.({INT})', 3)
def _(e, m, d, a, b):
    u = 'u' + m[1][1:]
    wide = 'uint32_t{' if SIZES[u] == 2 else None
    a, b = e.value(a, u), e.value(b, u)
    return e.assign(d, u, f'uint32_t{{{a}}} * {b}' if wide else f'{a} * {b}')


@form(r'mul\.hi\.([us](?:32|64))', 3)
def _(e, m, d, a, b):
    return e.assign(d, m[1], f'mul_hi({e.value(a, m[1])}, {e.value(b, m[1])})')


@form(r'mul\.wide\.([us])(16|32)', 3)
def _(e, m, d, a, b):
    t, w = m[1] + m[2], m[1] + str(2 * int(m[2]))
    return e.assign(d, w, f'static_cast<{CPP[w]}>({e.value(a, t)}) * {e.value(b, t)}')


@form(r'mad\.wide\.([us])(16|32)', 4)
def _(e, m, d, a, b, c):
    t, w = m[1] + m[2], m[1] + str(2 * int(m[2]))
    u = 'u' + w[1:]
    product = f'static_cast<{CPP[w]}>({e.value(a, t)}) * {e.value(b, t)}'
    return e.assign(d, u, f'static_cast<{CPP[u]}>({product}) + {e.value(c, u)}')


@form(r'mad\.lo\.([us](?:32|64))', 4)
def _(e, m, d, a, b, c):
    u = 'u' + m[1][1:]
    return e.assign(d, u, f'{e.value(a, u)} * {e.value(b, u)} + {e.value(c, u)}')


@form(rf'(div|rem|min|max)\.({INT})', 3)
def _(e, m, d, a, b):
    f = {'div': 'divide', 'rem': 'remainder_of', 'min': 'least', 'max': 'most'}[m[1]]
    return e.assign(d, m[2], f'{f}<{CPP[m[2]]}>({e.value(a, m[2])}, {e.value(b, m[2])})')


@form(r'(neg|abs)\.(s16|s32|s64)', 2)
def _(e, m, d, a):
    u = 'u' + m[2][1:]
    v = f'0 - {e.value(a, u)}'
    if m[1] == 'abs':
        v = f'{e.value(a, m[2])} < 0 ? {v} : {e.value(a, u)}'
    return e.assign(d, u, v)


@form(r'(and|or|xor)\.(pred|b16|b32|b64)', 3)
def _(e, m, d, a, b):
    op = {'and': '&', 'or': '|', 'xor': '^'}[m[1]]
    return e.assign(d, m[2], f'{e.value(a, m[2])} {op} {e.value(b, m[2])}')


@form(r'not\.(pred|b16|b32|b64)', 2)
def _(e, m, d, a):
    return e.assign(d, m[1], f'{"!" if m[1] == "pred" else "~"}{e.value(a, m[1])}')


@form(r'lop3\.b32', 5)
def _(e, m, d, a, b, c, table):
    n = e.integer(table)
    a, b, c = (e.value(x, 'b32') for x in (a, b, c))
    terms = [f'({"" if i & 4 else "~"}{a} & {"" if i & 2 else "~"}{b} & {"" if i & 1 else "~"}{c})'
             for i in range(8) if n >> i & 1]
    return e.assign(d, 'b32', ' | '.join(terms) or '0u')


@form(r'(shl\.b|shr\.[bus])(16|32|64)', 3)
def _(e, m, d, a, n):
    k = m[1][-1]
    t = ('u' if k == 'b' else k) + m[2]
    op = m[1][:3]
    if isinstance(n, Immediate) and 0 <= e.integer(n) < int(m[2]):
        return e.assign(d, t, f'{e.value(a, t)} {"<<" if op == "shl" else ">>"} {e.integer(n)}')
    return e.assign(d, t, f'{op}({e.value(a, t)}, {e.value(n, "u32")})')


@form(r'shf\.([lr])\.(wrap|clamp)\.b32', 4)
def _(e, m, d, a, b, c):
    f = 'funnel_left' if m[1] == 'l' else 'funnel_right'
    a, b, c = e.value(a, 'b32'), e.value(b, 'b32'), e.value(c, 'u32')
    return e.assign(d, 'b32', f'funnel<{f}>({a}, {b}, {c}, {str(m[2] == "clamp").lower()})')


@form(r'(popc|clz)\.b(32|64)', 2)
def _(e, m, d, a):
    f = 'std::popcount' if m[1] == 'popc' else 'std::countl_zero'
    return e.assign(d, 'u32', f'static_cast<uint32_t>({f}({e.value(a, "b" + m[2])}))')


@form(r'brev\.b32', 2)
def _(e, m, d, a):
    return e.assign(d, 'b32', f'__brev({e.value(a, "b32")})')


@form(r'bfe\.([us]32)', 4)
def _(e, m, d, a, b, c):
    return e.assign(d, m[1], f'bfe({e.value(a, m[1])}, {e.value(b, "u32")}, {e.value(c, "u32")})')


@form(r'bfi\.b(32|64)', 5)
def _(e, m, d, a, b, pos, length):
    t = 'b' + m[1]
    return e.assign(d, t, f'bfi({e.value(a, t)}, {e.value(b, t)}, {e.value(pos, "u32")}, '
                          f'{e.value(length, "u32")})')


@form(r'prmt\.b32', 4)
def _(e, m, d, a, b, c):
    a, b, c = (e.value(x, 'b32') for x in (a, b, c))
    return e.assign(d, 'b32', f'prmt({a}, {b}, {c})')


# ---- predicates ----

COMPARE = {'eq': '==', 'ne': '!=', 'lt': '<', 'le': '<=', 'gt': '>', 'ge': '>=', 'lo': '<',
           'ls': '<=', 'hi': '>', 'hs': '>='}
UNORDERED = {'equ': '!=', 'neu': '==', 'ltu': '>=', 'leu': '>', 'gtu': '<=', 'geu': '<'}


def compare(e, op, t, ftz, a, b):
    if kind(t) == 'b' and op not in ('eq', 'ne'):
        raise FormError(f'.{op} of .{t}')
    a, b = e.value(a, t), e.value(b, t)
    if ftz:
        a, b = f'flush({a})', f'flush({b})'
    if kind(t) != 'f':
        return f'{a} {COMPARE[op]} {b}'
    if op == 'num':
        return f'!std::isunordered({a}, {b})'
    if op == 'nan':
        return f'std::isunordered({a}, {b})'
    if op == 'neu':
        return f'{a} != {b}'            # true when unordered
    if op == 'ne':
        return f'({a} < {b} || {a} > {b})'
    if op == 'equ':
        return f'!({a} < {b} || {a} > {b})'
    if op in UNORDERED:
        return f'!({a} {UNORDERED[op]} {b})'
    return f'{a} {COMPARE[op]} {b}'


@form(r'setp\.(eq|ne|lt|le|gt|ge|lo|ls|hi|hs|equ|neu|ltu|leu|gtu|geu|num|nan)'
      r'(?:\.(and|or|xor))?(\.ftz)?\.([busf](?:16|32|64))', (3, 4))
def _(e, m, d, a, b, c=None):
    op, combine, ftz, t = m.groups()
    if (c is None) != (combine is None):
        raise FormError('a predicate to combine with goes with .and, .or or .xor')
    if (op in ('num', 'nan') or op in UNORDERED) != (kind(t) == 'f') and op not in COMPARE:
        raise FormError(f'.{op} of .{t}')
    if op in ('lo', 'ls', 'hi', 'hs') and kind(t) != 'u':
        raise FormError(f'.{op} of .{t}')
    if ftz and t != 'f32':
        raise FormError(f'.ftz of .{t}')
    r = compare(e, op, t, ftz, a, b)
    join = {'and': '&', 'or': '|', 'xor': '^'}.get(combine)
    if not isinstance(d, Pair):
        return e.assign(d, 'pred', f'({r}) {join} {e.value(c, "pred")}' if combine else r)
    with_c = f' {join} combined' if combine else ''
    given = f'const bool combined = {e.value(c, "pred")}; ' if combine else ''
    return (f'{{ {given}const bool compared = {r}; '
            f'{e.assign(d.first, "pred", "compared" + with_c)} '
            f'{e.assign(d.second, "pred", "!compared" + with_c)} }}')


@form(r'selp\.([busf](?:16|32|64))', 4)
def _(e, m, d, a, b, p):
    t = m[1]
    return e.assign(d, t, f'{e.value(p, "pred")} ? {e.value(a, t)} : {e.value(b, t)}')


# ---- floats ----

def ftz(e, on, t, operands):
    values = [e.value(o, t) for o in operands]
    return [f'flush({v})' for v in values] if on else values


def result(on, text):
    return f'flush({text})' if on else text


@form(r'(add|sub|mul)(?:\.rn)?(\.ftz)?(\.sat)?\.(f32|f64)', 3)
def _(e, m, d, a, b):
    op, z, sat, t = m.groups()
    if t == 'f64' and (z or sat):
        raise FormError('.ftz and .sat are of .f32')
    a, b = ftz(e, z, t, (a, b))
    r = result(z, f'{a} {dict(add="+", sub="-", mul="*")[op]} {b}')
    return e.assign(d, t, f'saturate({r})' if sat else r)


@form(r'fma\.(rn|rm)(\.ftz)?\.(f32|f64)', 4)
def _(e, m, d, a, b, c):
    rounding, z, t = m.groups()
    if t == 'f64' and z or rounding == 'rm' and t == 'f64':
        raise FormError('.ftz and .rm are of .f32')
    a, b, c = ftz(e, z, t, (a, b, c))
    return e.assign(d, t, result(z, f'{"fma" if rounding == "rn" else "fma_down"}({a}, {b}, {c})'))


@form(r'(min|max)(\.ftz)?\.(f32|f64)', 3)
def _(e, m, d, a, b):
    f = 'least_number' if m[1] == 'min' else 'most_number'
    a, b = ftz(e, m[2], m[3], (a, b))
    return e.assign(d, m[3], f'{f}({a}, {b})')


@form(r'(abs|neg)(\.ftz)?\.(f32|f64)', 2)
def _(e, m, d, a):
    a, = ftz(e, m[2], m[3], (a,))
    return e.assign(d, m[3], f'std::fabs({a})' if m[1] == 'abs' else f'-{a}')


@form(r'copysign\.(f32|f64)', 3)
def _(e, m, d, sign, a):
    return e.assign(d, m[1], f'std::copysign({e.value(a, m[1])}, {e.value(sign, m[1])})')


@form(r'div\.(rn|approx|full)(\.ftz)?\.(f32|f64)', 3)
def _(e, m, d, a, b):
    how, z, t = m.groups()
    if t == 'f64' and (z or how != 'rn'):
        raise FormError('div of .f64 is .rn')
    a, b = ftz(e, z, t, (a, b))
    return e.assign(d, t, result(z, f'{a} / {b}'))


@form(r'(ex2|lg2|sin|cos|tanh|rcp|rsqrt|sqrt)\.approx(\.ftz)?\.f32', 2)
def _(e, m, d, a):
    f = {'ex2': 'std::exp2({})', 'lg2': 'std::log2({})', 'sin': 'std::sin({})',
         'cos': 'std::cos({})', 'tanh': 'std::tanh({})', 'rcp': '1.f / {}',
         'rsqrt': '1.f / std::sqrt({})', 'sqrt': 'std::sqrt({})'}[m[1]]
    a, = ftz(e, m[2], 'f32', (a,))
    return e.assign(d, 'f32', result(m[2], f.format(a)))


@form(r'(rcp|sqrt)\.rn(\.ftz)?\.(f32|f64)', 2)
def _(e, m, d, a):
    if m[2] and m[3] == 'f64':
        raise FormError('.ftz is of .f32')
    a, = ftz(e, m[2], m[3], (a,))
    one = '1.f' if m[3] == 'f32' else '1.0'
    return e.assign(d, m[3], result(m[2], f'std::sqrt({a})' if m[1] == 'sqrt' else f'{one} / {a}'))


# ---- conversions ----

@form(r'cvt\.rn\.bf16\.f32', 2)
def _(e, m, d, a):
    return e.assign(d, 'b16', f'to_bf16({e.value(a, "f32")})')


@form(r'cvt\.rn\.bf16x2\.f32', 3)
def _(e, m, d, high, low):
    return e.assign(d, 'b32', f'uint32_t{{to_bf16({e.value(high, "f32")})}} << 16 | '
                              f'to_bf16({e.value(low, "f32")})')


@form(r'(max\.NaN|set\.gt\.u32)\.bf16x2', 3)
def _(e, m, d, a, b):
    f = 'max_nan_bf16' if m[1] == 'max.NaN' else 'greater_bf16'
    return e.assign(d, 'u32', f'each_half({e.value(a, "u32")}, {e.value(b, "u32")}, {f})')


@form(r'cvt\.f32\.bf16', 2)
def _(e, m, d, a):
    return e.assign(d, 'f32', f'from_bf16({e.value(a, "b16")})')


@form(r'cvt\.rna\.tf32\.f32', 2)
def _(e, m, d, a):
    return e.assign(d, 'b32', f'::vgpu::to_tf32({e.value(a, "f32")})')


@form(r'cvt\.([us](?:8|16|32|64))\.([us](?:8|16|32|64))', 2)
def _(e, m, d, a):
    to, of = m.groups()
    return e.assign(d, to, f'static_cast<{CPP[to]}>({e.value(a, of, wider=True)})', wider=True)


@form(r'cvt\.(f64)\.(f32)|cvt\.rn\.(f32)\.(f64)', 2)
def _(e, m, d, a):
    to, of = (m[1], m[2]) if m[1] else (m[3], m[4])
    return e.assign(d, to, f'static_cast<{CPP[to]}>({e.value(a, of)})')


@form(r'cvt\.rn\.(f32|f64)\.([us](?:8|16|32|64))', 2)
def _(e, m, d, a):
    return e.assign(d, m[1], f'static_cast<{CPP[m[1]]}>({e.value(a, m[2], wider=True)})')


ROUND = {'rni': 'std::nearbyint', 'rzi': 'std::trunc', 'rmi': 'std::floor', 'rpi': 'std::ceil'}


@form(r'cvt\.(rni|rzi|rmi|rpi)(\.ftz)?\.([usf](?:16|32|64))\.(f32|f64)', 2)
def _(e, m, d, a):
    how, z, to, of = m.groups()
    if z and of != 'f32' or kind(to) == 'f' and to != of:
        raise FormError(f'{m[0]} does not exist')
    a, = ftz(e, z, of, (a,))
    r = f'{ROUND[how]}({a})'
    return e.assign(d, to, r if kind(to) == 'f' else f'to_integer<{CPP[to]}>({r})')


@form(r'cvt(\.ftz)?\.sat(\.ftz)?\.f32\.f32', 2)
def _(e, m, d, a):
    a, = ftz(e, m[1] or m[2], 'f32', (a,))
    return e.assign(d, 'f32', f'saturate({a})')


@form(r'cvta(\.to)?\.(global|local|const|param|shared)\.u64', 2)
def _(e, m, d, a):
    v = e.value(a, 'u64')
    if m[2] == 'shared':
        v = f'shared.offset({v}, HERE)' if m[1] else f'shared.base + {v}'
    return e.assign(d, 'u64', v)


# ---- memory ----

@form(r'ld(?:\.(volatile|relaxed\.gpu|relaxed\.sys|acquire\.gpu|acquire\.sys))?'
      r'(?:\.(global|shared|shared::cta|local|param|const))?(?:\.(nc|ca|cg|cs|lu|cv))?'
      r'(?:\.L[12]::[\w:]+)*(?:\.v([24]))?\.([busf](?:8|16|32|64))', 2)
def _(e, m, d, a):
    order, space, _, n, t = m.groups()
    n = int(n or 1)
    if n * SIZES[t] > 16:
        raise FormError(f'a vector of {n * SIZES[t]} bytes')
    element = f'{CPP[t]}'
    c = element if n == 1 else f'V{n}{t.replace("b", "u").replace("s", "u")}'
    bytes_ = n * SIZES[t]
    if space in ('shared', 'shared::cta'):
        at = f'shared.at({e.shared(a)}, {bytes_}, HERE)'
    else:
        spaces = {'global': ('global',), 'local': ('local',), 'param': ('param',),
                  'const': ('const',), None: ()}[space]
        at = e.generic(a, spaces)
    f = 'load_ordered' if order else 'load'
    loaded = f'{f}<{c}>({at}, HERE)'
    if n == 1:
        return e.assign(d, t, loaded, wider=True)
    lines = [e.assign(x, t, f'static_cast<{element}>(loaded[{i}])', wider=True)
             for i, x in enumerate(e.vector(d, n, t)) if x is not SINK]
    return f'{{ const {c} loaded = {loaded}; {" ".join(lines)} }}'


@form(r'st(?:\.(volatile|relaxed\.gpu|relaxed\.sys|release\.gpu|release\.sys))?'
      r'(?:\.(global|shared|shared::cta|local))?(?:\.(wb|cg|cs|wt))?(?:\.L[12]::[\w:]+)*'
      r'(?:\.v([24]))?\.([busf](?:8|16|32|64))', 2)
def _(e, m, a, v):
    order, space, _, n, t = m.groups()
    n = int(n or 1)
    if n * SIZES[t] > 16:
        raise FormError(f'a vector of {n * SIZES[t]} bytes')
    if space in ('shared', 'shared::cta'):
        at = f'shared.at({e.shared(a)}, {n * SIZES[t]}, HERE)'
    else:
        at = e.generic(a, {'global': ('global',), 'local': ('local',), None: ()}[space])
    f = 'store_ordered' if order else 'store'
    if n == 1:
        return f'{f}<{CPP[t]}>({at}, {e.value(v, t, wider=True)}, HERE);'
    u = t.replace('b', 'u').replace('s', 'u')
    items = ', '.join(e.value(x, u, wider=True) for x in e.vector(v, n, t))
    return f'{f}<V{n}{u}>({at}, V{n}{u}{{{items}}}, HERE);'


ATOMIC = {'add': 'a + b', 'min': 'b < a ? b : a', 'max': 'b > a ? b : a', 'exch': 'b',
          'and': 'a & b', 'or': 'a | b', 'xor': 'a ^ b',
          'inc': 'a >= b ? 0 : a + 1', 'dec': 'a == 0 || a > b ? b : a - 1'}


@form(r'(atom|red)(?:\.(?:relaxed|acquire|release|acq_rel))?(?:\.(?:cta|gpu|sys))?'
      r'(?:\.(global|shared))?\.(add|min|max|exch|and|or|xor|inc|dec|cas)\.'
      r'([busf](?:32|64))', (2, 3, 4))
def _(e, m, *operands):
    what, space, op, t = m.groups()
    if len(operands) != (3 if what == 'atom' else 2) + (op == 'cas'):
        raise FormError(f'{what}.{op} has not {len(operands)} operands')
    d, (a, b, *c) = (operands[0], operands[1:]) if what == 'atom' else (SINK, operands)
    at = f'shared.at({e.shared(a)}, {SIZES[t]}, HERE)' if space == 'shared' else \
        e.generic(a, ('global',))
    if op == 'cas':
        r = f'atomic_cas<{CPP[t]}>({at}, {e.value(b, t)}, {e.value(c[0], t)}, HERE)'
    elif op == 'add' and kind(t) in 'us':
        r = f'atomic_add<{CPP[t]}>({at}, {e.value(b, t)}, HERE)'
    else:
        r = (f'atomic<{CPP[t]}>({at}, {e.value(b, t)}, '
             f'[]({CPP[t]} a, {CPP[t]} b) -> {CPP[t]} {{ (void)a; return {ATOMIC[op]}; }}, HERE)')
    return e.assign(d, t, r)


@form(r'prefetch\.tensormap', 1)
def _(e, m, a):
    e.generic(a, ())
    return ';'


@form(r'(?:membar\.(?:gl|sys|cta)|fence\.(?:acq_rel|sc)\.(?:cta|cluster|gpu|sys))', 0)
def _(e, m):
    return '__threadfence();'


@form(r'fence\.mbarrier_init\.release\.cluster', 0)
def _(e, m):
    return ';'


@form(r'fence\.proxy\.async(?:\.shared::cta|\.global)?', 0)
def _(e, m):
    return '::vgpu::fence_proxy_async();'


# ---- threads ----

@form(r'ret|exit', 0)
def _(e, m):
    return 'return;'


@form(r'trap', 0)
def _(e, m):
    return '::vgpu::fail(719, "trap", HERE);'


@form(r'nanosleep\.u32', 1)
def _(e, m, n):
    e.value(n, 'u32')
    return '::vgpu::yield();'


@form(r'bar\.sync|barrier\.sync(?:\.aligned)?', (1, 2))
def _(e, m, id, threads=None):
    if threads is None:
        if e.integer(id) == 0:
            return '::vgpu::block_barrier(::vgpu::BlockOp::none, 0, HERE);'
        return f'::vgpu::bar_sync({e.value(id, "u32")}, whole_block(), HERE);'
    return f'::vgpu::bar_sync({e.value(id, "u32")}, {e.value(threads, "u32")}, HERE);'


@form(r'bar\.arrive', 2)
def _(e, m, id, threads):
    return f'::vgpu::bar_arrive({e.value(id, "u32")}, {e.value(threads, "u32")}, HERE);'


@form(r'bar\.red\.popc\.u32', 3)
def _(e, m, d, id, p):
    e.integer(id, (0,))
    return e.assign(d, 'u32', 'static_cast<uint32_t>(::vgpu::block_barrier('
                              f'::vgpu::BlockOp::count, {e.value(p, "pred")}, HERE))')


@form(r'bar\.red\.(and|or)\.pred', 3)
def _(e, m, d, id, p):
    e.integer(id, (0,))
    op = 'all' if m[1] == 'and' else 'any'
    return e.assign(d, 'pred', f'::vgpu::block_barrier(::vgpu::BlockOp::{op}, '
                               f'{e.value(p, "pred")}, HERE) != 0')


@form(r'bar\.warp\.sync', 1)
def _(e, m, mask):
    return f'::vgpu::warp_op(::vgpu::WarpOp::sync, {e.value(mask, "b32")}, 0, 0, HERE);'


@form(r'shfl\.sync\.(up|down|bfly|idx)\.b32', 5)
def _(e, m, d, a, b, c, mask):
    a, b, c, mask = (e.value(x, 'b32') for x in (a, b, c, mask))
    call = f'shuffle<Shuffle::{m[1]}>({a}, {b}, {c}, {mask}, HERE)'
    if not isinstance(d, Pair):
        return e.assign(d, 'b32', call + '.value')
    return (f'{{ const Shuffled got = {call}; {e.assign(d.first, "b32", "got.value")} '
            f'{e.assign(d.second, "pred", "got.inside")} }}')


@form(r'vote\.sync\.(any|all)\.pred', 3)
def _(e, m, d, p, mask):
    op = 'bit_or' if m[1] == 'any' else 'bit_and'
    return e.assign(d, 'pred', f'::vgpu::warp_op(::vgpu::WarpOp::{op}, {e.value(mask, "b32")}, '
                               f'{e.value(p, "pred")}, 0, HERE) != 0')


@form(r'vote\.sync\.ballot\.b32', 3)
def _(e, m, d, p, mask):
    return e.assign(d, 'b32', 'static_cast<uint32_t>(::vgpu::warp_op(::vgpu::WarpOp::ballot, '
                              f'{e.value(mask, "b32")}, {e.value(p, "pred")}, 0, HERE))')


@form(r'redux\.sync\.(add|min|max|and|or|xor)\.([bus]32)', 3)
def _(e, m, d, a, mask):
    op = {'and': 'bit_and', 'or': 'bit_or', 'xor': 'bit_xor'}.get(m[1], m[1])
    if (kind(m[2]) == 'b') != op.startswith('bit_'):
        raise FormError(f'.{m[1]} of .{m[2]}')
    if m[2] == 's32' and op in ('min', 'max'):
        op += '_signed'
    value = e.value(a, m[2])
    if m[2] == 's32':
        value = f'static_cast<uint64_t>(int64_t{{{value}}})'
    return e.assign(d, m[2], f'static_cast<{CPP[m[2]]}>(::vgpu::warp_op(::vgpu::WarpOp::{op}, '
                             f'{e.value(mask, "b32")}, {value}, 0, HERE))')


@form(r'activemask\.b32', 1)
def _(e, m, d):
    return e.assign(d, 'b32', '__activemask()')


@form(r'elect\.sync', 2)
def _(e, m, d, mask):
    if not isinstance(d, Pair) or d.first is not SINK:
        raise FormError('elect.sync here gives a predicate: _|p')
    if e.value(mask, 'b32') not in (f'{0xffffffff}u',):
        raise FormError('elect.sync here is of all lanes')
    return e.assign(d.second, 'pred', '::vgpu::elect_one(HERE)')


# ---- tensor cores ----

@form(r'mma\.sync\.aligned\.(m16n8k16\.row\.col\.f32\.bf16\.bf16|m16n8k8\.row\.col\.f32\.tf32\.tf32)'
      r'\.f32', 4)
def _(e, m, d, a, b, c):
    f = 'mma_m16n8k16_bf16' if 'bf16' in m[1] else 'mma_m16n8k8_tf32'

    def items(v, n, t):
        return ', '.join(e.value(x, t) for x in e.vector(v, n, t))
    out = ' '.join(e.assign(x, 'f32', f'd[{i}]') for i, x in enumerate(e.vector(d, 4, 'f32')))
    return (f'{{ float d[4] = {{{items(c, 4, "f32")}}}; const uint32_t a[4] = {{{items(a, 4, "b32")}}}, '
            f'b[2] = {{{items(b, 2, "b32")}}}; ::vgpu::{f}(d, a, b, 1, 1, HERE); {out} }}')


@form(r'ldmatrix\.sync\.aligned\.m8n8\.x([124])(\.trans)?\.shared(?:::cta)?\.b16', 2)
def _(e, m, d, a):
    n = int(m[1])
    out = ' '.join(e.assign(x, 'b32', f'r[{i}]') for i, x in enumerate(e.vector(d, n, 'b32')))
    return (f'{{ uint32_t r[{n}]; const void* const row = {e.pointer(a, 0)}; '
            f'::vgpu::ldmatrix(r, &row, 1, {n}, {str(bool(m[2])).lower()}, HERE); {out} }}')


@form(r'stmatrix\.sync\.aligned\.m8n8\.x([124])(\.trans)?\.shared(?:::cta)?\.b16', 2)
def _(e, m, a, v):
    n = int(m[1])
    items = ', '.join(e.value(x, 'b32') for x in e.vector(v, n, 'b32'))
    return (f'{{ const uint32_t r[{n}] = {{{items}}}; void* const row = {e.pointer(a, 0)}; '
            f'::vgpu::stmatrix(&row, 1, {n}, {str(bool(m[2])).lower()}, r, HERE); }}')


@form(r'wgmma\.mma_async\.sync\.aligned\.m64n(\d+)k(16\.f32\.bf16\.bf16|8\.f32\.tf32\.tf32)', (6, 8))
def _(e, m, d, a, b, p, scale_a, scale_b, trans_a=None, trans_b=None):
    n = int(m[1])
    bf16 = 'bf16' in m[2]
    if n % 8 or not 8 <= n <= 256:
        raise FormError(f'n = {n} is not a multiple of 8 up to 256')
    if bf16 != (trans_a is not None):
        raise FormError('the transpositions go with .bf16')
    e.integer(scale_a, (1,))
    e.integer(scale_b, (1,))
    transposed = [str(bool(e.integer(t, (0, 1)))).lower() if t else 'false'
                  for t in (trans_a, trans_b)]
    if not isinstance(d, Vector) or len(d.items) != n // 2:
        raise FormError(f'{n // 2} accumulators are expected')
    for x in d.items:
        e.register(x, 'f32')
    first = e.name(d.items[0])   # accumulators() has made an array of them
    return (f'::vgpu::wgmma(&{first}, {n}, ::vgpu::WgmmaType::{"bf16" if bf16 else "tf32"}, '
            f'{e.value(a, "b64")}, {e.value(b, "b64")}, {e.value(p, "pred")}, {transposed[0]}, '
            f'{transposed[1]}, HERE);')


@form(r'wgmma\.(fence|commit_group)\.sync\.aligned', 0)
def _(e, m):
    return f'::vgpu::wgmma_{"fence" if m[1] == "fence" else "commit"}(HERE);'


@form(r'wgmma\.wait_group\.sync\.aligned', 1)
def _(e, m, n):
    return f'::vgpu::wgmma_wait({e.integer(n, range(8))}, HERE);'


@form(r'setmaxnreg\.(inc|dec)\.sync\.aligned\.u32', 1)
def _(e, m, n):
    return f'::vgpu::set_max_registers({e.integer(n, range(24, 257, 8))}, ' \
           f'{str(m[1] == "inc").lower()}, HERE);'


# ---- asynchronous copies, barriers in memory ----

def barrier(e, a):
    return e.pointer(a, 8, 'uint64_t')


@form(r'mbarrier\.init(?:\.shared(?:::cta)?)?\.b64', 2)
def _(e, m, a, n):
    return f'::vgpu::mbarrier_init({barrier(e, a)}, {e.value(n, "u32")}, HERE);'


@form(r'mbarrier\.inval\.shared::cta\.b64', 1)
def _(e, m, a):
    return f'::vgpu::mbarrier_inval({barrier(e, a)}, HERE);'


def sink(o):
    if o is not SINK:
        raise FormError('the state that an arrival returns is not supported: _ is expected')


@form(r'mbarrier\.arrive\.release\.cta\.shared::cta\.b64', 2)
def _(e, m, d, a):
    sink(d)
    return f'::vgpu::mbarrier_arrive({barrier(e, a)}, HERE);'


@form(r'mbarrier\.expect_tx\.relaxed\.cta\.shared::cta\.b64', 2)
def _(e, m, a, n):
    return f'::vgpu::mbarrier_expect_tx({barrier(e, a)}, {e.value(n, "u32")}, HERE);'


@form(r'mbarrier\.arrive\.expect_tx\.release\.cta\.shared::cta\.b64', 3)
def _(e, m, d, a, n):
    sink(d)
    return f'::vgpu::mbarrier_arrive_expect_tx({barrier(e, a)}, {e.value(n, "u32")}, HERE);'


@form(r'mbarrier\.arrive\.release\.cluster\.shared::cluster\.b64', 2)
def _(e, m, d, a):
    sink(d)
    return f'::vgpu::mbarrier_arrive_cluster(static_cast<uint32_t>({e.shared(a)}), HERE);'


@form(r'mbarrier\.arrive\.release\.cta\.shared::cluster\.b64', 2)
def _(e, m, d, a):
    # Released to this block alone: another block sees that what was read was read, not what was written.
    sink(d)
    return f'::vgpu::mbarrier_arrive_cluster_read(static_cast<uint32_t>({e.shared(a)}), HERE);'


@form(r'mbarrier\.try_wait\.parity\.acquire\.cta\.shared::cta\.b64', 3)
def _(e, m, d, a, parity):
    return e.assign(d, 'pred', f'::vgpu::mbarrier_try_wait({barrier(e, a)}, '
                               f'{e.value(parity, "u32")}, HERE)')


@form(r'cp\.async\.(ca|cg)\.shared\.global', (3, 4))
def _(e, m, to, of, size, given=None):
    n = e.integer(size, (16,) if m[1] == 'cg' else (4, 8, 16))
    source = f'reinterpret_cast<const void*>({e.generic(of, ("global",))})'
    return (f'::vgpu::cp_async({e.pointer(to, n)}, {source}, {n}, '
            f'{e.value(given, "u32") if given else n}, HERE);')


@form(r'cp\.async\.commit_group', 0)
def _(e, m):
    return '::vgpu::cp_async_commit();'


@form(r'cp\.async\.wait_group', 1)
def _(e, m, n):
    return f'::vgpu::cp_async_wait({e.integer(n)});'


@form(r'cp\.async\.mbarrier\.arrive\.noinc\.shared::cta\.b64', 1)
def _(e, m, a):
    return f'::vgpu::cp_async_mbarrier_arrive_noinc({barrier(e, a)}, HERE);'


def tensor(e, o, dims):
    """The tensor map's C++ and its coordinates'."""
    address = e.generic(o, ('param', 'global'), coordinates=True)
    at = [e.value(c, 's32') for c in e.vector(o.coordinates, dims, 's32')]
    return f'*reinterpret_cast<const CUtensorMap_st*>({address})', at


@form(r'cp\.async\.bulk\.tensor\.([2-5])d\.shared::cluster\.global\.mbarrier::complete_tx::bytes'
      r'(\.multicast::cluster)?', (3, 4))
def _(e, m, to, of, bar, blocks=None):
    n = int(m[1])
    if (blocks is None) != (m[2] is None):
        raise FormError('a mask of blocks goes with .multicast::cluster')
    map_, at = tensor(e, of, n)
    mask = e.value(blocks, 'b16') if blocks is not None else '1u << ::vgpu::cluster_rank()'
    return (f'{{ const int32_t at[] = {{{", ".join(at)}}}; ::vgpu::tma_load({e.pointer(to, 0)}, '
            f'{map_}, {barrier(e, bar)}, {mask}, at, {n}, HERE); }}')


@form(r'cp\.async\.bulk\.tensor\.4d\.shared::cluster\.global\.im2col\.'
      r'mbarrier::complete_tx::bytes', 4)
def _(e, m, to, of, bar, offsets):
    map_, (c, w, h, n) = tensor(e, of, 4)
    offset_w, offset_h = (e.value(x, 'u16') for x in e.vector(offsets, 2, 'u16'))
    return (f'::vgpu::tma_load_im2col({e.pointer(to, 0)}, {map_}, {barrier(e, bar)}, '
            f'1u << ::vgpu::cluster_rank(), {c}, {w}, {h}, {n}, {offset_w}, {offset_h}, HERE);')


@form(r'cp\.async\.bulk\.tensor\.([2-5])d\.global\.shared::cta\.bulk_group', 2)
def _(e, m, to, of):
    n = int(m[1])
    map_, at = tensor(e, to, n)
    return (f'{{ const int32_t at[] = {{{", ".join(at)}}}; ::vgpu::tma_store({map_}, '
            f'{e.pointer(of, 0)}, at, {n}, HERE); }}')


@form(r'cp\.async\.bulk\.shared::cluster\.global\.mbarrier::complete_tx::bytes', 4)
def _(e, m, to, of, n, bar):
    source = f'reinterpret_cast<const void*>({e.generic(of, ("global",))})'
    return (f'::vgpu::bulk_load({e.pointer(to, 0)}, {source}, {e.value(n, "u32")}, '
            f'{barrier(e, bar)}, HERE);')


@form(r'cp\.async\.bulk\.global\.shared::cta\.bulk_group', 3)
def _(e, m, to, of, n):
    target = f'reinterpret_cast<void*>({e.generic(to, ("global",))})'
    return f'::vgpu::bulk_store({target}, {e.pointer(of, 0)}, {e.value(n, "u32")}, HERE);'


@form(r'cp\.async\.bulk\.commit_group', 0)
def _(e, m):
    return '::vgpu::bulk_commit();'


@form(r'cp\.async\.bulk\.wait_group(\.read)?', 1)
def _(e, m, n):
    return f'::vgpu::bulk_wait({e.integer(n)}, {str(bool(m[1])).lower()});'


# ---- clusters, dependent launches ----

@form(r'barrier\.cluster\.arrive(\.release|\.relaxed)?(?:\.aligned)?', 0)
def _(e, m):
    return f'::vgpu::cluster_arrive(HERE, {str(m[1] == ".relaxed").lower()});'


@form(r'barrier\.cluster\.wait(?:\.acquire)?(?:\.aligned)?', 0)
def _(e, m):
    return '::vgpu::cluster_wait(HERE);'


@form(r'mapa\.shared::cluster\.u32', 3)
def _(e, m, d, a, rank):
    return e.assign(d, 'u32', '::vgpu::map_shared(reinterpret_cast<const void*>(shared.base + '
                              f'{e.value(a, "u32")}), {e.value(rank, "u32")})')


@form(r'mapa\.u64', 3)
def _(e, m, d, a, rank):
    return e.assign(d, 'u64', 'reinterpret_cast<uint64_t>(::vgpu::map_shared_pointer('
                              f'reinterpret_cast<const void*>({e.value(a, "u64")}), '
                              f'{e.value(rank, "u32")}))')


@form(r'griddepcontrol\.(wait|launch_dependents)', 0)
def _(e, m):
    return f'::vgpu::griddep_{m[1]}();'
