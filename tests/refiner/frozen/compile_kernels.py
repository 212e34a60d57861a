"""Compiles every kernel for NVIDIA GPUs, which needs none; run by a test with Triton's interpreter off.

Prints, a line each: kernel, precision, and how many bytes its widest access to memory has.
"""

from __future__ import annotations

import re
import sys
from itertools import product

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from refiner.frozen.gpu import kernels

WIDE = {"fp32": "fp32", "bf16": "fp32", "fp16": "fp32", "fp64": "fp64"}
BORDERS = {"reflects": True, "block": 1024}
REPLICAS = {"reflects": False, "rows": 7, "columns": 6, "above": 3, "before": 2, "block": 64}
TILES = {"places": 32, "planes": 32}
CONSTANTS = {
    "gate": [
        {"low": -0.3, "high": 0.4, "slope": 0.0, "bounded": True, "summed": True, "block": 256},
        {"low": 0.0, "high": 0.0, "slope": 0.0, "bounded": False, "summed": False, "block": 256},
        {"low": 0.0, "high": 0.0, "slope": 0.2, "bounded": False, "summed": False, "block": 256},
    ],
    "ungate": [{"slope": 0.0, "block": 256}, {"slope": 0.2, "block": 256}],
    "pad": [BORDERS, {"reflects": False, "block": 64}],
    "unpad": [{**BORDERS, "rows": 3, "columns": 3, "above": 0, "before": 0}, REPLICAS],
    "stack": [{"inward": 1.0, **TILES}, {"inward": 2.0, **TILES}],
    "unstack": [{"inward": 1.0, **TILES}, {"inward": 0.5, **TILES}],
    "last": [TILES],
}
POINTERS = {"x", "other", "grad", "back", "padded", "spectrum", "stacked"}  # and `bits`
IN_WIDE = {"stack": {"spectrum", "stacked"}, "unstack": {"spectrum"}}
BY_16 = {"count", "inner", "stride", "channels"}  # as a network's numbers of channels are


def compiled(name: str, precision: str, constants: dict[str, object], capability: int) -> str:
    kernel, wide = getattr(kernels, name), WIDE[precision]
    constants = {**constants, "wide": triton.language.dtype(wide)}
    signature, attributes = {}, {}
    for index, argument in enumerate(kernel.arg_names):
        if argument in POINTERS:
            signature[argument] = "*" + (wide if argument in IN_WIDE.get(name, ()) else precision)
        else:
            signature[argument] = {"bits": "*u8"}.get(argument, "constexpr" if argument in constants else "i32")
        if signature[argument].startswith("*") or argument in BY_16:
            attributes[(index,)] = [["tt.divisibility", 16]]
    values = {(kernel.arg_names.index(key),): value for key, value in constants.items() if key in kernel.arg_names}
    source = ASTSource(kernel, signature, values, attributes)
    made = triton.compile(source, target=GPUTarget("cuda", capability, 32))
    assert made.asm["cubin"]
    return made.asm["ptx"]


for name, precision in product(CONSTANTS, WIDE):
    widest = 0
    for constants in CONSTANTS[name]:
        code = compiled(name, precision, constants, int(sys.argv[1]))
        accesses = re.findall(r"(?:ld|st)\.global\S*?(?:\.v(\d))?\.[bfus](\d+)", code)
        widest = max(widest, *(int(count or 1) * int(bits) // 8 for count, bits in accesses))
    sys.stdout.write(f"{name} {precision} {widest}\n")
