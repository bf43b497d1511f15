#!/usr/bin/env python3
"""That profiling/sass.py finds single elements in the loops of memory-bound kernels: made-up disassembly, good and bad. Prints one
line a failure; exits 1 when there was one."""
import os
import sys

sys.path.insert(0, os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "profiling"))
from sass import scalar_complaints  # noqa: E402

FUSED, SHUFFLE = "build/cuda/kernels/lrn_pool/forward_fused.o", "build/cuda/kernels/lrn/forward_shuffle.o"


def dump(*instructions):
    """A kernel that begins with one scalar load, before the loop of these instructions."""
    lines = ["\tcode for sm_90", "\t\tFunction : kernel", "        /*0000*/                   LDG.E R1, desc[UR4][R2.64] ;"]
    for i, what in enumerate(instructions):
        lines.append(f"        /*{16 * (i + 1):04x}*/                   {what} ;")
    lines.append(f"        /*{16 * (len(instructions) + 1):04x}*/              @!P0 BRA 0x10 ;")
    return "\n".join(lines)


def without_loop(*instructions):
    lines = ["\tcode for sm_90", "\t\tFunction : kernel"]
    return "\n".join(lines + [f"        /*{16 * i:04x}*/                   {what} ;" for i, what in enumerate(instructions)])


LOAD, STORE = "LDG.E.128 R4, desc[UR4][R2.64]", "STG.E.128 desc[UR4][R2.64], R4"
HALO = ["@P1 LDG.E R8, desc[UR4][R2.64+-0x4]", "@P2 LDG.E R9, desc[UR4][R2.64+0x10]"]
CASES = [  # what, object, disassembly, a part of the one complaint; "" for none
    ("vectors", FUSED, dump(LOAD, STORE, "STG.E.64 desc[UR4][R2.64], R4"), ""),
    ("a halo", FUSED, dump(LOAD, *HALO, STORE), ""),
    ("more than a halo", FUSED, dump(LOAD, *HALO, HALO[0], STORE), "has 3 loads of 4 bytes in its loop, for 1 of 16"),
    ("a halo where none is", SHUFFLE, dump(LOAD, *HALO, STORE), "has 2 loads of 4 bytes"),
    ("eight places", FUSED, dump(LOAD, "LDG.E.64 R8, desc[UR4][R2.64]", STORE), ""),
    ("a byte loaded", FUSED, dump(LOAD, "LDG.E.U8 R8, desc[UR4][R2.64]", STORE), "moves single elements in its loop: LDG of 1"),
    ("a bf16 stored", FUSED, dump(LOAD, "@P0 STG.E.U16 desc[UR4][R2.64], R4"), "STG of 2"),
    ("a float stored", SHUFFLE, dump(LOAD, "STG.E desc[UR4][R2.64], R4"), "STG of 4"),
    ("no vector at all", FUSED, dump("LDG.E.U16 R8, desc[UR4][R2.64]", "STG.E.U16 desc[UR4][R2.64], R8"), "moves nothing as 16 bytes"),
    ("no loop, and a bf16 stored", SHUFFLE, without_loop(LOAD, "STG.E.U16 desc[UR4][R2.64], R4"), "STG of 2"),
    ("no loop, vectors", SHUFFLE, without_loop(LOAD, STORE), ""),
    ("another object", "build/cuda/kernels/sgd/naive.o", dump("LDG.E R8, desc[UR4][R2.64]"), ""),
]

failures = 0
for what, path, text, part in CASES:
    got = scalar_complaints(path, text)
    if (len(got) != 1 or part not in got[0]) if part else got:
        failures += 1
        print(f"FAILED: {what}: expected {part or 'nothing'!r}, got {got}")
sys.exit(1 if failures else 0)
