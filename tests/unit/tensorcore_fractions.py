#!/usr/bin/env python3
"""The fused sum in exact rational arithmetic, beside the library's: random steps of every unit.

tensorcore_fractions.py [STEPS of each unit and format]. The rule is written here a second time,
from fractions and not from integers."""
import ctypes
import random
import struct
import subprocess
import sys
import tempfile
from fractions import Fraction
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FORMATS = [(16, 7, -126, True), (16, 10, -14, True), (8, 3, -6, False), (8, 2, -14, True)]
UNITS = {"sm_90": [(16, 25, 23)] * 2 + [(32, 13, 13)] * 2, "sm_90.mma": [(16, 25, 23)] * 4,
         "sm_89": [(8, 24, 23)] * 2 + [(16, 13, 13)] * 2,
         "sm_80": [(8, 24, 23)] * 2}


def library():
    out = Path(tempfile.mkdtemp()) / "tensorcore.so"
    subprocess.run(["cc", "-O2", "-shared", "-fPIC", "-I", ROOT / "src", "-I", ROOT / "src/include",
                    "-o", out, ROOT / "src/reference/tensorcore/dot.c"], check=True)
    lib = ctypes.CDLL(str(out))
    lib.moe_int_dot.restype = lib.moe_int_dot_by_fp16.restype = ctypes.c_uint32
    return lib


def value(fmt, code):
    """(number, exponent): None for what is not finite."""
    bits, fraction, least, infinities = FORMATS[fmt]
    sign = -1 if code >> (bits - 1) else 1
    low, field = code & ((1 << fraction) - 1), (code & ((1 << (bits - 1)) - 1)) >> fraction
    top = (1 << (bits - 1 - fraction)) - 1
    if field == top and (infinities or low == (1 << fraction) - 1):
        return None
    exp = field - 1 + least if field else least
    size = Fraction(low + (1 << fraction if field else 0), 1 << fraction) * Fraction(2) ** exp
    return (sign * size, exp if size else -126)


def toward_zero(x, quantum):
    n = abs(x) / quantum
    return (1 if x > 0 else -1) * (n.numerator // n.denominator) * quantum


def exponent(x):
    e = x.numerator.bit_length() - x.denominator.bit_length()
    return e if x >= Fraction(2) ** e else e - 1


def step(rule, pairs, c):
    """One fused sum of [(value, exponent), (value, exponent)] and C's (value, exponent)."""
    _, kept, out = rule
    most = max([c[1]] + [a[1] + b[1] for a, b in pairs])
    grid = Fraction(2) ** (most - kept)
    total = toward_zero(c[0], grid) + sum(toward_zero(a[0] * b[0], grid) for a, b in pairs)
    if total == 0:
        return 0
    e = max(exponent(abs(total)), -126)
    if e > 127:
        return 0x7f800000 | (total < 0) << 31
    total = toward_zero(total, Fraction(2) ** (e - out))
    return struct.unpack("<I", struct.pack("<f", float(total)))[0]


def f32(bits):
    return struct.unpack("<f", struct.pack("<I", bits))[0]


def exponent_of(bits):
    return (bits >> 23 & 255) - 127 if bits >> 23 & 255 else -126


def two_steps(rule, pairs, c):
    """8-bit factors as fp16: k % 4 < 2 from zero, then the others, added to C to nearest."""
    total = 0
    for half in ((0, 1), (2, 3)):
        total = step(rule, [p for k, p in enumerate(pairs) if k % 4 in half],
                     (Fraction(f32(total)), exponent_of(total)))
    total = f32(total) + float(c[0])  # exact in double for these sizes
    return struct.unpack("<I", struct.pack("<f", total))[0]


def draw(fmt, span):
    bits, fraction, least, _ = FORMATS[fmt]
    top = (1 << (bits - 1 - fraction)) - 2
    if random.random() < 0.06:
        return random.getrandbits(1) << (bits - 1)
    field = min(max(-least + 1 + random.randint(-span, span) - 1, 0), top)
    return random.getrandbits(1) << (bits - 1) | field << fraction | random.getrandbits(fraction)


def compare(lib, unit, fmt, span):
    rule = UNITS[unit][fmt]
    by_fp16 = unit == "sm_90.mma" and FORMATS[fmt][0] == 8
    terms, fraction = 32 if by_fp16 else rule[0], FORMATS[fmt][1]
    codes = [[draw(fmt, span) for _ in range(terms)] for _ in range(2)]
    factors = [[value(fmt, x) for x in side] for side in codes]
    c = random.choice([0, struct.unpack("<I", struct.pack("<f", random.choice([-1, 1]) * (
        1 + random.random()) * 2.0 ** random.randint(-2 * span, 2 * span)))[0]])
    arrays = []
    for side in factors:
        scaled = [v / Fraction(2) ** (e - fraction) for v, e in side]
        arrays += [(ctypes.c_int16 * terms)(*[int(x) for x in scaled]),
                   (ctypes.c_int16 * terms)(*[e for _, e in side])]
    model, emulate = (two_steps, lib.moe_int_dot_by_fp16) if by_fp16 else (step, lib.moe_int_dot)
    want = model(rule, list(zip(*factors)), (Fraction(f32(c)), exponent_of(c)))
    got = emulate((ctypes.c_int * 4)(*rule, by_fp16), fraction, arrays[0], arrays[1], arrays[2],
                  arrays[3], 1, ctypes.c_uint32(c))
    if got & 0x7fffffff == 0 and want == 0:
        return True
    if got != want:
        print(f"{unit} format {fmt}: {got:#010x}, not {want:#010x}: {codes}, C {c:#010x}")
    return got == want


def main():
    lib = library()
    steps = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    random.seed(1)
    wrong = count = 0
    for unit, rules in UNITS.items():
        for fmt in range(len(rules)):
            for i in range(steps):
                wrong += not compare(lib, unit, fmt, (2, 8, 40)[i % 3])
                count += 1
    print(f"{count} steps, {wrong} different")
    return wrong != 0


sys.exit(main())
