"""Small arguments for an operator, like those of a call: of its precisions, layout and switches."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from refiner.frozen.layout import layout_of


def sample(name: str, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Arguments of the same kind as a call's, with sides that divide nothing.

    Args:
        name: of the operator.
        args: of the call.
    """
    x = args[0]
    random = torch.Generator().manual_seed(0)

    def like(tensor: Tensor, *sides: int) -> Tensor:
        channels = 3 if tensor.ndim == 1 or tensor.shape[1] % 16 else 16
        if tensor.ndim != 4:  # noqa: PLR2004  N, C, H, W
            return torch.randn(2, channels, 11, generator=random, device="cpu").to(tensor)
        # Twice the channels where the call's are some of a larger picture.
        whole = tensor.is_contiguous() or tensor.is_contiguous(memory_format=torch.channels_last)
        made = torch.randn(2, channels if whole else 2 * channels, *sides, generator=random, device="cpu")
        return made.to(tensor).contiguous(memory_format=layout_of(tensor))[:, :channels]

    if name == "gate_":
        other = None if args[1] is None else like(args[1], 9, 7)
        return (like(x, 9, 7), other, *args[2:])
    if name == "ungate":
        grad = like(x, 9, 7)
        bits = torch.randint(256, (-(-grad.numel() // 8),), dtype=torch.uint8, generator=random, device="cpu")
        return grad, bits.to(x.device), args[2]
    if name in ("pad", "unpad"):
        inner, widths = (3, 5), tuple(min(width, 2) for width in args[1])
        left, right, top, bottom = widths if name == "unpad" else (0, 0, 0, 0)
        return like(x, inner[0] + top + bottom, inner[1] + left + right), widths, args[2]
    if name == "spectrum":
        return like(x, 6, 8 - x.shape[3] % 2), args[1]
    width = 8 - args[1] % 2  # of a picture
    made = like(x, 6, width // 2 + 1)
    return torch.cat([made, made.roll(1, dims=1)], dim=1).contiguous(memory_format=layout_of(x)), width, args[2]
