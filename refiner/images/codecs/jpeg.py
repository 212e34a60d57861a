"""JPEG: a result is compressed the way its photo was."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from PIL.JpegImagePlugin import get_sampling

from refiner.images.codecs.pillow import DEFAULT_QUALITY, file_of
from refiner.images.orientation import back, with_turn

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL import Image

    from refiner.images.picture import Picture

MAX_EXIF = 65533  # bytes of one segment
_XMP = b"http://ns.adobe.com/xap/1.0/\0"
MAX_XMP = MAX_EXIF - len(_XMP)


def compression(image: Image.Image) -> dict[str, Any]:
    """The quantization tables and the chroma subsampling of an opened file."""
    tables = getattr(image, "quantization", None)
    if not tables:
        return {}
    sampling = get_sampling(image)
    return {
        "qtables": {key: list(table) for key, table in tables.items()},
        "subsampling": sampling if sampling in (0, 1, 2) else 0,
    }


def write(picture: Picture, metadata: Mapping[str, Any], quality: int | None) -> bytes:
    """Write with the photo's own quantization tables where it was a JPEG, else at a quality without subsampling.

    With its own tables, a photo that was turned upright is stored as it came, to be turned when it is shown: tables,
    subsampling and the grid of blocks belong to the stored pixels, and would change most of them otherwise.
    """
    image, metadata = picture.to_pil(), dict(metadata)
    if quality is None and "qtables" in picture.metadata:
        options = {key: picture.metadata[key] for key in ("qtables", "subsampling")}
        if picture.turned is not None:
            image = image.transpose(back(picture.turned))
            metadata["exif"] = with_turn(metadata.get("exif"), picture.turned)
    else:
        options = {"quality": quality or DEFAULT_QUALITY, "subsampling": 0}
    if "xmp" in metadata:  # as a segment made here: before version 11 Pillow wrote none
        packet = _XMP + metadata.pop("xmp")
        metadata["extra"] = b"\xff\xe1" + (len(packet) + 2).to_bytes(2, "big") + packet
    return file_of(image, "JPEG", metadata, **options)
