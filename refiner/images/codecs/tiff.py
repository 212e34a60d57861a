"""TIFF: every mode at 8 and 16 bits, CMYK included, with EXIF data, which Pillow does not write in full."""

from __future__ import annotations

import io
import zlib
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

from refiner.images.codecs import opencv
from refiner.images.planes import DEEP

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from refiner.images.picture import Picture
    from refiner.images.planes import Planes, Values

_Tag = ExifTags.Base

_PHOTOMETRIC = {1: 1, 3: 2, 4: 5}  # gray where 0 is black, RGB, CMYK, by color channels
_DEFLATE = 8
_HORIZONTAL = 2  # the predictor that stores each pixel as its difference from the one before, which compresses well
_TOGETHER = 1  # a pixel's channels lie side by side
_UNASSOCIATED = 2  # alpha that the colors are not multiplied by
_INCHES = 2
_BYTES = 7  # the type of a tag that holds raw bytes


def decode(image: Image.Image, path: Path) -> Planes | None:
    """Read the 16-bit color of an opened file; gives None where Pillow loses nothing.

    Raises:
        InputError: the file is damaged, or OpenCV is missing.
    """
    planes = opencv.decode(image, path)
    return None if planes is None else planes._replace(upright=True)  # OpenCV turns TIFFs even when told not to


def write(picture: Picture, metadata: Mapping[str, Any], _quality: int | None) -> bytes:
    """Write a TIFF of one strip, compressed without loss.

    Pillow writes its directory, EXIF data included, and this module the pixels: the TIFFs that Pillow writes alone hold
    no 16-bit color, and no EXIF data where they are compressed.
    """
    planes, color_channels = _planes(picture)
    planes[:, 1:] -= planes[:, :-1].copy()
    strip = zlib.compress(planes.tobytes(), 6)
    height, width, channels = planes.shape
    tags: Any = TiffImagePlugin.ImageFileDirectory_v2()
    _add_metadata(tags, metadata)
    tags[_Tag.ImageWidth], tags[_Tag.ImageLength] = width, height
    tags[_Tag.BitsPerSample], tags[_Tag.SamplesPerPixel] = (picture.depth,) * channels, channels
    tags[_Tag.PhotometricInterpretation], tags[_Tag.PlanarConfiguration] = _PHOTOMETRIC[color_channels], _TOGETHER
    if picture.alpha is not None:
        tags[_Tag.ExtraSamples] = _UNASSOCIATED
    tags[_Tag.Compression], tags[_Tag.Predictor] = _DEFLATE, _HORIZONTAL
    tags[_Tag.RowsPerStrip], tags[_Tag.StripByteCounts] = height, len(strip)
    tags[_Tag.StripOffsets] = 0  # Pillow counts it from the end of its own part
    buffer = io.BytesIO()
    tags.save(buffer)
    return buffer.getvalue() + strip


def _planes(picture: Picture) -> tuple[Values, int]:
    """A copy of color and alpha (H,W,C), lowest byte first, and how many of the channels are color."""
    color = picture.color
    if picture.mode == "LA" and picture.depth == DEEP:  # few programs read 16-bit LA in a TIFF
        color = np.repeat(color, 3, axis=2)
    planes = color if picture.alpha is None else np.concatenate([color, picture.alpha[..., None]], axis=2)
    return planes.astype("<u2" if picture.depth == DEEP else "u1"), color.shape[2]


def _add_metadata(tags: Any, metadata: Mapping[str, Any]) -> None:
    if "exif" in metadata:
        exif = Image.Exif()
        exif.load(metadata["exif"])
        for tag, value in exif.items():
            tags[tag] = dict(exif.get_ifd(tag)) if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo) else value
    if "dpi" in metadata:
        tags[_Tag.XResolution], tags[_Tag.YResolution] = metadata["dpi"]
        tags[_Tag.ResolutionUnit] = _INCHES
    if "xmp" in metadata:
        tags.tagtype[_Tag.XMLPacket] = _BYTES
        tags[_Tag.XMLPacket] = metadata["xmp"]
    if "icc_profile" in metadata:
        tags.tagtype[_Tag.InterColorProfile] = _BYTES
        tags[_Tag.InterColorProfile] = metadata["icc_profile"]
