"""Adam's steps, as `torch.optim.Adam` makes them: the same function of PyTorch's, without the class around it.

The class imports PyTorch's compiler when it is first made, which takes a processor more than a second.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.optim.adam import adam

if TYPE_CHECKING:
    from collections.abc import Sequence

_BETAS, _EPS = (0.9, 0.999), 1e-8


@dataclass(frozen=True)
class Group:
    """Tensors that are tuned at one learning rate."""

    tensors: list[Tensor]
    lr: float


class Adam:
    """Tunes tensors by their gradients.

    Args:
        groups: what to tune.
        fused: whether a device computes each step in one operation; None where PyTorch is to choose.
        capturable: whether steps can be recorded as a CUDA graph, so that their count lies on the device.
    """

    def __init__(self, groups: Sequence[Group], *, fused: bool | None = None, capturable: bool = False) -> None:
        self._groups, self._fused, self._capturable = groups, fused, capturable
        # Made here and not in the first step, so that one update has all in memory that any later one has.
        self._state = {
            id(tensor): (
                torch.zeros_like(tensor, requires_grad=False),
                torch.zeros_like(tensor, requires_grad=False),
                torch.zeros((), device=tensor.device if capturable or fused else "cpu", dtype=torch.float32),
            )
            for group in groups
            for tensor in group.tensors
        }

    def restart(self) -> None:
        """Forget all steps, in the very tensors that a recording reads."""
        for state in self._state.values():
            for value in state:
                value.zero_()

    @torch.no_grad()
    def step(self) -> None:
        """Change each tensor that has a gradient."""
        for group in self._groups:
            tuned = [(tensor, *self._state[id(tensor)]) for tensor in group.tensors if tensor.grad is not None]
            if not tuned:
                continue
            adam(
                [tensor for tensor, *_ in tuned],
                [tensor.grad for tensor, *_ in tuned if tensor.grad is not None],
                [average for _, average, _, _ in tuned],
                [square for *_, square, _ in tuned],
                [],
                [count for *_, count in tuned],
                foreach=None,
                capturable=self._capturable,
                fused=self._fused,
                amsgrad=False,
                beta1=_BETAS[0],
                beta2=_BETAS[1],
                lr=group.lr,
                weight_decay=0,
                eps=_EPS,
                maximize=False,
            )
