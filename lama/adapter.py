"""LaMa as an inpainter that the engine can refine."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from lama.generator import Generator


class LamaInpainter(nn.Module):
    """A LaMa generator behind the engine's split interface.

    Attributes:
        multiple: the sides of a picture must be multiples of this.
        min_side: the least side the network takes: reflection padding at 1/8 needs two pixels there.
        native_side: the side it works best at; the smallest scale of the pyramid follows from it.
    """

    def __init__(self, generator: Generator, *, native_side: int = 512) -> None:
        super().__init__()
        self.generator = generator
        self.native_side = native_side
        self.multiple = 2**generator.config.n_downsampling
        self.min_side = 2 * self.multiple

    def front(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Picture (N,3,H,W) in [0,1] and mask (N,1,H,W), 1 in the hole, to local and global features."""
        return self.generator.front(torch.cat([image * (1 - mask), mask], dim=1))

    def rear(self, features: tuple[Tensor, Tensor]) -> Tensor:
        """Features to the predicted picture (N,3,H,W) in [0,1]."""
        return self.generator.rear(features)
