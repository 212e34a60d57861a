"""Other people's networks behind the engine's split interface.

A network that is an `nn.Sequential` is cut at an index or a name by `split_sequential`. For any other, a subclass of
`SplitInpainter` says in two methods how to compute its halves. What the network's input looks like is an
`Encoding`, so that neither has to convert anything by hand.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor, nn

from refiner.errors import ModelError
from refiner.models.spec import ModelSpec

if TYPE_CHECKING:
    from refiner.models.features import Features

Plane = Literal["image", "hole", "known", "ones"]


@dataclass(frozen=True)
class Encoding:
    """What a network's input and output look like.

    Attributes:
        planes: what is concatenated along the channels, in this order: `image` (3 channels, its hole filled as
            `fill` says), `hole` (1 in the hole), `known` (1 outside it), `ones`.
        low: value of black, in input and output.
        high: value of white.
        fill: value of the hole's pixels in the network's own range, or `mean`, the mean color of the known ones.
    """

    planes: tuple[Plane, ...] = ("image", "hole")
    low: float = 0.0
    high: float = 1.0
    fill: float | Literal["mean"] = 0.0

    def __post_init__(self) -> None:
        unknown = sorted(set(self.planes) - {"image", "hole", "known", "ones"})
        if unknown or "image" not in self.planes:
            raise ModelError(f"encoding: planes are image, hole, known and ones, with image; got {self.planes}.")
        if not self.low < self.high:
            raise ModelError(f"encoding: expected low below high, got {self.low} and {self.high}.")

    def encode(self, image: Tensor, mask: Tensor) -> Tensor:
        """Picture (N,3,H,W) in [0,1] and mask (N,1,H,W), 1 in the hole, to the network's input (N,C,H,W)."""
        known = 1 - mask
        scaled = image * (self.high - self.low) + self.low
        if self.fill == "mean":
            count = known.sum(dim=(2, 3), keepdim=True).clamp(min=1)
            fill: Tensor | float = (scaled * known).sum(dim=(2, 3), keepdim=True) / count
        else:
            fill = self.fill
        planes = {"image": scaled * known + fill * mask, "hole": mask, "known": known, "ones": torch.ones_like(mask)}
        return torch.cat([planes[name] for name in self.planes], dim=1)

    def decode(self, output: Tensor) -> Tensor:
        """The network's output to a picture (N,3,H,W) in [0,1]."""
        return (output - self.low) / (self.high - self.low)


class SplitInpainter(nn.Module, ABC):
    """Base class for your own network: its two halves, and what its input looks like.

    Args:
        encoding: the network's input and output.
        **spec: fields of `ModelSpec`, such as `multiple` and `train_size`.

    Attributes:
        encoding: the network's input and output.
        spec: the sizes it takes, and what suits its features.

    Raises:
        ModelError: a value in `spec` is out of range, or not known there.
    """

    def __init__(self, encoding: Encoding | None = None, **spec: Any) -> None:
        super().__init__()
        self.encoding = encoding or Encoding()
        known = [field.name for field in fields(ModelSpec)]
        unknown = [name for name in spec if name not in known]
        if unknown:
            raise ModelError(f"spec: {', '.join(unknown)} is not known; expected {', '.join(known)}.")
        self.spec = ModelSpec(**spec)

    @abstractmethod
    def front_half(self, x: Tensor) -> Features:
        """Encoded input (N,C,H,W) to features: a tensor, or any nested tuple, list or dict of tensors."""

    @abstractmethod
    def rear_half(self, features: Features) -> Tensor:
        """Features to the network's output (N,3,H,W), in its own range."""

    def front(self, image: Tensor, mask: Tensor) -> Features:
        """Picture (N,3,H,W) in [0,1] and mask (N,1,H,W), 1 in the hole, to features."""
        return self.front_half(self.encoding.encode(image, mask))

    def rear(self, features: Features) -> Tensor:
        """Features to the predicted picture (N,3,H,W) in [0,1]."""
        return self.encoding.decode(self.rear_half(features))


class SequentialInpainter(SplitInpainter):
    """A sequence of layers, cut in two; made by `split_sequential`.

    Attributes:
        layers: every layer in order, sequences within the sequence opened, by name.
        at: index in `layers` of the first one of the rear half.
    """

    def __init__(self, network: nn.Sequential, at: int | str, **options: Any) -> None:
        super().__init__(**options)
        self.network = network
        self.layers: list[tuple[str, nn.Module]] = _flat(network, "")
        self.at = self._index(network, at)
        self.spec = replace(self.spec, stages=tuple(layer for _, layer in self.layers[self.at :]))

    def front_half(self, x: Tensor) -> Features:
        """Run the layers before the cut."""
        for _, layer in self.layers[: self.at]:
            x = layer(x)
        return x

    def rear_half(self, features: Features) -> Tensor:
        """Run the layers from the cut on."""
        for _, layer in self.layers[self.at :]:
            features = layer(features)
        output: Tensor = features
        return output

    def whole(self, image: Tensor, mask: Tensor) -> Tensor:
        """The network uncut, to check the halves against: predicted picture (N,3,H,W) in [0,1]."""
        return self.encoding.decode(self.network(self.encoding.encode(image, mask)))

    def moved_to(self, at: int) -> SequentialInpainter:
        """The same network cut elsewhere; layers and settings are shared."""
        options = {f.name: getattr(self.spec, f.name) for f in fields(ModelSpec) if f.name != "stages"}
        return SequentialInpainter(self.network, self.layers[at][0], encoding=self.encoding, **options)

    def _index(self, network: nn.Sequential, at: int | str) -> int:
        names = [name for name, _ in self.layers]
        if isinstance(at, int):
            children = list(network._modules)  # noqa: SLF001  as in `_flat`
            if not 0 < (at + len(children) if at < 0 else at) < len(children):
                raise ModelError(f"split at {at}: expected an index between 1 and {len(children) - 1}.")
            at = children[at]
        found = next((i for i, name in enumerate(names) if name == at or name.startswith(f"{at}.")), None)
        if not found:
            raise ModelError(f"split at {at!r}: expected one of {', '.join(names[1:])}.")
        return found


def split_sequential(network: nn.Sequential, at: int | str, **options: Any) -> SequentialInpainter:
    """Cut a sequence of layers in two.

    Args:
        network: takes one tensor and gives one; sequences within it are opened.
        at: first layer of the rear half: an index into `network`, or a layer's name, such as `middle` or `body.3`.
        **options: those of `SplitInpainter`: `encoding` and the fields of `ModelSpec`.

    Returns:
        An inpainter that the engine refines.

    Raises:
        ModelError: there is no such layer, or one half would be empty.
    """
    return SequentialInpainter(network, at, **options)


def _flat(network: nn.Sequential, prefix: str) -> list[tuple[str, nn.Module]]:
    layers: list[tuple[str, nn.Module]] = []
    for name, child in network._modules.items():  # noqa: SLF001  named_children() lists a layer that is used twice only once
        if child is None:
            continue
        # A subclass may compute something of its own, so only plain sequences are opened.
        layers += _flat(child, f"{prefix}{name}.") if type(child) is nn.Sequential else [(f"{prefix}{name}", child)]
    return layers
