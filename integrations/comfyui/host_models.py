"""Inpainter From Model: a network that other nodes have loaded, refined without a second copy of its weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import nn

import refiner

from .node import INPAINTER, Done, Input, Node, Output

if TYPE_CHECKING:
    from torch import Tensor

    from refiner import Features

_RESIDUAL = ("conv1", "conv2")  # parts of LaMa's residual blocks


class HostLama(refiner.SplitInpainter):
    """A LaMa as spandrel builds it, cut before its first residual block; its layers are the host's own.

    Args:
        layers: its layers in order.
        at: index of the first layer of the rear half.
        downsamplings: how often the front half halves the picture.
    """

    def __init__(self, layers: nn.Sequential, at: int, downsamplings: int) -> None:
        multiple = 2**downsamplings
        super().__init__(multiple=multiple, train_size=512, min_input_side=2 * multiple)
        self.layers, self.at = layers, at

    def front_half(self, x: Tensor) -> Features:
        """Up to the last downsampling layer."""
        for layer in self.layers[: self.at]:
            x = layer(x)
        return x

    def rear_half(self, features: Features) -> Tensor:
        """Residual blocks and decoder."""
        for layer in self.layers[self.at :]:
            features = layer(features)
        output: Tensor = features
        return output

    def whole(self, image: Tensor, mask: Tensor) -> Tensor:
        """The network uncut, to check the halves against."""
        return self.encoding.decode(self.layers(self.encoding.encode(image, mask)))


def from_model(model: object) -> Done:
    """Make an inpainter of a model that is loaded already.

    Args:
        model: a refiner inpainter, or a descriptor of spandrel or its network.

    Raises:
        ModelError: it is a network that refinement has no cut for.
    """
    if isinstance(model, refiner.Inpainter):
        return Done((model,))
    network = getattr(model, "model", model)
    found = _lama_layers(network) if isinstance(network, nn.Module) else None
    if found is None:
        raise refiner.ModelError(
            f"model: is {_name_of(model)}, which has no cut for refinement here; expected a LaMa. What it gives "
            "can be the guide of Refine Inpaint."
        )
    layers, at, downsamplings = found
    return Done((HostLama(layers, at, downsamplings).eval(),))


def _lama_layers(network: nn.Module) -> tuple[nn.Sequential, int, int] | None:
    """The sequence of a LaMa's layers, where its residual blocks begin, and its downsamplings; None for others."""
    for part in network.modules():
        if not isinstance(part, nn.Sequential):
            continue
        at = next((i for i, layer in enumerate(part) if all(_has_fourier(layer, name) for name in _RESIDUAL)), None)
        if at:
            return part, at, sum(_stride_of(layer) == 2 for layer in part[:at])  # noqa: PLR2004
    return None


def _has_fourier(layer: nn.Module, name: str) -> bool:
    return hasattr(getattr(getattr(layer, name, None), "ffc", None), "convg2g")


def _stride_of(layer: nn.Module) -> Any:
    return getattr(getattr(layer, "ffc", None), "stride", 1)


def _name_of(model: object) -> str:
    architecture = getattr(model, "architecture", None)
    return str(getattr(architecture, "name", None) or type(model).__name__)


INPAINTER_FROM_MODEL = Node(
    id="RefinerInpainterFromModel",
    name="Inpainter From Model",
    description="A LaMa that other nodes have loaded, for Refine Inpaint; its weights stay in memory once.",
    run=from_model,
    inputs=(Input("model", "INPAINT_MODEL", "From a node that loads inpainting models with spandrel."),),
    outputs=(Output("inpainter", INPAINTER, "The network."),),
)
