"""Pictures to image files: without loss where the format can, with the metadata it can hold.

What a format cannot hold is said by `reductions` before any work is done, and refused only where it would be lost
altogether, as alpha would be in a JPEG.
"""

from __future__ import annotations

import io
import struct
import zlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import ExifTags, Image, TiffImagePlugin

from refiner.errors import InputError
from refiner.images.cmyk import cmyk_to_rgb
from refiner.images.picture import Picture
from refiner.images.reading import register_plugins

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

_DEFAULT_QUALITY = 95
_JPEG_EXIF = 65533  # bytes of one segment
_METADATA = {"icc_profile": "color profile", "exif": "EXIF data", "dpi": "resolution"}
_WITHOUT_GRAY = ("WEBP", "AVIF", "HEIF")


@dataclass(frozen=True)
class _Format:
    """What a file format can hold."""

    lossless: bool = False
    alpha: bool = False
    deep: bool = False  # 16 bits a channel
    cmyk: bool = False
    quality: bool = False  # takes --quality
    longest_side: int = 1 << 31
    metadata: tuple[str, ...] = ("icc_profile", "exif")


_FORMATS = {
    "PNG": _Format(lossless=True, alpha=True, deep=True, metadata=("icc_profile", "exif", "dpi")),
    "TIFF": _Format(
        lossless=True,
        alpha=True,
        deep=True,
        cmyk=True,
        metadata=("icc_profile", "exif", "dpi"),
    ),
    "WEBP": _Format(lossless=True, alpha=True, quality=True, longest_side=16383, metadata=("icc_profile", "exif")),
    "BMP": _Format(lossless=True, metadata=("dpi",)),
    "PPM": _Format(lossless=True, metadata=()),
    "JPEG": _Format(cmyk=True, quality=True, longest_side=65535, metadata=("icc_profile", "exif", "dpi")),
    "AVIF": _Format(alpha=True, quality=True, longest_side=65535, metadata=("icc_profile", "exif")),
    "HEIF": _Format(alpha=True, quality=True, longest_side=16384, metadata=("icc_profile", "exif")),
}
_ENDINGS = ".png, .tif, .webp, .jpg, .bmp, .ppm, .avif or .heic"


def format_of(path: Path) -> str:
    """Pillow's name of the format that a file name asks for.

    Raises:
        InputError: the name's ending is not that of an image format that can be written here.
    """
    Image.init()
    register_plugins()
    known = Image.registered_extensions().get(path.suffix.lower())
    known = "JPEG" if known == "MPO" else known
    if known not in _FORMATS or known not in Image.SAVE:
        raise InputError(f"{path}: expected a name that ends in {_ENDINGS}.")
    return known


def default_ending(photo: Path) -> str:
    """The ending of a result whose name was not given: the photo's where its format can be written, else `.png`."""
    try:
        format_of(photo)
    except InputError:
        return ".png"
    return photo.suffix


def takes_quality(path: Path) -> bool:
    """Whether the format that a file name asks for has a quality to choose."""
    return _FORMATS[format_of(path)].quality


def check_fits(path: Path, mode: str, size: tuple[int, int], metadata: Mapping[str, Any] | None = None) -> None:
    """Refuse ahead what the format that a file name asks for cannot hold.

    Args:
        path: the file to be written.
        mode: the picture's mode.
        size: its height and width.
        metadata: that goes with it.

    Raises:
        InputError: the format has no alpha, or is limited to smaller sides or less metadata.
    """
    name = format_of(path)
    if mode.endswith("A") and not _FORMATS[name].alpha:
        raise InputError(f"{path}: {name} cannot hold the photo's transparency; use a name in .png.")
    if max(size) > _FORMATS[name].longest_side:
        raise InputError(
            f"{path}: {name} holds sides up to {_FORMATS[name].longest_side} px, not {max(size)}; use .png."
        )
    if name == "JPEG" and len((metadata or {}).get("exif", b"")) > _JPEG_EXIF:
        raise InputError(f"{path}: JPEG holds {_JPEG_EXIF} bytes of EXIF data, the photo has more; use a name in .png.")


