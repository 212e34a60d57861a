"""PPM, whose files name their highest value."""

from __future__ import annotations

from typing import TYPE_CHECKING

from refiner.images.deep import decode_with_opencv, depth_by_tiles

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from refiner.images.planes import Planes

_16_BITS = 65535


def depth(image: Image.Image) -> int:
    """Bits a channel in an opened file, from 8 on."""
    return max(depth_by_tiles(image), _highest(image).bit_length(), 8)


def decode(image: Image.Image, path: Path) -> Planes | None:
    """Color of all 16 bits; None for gray, and for other highest values, which only Pillow scales to a full range.

    Raises:
        InputError: the file is damaged, or OpenCV is missing.
    """
    if image.mode.startswith("I") or _highest(image) != _16_BITS:
        return None
    return decode_with_opencv(path, (image.height, image.width))


def _highest(image: Image.Image) -> int:
    """The value of full brightness, as Pillow's decoder is given it; 0 where it needs none."""
    tiles = getattr(image, "tile", None) or []
    args = tiles[0].args if tiles else ()
    return max((value for value in args or () if isinstance(value, int)), default=0)
