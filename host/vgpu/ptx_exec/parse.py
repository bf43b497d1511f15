"""Reads PTX as nvcc writes it: a Module of kernels, each a list of statements with their lines.

The grammar is PTX ISA 9.0's, as far as nvcc uses it. What is not known is an error that names the
file, the line and its text: nothing is skipped but debug sections and hints that mean nothing to
the result.
"""
import dataclasses
import re


class PtxError(Exception):
    def __init__(self, line, text, why):
        super().__init__(why)
        self.line, self.text, self.why = line, ' '.join(text.split()), why


SIZES = {'pred': 1, 'b8': 1, 'u8': 1, 's8': 1, 'b16': 2, 'u16': 2, 's16': 2, 'f16': 2, 'bf16': 2,
         'b32': 4, 'u32': 4, 's32': 4, 'f32': 4, 'b64': 8, 'u64': 8, 's64': 8, 'f64': 8}


@dataclasses.dataclass
class Register:
    name: str   # of the C++ variable
    type: str


@dataclasses.dataclass
class Immediate:
    text: str
    float: str = ''  # 'f32' or 'f64': text is bits in hexadecimal


@dataclasses.dataclass
class Symbol:
    name: str


@dataclasses.dataclass
class Special:
    name: str   # tid.x


@dataclasses.dataclass
class Vector:
    items: list


@dataclasses.dataclass
class Memory:
    base: object
    offset: int = 0
    coordinates: list = None   # of a tensor: [map, {c0, c1}]


@dataclasses.dataclass
class Pair:     # d|p
    first: object
    second: object


@dataclasses.dataclass
class Not:      # !p
    of: Register


SINK = 'sink'   # _


@dataclasses.dataclass
class Statement:
    line: int
    text: str
    place: tuple               # (file, line) of the CUDA source
    label: str = ''
    opcode: str = ''
    operands: list = None
    predicate: Register = None
    negated: bool = False


@dataclasses.dataclass
class Parameter:
    name: str
    size: int
    align: int
    offset: int = 0


@dataclasses.dataclass
class Array:
    space: str
    name: str
    size: int
    align: int
    values: list = None        # bytes


@dataclasses.dataclass
class Kernel:
    name: str
    line: int
    parameters: list = dataclasses.field(default_factory=list)
    registers: list = dataclasses.field(default_factory=list)
    arrays: list = dataclasses.field(default_factory=list)
    statements: list = dataclasses.field(default_factory=list)
    bound: int = 0             # most threads of a block (.maxntid); 0: any


@dataclasses.dataclass
class Module:
    version: str = ''
    target: str = ''
    arrays: list = dataclasses.field(default_factory=list)
    kernels: list = dataclasses.field(default_factory=list)


SPECIAL = re.compile(r'%(?:(?:tid|ntid|ctaid|nctaid)\.[xyz]|laneid|warpid|nwarpid|cluster_ctarank|'
                     r'cluster_nctarank|lanemask_(?:eq|le|lt|ge|gt)|clock|clock64|globaltimer|smid)$')
FLOAT = re.compile(r'0([fFdD])([0-9a-fA-F]+)$')
INTEGER = re.compile(r'-?(?:0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)U?$')
NAME = re.compile(r'[A-Za-z_$%][\w$]*$')
# Lines that end with the line and mean nothing here: .maxntid is checked at the launch.
IGNORED = ('.version', '.address_size', '.minnctapersm')


def split_top(text):
    """Splits at commas outside braces and brackets."""
    if '{' not in text and '[' not in text:
        return [p.strip() for p in text.split(',')] if text.strip() else []
    parts, depth, start = [], 0, 0
    for i, c in enumerate(text):
        if c in '{[(':
            depth += 1
        elif c in '}])':
            depth -= 1
        elif c == ',' and depth == 0:
            parts.append(text[start:i].strip())
            start = i + 1
    last = text[start:].strip()
    if parts or last:
        parts.append(last)
    return parts


