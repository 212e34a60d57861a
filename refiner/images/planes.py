"""A picture's values as arrays: color and alpha, of 8 or 16 bits. Made from PIL images and arrays, and converted."""

from __future__ import annotations

import io
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageCms

from refiner.errors import InputError

Pixels = NDArray[np.uint8]
Values = NDArray[Any]  # of 8 or 16 bits
Mask = NDArray[np.bool_]

DEEP = 16  # bits
_16_BITS = 65535
_DIRECT = ("L", "LA", "RGB", "RGBA", "CMYK")  # PIL modes whose values are taken as they are
_CONVERTED = {"1": "L", "PA": "RGBA", "La": "LA", "RGBa": "RGBA"}  # PIL modes, and those that hold the same colors
_RGBA = 4


class Planes(NamedTuple):
    """Decoded values.

    Attributes:
        color: (H,W,1) gray, (H,W,3) RGB or (H,W,4) CMYK, 8 or 16 bits a channel.
        alpha: (H,W) of the same depth, or None.
        upright: whether the decoder has turned them already, as the file's EXIF data says.
    """

    color: Values
    alpha: Values | None = None
    upright: bool = False


def from_pil(image: Image.Image, name: str) -> Planes:
    """Take a PIL image's values; palettes, single bits and other color spaces become gray or RGB.

    Raises:
        InputError: the image's mode cannot be converted.
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
    """16-bit gray (H,W), which Pillow holds in mode I;16 or I; None for other modes."""
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
    """Copy an array (H,W), (H,W,3) or (H,W,4) of 8- or 16-bit values; four channels are RGBA.

    Raises:
        InputError: the array has another shape or type.
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
    """Round 16-bit values to 8 bits; 8-bit values are given back as they are."""
    if values.dtype == np.uint8:
        return values.astype(np.uint8, copy=False)
    return np.rint(values.astype(np.float32) / 257).astype(np.uint8)  # 65535 / 255


def from_bits(values: Values, bits: int) -> Values:
    """Scale values of 9 to 15 bits to 16, rounded; `to_bits` gives them back exactly."""
    most = (1 << bits) - 1
    return ((values.astype(np.uint32) * _16_BITS + most // 2) // most).astype(np.uint16)


def to_bits(values: Values, bits: int) -> Values:
    """Round 16-bit values to 9 to 15 bits."""
    most = (1 << bits) - 1
    return ((values.astype(np.uint32) * most + _16_BITS // 2) // _16_BITS).astype(np.uint16)


def bits_held(bits: int, choice: tuple[int, ...]) -> int:
    """The bits a channel that a picture of so many keeps where one of some numbers can be held.

    Args:
        bits: of the picture.
        choice: what can be held; the fewest that suffice are taken, else the first.
    """
    return next((held for held in sorted(choice) if held >= bits), choice[0])


def cmyk_to_rgb(values: Values, profile: bytes | None) -> Pixels:
    """Convert 8-bit CMYK (H,W,4), 255 being full ink, to sRGB (H,W,3).

    Args:
        values: to convert.
        profile: the picture's ICC profile; without one, or with one that does not work, the plain formula is used.
    """
    return _converted(values, "CMYK", "RGB", profile)


def rgb_to_cmyk(values: Values, profile: bytes | None) -> Pixels:
    """Convert 8-bit sRGB (H,W,3) to CMYK (H,W,4); see `cmyk_to_rgb`."""
    return _converted(values, "RGB", "CMYK", profile)


def _converted(values: Values, before: str, after: str, profile: bytes | None) -> Pixels:
    image = Image.frombytes(before, (values.shape[1], values.shape[0]), np.ascontiguousarray(values).tobytes())
    if profile:
        try:
            inks = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            screen = ImageCms.createProfile("sRGB")
            first, second = (inks, screen) if before == "CMYK" else (screen, inks)
            converted = ImageCms.profileToProfile(image, first, second, outputMode=after)
            if converted is not None:
                return np.asarray(converted)
        except (ImageCms.PyCMSError, OSError, ValueError):
            pass  # the profile is damaged, or for other inks; the result keeps it all the same
    return np.asarray(image.convert(after))