def reductions(picture: Picture, path: Path, quality: int | None = None) -> list[str]:
    """What a photo loses in the format that a file name asks for, a line each; nothing where it stays exact."""
    name = format_of(path)
    kind = _FORMATS[name]
    lines = []
    if picture.stored_depth is not None:
        lines.append(
            f"The photo holds {picture.stored_depth} bits a channel, of which {picture.depth} were read; save it as a "
            "16-bit TIFF first to keep them."
        )
    if picture.depth > 8 and not kind.deep:  # noqa: PLR2004  bits
        lines.append(f"{name} holds 8 bits a channel, the photo has 16; a .png or .tif keeps them.")
    if picture.mode.startswith("CMYK") and not kind.cmyk:
        lines.append(f"{name} cannot hold CMYK, so the photo was converted to sRGB; a .tif keeps it.")
    if not kind.lossless or quality is not None:
        lines.append(f"{name} changes known pixels a little too; a .png keeps them exactly.")
    lost = [words for key, words in _METADATA.items() if key in picture.metadata and key not in kind.metadata]
    if "icc_profile" in kind.metadata and _is_gray_profile_of_rgb(picture, name):
        lost.append("profile of gray")
    if lost:
        lines.append(f"{name} cannot hold the photo's {' and '.join(lost)}; a .png keeps them.")
    return lines


def _is_gray_profile_of_rgb(picture: Picture, name: str) -> bool:
    """Whether gray pixels become RGB in this format, which their profile does not describe."""
    as_rgb = name in _WITHOUT_GRAY or (name == "TIFF" and picture.mode == "LA" and picture.depth > 8)  # noqa: PLR2004
    return picture.mode.startswith("L") and "icc_profile" in picture.metadata and as_rgb


def encode(picture: Picture, path: Path, *, quality: int | None = None) -> bytes:
    """The bytes of an image file in the format that the name asks for.

    PNG, TIFF, WebP, BMP and PPM are written without loss. A JPEG that was a JPEG is compressed with the quantization
    tables and the chroma subsampling it came with, another one at quality 95 without subsampling; AVIF and HEIF at
    quality 95.

    Args:
        picture: what to write.
        path: names the format.
        quality: 1 to 100 in place of that; WebP then loses too.

    Raises:
        InputError: the format cannot hold the picture, or has no quality.
    """
    name = format_of(path)
    kind = _FORMATS[name]
    check_fits(path, picture.mode, picture.size, picture.metadata)
    if quality is not None and not kind.quality:
        raise InputError(f"quality: {name} has none; leave it out, or use a name in .jpg, .webp, .avif or .heic.")
    metadata = {key: picture.metadata[key] for key in kind.metadata if key in picture.metadata}
    if _is_gray_profile_of_rgb(picture, name):
        del metadata["icc_profile"]
    if picture.mode.startswith("CMYK") and not kind.cmyk:
        rgb = cmyk_to_rgb(picture.color, picture.metadata.get("icc_profile"))
        picture, _ = Picture(rgb, picture.alpha), metadata.pop("icc_profile", None)  # the profile is for inks
    deep_color = picture.depth > 8 and (picture.color.shape[2] > 1 or picture.alpha is not None)  # noqa: PLR2004
    try:
        if deep_color and name == "PNG":
            return _deep_png(picture, metadata)
        if name == "TIFF":
            return _tiff(picture, metadata)
        image = picture.to_pil()
        if picture.depth > 8 and kind.deep:  # noqa: PLR2004  bits
            image = Image.fromarray(picture.color[..., 0])  # mode I;16
        image.info.clear()
        buffer = io.BytesIO()
        image.save(buffer, name, **metadata, **_options(picture, name, quality))
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise InputError(f"{path}: {name} cannot hold this picture ({error}); use a name in .png.") from error
    return buffer.getvalue()


