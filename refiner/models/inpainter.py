"""The split interface: what the engine needs of a network, and the only places where it is called."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol, runtime_checkable

from refiner.errors import ModelError, Option, RefinerError, first_line
from refiner.memory import is_out_of_memory
from refiner.models.features import Features, cast_features

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor

    from refiner.models.spec import ModelSpec


@runtime_checkable
class Inpainter(Protocol):
    """An inpainting network cut in two: `rear(front(image, mask))` is its prediction."""

    @property
    def spec(self) -> ModelSpec:
        """The sizes it takes, and what suits its features."""
        ...

    def front(self, image: Tensor, mask: Tensor) -> Features:
        """Encode an image.

        Args:
            image: (N,3,H,W), RGB in [0,1]. Pixels in the hole are the photo's own: the network must not
                look at them.
            mask: (N,1,H,W), of the image's dtype; 1 in the hole, 0 elsewhere.

        Returns:
            The features that refinement optimizes.
        """
        ...

    def rear(self, features: Features) -> Tensor:
        """Decode features into the predicted image: (N,3,H,W), RGB in [0,1]."""
        ...


def run_front(model: Inpainter, image: Tensor, hole: Tensor) -> Features:
    """Run the front half on a padded image (N,3,H,W) and its hole (N,1,H,W), bool; features in the image's dtype.

    Raises:
        ModelError: the front half fails.
    """
    with _blaming("front"):
        return cast_features(model.front(image, hole.to(image.dtype)), image.dtype)


def run_rear(model: Inpainter, features: Features, like: Tensor) -> Tensor:
    """Run the rear half and check what comes out against the image it must match.

    Raises:
        ModelError: the rear half fails, or the prediction's shape is not the image's.
    """
    with _blaming("rear"):
        prediction = model.rear(features).to(like)  # its last part may lie on another device
    if prediction.shape != like.shape:
        raise ModelError(
            f"model: rear gave {tuple(prediction.shape)} for an image of {tuple(like.shape)}; expected the same "
            "shape: check `multiple` in the model's spec."
        )
    return prediction


@contextmanager
def _blaming(half: str) -> Iterator[None]:
    """Turn any error of a model's half into one that names it: the model may be anybody's code."""
    try:
        yield
    except RefinerError:
        raise
    except Exception as error:
        if is_out_of_memory(error):
            raise
        raise ModelError(
            f"model: its {half} failed ({type(error).__name__}: {first_line(error)}); `refiner check` tells more, and ",
            Option("precision", "float32"),
            " helps where dtypes do not fit.",
        ) from error
