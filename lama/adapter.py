"""LaMa as an inpainter that the engine can refine."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from lama.fused import FusedGenerator
from lama.generator import LocalBranch
from refiner.errors import ModelError
from refiner.models.spec import DEFAULT_LEARNING_RATE, DEFAULT_TRAIN_SIZE, ModelSpec
from refiner.models.split import SequentialInpainter

if TYPE_CHECKING:
    from lama.generator import Generator
    from lama.regular import RegularGenerator
    from refiner.detail import Detail


class LamaInpainter(nn.Module):
    """A trained LaMa generator behind the engine's split interface.

    Args:
        generator: the network as it was trained, on the CPU.
        train_size: side in pixels that it works best at.
        learning_rate: learning rate that suits its features in refinement.
        detail: what fills larger scales best, see `ModelSpec`.
        split_block: how many residual blocks belong to the front half, 0 in the paper. Blocks of the front half run in
            the first prediction only.

    Attributes:
        generator: the network as it was trained; the parameters of this module are computed from it.
        spec: the sizes that the network takes, and what suits its features.

    Raises:
        ModelError: there are fewer blocks than `split_block`.
    """

    generator: Generator

    def __init__(
        self,
        generator: Generator,
        *,
        train_size: int = DEFAULT_TRAIN_SIZE,
        learning_rate: float = DEFAULT_LEARNING_RATE,
        detail: Detail = "auto",
        split_block: int = 0,
    ) -> None:
        super().__init__()
        object.__setattr__(self, "generator", generator)  # not a submodule, so that it stays on the CPU
        self.fused = FusedGenerator(generator, _checked_block(split_block, generator.config.n_blocks)).float()
        multiple = 2**generator.config.n_downsampling
        self.spec = ModelSpec(
            multiple=multiple,
            train_size=train_size,
            min_input_side=2 * multiple,  # reflection padding needs two pixels at 1/8 of the side
            learning_rate=learning_rate,
            strips=True,
            stages=tuple(self.fused.stages),
            detail=detail,
        )
        self.eval()

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
            self.generator.split + 1 + self.fused.split_block,
            multiple=self.spec.multiple,
            train_size=self.spec.train_size,
            learning_rate=self.spec.learning_rate,
            min_input_side=self.spec.min_input_side,
        ).eval()

    def front(self, image: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Picture (N,3,H,W) in [0,1] and mask (N,1,H,W), 1 in the hole, to local and global features."""
        return self.fused.front(torch.cat([image * (1 - mask), mask], dim=1))

    def rear(self, features: tuple[Tensor, Tensor]) -> Tensor:
        """Features to the predicted picture (N,3,H,W) in [0,1]."""
        return self.fused.rear(features)

    def _apply(self, fn: Any, recurse: bool = True) -> LamaInpainter:
        """Move or cast the parameters. A cast computes them anew, from float64, so that a float64 model is exact."""
        before = self.fused.stem.weight.dtype
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if self.fused.stem.weight.dtype != before:
            exact = FusedGenerator(self.generator, self.fused.split_block)
            for parameter, value in zip(self.fused.parameters(), exact.parameters(), strict=True):
                parameter.data.copy_(value)
        return self


class RegularLamaInpainter(SequentialInpainter):
    """One of LaMa's ablations without Fourier convolutions; arguments as for `LamaInpainter`."""

    def __init__(
        self,
        generator: RegularGenerator,
        *,
        train_size: int = DEFAULT_TRAIN_SIZE,
        learning_rate: float = DEFAULT_LEARNING_RATE,
        detail: Detail = "auto",
        split_block: int = 0,
    ) -> None:
        config = generator.config
        multiple = 2**config.n_downsampling
        super().__init__(
            generator.model,
            generator.split + _checked_block(split_block, config.n_blocks),
            multiple=multiple,
            train_size=train_size,
            learning_rate=learning_rate,
            detail=detail,
            min_input_side=multiple * (1 + max(1, 2 ** (config.dilations - 1))),  # more than the padding at 1/8
        )
        self.eval()


def _checked_block(split_block: int, blocks: int) -> int:
    if not 0 <= split_block <= blocks:
        raise ModelError(f"split_block: expected a whole number from 0 to {blocks}, got {split_block}.")
    return split_block
