"""Booleans eight to the byte."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

# Multiplying eight 0/1 bytes, read as one integer, by _GATHER collects them in its top byte; _SPREAD copies a
# byte to all eight places and _PICK keeps one bit of each.
_GATHER = 0x0102040810204080
_SPREAD = 0x0101010101010101
_PICK = 0x8040201008040201 - (1 << 64)  # as a signed 64-bit integer


def pack(flags: Tensor) -> Tensor:
    """Bools of any shape to uint8, (ceil(n/8),), in the order of a contiguous tensor."""
    flat = flags.reshape(-1)
    if flat.device.type == "cpu":
        return torch.from_numpy(np.packbits(flat.numpy(), bitorder="little"))
    return pack_by_arithmetic(flat)


def unpack(bits: Tensor, count: int) -> Tensor:
    """The first `count` bools of what `pack` gave, (count,)."""
    if bits.device.type == "cpu":
        return torch.from_numpy(np.unpackbits(bits.numpy(), count=count, bitorder="little")).view(torch.bool)
    return unpack_by_arithmetic(bits, count)


def pack_by_arithmetic(flat: Tensor) -> Tensor:
    """`pack` of (n,) by integer operations, which every device has."""
    padded = torch.nn.functional.pad(flat, (0, -flat.numel() % 8))
    words = padded.view(torch.int64) * _GATHER
    return ((words >> 56) & 0xFF).to(torch.uint8)


def unpack_by_arithmetic(bits: Tensor, count: int) -> Tensor:
    """`unpack` by integer operations, which every device has."""
    spread = (bits.to(torch.int64) * _SPREAD) & _PICK
    return (spread.view(torch.uint8) != 0)[:count]
