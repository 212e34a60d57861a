"""Metadata that a result keeps from its photo's file."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PIL import ExifTags, Image

from refiner.images.codecs.pillow import DAMAGE
from refiner.images.orientation import ORIENTATION
from refiner.images.xmp import safe_xmp

if TYPE_CHECKING:
    from refiner.images.codecs.format import Format

_CARRIED = ("icc_profile", "dpi")
XMP_CUT = "xmp_cut"  # key among the metadata: true where XMP data was not kept whole
PALETTE = "palette"  # key among the metadata: true where the photo's colors came from a palette
_XMP_TAG = 700  # TIFF's tag for XMP data
# Tags that describe how a TIFF file is stored, not the picture: they would be wrong in another file.
_STRUCTURE = frozenset(
    {254, 255, 256, 257, 258, 259, 262, 263, 264, 265, 266, 273, 277, 278, 279, 280, 281, 284, 288, 289, 290, 291}
    | {292, 293, 296, 282, 283, 297, 301, 317, 318, 319, 320, 321, 322, 323, 324, 325, 330, 338, 339, 340, 341, 347}
    | {512, 513, 514, 515, 517, 518, 519, 520, 521, 529, 530, 531, 532, 700, 34377, 34675}
)


def read_metadata(image: Image.Image, kind: Format) -> dict[str, Any]:
    """Read EXIF and XMP data, color profile, resolution and compression, by the names that Pillow's `save` takes.

    Args:
        image: an opened image.
        kind: the format of its file.
    """
    metadata = {key: image.info[key] for key in _CARRIED if image.info.get(key)}
    exif = _portable_exif(image)
    if exif:
        metadata["exif"] = exif
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
        source = image.getexif()
        exif = Image.Exif()
        exif.endian = source.endian or "<"
        for tag, value in source.items():
            if tag not in _STRUCTURE and tag != ORIENTATION:
                exif[tag] = value
        for ifd in (ExifTags.IFD.Exif, ExifTags.IFD.GPSInfo):
            values = source.get_ifd(ifd)
            if values:
                exif[ifd] = values
            elif ifd in exif:
                del exif[ifd]
        if not len(exif):
            return b""
        exif[ORIENTATION] = 1
        return exif.tobytes()
    except DAMAGE:
        return b""  # malformed EXIF is not carried on
