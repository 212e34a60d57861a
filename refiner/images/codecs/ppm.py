"""PPM: a file names the value of full brightness, from which its depth follows."""

from __future__ import annotations

from typing import TYPE_CHECKING

from refiner.images.codecs.opencv import read_16_bits
from refiner.images.codecs.pillow import depth_by_tiles

if TYPE_CHECKING:
    from pathlib import Path

    from PIL import Image

    from refiner.images.planes import Planes

_16_BITS = 65535


def depth(image: Image.Image) -> int:
    """Bits a channel in an opened file, 8 or more."""
    return max(depth_by_tiles(image), _highest(image).bit_length(), 8)


def decode(image: Image.Image, path: Path) -> Planes | None:
    """Read color that uses all 16 bits; gives None for gray and for smaller ranges, which only Pillow scales up.

    Raises:
        InputError: the file is damaged, or OpenCV is missing.
    """
    if image.mode.startswith("I") or _highest(image) != _16_BITS:
        return None
    return read_16_bits(path, (image.height, image.width))


def _highest(image: Image.Image) -> int:
    """The value of full brightness, from Pillow's plan of how to decode the file; 0 where the plan names none."""
    tiles = getattr(image, "tile", None) or []
    args = tiles[0].args if tiles else ()
    return max((value for value in args or () if isinstance(value, int)), default=0)