class Parser:
    def __init__(self, text, relative=lambda path: path):
        self.text, self.at, self.line = text, 0, 1
        self.module = Module()
        self.relative = relative
        self.files = {int(n): relative(path) for n, path in
                      re.findall(r'^\s*\.file\s+(\d+)\s+"([^"]*)"', text, re.M)}
        self.place = ('?', 0)
        self.callers = {}

    def fail(self, why, text='', line=None):
        raise PtxError(line or self.line, text, why)

    def skip_blank(self):
        while self.at < len(self.text):
            c = self.text[self.at]
            if c == '\n':
                self.line += 1
                self.at += 1
            elif c.isspace():
                self.at += 1
            elif self.text.startswith('//', self.at):
                end = self.text.find('\n', self.at)
                self.at = len(self.text) if end < 0 else end
            elif self.text.startswith('/*', self.at):
                end = self.text.find('*/', self.at)
                if end < 0:
                    self.fail('a comment that does not end')
                self.line += self.text.count('\n', self.at, end)
                self.at = end + 2
            else:
                return

    def take(self, stop, what):
        """The text up to `stop`, which is passed over."""
        end = self.text.find(stop, self.at)
        if end < 0:
            self.fail(f'no {stop!r} after {what}', self.text[self.at:self.at + 60])
        text = self.text[self.at:end]
        self.line += text.count('\n')
        if stop == '\n':
            self.line += 1
        self.at = end + 1
        return text

    def rest_of_line(self):
        end = self.text.find('\n', self.at)
        end = len(self.text) if end < 0 else end
        text = self.text[self.at:end].split('//')[0].strip()
        self.at = end
        return text

    # ---- the module ----

    def parse(self):
        while True:
            self.skip_blank()
            if self.at >= len(self.text):
                return self.module
            line = self.line
            word = re.compile(r'\.?[\w$]+').match(self.text, self.at)
            if not word:
                self.fail('a directive is expected', self.rest_of_line())
            word = word.group()
            if word == '.section':
                self.skip_section()
            elif word in ('.file', '.version', '.target', '.address_size', '.loc'):
                text = self.rest_of_line()
                if word == '.version':
                    self.module.version = text.split()[1]
                elif word == '.target':
                    self.module.target = text.split()[1].rstrip(',')
            elif re.compile(r'(?:\.(?:visible|weak)\s+)?\.entry\b').match(self.text, self.at):
                self.kernel(line)
            elif word in ('.visible', '.weak', '.extern', '.shared', '.const', '.global', '.local'):
                text = self.take(';', word)
                if '.func' in text:
                    self.fail('functions that are called are not supported', text, line)
                self.module.arrays.append(self.array(text, line))
            else:
                self.fail(f'{word} is not supported', self.rest_of_line(), line)

    def skip_section(self):
        self.take('{', '.section')
        self.take('}', '.section')

    def array(self, text, line):
        m = re.match(r'(?:\.(?:visible|weak|extern)\s+)*\.(shared|const|global|local)\s+'
                     r'(?:\.align\s+(\d+)\s+)?\.([a-z]\d+)\s+([\w$]+)\s*(?:\[(\d*)\])?\s*'
                     r'(?:=\s*(.*))?$', text.strip(), re.S)
        if not m:
            self.fail('not a declaration of memory', text, line)
        space, align, kind, name, count, values = m.groups()
        if kind not in SIZES:
            self.fail(f'.{kind} is no type', text, line)
        size = SIZES[kind] * (1 if count is None else int(count or 0))
        data = None
        if values:
            data = b''
            for v in values.strip().strip('{}').split(','):
                v = v.strip()
                if not INTEGER.match(v):
                    self.fail(f'initial value {v} is not supported', text, line)
                number = int(v.rstrip('U'), 0)
                data += (number % (1 << 8 * SIZES[kind])).to_bytes(SIZES[kind], 'little')
        return Array(space, name, size, int(align or SIZES[kind]), data)

    # ---- a kernel ----

    def kernel(self, line):
        head = self.take('(', '.entry')
        name = head.split()[-1]
        if not NAME.match(name):
            self.fail('a kernel without a name', head, line)
        k = Kernel(name, line)
        offset = 0
        for text in split_top(self.take(')', '.entry')):
            m = re.match(r'\.param\s+(?:\.align\s+(\d+)\s+)?\.([a-z]\d+)\s+'
                         r'(?:\.ptr\s+(?:\.\w+\s+)?(?:\.align\s+\d+\s+)?)?([\w$]+)(?:\[(\d+)\])?$',
                         text)
            if not m or m.group(2) not in SIZES:
                self.fail('not a parameter', text)
            size = SIZES[m.group(2)] * int(m.group(4) or 1)
            align = int(m.group(1) or SIZES[m.group(2)])
            offset = -(-offset // align) * align
            k.parameters.append(Parameter(m.group(3), size, align, offset))
            offset += size
        while True:
            self.skip_blank()
            if self.text.startswith('{', self.at):
                break
            text = self.rest_of_line()
            if text.startswith('.maxntid'):
                k.bound = 1
                for n in text[len('.maxntid'):].split(','):
                    k.bound *= int(n)
            elif not text.startswith(IGNORED):
                self.fail('not a directive of a kernel', text)
        self.at += 1
        self.place = ('?', 0)
        self.body(k)
        self.module.kernels.append(k)

    def body(self, k):
        scopes = [{}]
        taken = set()
        while True:
            self.skip_blank()
            if self.at >= len(self.text):
                self.fail('the kernel has no end')
            c = self.text[self.at]
            if c == '{':
                scopes.append({})
                self.at += 1
            elif c == '}':
                scopes.pop()
                self.at += 1
                if not scopes:
                    return
            elif self.text.startswith(('.loc\t', '.loc '), self.at):
                self.location(self.rest_of_line())
            elif self.text.startswith('.pragma', self.at):
                self.take(';', '.pragma')
            elif c == '.':
                line = self.line
                text = self.take(';', 'a declaration')
                if text.startswith('.reg'):
                    self.registers(k, scopes[-1], taken, text, line)
                elif text.startswith(('.local', '.shared')):
                    k.arrays.append(self.array(text, line))
                else:
                    self.fail(f'{text.split()[0]} is not supported', text, line)
            else:
                label = re.compile(r'([\w$]+)\s*:(?!:)').match(self.text, self.at)
                if label:
                    self.at = label.end()
                    k.statements.append(Statement(self.line, '', self.place, label.group(1)))
                else:
                    line = self.line
                    self.statement(k, scopes, self.take(';', 'an instruction').strip(), line)

    def location(self, text):
        """The innermost place that is the project's own and not a wrapper of kernels/ptx/."""
        places = re.findall(r'(?:\.loc|inlined_at)\s+(\d+)\s+(\d+)\s+\d+', text)
        if not places:
            self.fail('not a .loc', text)
        file, line = int(places[0][0]), int(places[0][1])
        if not line:
            return
        place = (self.files.get(file, '?'), line)
        # A call in a wrapper or in one of CUDA's headers counts where that was called; a .loc names one
        # caller, whose own .loc came before.
        if place[0].startswith(('/', 'kernels/ptx/')) and len(places) > 1:
            caller = int(places[1][0]), int(places[1][1])
            name = self.files.get(caller[0], '?')
            if name.startswith(('/', 'kernels/ptx/')):
                place = self.callers.get(caller, self.place)
            else:
                place = name, caller[1]
        self.callers[file, line] = self.place = place

    def registers(self, k, scope, taken, text, line):
        m = re.match(r'\.reg\s+\.(\w+)\s+(.*)$', text, re.S)
        if not m or m.group(1) not in SIZES:
            self.fail('not a declaration of registers', text, line)
        kind = m.group(1)
        for part in split_top(m.group(2)):
            many = re.match(r'(%?[\w$]+)<(\d+)>$', part)
            names = [many.group(1) + str(i) for i in range(int(many.group(2)))] if many else [part]
            for name in names:
                if not NAME.match(name):
                    self.fail(f'{name} is no name of a register', text, line)
                if name in scope:
                    self.fail(f'{name} is declared twice', text, line)
                base = cpp = re.sub(r'\W', '_', name.replace('%', 'r_'))
                n = 1
                while cpp in taken:
                    n += 1
                    cpp = f'{base}__{n}'
                taken.add(cpp)
                scope[name] = Register(cpp, kind)
                k.registers.append(scope[name])

    def statement(self, k, scopes, text, line):
        s = Statement(line, text, self.place)
        m = re.match(r'@(!?)(%?[\w$]+)\s+', text)
        rest = text
        if m:
            s.predicate = self.operand(m.group(2), scopes, text, line)
            s.negated = bool(m.group(1))
            if not isinstance(s.predicate, Register) or s.predicate.type != 'pred':
                self.fail(f'{m.group(2)} is no predicate', text, line)
            rest = text[m.end():]
        m = re.match(r'([a-z][\w.:]*)(?:\s+(.*))?$', rest, re.S)
        if not m:
            self.fail('not an instruction', text, line)
        s.opcode = m.group(1)
        s.operands = [self.operand(o, scopes, text, line) for o in split_top(m.group(2) or '')]
        k.statements.append(s)

    def operand(self, o, scopes, text, line):
        if not o:
            self.fail('an operand is missing', text, line)
        if o == '_':
            return SINK
        if o[0] == '{':
            if o[-1] != '}':
                self.fail(f'{o} has no closing brace', text, line)
            return Vector([self.operand(i, scopes, text, line) for i in split_top(o[1:-1])])
        if o[0] == '[':
            if o[-1] != ']':
                self.fail(f'{o} has no closing bracket', text, line)
            parts = split_top(o[1:-1])
            m = re.match(r'(%?[\w$]+)\s*(?:\+\s*(-?\d+))?$', parts[0]) if parts else None
            if not m or len(parts) > 2:
                self.fail(f'{o} is no address', text, line)
            base = self.operand(m.group(1), scopes, text, line)
            if not isinstance(base, (Register, Symbol)):
                self.fail(f'{o} is no address', text, line)
            at = Memory(base, int(m.group(2) or 0))
            if len(parts) == 2:
                at.coordinates = self.operand(parts[1], scopes, text, line)
                if not isinstance(at.coordinates, Vector):
                    self.fail(f'{parts[1]} are no coordinates', text, line)
            return at
        if '|' in o:
            return Pair(*[self.operand(i.strip(), scopes, text, line) for i in o.split('|', 1)])
        if o[0] == '!':
            of = self.operand(o[1:].strip(), scopes, text, line)
            if not isinstance(of, Register) or of.type != 'pred':
                self.fail(f'{o} is not of a predicate', text, line)
            return Not(of)
        m = FLOAT.match(o)
        if m:
            single = m.group(1) in 'fF'
            if len(m.group(2)) != (8 if single else 16):
                self.fail(f'{o} is no number', text, line)
            return Immediate('0x' + m.group(2), 'f32' if single else 'f64')
        if INTEGER.match(o):
            return Immediate(o.rstrip('U'))
        for scope in reversed(scopes):
            if o in scope:
                return scope[o]
        if o[0] == '%':
            if not SPECIAL.match(o):
                self.fail(f'{o} is not declared', text, line)
            return Special(o[1:])
        if NAME.match(o):
            return Symbol(o)
        self.fail(f'{o} is no operand', text, line)
