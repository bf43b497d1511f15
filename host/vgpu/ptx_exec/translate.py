#!/usr/bin/env python3
"""Translates PTX, as nvcc writes it, to C++ that runs on virtual GPUs.

    translate.py kernels.ptx kernels.cpp      one C++ function for each kernel
    translate.py --count kernels.ptx kernels.cpp    functions that count what they do (count.py)
    translate.py --check kernels.ptx ...      only reads and checks

Every kernel becomes a function of one CUDA thread, and registers itself under its mangled name
(kernels.h): branches are gotos, registers are variables, and what threads do together goes to the
virtual GPU by the functions that the wrappers of kernels/ptx/ call. #line names the CUDA source.

An instruction that is not exactly of a form that forms.py knows ends the translation with the file,
the line and its text.
"""
import argparse
import os
import re
import sys

import count
import forms
import parse
from parse import PtxError, Register, Symbol


def anonymous(name):
    """A mangled name with g++'s name of the unnamed namespace for nvcc's, which names the file."""
    at = 0
    while True:
        m = re.search(r'_GLOBAL__N__|_INTERNAL_', name[at:])
        if not m:
            return name
        start = at + m.start()
        digits = re.search(r'\d+$', name[:start]).group()
        for i in range(len(digits)):      # activation_vec839_GLOBAL__N_...: 39, not 839 or 9
            n = int(digits[i:])
            text = name[start:start + n]
            if digits[i] != '0' and len(text) == n and \
                    re.match(r'(_GLOBAL__N_|_INTERNAL)_[0-9a-f]{8}_\d+_\w+_cu_[0-9a-f]{8}(_\d+)?$', text):
                first = name[:start - len(digits) + i]
                name = first + '12_GLOBAL__N_1' + name[start + n:]
                at = len(first) + 14
                break
        else:
            return name


def accumulators(k, e):
    """Makes an array of every wgmma's accumulators, which the virtual GPU writes when they are ready.

    nvcc gives all products of a chain the same registers in the same order, and keeps them in place
    from the first to the wait. Where it did not, ptxas would wait after every product; here it is
    refused.
    """
    arrays = []
    for s in k.statements:
        if not s.opcode.startswith('wgmma.mma_async') or not s.operands:
            continue
        items = getattr(s.operands[0], 'items', [])
        if not items or not all(isinstance(r, Register) for r in items):
            continue                       # the form says what is wrong
        names = [r.name for r in items]
        if names[0] in e.moved:
            array = re.match(r'(\w+)\[0\]$', e.moved[names[0]])
            if array and [e.moved.get(n) for n in names] == \
                    [f'{array[1]}[{i}]' for i in range(len(names))]:
                continue
        if any(n in e.moved for n in names) or len(set(names)) != len(names):
            raise PtxError(s.line, s.text, 'some of its accumulators are at another place in '
                                           'another wgmma')
        arrays.append((f'accumulators_{len(arrays)}', len(names)))
        for i, n in enumerate(names):
            e.moved[n] = f'{arrays[-1][0]}[{i}]'
    return arrays


def data_of(a):
    values = ', '.join(str(b) for b in a.values)
    return f'alignas({a.align}) const unsigned char {a.name}[{a.size}] = {{{values}}};'


def translate_kernel(k, module, out, counting=None):
    symbols = {p.name: (f'reinterpret_cast<uint64_t>(args + {p.offset})', 'param')
               for p in k.parameters}
    local = []
    for a in module.arrays + k.arrays:
        address = f'reinterpret_cast<uint64_t>({a.name})'
        if a.space == 'shared' and a.size == 0:
            symbols[a.name] = ('0', 'shared')
        elif a.space == 'local':
            symbols[a.name] = (address, 'local')
            local.append(a)
        elif a.space == 'const' and a.values:
            symbols[a.name] = (address, 'const')
        elif a.space == 'shared' and a in k.arrays:
            raise PtxError(k.line, a.name, 'shared memory of a fixed size is not supported: kernels '
                                           'have one SharedStorage')
    e = forms.Emitter(symbols)
    arrays = accumulators(k, e)
    labels = {s.label for s in k.statements if s.label}
    body, place = [], None
    for i, s in enumerate(k.statements):
        if s.label:
            body.append(f'{cpp_label(s.label)}:;')
        if counting:
            body.append(counting.entry(i))
        if s.label:
            continue
        try:
            if s.opcode in ('bra', 'bra.uni'):
                if len(s.operands) != 1 or not isinstance(s.operands[0], Symbol) or \
                        s.operands[0].name not in labels:
                    raise forms.FormError('a label of this kernel is expected')
                text = f'goto {cpp_label(s.operands[0].name)};'
            else:
                text = forms.emit(e, s)
                if counting:
                    text = counting.access(e, s, i) + text
        except forms.FormError as error:
            raise PtxError(s.line, s.text, str(error)) from None
        if s.predicate is not None:
            text = f'if ({"!" if s.negated else ""}{e.name(s.predicate)}) {{ {text} }}'
        if s.place != place:
            place = s.place
            body.append(f'#line {place[1]} "{place[0]}"')
        else:
            # The next line's number would be one more.
            body.append(f'#line {place[1]}')
        body.append(text)
    used = set(re.findall(r'\w+', ' '.join(body)))
    out.append(f'// PTX line {k.line}')
    out.append(f'[[gnu::noinline]] void ptx_{anonymous(k.name)}([[maybe_unused]] const char* const args) {{')
    if 'shared' in used:
        out.append('const Shared shared;')
    for a in local:
        out.append(f'alignas({a.align}) unsigned char {a.name}[{a.size}];')
    for name, n in arrays:
        out.append(f'alignas(16) float {name}[{n}] = {{}};')
    by_type = {}
    for r in k.registers:
        if r.name in used and r.name not in e.moved:
            by_type.setdefault(r.type, []).append(r.name)
    for t, names in by_type.items():
        out.append(f'{forms.CPP[t]} ' + ', '.join(f'{n} = 0' for n in names) + ';')
    if counting:
        out += counting.flow.declarations() + [f'Counted counted(counted_{counting.kernel});']
    out += body
    out.append('}')


