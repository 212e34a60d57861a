"""TIFF: every mode at 8 and 16 bits, CMYK included, with EXIF data, which Pillow writes in part and changed."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from fractions import Fraction
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image

from refiner.images.codecs import opencv, pillow, tiff_pages
from refiner.images.exif import (
    BYTES,
    LONG,
    RATIONAL,
    SHORT,
    STRUCTURE,
    Value,
    links,
    number,
    opening_with,
    parsed,
    written,
)
from refiner.images.planes import DEEP

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from refiner.images.exif import Directory
    from refiner.images.pages import Pages
    from refiner.images.picture import Picture
    from refiner.images.planes import Planes, Values

_Tag = ExifTags.Base

_PHOTOMETRIC = {1: 1, 3: 2, 4: 5}  # gray where 0 is black, RGB, CMYK, by color channels
_DEFLATE = 8
_HORIZONTAL = 2  # the predictor that stores each pixel as its difference from the one before, which compresses well
_TOGETHER = 1  # a pixel's channels lie side by side
_UNASSOCIATED = 2  # alpha that the colors are not multiplied by
_INCHES = 2


def decode(image: Image.Image, path: Path) -> Planes | None:
    """Read the 16-bit color of an opened file; gives None where Pillow loses nothing.

    Raises:
        InputError: the file is damaged, or OpenCV is missing.
    """
    page = image.tell()
    planes = opencv.decode(image, path, (lambda data: opening_with(data, page)) if page else None)
    return None if planes is None else planes._replace(upright=True)  # OpenCV turns TIFFs even when told not to


def count_pages(image: Image.Image) -> int:
    """How many pages an opened file has; Pillow would look at them all, and end with the info of the last."""
    file: Any = getattr(image, "fp", None)
    if file is None:
        return pillow.count_pages(image)
    place = file.tell()
    try:
        return sum(1 for _ in links(file))
    finally:
        file.seek(place)


def turn_page(image: Image.Image, page: int) -> None:
    """Have an opened image show a page, without what Pillow keeps of the first one."""
    if page != image.tell():
        for key in ("dpi", "icc_profile", "resolution"):
            image.info.pop(key, None)
        image.seek(page)


def other_pages(pages: Pages, path: Path, size: int) -> Pages:
    """Read what it takes to keep the other pages of a file.

    Nothing is read of a BigTIFF, where the file would get too large, or where its pages cannot be told from each other.
    """
    file = path.read_bytes()
    if tiff_pages.is_big(file) or len(file) + 2 * size >= tiff_pages.MOST:
        return pages
    try:
        smaller = tuple(number for number in tiff_pages.smaller_copies(file) if number != pages.number)
    except (ValueError, struct.error):
        return pages
    return replace(pages, file=file, smaller=smaller)


def write(picture: Picture, metadata: Mapping[str, Any], _quality: int | None) -> bytes:
    """Write a TIFF of one strip, compressed without loss; or such a page in place of the photo's own in its file.

    The TIFFs that Pillow writes hold no 16-bit color, no EXIF data where they are compressed, and EXIF values of other
    types than they were. The byte order is that of the EXIF data.
    """
    pages = picture.pages
    file = None if pages is None else pages.file
    order, tags = _described(metadata, None if file is None else tiff_pages.order_of(file))
    planes, color_channels = _planes(picture, order)
    planes[:, 1:] -= planes[:, :-1].copy()
    strip = zlib.compress(planes.tobytes(), 6)
    height, width, channels = planes.shape
    tags |= {
        _Tag.ImageWidth: number(order, LONG, width),
        _Tag.ImageLength: number(order, LONG, height),
        _Tag.BitsPerSample: number(order, SHORT, *(picture.depth,) * channels),
        _Tag.Compression: number(order, SHORT, _DEFLATE),
        _Tag.PhotometricInterpretation: number(order, SHORT, _PHOTOMETRIC[color_channels]),
        _Tag.SamplesPerPixel: number(order, SHORT, channels),
        _Tag.RowsPerStrip: number(order, LONG, height),
        _Tag.StripByteCounts: number(order, LONG, len(strip)),
        _Tag.PlanarConfiguration: number(order, SHORT, _TOGETHER),
        _Tag.Predictor: number(order, SHORT, _HORIZONTAL),
        _Tag.StripOffsets: number(order, LONG, 0),
    }
    if picture.alpha is not None:
        tags[_Tag.ExtraSamples] = number(order, SHORT, _UNASSOCIATED)
    if pages is not None and file is not None:
        return tiff_pages.replaced(file, pages.number - 1, tags, strip)
    return written(order, tags, then=_Tag.StripOffsets) + strip


def _planes(picture: Picture, order: str) -> tuple[Values, int]:
    """A copy of color and alpha (H,W,C), in a byte order, and how many of the channels are color."""
    color = picture.color
    if picture.mode == "LA" and picture.depth == DEEP:  # few programs read 16-bit LA in a TIFF
        color = np.repeat(color, 3, axis=2)
    planes = color if picture.alpha is None else np.concatenate([color, picture.alpha[..., None]], axis=2)
    return planes.astype(f"{order}u2" if picture.depth == DEEP else "u1"), color.shape[2]


def _described(metadata: Mapping[str, Any], order: str | None = None) -> tuple[str, Directory]:
    """The byte order, and the tags that describe the picture.

    Raises:
        ValueError: the EXIF data has another byte order than the one that is needed.
    """
    found, tags = parsed(metadata["exif"]) if "exif" in metadata else (order or "<", {})
    if order not in (None, found):
        raise ValueError("its EXIF data has another byte order than its other pages")
    order = found
    tags = {tag: value for tag, value in tags.items() if tag not in STRUCTURE}
    if "dpi" in metadata:
        for tag, dots in zip((_Tag.XResolution, _Tag.YResolution), metadata["dpi"], strict=True):
            share = Fraction(float(dots)).limit_denominator(10000)
            tags[tag] = Value(RATIONAL, struct.pack(f"{order}2I", share.numerator, share.denominator))
        tags[_Tag.ResolutionUnit] = number(order, SHORT, _INCHES)
    for key, tag in (("xmp", _Tag.XMLPacket), ("icc_profile", _Tag.InterColorProfile)):
        if key in metadata:
            tags[tag] = Value(BYTES, metadata[key])
    return order, tags
