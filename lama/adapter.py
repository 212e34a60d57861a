"""LaMa as an inpainter that the engine can refine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lama.fused import FusedGenerator
from refiner.inpainter import DEFAULT_LEARNING_RATE

if TYPE_CHECKING:
    from lama.generator import Generator


class LamaInpainter(nn.Module):
    """A trained LaMa generator behind the engine's split interface.

    Attributes:
        generator: the network as it was trained, on the CPU; the parameters here are computed from it.
        multiple: the sides of a picture must be multiples of this.
        min_side: the least side the network takes: reflection padding at 1/8 needs two pixels there.
        native_side: the side it works best at; the smallest scale of the pyramid follows from it.
        learning_rate: what suits its features when they are refined.
    """

    generator: Generator

    def __init__(
        self, generator: Generator, *, native_side: int = 512, learning_rate: float = DEFAULT_LEARNING_RATE
    ) -> None:
        super().__init__()
        object.__setattr__(self, "generator", generator)  # not a submodule: it stays where it is
        self.native_side = native_side
        self.learning_rate = learning_rate
        self.multiple = 2**generator.config.n_downsampling
        self.min_side = 2 * self.multiple
        self.fused = FusedGenerator(generator).float()
        self.eval()

    @property
    def strip_height(self) -> int | None:
        """Picture rows to compute at once in the full-resolution ends; None for all."""
        return self.fused.strip_height

    @strip_height.setter
    def strip_height(self, rows: int | None) -> None:
        self.fused.strip_height = rows

    def front(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Picture (N,3,H,W) in [0,1] and mask (N,1,H,W), 1 in the hole, to local and global features."""
        return self.fused.front(torch.cat([image * (1 - mask), mask], dim=1))

    def rear(self, features: tuple[Tensor, Tensor]) -> Tensor:
        """Features to the predicted picture (N,3,H,W) in [0,1]."""
        return self.fused.rear(features)

    def _apply(self, fn: Any, recurse: bool = True) -> LamaInpainter:
        """Move or cast; a cast folds anew, in float64 first, so that a float64 model is exact."""
        before = self.fused.stem.weight.dtype
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.fused.stem.weight.dtype != before:
            exact = FusedGenerator(self.generator)
            for parameter, value in zip(self.fused.parameters(), exact.parameters(), strict=True):
                parameter.data.copy_(value)
        return self