def cpp_label(name):
    return 'L_' + re.sub(r'\W', '_', name)


def translate(text, path, relative, counts=False):
    module = parse.Parser(text, relative).parse()
    out = [f'// Translated from {path} by host/vgpu/ptx_exec/translate.py.',
           '#include "host/vgpu/ptx_exec/run.h"', '', 'namespace vgpu::ptx_exec {', 'namespace {', '']
    if counts:
        out[2:2] = ['#include "host/vgpu/ptx_exec/counted.h"']
    for a in module.arrays:
        if a.space == 'const' and a.values:
            out.append(data_of(a))
    table = []
    for i, k in enumerate(module.kernels):
        counting = count.Counting(k, i) if counts else None
        if counting:
            out.append(f'extern const CountedKernel counted_{i};')
        translate_kernel(k, module, out, counting)
        out.append(f'#line {i + 1} "{path}"')
        name = anonymous(k.name)
        out.append(f'void loop_{i}(const void*, const void* args) {{\n'
                   f'    while (next_thread()) ptx_{name}(static_cast<const char*>(args));\n}}')
        if counting:
            out += counting.tables(name)
            table.append(f'    &counted_{i},')
            continue
        end = max([p.offset + p.size for p in k.parameters], default=0)
        align = max([8] + [p.align for p in k.parameters])
        rows = ''.join(f'{{{p.offset}, {p.size}, false}}, ' for p in k.parameters)
        out.append(f'constexpr Parameter parameters_{i}[] = {{{rows}{{}}}};')
        table.append(f'    {{"{name}", "{path}", {k.line}, {k.bound}, '
                     f'{{&loop_{i}, parameters_{i}, {len(k.parameters)}, {end}, {align}}}}},')
    if table and counts:
        out += ['const CountedKernel* const kernels[] = {'] + table + ['};',
                'const bool added = (add_counted(kernels, std::size(kernels)), true);']
    elif table:
        out += ['const Kernel kernels[] = {'] + table + ['};',
                'const bool added = (add(kernels, std::size(kernels)), true);']
    out += ['', '}  // namespace', '}  // namespace vgpu::ptx_exec', '']
    return '\n'.join(out), module


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    p.add_argument('--check', action='store_true')
    p.add_argument('--count', action='store_true')
    p.add_argument('files', nargs='+')
    args = p.parse_args()
    if not args.check and len(args.files) != 2:
        p.error('a PTX file and a C++ file are expected')
    here = os.getcwd() + os.sep

    def relative(path):
        path = os.path.normpath(path)
        return path[len(here):] if path.startswith(here) else path
    for path in args.files if args.check else args.files[:1]:
        try:
            with open(path, encoding='utf-8') as f:
                text = f.read()
            code, module = translate(text, path, relative, args.count)
        except OSError as error:
            sys.exit(f'{path}: {error.strerror}')
        except PtxError as error:
            sys.exit(f'{path}:{error.line}: {error.why}: {error.text[:200]}')
        if args.check:
            n = sum(1 for k in module.kernels for s in k.statements if s.opcode)
            print(f'{path}: {len(module.kernels)} kernels, {n} instructions')
        else:
            with open(args.files[1], 'w', encoding='utf-8') as f:
                f.write(code)


if __name__ == '__main__':
    main()
