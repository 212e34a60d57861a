"""A picture's values as arrays: color and alpha, of 8 or 16 bits; from PIL images and arrays of any kind."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from refiner.errors import InputError

if TYPE_CHECKING:
    from PIL import Image

Pixels = NDArray[np.uint8]
Values = NDArray[Any]  # of 8 or 16 bits
Mask = NDArray[np.bool_]

DEEP = 16  # bits
_16_BITS = 65535
_DIRECT = ("L", "LA", "RGB", "RGBA", "CMYK")
_CONVERTED = {"1": "L", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}  # to the mode that holds the same colors
_RGBA = 4


class Planes(NamedTuple):
    """Decoded values.

    Attributes:
        color: (H,W,1) gray, (H,W,3) RGB or (H,W,4) CMYK, 8 or 16 bits a channel.
        alpha: (H,W) of the same depth, or None.
        upright: whether they are turned already as the file's EXIF data says.
    """

    color: Values
    alpha: Values | None = None
    upright: bool = False


def from_pil(image: Image.Image, name: str) -> Planes:
    """A PIL image's values; palettes, single bits and other color spaces become gray or RGB.

    Raises:
        InputError: the mode has no such values.
    """
    deep = _wide_gray(image, name)
    if deep is not None:
        return Planes(deep[..., None])
    mode = image.mode
    if "transparency" in image.info and mode in ("P", "RGB", "L", "1"):
        image = image.convert("RGBA" if mode in ("P", "RGB") else "LA")
    elif mode not in _DIRECT:
        try:
            image = image.convert(_CONVERTED.get(mode, "RGB"))
        except ValueError as error:
            raise InputError(f"{name}: is an image of mode {mode}, which cannot be read; convert it first.") from error
    values = np.array(image)
    values = values[..., None] if values.ndim == 2 else values  # noqa: PLR2004  H, W
    if image.mode.endswith("A"):
        return Planes(values[..., :-1], values[..., -1])
    return Planes(values)


def _wide_gray(image: Image.Image, name: str) -> NDArray[np.uint16] | None:
    """16-bit gray (H,W), which Pillow holds as I;16 or as I; None for other modes."""
    if image.mode.startswith("I;16"):
        return np.asarray(image).astype(np.uint16)
    if image.mode not in ("I", "F"):
        return None
    values = np.asarray(image)
    if image.mode == "I" and values.size and values.min() >= 0 and values.max() <= _16_BITS:
        return values.astype(np.uint16)
    raise InputError(
        f"{name}: holds {image.mode} values without a known range, expected 8 or 16 bits; convert it first."
    )


def from_array(array: NDArray[Any], name: str) -> Planes:
    """A copy of an array (H,W), (H,W,3) or (H,W,4) of 8- or 16-bit values; four channels are RGBA.

    Raises:
        InputError: it has another shape or type.
    """
    channels = array.shape[2] if array.ndim == 3 else 1  # noqa: PLR2004  H, W, C
    if (
        array.dtype not in (np.uint8, np.uint16)
        or array.ndim not in (2, 3)
        or channels not in (1, 3, _RGBA)
        or not array.size
    ):
        raise InputError(
            f"{name}: expected an array (H,W), (H,W,3) or (H,W,4) of 8- or 16-bit values, got {array.shape} of "
            f"{array.dtype}."
        )
    values = array.reshape(*array.shape[:2], channels)
    if channels == _RGBA:
        return Planes(values[..., :3].copy(), values[..., 3].copy())
    return Planes(values.copy())


def to_8_bits(values: Values) -> Pixels:
    """8-bit values as they are, 16-bit ones rounded to 8."""
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    return np.rint(values.astype(np.float32) / 257).astype(np.uint8)  # 65535 / 255
