"""What the engine asks of a network: two halves, and the multiple its sides must be of."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

# The one private name used here and in the modules around: PyTorch's own walk over nested structures.
from torch.utils._pytree import tree_map

from refiner.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator

Features = Any
"""A tensor, or any nested tuple, list or dict of tensors."""

DEFAULT_NATIVE_SIDE = 512
DEFAULT_LEARNING_RATE = 0.002  # the authors', for Big LaMa


@runtime_checkable
class Inpainter(Protocol):
    """An inpainting network cut in two: `rear(front(image, mask))` is its prediction.

    More attributes are read where a model has them: `native_side`, the side in pixels it was trained for (else 512);
    `learning_rate`, for its features (else 0.002); `min_side`, the least side it takes (else `multiple`); and
    `strip_height`, which the engine sets to have its full-resolution ends computed that many picture rows at a time.
    """

    @property
    def multiple(self) -> int:
        """Height and width of what `front` is given are multiples of this."""
        ...

    def front(self, image: Tensor, mask: Tensor) -> Features:
        """Encode a picture.

        Args:
            image: (N,3,H,W), RGB in [0,1]. Pixels in the hole are the photo's own: the network must not
                look at them.
            mask: (N,1,H,W), of the image's dtype; 1 in the hole, 0 elsewhere.

        Returns:
            The features that refinement optimises.
        """
        ...

    def rear(self, features: Features) -> Tensor:
        """Decode features into the predicted picture: (N,3,H,W), RGB in [0,1]."""
        ...


def native_side(model: Inpainter) -> int:
    """The side in pixels that the model was trained for."""
    return int(getattr(model, "native_side", DEFAULT_NATIVE_SIDE))


def learning_rate(model: Inpainter) -> float:
    """Adam's learning rate that suits the model's features."""
    return float(getattr(model, "learning_rate", DEFAULT_LEARNING_RATE))


def padded_size(model: Inpainter, height: int, width: int) -> tuple[int, int]:
    """The least size the model takes that a picture of this size fits into."""
    least = max(int(getattr(model, "min_side", 1)), 1)

    def up(side: int) -> int:
        return -(-max(side, least) // model.multiple) * model.multiple

    return up(height), up(width)


def widened(features: Features, dtype: torch.dtype) -> Features:
    """Features in the picture's precision, whatever convolutions are computed in."""
    return tree_map(lambda x: x.to(dtype) if isinstance(x, Tensor) and x.is_floating_point() else x, features)


@contextmanager
def frozen(model: Inpainter) -> Iterator[None]:
    """Hold the network still: eval mode and no gradients for its parameters, both restored afterwards."""
    if not isinstance(model, nn.Module):
        yield
        return
    training = [module for module in model.modules() if module.training]
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for module in training:
            module.training = False
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        for module in training:
            module.training = True
        for parameter in learning:
            parameter.requires_grad_(True)


def predict(model: Inpainter, features: Features, like: Tensor) -> Tensor:
    """Run the rear half and check what comes out against the picture it must match.

    Raises:
        InputError: the prediction's shape is not the picture's.
    """
    prediction = model.rear(features).to(like.dtype)
    if prediction.shape != like.shape:
        raise InputError(
            f"model: rear gave {tuple(prediction.shape)} for a picture of {tuple(like.shape)}; expected the same "
            "shape: check the model's `multiple`."
        )
    return prediction
