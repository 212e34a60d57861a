"""WebP: written without loss, unless a quality is given."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from refiner.images.codecs.pillow import file_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from refiner.images.picture import Picture


def write(picture: Picture, metadata: Mapping[str, Any], quality: int | None) -> bytes:
    """Write without loss, the colors of fully transparent pixels included; with a quality, lossy."""
    options = {"lossless": True, "exact": True} if quality is None else {"quality": quality}
    return file_of(picture.to_pil(), "WEBP", metadata, **options)
