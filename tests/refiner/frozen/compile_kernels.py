"""Compiles every kernel for an NVIDIA GPU as the operators launch it, which needs none; without Triton's interpreter.

A stand-in for the driver says which GPU there is, and nothing is launched. Arguments: compute capability and precision.
Prints, a line for each launch: kernel, and how many bytes its widest access to memory has.
"""

from __future__ import annotations

import re
import sys

import torch
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from refiner.frozen.gpu import launch

INF = float("inf")


class Driver:
    """Of a GPU that is not there."""

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: object = None) -> int:
        return 0

    def get_current_target(self) -> GPUTarget:
        return GPUTarget("cuda", int(sys.argv[1]), 32)


def compiled(self, *args, grid, warmup, **options) -> None:
    made = run(self, *args, grid=grid, warmup=True, **options)
    assert made.asm["cubin"]
    accesses = re.findall(r"(?:ld|st)\.global\S*?(?:\.v(\d))?\.[bfus](\d+)", made.asm["ptx"])
    widest = max(int(count or 1) * int(bits) // 8 for count, bits in accesses)
    sys.stdout.write(f"{self.__name__} {widest}\n")


driver.set_active(Driver())
run, JITFunction.run = JITFunction.run, compiled

dtype = getattr(torch, sys.argv[2])
for layout, channels in ((torch.channels_last, 64), (torch.contiguous_format, 3)):
    x = torch.zeros(1, channels, 9, 48).to(dtype).contiguous(memory_format=layout)
    launch.pad(x, (3, 3, 3, 3), "reflect")
    launch.unpad(x, (3, 2, 1, 3), "reflect")
wider = torch.zeros(1, 128, 9, 48).to(dtype).contiguous(memory_format=torch.channels_last)
x = wider[:, 64:].clone(memory_format=torch.channels_last)
launch.gate_(x, wider[:, :64], 0.0, INF, 0.0)
launch.gate_(x, x.clone(), 0.0, 6.0, 0.0)
bits = launch.gate_(x, None, 0.0, INF, 0.2)
launch.ungate(x, bits, 0.0)
launch.ungate(x, bits, 0.2)
launch.pad(x, (3, 3, 3, 3), "replicate")
launch.unpad(x, (3, 2, 1, 3), "replicate")
launch.spectrum(x, adjoint=True)
launch.picture(wider, 95, adjoint=True)
