"""Pictures as a screen shows them: 8-bit sRGB, whole or in part, as JPEG or PNG bytes."""

from __future__ import annotations

import io
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from PIL import Image, ImageCms

from refiner.images.codecs.pillow import DEFAULT_QUALITY
from refiner.images.planes import cmyk_to_rgb, to_8_bits

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from refiner.images.picture import Picture
    from refiner.images.planes import Mask, Pixels

Box = tuple[int, int, int, int]  # left, top, right, bottom

Way = Literal["nearest", "box", "linear", "cubic"]
_WAYS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "linear": Image.Resampling.BILINEAR,
    "cubic": Image.Resampling.BICUBIC,
}
_CHECKER = 16  # side in pixels of the squares behind transparent parts
_LIGHT, _DARK = 255, 216


def part_for_screen(picture: Picture, box: Box) -> Pixels:
    """A part of a picture as (h,w,3) sRGB, its transparent parts on a checkerboard.

    Args:
        picture: of any mode and depth.
        box: the part, within the picture.
    """
    left, top, right, bottom = box
    profile = picture.metadata.get("icc_profile")
    pixels = values_for_screen(picture.color[top:bottom, left:right], profile)
    if picture.alpha is None:
        return pixels
    share = to_8_bits(picture.alpha[top:bottom, left:right])[..., None].astype(np.float32) / 255
    rows, columns = np.mgrid[top:bottom, left:right] // _CHECKER
    board = np.where((rows + columns) % 2, _DARK, _LIGHT)[..., None]
    blended: Pixels = np.rint(share * pixels + (1 - share) * board).astype(np.uint8)
    return blended


def values_for_screen(values: np.ndarray, profile: bytes | None) -> Pixels:
    """Gray (h,w,1), RGB (h,w,3) or CMYK (h,w,4) of 8 or 16 bits as (h,w,3) sRGB, by the ICC profile where it works."""
    if values.shape[2] == 4:  # noqa: PLR2004  CMYK
        return cmyk_to_rgb(to_8_bits(values), profile)
    pixels = np.ascontiguousarray(to_8_bits(values))
    mode = "L" if pixels.shape[2] == 1 else "RGB"
    image = Image.fromarray(pixels[..., 0] if mode == "L" else pixels)
    transform = _to_srgb(profile, mode) if profile else None
    if transform is not None:
        return np.asarray(ImageCms.applyTransform(image, transform))
    return np.asarray(image.convert("RGB"))


def resized(pixels: Pixels, side: int) -> Pixels:
    """Shrink (h,w,3) to a longer side of at most `side`; smaller ones are given back as they are."""
    height, width = pixels.shape[:2]
    if max(height, width) <= side:
        return pixels
    share = side / max(height, width)
    size = max(1, round(width * share)), max(1, round(height * share))
    return np.asarray(Image.fromarray(pixels).resize(size, Image.Resampling.BOX if share <= 1 / 2 else 1))


def to_size(values: NDArray[Any], size: tuple[int, int], way: Way) -> NDArray[Any]:
    """Bring values to another height and width.

    Args:
        values: (h,w) of bools, 8 bits or floats, or (h,w,C) of 8 bits.
        size: the height and width.
        way: `nearest`, `box` to shrink evenly, `linear` or `cubic`.
    """
    return np.asarray(Image.fromarray(np.ascontiguousarray(values)).resize(size[::-1], _WAYS[way]))


def as_jpeg(pixels: Pixels, quality: int = DEFAULT_QUALITY) -> bytes:
    """Make the bytes of a JPEG of (h,w,3), without subsampling of color."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(buffer, "JPEG", quality=quality, subsampling=0)
    return buffer.getvalue()


def as_png(pixels: Pixels, opaque: Mask | Pixels | None = None) -> bytes:
    """Make the bytes of a PNG.

    Args:
        pixels: (h,w) or (h,w,3).
        opaque: its alpha (h,w), of 8 bits or true for opaque; None for none.
    """
    image = Image.fromarray(np.ascontiguousarray(pixels))
    if opaque is not None:
        alpha = opaque.astype(np.uint8) * 255 if opaque.dtype == np.bool_ else opaque
        image.putalpha(Image.fromarray(np.ascontiguousarray(alpha)))
    buffer = io.BytesIO()
    image.save(buffer, "PNG", compress_level=1)  # quick: it travels once
    return buffer.getvalue()


def part_of_mask(mask: Mask, box: tuple[float, float, float, float], size: tuple[int, int]) -> Pixels:
    """Shrink a part of a mask: how much of each pixel of the smaller picture it covers, 0 to 255.

    Args:
        mask: (H,W).
        box: left, top, right and bottom of the part to take; it may reach beyond the mask on the right and below.
        size: height and width to scale the part to.
    """
    left, top = int(box[0]), int(box[1])
    right, bottom = min(int(np.ceil(box[2])), mask.shape[1]), min(int(np.ceil(box[3])), mask.shape[0])
    part = Image.fromarray(mask[top:bottom, left:right].astype(np.uint8) * 255)
    inner = (box[0] - left, box[1] - top, min(box[2] - left, part.width), min(box[3] - top, part.height))
    return np.asarray(part.resize((size[1], size[0]), Image.Resampling.BOX, box=inner))


@lru_cache(maxsize=16)
def _to_srgb(profile: bytes, mode: str) -> ImageCms.ImageCmsTransform | None:
    """The transform from a profile to sRGB; None for a damaged profile, or one for another mode."""
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        return ImageCms.buildTransform(source, ImageCms.createProfile("sRGB"), mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError):
        return None
