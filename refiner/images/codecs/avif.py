"""AVIF: Pillow reads and writes 8 bits a channel, while files hold up to 12."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from refiner.images.codecs.pillow import lossy_writer
from refiner.images.exif import without_orientation

if TYPE_CHECKING:
    from collections.abc import Mapping

    from PIL import Image

    from refiner.images.picture import Picture

_HEAD = 1 << 16  # bytes; a file describes its picture before the pixels
_CONFIGURATION = b"av1C"  # name of the box that holds the AV1 codec's configuration
_HIGH, _TWELVE = 0x40, 0x20  # flags in the configuration's third byte: more than 8 bits, 12 of them


def depth(image: Image.Image) -> int:
    """Bits a channel in an opened file, from its AV1 configuration; 8 where there is no file to look at."""
    path = Path(getattr(image, "filename", "") or "")
    if not path.is_file():
        return 8
    with path.open("rb") as file:
        _, found, configuration = file.read(_HEAD).partition(_CONFIGURATION)
    if not found or len(configuration) < 3 or not configuration[2] & _HIGH:  # noqa: PLR2004  the flags' place
        return 8
    return 12 if configuration[2] & _TWELVE else 10


def write(picture: Picture, metadata: Mapping[str, Any], quality: int | None) -> bytes:
    """Write with EXIF data as it is: what says an orientation, Pillow writes anew."""
    if "exif" in metadata:
        metadata = {**metadata, "exif": without_orientation(metadata["exif"])}
    return lossy_writer("AVIF")(picture, metadata, quality)
