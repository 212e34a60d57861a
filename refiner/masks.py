"""Masks in: white is what to remove."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from refiner.errors import InputError
from refiner.images import Mask, Picture, Pixels, open_image, upright

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image


def read_mask(source: str | Path | Image.Image | Pixels, picture: Picture) -> Mask:
    """Read the mask of a photo; every value above 0 in any colour channel is hole.

    Args:
        source: a file, a PIL image, or an array (H,W) or (H,W,3) of 8-bit values or bools. Where it has
            alpha, what is fully transparent is not hole.
        picture: the photo it belongs to.

    Returns:
        (H,W), true in the hole. It may be empty.

    Raises:
        InputError: the mask cannot be read, is of another size than the photo, or covers all of it.
    """
    image, name = open_image(source, "mask")
    image = upright(image)
    if (image.height, image.width) != picture.size:
        raise InputError(
            f"{name}: is {image.width}x{image.height}, {picture.name} is "
            f"{picture.image.width}x{picture.image.height}; expected a mask of the picture's size."
        )
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")
    values = np.asarray(image)
    if image.mode in ("RGBA", "LA"):
        values = np.where(values[..., -1:] > 0, values[..., :-1], 0)
    marked = values > 0
    hole: Mask = np.any(marked, axis=2) if marked.ndim == 3 else marked  # noqa: PLR2004  H, W, C
    if hole.all():
        raise InputError(
            f"{name}: is white all over and leaves nothing of {picture.name} to go by; white marks what to remove, "
            "the rest must be black."
        )
    return hole
