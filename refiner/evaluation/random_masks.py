"""Random holes as LaMa draws them: chains of thick strokes, or boxes.

Source: LaMa, arXiv 2109.07161, section 2.4 and its public evaluation settings, which are kept in `configs/masks/`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from refiner.config_files import build, find_config, read_mapping
from refiner.errors import SettingsError

if TYPE_CHECKING:
    from numpy.typing import NDArray

_MAX_SEGMENTS = 5
_MIN_LENGTH, _MIN_WIDTH = 10, 5  # the random part of a length or width is added to these
_TRIES = 1000
_MOST = 100_000  # largest number allowed of anything, in pixels or strokes


@dataclass(frozen=True)
class Strokes:
    """Chains of up to five straight segments, in pixels of `MaskKind.size`.

    Attributes:
        min_times: least number of chains.
        max_times: largest number of chains.
        max_width: a segment's width is 5 to 4 + `max_width`.
        max_length: a segment's length is 10 to 9 + `max_length`.
        max_angle: a segment's heading is one of 0, 1, ... below `max_angle`, in radians; every other chain heads to the
            other side.
    """

    min_times: int
    max_times: int
    max_width: int
    max_length: int
    max_angle: int = 4


@dataclass(frozen=True)
class Boxes:
    """Upright boxes, in pixels of `MaskKind.size`.

    Attributes:
        min_times: least number of boxes.
        max_times: largest number of boxes.
        min_size: shortest side.
        max_size: longest side, exclusive.
        margin: distance that is kept from the picture's edge.
    """

    min_times: int
    max_times: int
    min_size: int
    max_size: int
    margin: int = 0


@dataclass(frozen=True)
class MaskKind:
    """A distribution of holes.

    Attributes:
        size: short side of the picture that all lengths are meant for; they are scaled for other pictures.
        strokes: how strokes are drawn.
        boxes: how boxes are drawn; None for strokes alone.
        boxes_weight: how often boxes are drawn, relative to strokes at 1.
        max_area: a hole that covers a larger share of the picture is drawn again.
    """

    size: int
    strokes: Strokes
    boxes: Boxes | None = None
    boxes_weight: float = 0.0
    max_area: float = 0.5

    def __post_init__(self) -> None:
        if self.size < 1 or not 0 < self.max_area <= 1:
            raise SettingsError("size and max_area: expected positive numbers, max_area at most 1.")
        if (self.boxes is None) != (self.boxes_weight == 0) or not 0 <= self.boxes_weight < math.inf:
            raise SettingsError("boxes_weight: expected a number above 0 together with boxes, and none without.")
        for part in (self.strokes, self.boxes):
            if part is None:
                continue
            if not 1 <= part.min_times <= part.max_times:
                raise SettingsError("min_times and max_times: expected whole numbers from 1, in this order.")
            if max(vars(part).values()) > _MOST:
                raise SettingsError(f"times, widths, lengths and sizes: expected at most {_MOST}.")
        if self.strokes.max_width < 1 or self.strokes.max_length < 1 or self.strokes.max_angle < 1:
            raise SettingsError("max_width, max_length and max_angle: expected whole numbers from 1.")
        if self.boxes is not None and not (1 <= self.boxes.min_size < self.boxes.max_size and self.boxes.margin >= 0):
            raise SettingsError(
                "min_size, max_size and margin: expected whole numbers from 1, the second larger, and margin from 0."
            )

    def draw(self, height: int, width: int, rng: np.random.Generator) -> NDArray[np.uint8]:
        """Draw one hole.

        Args:
            height: of the picture.
            width: of the picture.
            rng: source of randomness; the same state gives the same hole.

        Returns:
            (height, width), 255 in the hole and 0 elsewhere; neither empty nor larger than `max_area`.

        Raises:
            SettingsError: the distribution gives no such hole.
        """
        scale = min(height, width) / self.size
        share = self.boxes_weight / (1 + self.boxes_weight) if self.boxes is not None else 0.0
        for _ in range(_TRIES):
            hole = np.zeros((height, width), np.uint8)
            if self.boxes is not None and rng.random() < share:
                _draw_boxes(hole, self.boxes, scale, rng)
            else:
                _draw_strokes(hole, self.strokes, scale, rng)
            if 0 < (hole > 0).mean() <= self.max_area:
                return hole
        raise SettingsError(f"mask kind: {_TRIES} tries gave no hole of at most {self.max_area:g} of the picture.")


def load_mask_kind(name_or_path: str) -> MaskKind:
    """Read a kind of mask: `thin`, `medium`, `thick`, or a YAML file.

    Raises:
        SettingsError: there is no such kind or file, or a key or value is not valid.
    """
    path = find_config(name_or_path, "mask kind", "masks")
    return build(MaskKind, read_mapping(path), str(path))


def _draw_strokes(hole: NDArray[np.uint8], strokes: Strokes, scale: float, rng: np.random.Generator) -> None:
    height, width = hole.shape
    for chain in range(int(rng.integers(strokes.min_times, strokes.max_times + 1))):
        x, y = float(rng.integers(width)), float(rng.integers(height))
        for _ in range(int(rng.integers(1, _MAX_SEGMENTS + 1))):
            heading = 0.01 + int(rng.integers(strokes.max_angle))
            heading = heading if chain % 2 else 2 * math.pi - heading
            length = scale * (_MIN_LENGTH + int(rng.integers(strokes.max_length)))
            thickness = scale * (_MIN_WIDTH + int(rng.integers(strokes.max_width)))
            end_x = min(max(x + length * math.sin(heading), 0), width)
            end_y = min(max(y + length * math.cos(heading), 0), height)
            _draw_segment(hole, (x, y), (end_x, end_y), max(thickness, 1) / 2)
            x, y = end_x, end_y


def _draw_segment(hole: NDArray[np.uint8], start: tuple[float, float], end: tuple[float, float], radius: float) -> None:
    """Mark the pixels whose center is at most `radius` from the segment."""
    # Computed here, since another version of a library might draw another hole.
    (x0, y0), (x1, y1) = start, end
    top, bottom = max(math.floor(min(y0, y1) - radius), 0), math.ceil(max(y0, y1) + radius) + 1
    left, right = max(math.floor(min(x0, x1) - radius), 0), math.ceil(max(x0, x1) + radius) + 1
    part = hole[top:bottom, left:right]
    y, x = np.mgrid[top : top + part.shape[0], left : left + part.shape[1]] + 0.5
    squared = (x1 - x0) ** 2 + (y1 - y0) ** 2
    along = ((x - x0) * (x1 - x0) + (y - y0) * (y1 - y0)) / squared if squared > 0 else np.zeros_like(x)
    along = along.clip(0, 1)
    distance = np.hypot(x - x0 - along * (x1 - x0), y - y0 - along * (y1 - y0))
    part[distance <= radius] = 255


def _draw_boxes(hole: NDArray[np.uint8], boxes: Boxes, scale: float, rng: np.random.Generator) -> None:
    margin = round(scale * boxes.margin)
    least = max(1, round(scale * boxes.min_size))
    most = max(least + 1, min(round(scale * boxes.max_size), min(hole.shape) - 2 * margin))
    for _ in range(int(rng.integers(boxes.min_times, boxes.max_times + 1))):
        h, w = (min(int(rng.integers(least, most)), side - 2 * margin) for side in hole.shape)
        y, x = (
            int(rng.integers(margin, side - margin - extent + 1))
            for side, extent in zip(hole.shape, (h, w), strict=True)
        )
        hole[y : y + h, x : x + w] = 255
