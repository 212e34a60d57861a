"""What the engine asks of a network: two halves, and the multiple its sides must be of."""

from __future__ import annotations

import re
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

# The one private name used here and in the modules around: PyTorch's own walk over nested structures.
from torch.utils._pytree import keystr, tree_flatten_with_path, tree_map

from refiner.errors import InputError, ModelError, RefinerError, first_line
from refiner.memory import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Features = Any
"""A tensor, or any nested tuple, list or dict of tensors."""

DEFAULT_TRAIN_SIZE = 512
DEFAULT_LEARNING_RATE = 0.002  # the authors', for Big LaMa


@runtime_checkable
class Inpainter(Protocol):
    """An inpainting network cut in two: `rear(front(image, mask))` is its prediction.

    More attributes are read where a model has them: `train_size`, the side in pixels it was trained for (else 512);
    `learning_rate`, for its features (else 0.002); `lr_scale`, factors on it for single features by name, 0 to freeze
    them; `min_side`, the least side it takes (else `multiple`); `strip_height`, which the engine sets to have its
    full-resolution ends computed that many picture rows at a time; and `stages`, the rear half's modules in the order
    they run, which can then lie on several devices.
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
            The features that refinement optimizes.
        """
        ...

    def rear(self, features: Features) -> Tensor:
        """Decode features into the predicted picture: (N,3,H,W), RGB in [0,1]."""
        ...


def train_size(model: Inpainter) -> int:
    """The side in pixels that the model was trained for."""
    return int(getattr(model, "train_size", DEFAULT_TRAIN_SIZE))


def learning_rate(model: Inpainter) -> float:
    """Adam's learning rate that suits the model's features."""
    return float(getattr(model, "learning_rate", DEFAULT_LEARNING_RATE))


def feature_names(features: Features) -> list[str]:
    """Names of the leaves of features, in order: keys and indices joined by dots, such as `skips.0`.

    Features that are one tensor are named `features`.
    """
    leaves, _ = tree_flatten_with_path(features)
    return [re.sub(r"[\[\]'.]+", ".", keystr(path)).strip(".") or "features" for path, _ in leaves]


def lr_scale(features: Features, rates: Mapping[str, float]) -> list[float]:
    """Each leaf's factor on the learning rate, in order.

    Args:
        features: nested tensors.
        rates: factors by name; a name stands for all leaves below it, the longest that fits counts, and 1 where none.

    Raises:
        InputError: a name fits no leaf, or a factor is negative.
    """
    names = feature_names(features)

    def fits(name: str, leaf: str) -> bool:
        return leaf == name or leaf.startswith(f"{name}.")

    for name, rate in rates.items():
        if not any(fits(name, leaf) for leaf in names):
            raise InputError(f"lr_scale: no feature is named {name!r}; expected one of {', '.join(names)}.")
        if rate < 0:
            raise InputError(f"lr_scale: expected factors from 0, got {rate} for {name!r}.")
    return [
        rates[max((name for name in rates if fits(name, leaf)), key=len)] if any(fits(n, leaf) for n in rates) else 1.0
        for leaf in names
    ]


def padded_size(model: Inpainter, height: int, width: int) -> tuple[int, int]:
    """The least size the model takes that a picture of this size fits into."""
    least = max(int(getattr(model, "min_side", 1)), 1)

    def up(side: int) -> int:
        return -(-max(side, least) // model.multiple) * model.multiple

    return up(height), up(width)


def encode(model: Inpainter, image: Tensor, hole: Tensor) -> Features:
    """Run the front half on a padded picture (N,3,H,W) and its hole (N,1,H,W), bool; features in the picture's dtype.

    Raises:
        ModelError: the front half fails.
    """
    with _blamed("front"):
        return widened(model.front(image, hole.to(image.dtype)), image.dtype)


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
        ModelError: the rear half fails.
    """
    with _blamed("rear"):
        prediction = model.rear(features).to(like)  # its last part may lie on another device
    if prediction.shape != like.shape:
        raise InputError(
            f"model: rear gave {tuple(prediction.shape)} for a picture of {tuple(like.shape)}; expected the same "
            "shape: check the model's `multiple`."
        )
    return prediction


@contextmanager
def _blamed(half: str) -> Iterator[None]:
    """Say whose error it is that a model raises: it may be anybody's code."""
    try:
        yield
    except RefinerError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"model: its {half} failed ({type(error).__name__}: {first_line(error)}); `refiner check` tells more, and "
            "precision float32 helps where dtypes do not fit."
        ) from error
