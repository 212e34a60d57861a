"""Turning pictures upright: EXIF's orientation tag and the turns it stands for."""

from __future__ import annotations

import numpy as np
from PIL import ExifTags, Image

from refiner.images.codecs.pillow import DAMAGE
from refiner.images.exif import with_orientation
from refiner.images.planes import Planes, Values

Turn = Image.Transpose

ORIENTATION = ExifTags.Base.Orientation
_TURNS = {
    2: Turn.FLIP_LEFT_RIGHT,
    3: Turn.ROTATE_180,
    4: Turn.FLIP_TOP_BOTTOM,
    5: Turn.TRANSPOSE,
    6: Turn.ROTATE_270,
    7: Turn.TRANSVERSE,
    8: Turn.ROTATE_90,
}
_NUMBERS = {turn: number for number, turn in _TURNS.items()}
_SIDEWAYS = {Turn.TRANSPOSE, Turn.ROTATE_270, Turn.TRANSVERSE, Turn.ROTATE_90}
_STEPS = {
    Turn.FLIP_LEFT_RIGHT: lambda v: v[:, ::-1],
    Turn.FLIP_TOP_BOTTOM: lambda v: v[::-1],
    Turn.ROTATE_180: lambda v: v[::-1, ::-1],
    Turn.TRANSPOSE: lambda v: v.swapaxes(0, 1),
    Turn.ROTATE_270: lambda v: v.swapaxes(0, 1)[:, ::-1],
    Turn.TRANSVERSE: lambda v: v.swapaxes(0, 1)[::-1, ::-1],
    Turn.ROTATE_90: lambda v: v.swapaxes(0, 1)[::-1],
}


def orientation(image: Image.Image) -> Turn | None:
    """The turn that makes an image upright, by its EXIF data; None where it is upright or the data cannot be read."""
    try:
        return _TURNS.get(image.getexif().get(ORIENTATION, 1))
    except DAMAGE:  # malformed EXIF
        return None


def with_turn(exif: bytes | None, turn: Turn) -> bytes:
    """EXIF data that asks for a turn; without any, EXIF data with that alone."""
    number = _NUMBERS[turn]
    try:
        return with_orientation(exif or b"", number)
    except DAMAGE:  # none, or malformed
        alone = Image.Exif()
        alone[ORIENTATION] = number
        return alone.tobytes()


def back(turn: Turn) -> Turn:
    """The turn that takes another one back."""
    return {Turn.ROTATE_90: Turn.ROTATE_270, Turn.ROTATE_270: Turn.ROTATE_90}.get(turn, turn)


def is_sideways(turn: Turn | None) -> bool:
    """Whether a turn swaps height and width."""
    return turn in _SIDEWAYS


def turned(planes: Planes, turn: Turn | None) -> Planes:
    """Turn planes; without a turn they are given back as they are."""
    if turn is None:
        return planes
    alpha = None if planes.alpha is None else _turned(planes.alpha, turn)
    return Planes(_turned(planes.color, turn), alpha, upright=True)


def _turned(values: Values, turn: Turn) -> Values:
    result: Values = np.ascontiguousarray(_STEPS[turn](values))
    return result
