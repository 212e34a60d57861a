"""Metadata that a result keeps from its photo's file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PIL import Image, TiffImagePlugin

from refiner.images import exif
from refiner.images.codecs.pillow import DAMAGE
from refiner.images.orientation import ORIENTATION
from refiner.images.xmp import safe_xmp

if TYPE_CHECKING:
    from refiner.images.codecs.format import Format

_CARRIED = ("icc_profile", "dpi")
XMP_CUT = "xmp_cut"  # key among the metadata: true where XMP data was not kept whole
COLOR_SPACE = "nclx_profile"  # key among the metadata: the numbers of a color space that is not sRGB
PALETTE = "palette"  # key among the metadata: true where the photo's colors came from a palette
_XMP_TAG = 700  # TIFF's tag for XMP data


def read_metadata(image: Image.Image, kind: Format) -> dict[str, Any]:
    """Read EXIF and XMP data, color profile, resolution and compression, by the names that Pillow's `save` takes.

    Args:
        image: an opened image.
        kind: the format of its file.
    """
    metadata = {key: image.info[key] for key in _CARRIED if image.info.get(key)}
    colors = kind.color_space(image) if kind.color_space is not None else None
    if colors is not None:
        metadata[COLOR_SPACE] = colors
    blob = _portable_exif(image)
    if blob:
        metadata["exif"] = blob
    found = _xmp_packet(image)
    if found:
        packet, cut = safe_xmp(found)
        metadata |= {"xmp": packet} if packet else {}
        metadata |= {XMP_CUT: True} if cut else {}
    if image.mode == "P":
        metadata[PALETTE] = True
    if kind.compression is not None:
        metadata |= kind.compression(image)
    return metadata


def _xmp_packet(image: Image.Image) -> bytes:
    """The XMP data of an opened file; where Pillow keeps it depends on the format."""
    try:
        tags = getattr(image, "tag_v2", {})
        found = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or tags.get(_XMP_TAG) or b""
    except DAMAGE:
        return b""
    if isinstance(found, tuple):  # some TIFFs store the bytes as a list of numbers
        return bytes(value for value in found if isinstance(value, int))
    return found.encode() if isinstance(found, str) else bytes(found)


def _portable_exif(image: Image.Image) -> bytes:
    """EXIF data for the result: it says upright, and has no thumbnail and nothing about the source file's structure.

    The thumbnail is a small copy of the photo that would still show what was removed.
    """
    try:
        if isinstance(image, TiffImagePlugin.TiffImageFile):
            return _exif_of_tiff(image)
        blob = image.info.get("exif") or image.getexif().tobytes()
        return exif.upright(blob) if len(image.getexif()) else b""
    except DAMAGE:
        return b""  # malformed EXIF is not carried on


def _exif_of_tiff(image: TiffImagePlugin.TiffImageFile) -> bytes:
    """The part of a TIFF file's directory that describes the picture, with its types and bytes."""
    file = getattr(image, "fp", None)
    if file is None:  # decoded already, and closed
        order, directory = exif.parsed(image.getexif().tobytes())
    else:
        place = file.tell()
        try:
            order, directory = exif.read(file, image.tell())
        finally:
            file.seek(place)
    kept = {tag: value for tag, value in directory.items() if tag not in exif.STRUCTURE}
    if ORIENTATION in kept:
        kept[ORIENTATION] = exif.number(order, exif.SHORT, 1)
    return exif.enclosed(order, kept) if kept else b""
