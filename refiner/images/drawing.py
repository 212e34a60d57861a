"""Masks drawn by hand: strokes, outlined areas and stamps make an array (H,W) that is true in the hole."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeAlias

import numpy as np
from PIL import Image, ImageDraw

if TYPE_CHECKING:
    from collections.abc import Iterable

    from refiner.images.planes import Mask

Points = tuple[tuple[float, float], ...]  # x and y in pixels, from the picture's upper left corner


@dataclass(frozen=True)
class Stroke:
    """A round brush drawn along points.

    Attributes:
        points: where the brush goes; a single point is a dot.
        size: the brush's diameter in pixels.
        erase: take away from the hole in place of adding to it.
    """

    points: Points
    size: float
    erase: bool = False


@dataclass(frozen=True)
class Area:
    """The inside of an outline.

    Attributes:
        points: the outline's corners.
        erase: take away from the hole in place of adding to it.
    """

    points: Points
    erase: bool = False


@dataclass(frozen=True)
class Stamp:
    """Another mask of the picture's size.

    Attributes:
        mask: (H,W), true in the hole.
        erase: take it away from the hole in place of adding it.
    """

    mask: Mask
    erase: bool = False


Mark: TypeAlias = Stroke | Area | Stamp


def drawn(marks: Iterable[Mark], size: tuple[int, int]) -> Mask:
    """Draw marks, one after the other, as a mask (H,W).

    Args:
        marks: what to draw; parts of it beyond the picture are left out.
        size: the picture's height and width.
    """
    height, width = size
    canvas = Image.new("L", (width, height))
    for mark in marks:
        value = 0 if mark.erase else 255
        if isinstance(mark, Stamp):
            canvas.paste(value, (0, 0), Image.fromarray(mark.mask))
        elif isinstance(mark, Area):
            _fill(canvas, mark.points, value)
        else:
            _brush(canvas, mark, value)
    return np.asarray(canvas) > 0


def mask_file(mask: Mask) -> bytes:
    """Make the bytes of a one-channel PNG of a mask, white in the hole."""
    buffer = io.BytesIO()
    Image.fromarray(mask.astype(np.uint8) * 255).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def box_of(mask: Mask, margin: int = 0) -> tuple[int, int, int, int] | None:
    """Left, top, right and bottom of the hole with a margin, cut to the picture; None for an empty mask."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not rows.size:
        return None
    return (
        max(int(columns[0]) - margin, 0),
        max(int(rows[0]) - margin, 0),
        min(int(columns[-1]) + 1 + margin, mask.shape[1]),
        min(int(rows[-1]) + 1 + margin, mask.shape[0]),
    )


def _fill(canvas: Image.Image, points: Points, value: int) -> None:
    if len(points) > 2:  # noqa: PLR2004  two make no area
        ImageDraw.Draw(canvas).polygon(_centered(points), fill=value)


def _brush(canvas: Image.Image, stroke: Stroke, value: int) -> None:
    draw = ImageDraw.Draw(canvas)
    radius = stroke.size / 2
    points = _centered(stroke.points)
    if stroke.size <= 1:
        draw.point([(round(x), round(y)) for x, y in points], fill=value)
    if len(points) > 1:
        draw.line(points, fill=value, width=max(1, round(stroke.size)))
    for x, y in points if stroke.size > 1 else ():  # round ends and joints
        draw.ellipse((x - radius, y - radius, x + radius, y + radius), fill=value)


def _centered(points: Points) -> list[tuple[float, float]]:
    """Points as Pillow counts them: from the center of the first pixel, not from the picture's corner."""
    return [(x - 0.5, y - 0.5) for x, y in points]
