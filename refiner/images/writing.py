"""Writing pictures to image files: without loss where the format allows it, with the metadata it can hold.

`losses_in` lists what a format cannot keep exactly, before any work is done. `check_fits` refuses what it cannot keep
at all, such as alpha in a JPEG.
"""

from __future__ import annotations

import struct
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refiner.errors import InputError, Option
from refiner.files import write_atomic
from refiner.images import formats
from refiner.images.metadata import COLOR_SPACE, PALETTE, XMP_CUT
from refiner.images.picture import Picture
from refiner.images.planes import DEEP, cmyk_to_rgb

if TYPE_CHECKING:
    from collections.abc import Mapping

    from refiner.images.codecs.format import Format

_METADATA = {"icc_profile": "color profile", "exif": "EXIF data", "xmp": "XMP data", "dpi": "resolution"}
_USE_FALLBACK = f"use a name that ends in {formats.FALLBACK.suffix}"


def format_of(path: Path) -> str:
    """The name of the format that a file name asks for.

    Raises:
        InputError: no format of that name can be written here.
    """
    return formats.to_write(path).name


def default_suffix(photo: Path) -> str:
    """The ending of a result's name where none was given: the photo's where that can be written, else `.png`."""
    try:
        formats.to_write(photo)
    except InputError:
        return formats.FALLBACK.suffix
    return photo.suffix


def takes_quality(path: Path) -> bool:
    """Whether the format that a file name asks for has a quality to choose."""
    return formats.to_write(path).has_quality


def check_fits(path: Path, mode: str, size: tuple[int, int], metadata: Mapping[str, Any] | None = None) -> None:
    """Refuse a picture that the format of a file cannot hold, before any work is done.

    Args:
        path: the file to be written; its name asks for the format.
        mode: the picture's mode.
        size: its height and width.
        metadata: what goes with it.

    Raises:
        InputError: the format has no alpha, or is limited to smaller sides or less metadata.
    """
    kind = formats.to_write(path)
    if mode.endswith("A") and not kind.has_alpha:
        raise InputError(f"{path}: {kind.name} cannot hold the photo's transparency; {_USE_FALLBACK}.")
    if max(size) > kind.max_side:
        raise InputError(f"{path}: {kind.name} holds sides up to {kind.max_side} px, not {max(size)}; {_USE_FALLBACK}.")
    if len((metadata or {}).get("exif", b"")) > kind.max_exif:
        raise InputError(
            f"{path}: {kind.name} holds {kind.max_exif} bytes of EXIF data, the photo has more; {_USE_FALLBACK}."
        )


def losses_in(picture: Picture, path: Path, quality: int | None = None) -> list[str]:
    """What a photo loses in the format that a file name asks for, one line for each loss; none where it stays exact."""
    kind = formats.to_write(path)
    lines = _lost_depth(picture, kind)
    if PALETTE in picture.metadata:
        lines.append("The photo's colors come from a palette; the result has full color, and a larger file.")
    lines += _lost_pages(picture, kind)
    lines += _lost_colors(picture, kind)
    if picture.mode.startswith("CMYK") and not kind.has_cmyk:
        exact = formats.listed(other.suffix for other in formats.writable() if other.has_cmyk and other.lossless)
        lines.append(f"{kind.name} cannot hold CMYK, so the photo was converted to sRGB; a {exact} keeps it.")
    if not kind.lossless or quality is not None:
        lines.append(f"{kind.name} changes known pixels a little too; a {formats.FALLBACK.suffix} keeps them exactly.")
    if XMP_CUT in picture.metadata and "xmp" in kind.metadata:
        lines.append(
            "Of the photo's XMP data, rights, creators, captions and ratings are kept; orientation, crops, "
            "adjustments, thumbnails and history are left out, as they describe the file that was."
        )
    fits = _metadata_for(picture, kind)
    lost = [words for key, words in _METADATA.items() if key in picture.metadata and key not in fits]
    if "icc_profile" in kind.metadata and _loses_gray_profile(picture, kind):
        lost.append("profile of gray")
    if lost:
        lines.append(
            f"{kind.name} cannot hold the photo's {' and '.join(lost)}; a {formats.FALLBACK.suffix} keeps them."
        )
    return lines


def save(picture: Picture, path: str | Path, *, quality: int | None = None) -> None:
    """Write a file, whole or not at all, in the format that its name asks for, with metadata.

    Args:
        picture: what to write.
        path: the file; one that exists is replaced.
        quality: see `encode`.

    Raises:
        InputError: the format is unknown or cannot hold the picture, or the file cannot be written.
    """
    path = Path(path)
    write_atomic({path: encode(picture, path, quality=quality)})


