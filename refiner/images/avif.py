"""AVIF, of which Pillow reads and writes 8 bits a channel."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from PIL import Image

_HEAD = 1 << 16  # bytes; what describes the picture lies before its data
_HIGH, _TWELVE = 0x40, 0x20  # flags in the third byte of the codec's configuration


def depth(image: Image.Image) -> int:
    """Bits a channel in an opened file, from the configuration of its AV1 data; 8 where there is no file to look at."""
    path = Path(getattr(image, "filename", "") or "")
    if not path.is_file():
        return 8
    with path.open("rb") as file:
        _, found, configuration = file.read(_HEAD).partition(b"av1C")
    if not found or len(configuration) < 3 or not configuration[2] & _HIGH:  # noqa: PLR2004  the flags' place
        return 8
    return 12 if configuration[2] & _TWELVE else 10
