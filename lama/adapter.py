"""LaMa as an inpainter that the engine can refine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lama.fused import FusedGenerator
from lama.generator import LocalBranch
from refiner.models.inpainter import DEFAULT_LEARNING_RATE
from refiner.models.split import SequentialInpainter

if TYPE_CHECKING:
    from lama.generator import Generator
    from lama.regular import RegularGenerator


class LamaInpainter(nn.Module):
    """A trained LaMa generator behind the engine's split interface.

    Attributes:
        generator: the network as it was trained, on the CPU; the parameters here are computed from it.
        multiple: the sides of a picture must be multiples of this.
        min_side: the least side the network takes: reflection padding at 1/8 needs two pixels there.
        train_size: the side it works best at; the smallest scale of the pyramid follows from it.
        learning_rate: what suits its features when they are refined.
    """

    generator: Generator

    def __init__(
        self, generator: Generator, *, train_size: int = 512, learning_rate: float = DEFAULT_LEARNING_RATE
    ) -> None:
        super().__init__()
        object.__setattr__(self, "generator", generator)  # not a submodule: it stays where it is
        self.train_size = train_size
        self.learning_rate = learning_rate
        self.multiple = 2**generator.config.n_downsampling
        self.min_side = 2 * self.multiple
        self.fused = FusedGenerator(generator).float()
        self.eval()

    @property
    def stages(self) -> list[nn.Module]:
        """The rear's parts in the order they run, which can lie on several devices."""
        return self.fused.stages

    @property
    def strip_height(self) -> int | None:
        """Picture rows to compute at once in the full-resolution ends; None for all."""
        return self.fused.strip_height

    @strip_height.setter
    def strip_height(self, rows: int | None) -> None:
        self.fused.strip_height = rows

    def whole(self, image: Tensor, mask: Tensor) -> Tensor:
        """The network as it was trained, uncut and on the CPU, to check the halves against."""
        x = torch.cat([image * (1 - mask), mask], dim=1)
        prediction: Tensor = self.generator(x.to("cpu", torch.float32))
        return prediction.to(x)

    def sequence(self) -> SequentialInpainter:
        """The network as it was trained, as a sequence that can be cut elsewhere: for `refiner check --scan`."""
        layers = list(self.generator.model)
        network = nn.Sequential(layers[0], LocalBranch(), *layers[1:])
        return SequentialInpainter(
            network,
            self.generator.split + 1,
            multiple=self.multiple,
            train_size=self.train_size,
            learning_rate=self.learning_rate,
            min_side=self.min_side,
        ).eval()

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


class RegularLamaInpainter(SequentialInpainter):
    """One of LaMa's ablations without Fourier convolutions; attributes as those of `LamaInpainter`."""

    def __init__(
        self, generator: RegularGenerator, *, train_size: int = 512, learning_rate: float = DEFAULT_LEARNING_RATE
    ) -> None:
        config = generator.config
        multiple = 2**config.n_downsampling
        super().__init__(
            generator.model,
            generator.split,
            multiple=multiple,
            train_size=train_size,
            learning_rate=learning_rate,
            min_side=multiple * (1 + max(1, 2 ** (config.dilations - 1))),  # more than reflection at 1/8 reaches
        )
        self.eval()