def encode(picture: Picture, path: Path, *, quality: int | None = None) -> bytes:
    """Make the bytes of an image file, in the format that its name asks for.

    Without a quality, PNG, TIFF, WebP, BMP and PPM are written without loss. A JPEG from a JPEG gets the quantization
    tables and the chroma subsampling of its source, any other JPEG quality 95 without subsampling, and AVIF and HEIF
    quality 95.

    Args:
        picture: what to write.
        path: names the format.
        quality: 1 to 100, for JPEG, WebP, AVIF and HEIF, all of which then lose.

    Raises:
        InputError: the format cannot hold the picture, or has no quality.
    """
    kind = formats.to_write(path)
    check_fits(path, picture.mode, picture.size, picture.metadata)
    if quality is not None and not kind.has_quality:
        others = formats.listed(other.suffix for other in formats.writable() if other.has_quality)
        raise InputError(
            Option("quality"), f": {kind.name} has none; leave it out, or use a name that ends in {others}."
        )
    picture, metadata = _fitted(picture, kind)
    assert kind.write is not None  # noqa: S101  `to_write` gives no other formats
    try:
        return kind.write(picture, metadata, quality)
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise InputError(f"{path}: {kind.name} cannot hold this picture ({error}); {_USE_FALLBACK}.") from error


def _fitted(picture: Picture, kind: Format) -> tuple[Picture, dict[str, Any]]:
    """The picture in a mode that the format holds, and the metadata it can hold."""
    metadata = _metadata_for(picture, kind)
    if _loses_gray_profile(picture, kind):
        metadata.pop("icc_profile", None)
    if picture.mode.startswith("CMYK") and not kind.has_cmyk:
        rgb = cmyk_to_rgb(picture.color, picture.metadata.get("icc_profile"))
        metadata.pop("icc_profile", None)  # it describes inks
        return Picture(rgb, picture.alpha), metadata
    return picture, metadata


def _metadata_for(picture: Picture, kind: Format) -> dict[str, Any]:
    """The part of a picture's metadata that a format can hold."""
    metadata = {key: picture.metadata[key] for key in kind.metadata if key in picture.metadata}
    if len(metadata.get("xmp", b"")) > kind.max_xmp:
        del metadata["xmp"]
    return metadata


def _lost_depth(picture: Picture, kind: Format) -> list[str]:
    lines = []
    if picture.stored_depth is not None:
        lines.append(
            f"The photo holds {picture.stored_depth} bits a channel, of which {picture.depth} were read; convert it to "
            f"a 16-bit {_holding(DEEP)} first to keep them."
        )
    held, holding = kind.bits_for(picture.bits), _holding(picture.bits)
    if held < picture.bits:
        lines.append(f"{kind.name} holds {held} bits a channel, the photo has {picture.bits}; a {holding} keeps them.")
    return lines


def _lost_pages(picture: Picture, kind: Format) -> list[str]:
    pages, source = picture.pages, formats.by_name(picture.format)
    if pages is None:
        return []
    if pages.file is not None and source is kind:
        numbers = " and ".join(map(str, pages.smaller))
        line = f"Page {numbers} of the photo's file is a smaller copy, which stays and may show what was removed."
        return [line] if pages.smaller else []
    held = f"{pages.count} {'pictures' if source.main_frame else 'frames or pages'}"
    keeps = f"; a {source.suffix} keeps the others" if pages.file is not None else ""
    return [f"The photo's file holds {held}, of which the result has number {pages.number} alone{keeps}."]


def _lost_colors(picture: Picture, kind: Format) -> list[str]:
    if COLOR_SPACE not in picture.metadata or COLOR_SPACE in kind.metadata:
        return []
    exact = formats.listed(other.suffix for other in formats.writable() if COLOR_SPACE in other.metadata)
    space = "the photo's color space, which is not sRGB, so its colors look different"
    return [f"{kind.name} cannot hold {space}; a {exact} keeps it."]


def _holding(bits: int) -> str:
    """The endings of formats that hold so many bits a channel, in words."""
    return formats.listed(kind.suffix for kind in formats.writable() if kind.bits_for(bits) >= bits)


def _loses_gray_profile(picture: Picture, kind: Format) -> bool:
    """Whether the format turns gray into RGB, which the picture's profile of gray does not describe."""
    gray = picture.mode.startswith("L") and "icc_profile" in picture.metadata
    return gray and not kind.holds(picture.mode, picture.depth)