def _options(picture: Picture, name: str, quality: int | None) -> dict[str, Any]:
    """How Pillow is to compress."""
    if name == "WEBP":
        return {"lossless": True, "exact": True} if quality is None else {"quality": quality}
    if name == "JPEG":
        # The tables of a JPEG of other channels do not fit, as those of CMYK for RGB.
        if quality is None and "qtables" in picture.metadata and picture.format == "JPEG":
            return {"qtables": picture.metadata["qtables"], "subsampling": picture.metadata["subsampling"]}
        return {"quality": quality or _DEFAULT_QUALITY, "subsampling": 0}
    if _FORMATS[name].quality:
        return {"quality": quality or _DEFAULT_QUALITY, "subsampling": "4:4:4"}
    return {}


def _deep_png(picture: Picture, metadata: dict[str, Any]) -> bytes:
    """16-bit color as PNG, which Pillow does not write; the metadata's chunks are those Pillow makes."""
    planes = np.asarray(picture)
    kinds = {1: 0, 2: 4, 3: 2, 4: 6}  # PNG's color types, by channels
    height, width, channels = planes.shape
    header = struct.pack(">IIBBBBB", width, height, 16, kinds[channels], 0, 0, 0)
    rows = planes.astype(">u2").view(np.uint8).reshape(height, -1)
    up = np.empty((height, rows.shape[1] + 1), dtype=np.uint8)
    up[:, 0] = 2  # each row is stored as its difference from the one above, which compresses well
    up[0, 1:] = rows[0]
    up[1:, 1:] = rows[1:] - rows[:-1]
    stub = io.BytesIO()
    Image.new("RGB", (1, 1)).save(stub, "PNG", **metadata)
    chunks = [_chunk(b"IHDR", header), *_ancillary(stub.getvalue())]
    chunks += [_chunk(b"IDAT", zlib.compress(up.tobytes(), 6)), _chunk(b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def _chunk(name: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def _ancillary(png: bytes) -> list[bytes]:
    """The chunks of a PNG other than its header, pixels and end."""
    chunks, offset = [], 8
    while offset < len(png):
        (length,) = struct.unpack(">I", png[offset : offset + 4])
        if png[offset + 4 : offset + 8] not in (b"IHDR", b"IDAT", b"IEND"):
            chunks.append(png[offset : offset + length + 12])
        offset += length + 12
    return chunks


def _tiff(picture: Picture, metadata: dict[str, Any]) -> bytes:
    """A TIFF in one strip, compressed without loss; Pillow writes its directory, EXIF and all.

    Pillow's own TIFFs hold no 16-bit color, and no EXIF where they are compressed.
    """
    if picture.mode == "LA" and picture.depth > 8:  # noqa: PLR2004  which few programs read in a TIFF
        picture = Picture(np.repeat(picture.color, 3, axis=2), picture.alpha)
    planes = np.asarray(picture)
    planes = planes.reshape(*picture.size, -1).astype("<u2" if picture.depth > 8 else "u1")  # noqa: PLR2004  bits
    height, width, channels = planes.shape
    planes[:, 1:] -= planes[:, :-1].copy()  # each pixel as its difference from the one before, which compresses well
    strip = zlib.compress(planes.tobytes(), 6)
    tags: Any = TiffImagePlugin.ImageFileDirectory_v2()
    if "exif" in metadata:
        exif = Image.Exif()
        exif.load(metadata["exif"])
        for tag, value in exif.items():
            tags[tag] = dict(exif.get_ifd(tag)) if tag in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo) else value
    kinds = {1: 1, 3: 2, 4: 5}  # gray where 0 is black, RGB, CMYK, by color channels
    tags[256], tags[257] = width, height
    tags[258], tags[259] = (picture.depth,) * channels, 8  # deflate
    tags[262], tags[317] = kinds[picture.color.shape[2]], 2  # horizontal differences
    tags[277], tags[278], tags[284] = channels, height, 1
    if picture.alpha is not None:
        tags[338] = 2  # unassociated alpha
    if "dpi" in metadata:
        tags[282], tags[283] = metadata["dpi"]
        tags[296] = 2  # inches
    if "icc_profile" in metadata:
        tags.tagtype[34675] = 7
        tags[34675] = metadata["icc_profile"]
    tags[273], tags[279] = 0, len(strip)  # where the strip is, which Pillow counts from the directory's end
    buffer = io.BytesIO()
    tags.save(buffer)
    return buffer.getvalue() + strip
