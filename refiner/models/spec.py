"""What a model says of itself, in one place."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, get_args

from refiner.detail import Detail
from refiner.errors import ModelError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from torch import nn

DEFAULT_TRAIN_SIZE = 512
DEFAULT_LEARNING_RATE = 0.002  # the authors', for Big LaMa


@dataclass(frozen=True)
class ModelSpec:
    """What the engine has to know of a network.

    Attributes:
        multiple: height and width of what `front` is given are multiples of this.
        train_size: side in pixels that the network was trained at; the pyramid's smallest scale follows from it.
        min_input_side: shortest side in pixels that it takes.
        learning_rate: Adam's, for its features.
        lr_scale: factors on the learning rate of single features, by name, such as `{"skips": 0.1, "skips.0": 0}`;
            0 freezes. A name stands for all features below it; the longest that fits counts.
        strips: whether its full-resolution ends are computed as many rows at a time as
            `refiner.frozen.current_strip_height()` says.
        stages: the rear half's modules in the order they run, which can then lie on several devices.
        detail: what fills the larger scales best, where settings leave it open; see `refiner.Settings`.

    Raises:
        ModelError: a value is out of range.
    """

    multiple: int = 8
    train_size: int = DEFAULT_TRAIN_SIZE
    min_input_side: int = 1
    learning_rate: float = DEFAULT_LEARNING_RATE
    lr_scale: Mapping[str, float] = field(default_factory=dict)
    strips: bool = False
    stages: tuple[nn.Module, ...] = ()
    detail: Detail = "auto"

    def __post_init__(self) -> None:
        for name in ("multiple", "train_size", "min_input_side"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ModelError(f"spec: {name} is {value!r}; expected a whole number from 1.")
        if not 0 < self.learning_rate < math.inf:
            raise ModelError(f"spec: learning_rate is {self.learning_rate!r}; expected a number above 0.")
        if self.detail not in get_args(Detail):
            raise ModelError(f"spec: detail is {self.detail!r}; expected one of {', '.join(get_args(Detail))}.")
        if any(factor < 0 for factor in self.lr_scale.values()):
            raise ModelError(f"spec: lr_scale is {dict(self.lr_scale)}; expected factors from 0.")

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """The smallest input size that a picture of this size fits into."""

        def up(side: int) -> int:
            return -(-max(side, self.min_input_side) // self.multiple) * self.multiple

        return up(height), up(width)
