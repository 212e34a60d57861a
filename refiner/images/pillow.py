"""Image files written by Pillow."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING, Any

from PIL import Image

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from refiner.images.picture import Picture

DEFAULT_QUALITY = 95


def can_write(name: str) -> bool:
    """Whether this build of Pillow writes a format."""
    Image.init()
    return name in Image.SAVE


def file_of(image: Image.Image, name: str, metadata: Mapping[str, Any], **options: Any) -> bytes:
    """A file's bytes, with this metadata alone.

    Args:
        image: what to write.
        name: the format, as Pillow has it.
        metadata: to put in.
        options: of the format.
    """
    image.info.clear()  # Pillow would write some of it besides
    buffer = io.BytesIO()
    image.save(buffer, name, **metadata, **options)
    return buffer.getvalue()


def plain_writer(name: str) -> Callable[[Picture, Mapping[str, Any], int | None], bytes]:
    """A function that writes 8-bit pictures in a format without options."""

    def write(picture: Picture, metadata: Mapping[str, Any], _quality: int | None) -> bytes:
        return file_of(picture.to_pil(), name, metadata)

    return write


def lossy_writer(name: str) -> Callable[[Picture, Mapping[str, Any], int | None], bytes]:
    """A function that writes 8-bit pictures in a format with a quality, the color at full resolution."""

    def write(picture: Picture, metadata: Mapping[str, Any], quality: int | None) -> bytes:
        return file_of(picture.to_pil(), name, metadata, quality=quality or DEFAULT_QUALITY, subsampling="4:4:4")

    return write
