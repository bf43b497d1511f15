#!/usr/bin/env python3
"""The instruction forms in PTX files: how often each is there, in how many kernels, and whether forms.py knows it.

    host/vgpu/ptx_exec/forms_used.py $(find build/vgpu-ptx90 -name '*.ptx')
"""
import collections
import sys

import forms
import parse


def known(opcode):
    if opcode in ('bra', 'bra.uni'):
        return True
    try:
        forms.find(opcode)
        return True
    except forms.FormError:
        return False


def main():
    if len(sys.argv) < 2 or sys.argv[1] in ('-h', '--help'):
        print(__doc__.strip())
        return
    count, kernels, total = collections.Counter(), collections.Counter(), 0
    for path in sys.argv[1:]:
        try:
            with open(path, encoding='utf-8') as f:
                module = parse.Parser(f.read()).parse()
        except OSError as error:
            sys.exit(f'{path}: {error.strerror}')
        except parse.PtxError as error:
            sys.exit(f'{path}:{error.line}: {error.why}: {error.text[:200]}')
        for k in module.kernels:
            total += 1
            opcodes = [s.opcode for s in k.statements if s.opcode]
            count.update(opcodes)
            kernels.update(set(opcodes))
    for opcode in sorted(count):
        print(f'{count[opcode]:8} {kernels[opcode]:5}  {opcode}{"" if known(opcode) else "   UNKNOWN"}')
    print(f'{sum(count.values())} instructions of {len(count)} forms in {total} kernels')


if __name__ == '__main__':
    main()
