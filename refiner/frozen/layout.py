"""How a picture lies in memory."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from torch import Tensor


def is_channels_last(x: Tensor) -> bool:
    """Whether a picture's channels lie side by side in memory, and not its columns."""
    return x.ndim == 4 and x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()  # noqa: PLR2004


def layout_of(x: Tensor) -> torch.memory_format:
    """The memory format of a picture (N,C,H,W), also where it is some channels of a larger one."""
    side_by_side = x.shape[1] > 1 and x.stride(1) == 1 and not x.is_contiguous()
    return torch.channels_last if side_by_side else torch.contiguous_format


def in_memory(x: Tensor) -> Tensor:
    """A picture with its axes in the order in which it lies in memory."""
    return x.permute(0, 2, 3, 1) if is_channels_last(x) else x.contiguous()
