"""Images to the sizes that a network takes, and back.

Step 5 of the method (arXiv 2206.13644 and the authors' implementation).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

if TYPE_CHECKING:
    from torch import Tensor

Padding = Literal["reflect", "symmetric"]

_BAND = 256


def pad(x: Tensor, size: tuple[int, int], mode: Padding = "reflect") -> Tensor:
    """Mirror a picture (..., H, W) beyond its right and bottom edge up to `size`.

    Args:
        x: any dtype.
        size: height and width, each at least the picture's; a picture narrower than its border is mirrored
            again and again.
        mode: `reflect` mirrors at the center of the last pixel, `symmetric` at its outer edge, as in
            `numpy.pad`.
    """
    for axis, wanted in ((-2, size[0]), (-1, size[1])):
        have = x.shape[axis]
        if wanted > have:
            index = np.pad(np.arange(have), (0, wanted - have), mode=mode)
            x = x.index_select(axis, torch.from_numpy(index).to(x.device))
    return x


def pad_to_even(x: Tensor) -> Tensor:
    """Mirror one more row and column where a picture (..., H, W) has an odd number."""
    height, width = x.shape[-2:]
    return pad(x, (height + height % 2, width + width % 2))


def crop(x: Tensor, like: Tensor) -> Tensor:
    """What `pad` added, taken off again: (..., H, W) of `like`."""
    return x[..., : like.shape[-2], : like.shape[-1]]


def size_of(image: Tensor) -> tuple[int, int]:
    """Height and width of (..., H, W)."""
    return image.shape[-2], image.shape[-1]


def bands(height: int) -> list[slice]:
    """Rows of a picture, 256 at a time: color spaces and a CPU's convolutions take many times what they work on."""
    return [slice(top, min(top + _BAND, height)) for top in range(0, height, _BAND)]
