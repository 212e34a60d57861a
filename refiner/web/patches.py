"""The changed pixels of a round on disk: those alone, so that two specks far apart take no more than two specks."""

from __future__ import annotations

import io
import zlib
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from refiner.images.drawing import box_of

if TYPE_CHECKING:
    from pathlib import Path

    from refiner.images.picture import Picture
    from refiner.images.planes import Mask


def patch_of(picture: Picture, changed: Mask) -> bytes:
    """Make the bytes of a patch.

    Args:
        picture: after the change.
        changed: (H,W), true where the picture may have changed.
    """
    box = box_of(changed) or (0, 0, 0, 0)
    left, top, right, bottom = box
    inside = changed[top:bottom, left:right]
    where = np.frombuffer(zlib.compress(np.packbits(inside).tobytes(), 1), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, box=np.asarray(box), where=where, values=picture.color[top:bottom, left:right][inside])
    return buffer.getvalue()


def patched(picture: Picture, path: Path) -> Picture:
    """A picture with the pixels of a patch in it."""
    with np.load(path, allow_pickle=False) as patch:
        left, top, right, bottom = (int(side) for side in patch["box"])
        bits = np.frombuffer(zlib.decompress(patch["where"].tobytes()), np.uint8)
        values = patch["values"]
    height, width = bottom - top, right - left
    inside = np.unpackbits(bits, count=height * width).astype(bool).reshape(height, width)
    color = picture.color.copy()
    color[top:bottom, left:right][inside] = values
    return replace(picture, color=color)
