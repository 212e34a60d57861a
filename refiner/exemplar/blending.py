"""Copies put together without a seam, in the gradient domain.

Source: Pérez, Gangnet and Blake, "Poisson Image Editing", SIGGRAPH 2003. What is solved for is the correction that is
added to the copies. It is screened: it falls off away from seams, so that a difference at one rim does not tint the
whole fill. Each level of a pyramid starts from the correction of the level before, and needs a few steps.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import find_objects, label
from torch import Tensor
from torch.nn import functional

from refiner.exemplar.laplace import neighbor_sum, solve

_MOST = 0.25  # a larger difference is an edge of the scene, not of exposure: what is above does not reach far
_REACH = 2.0  # over how many of the hole's half-widths a correction falls off
_SHORT_REACH = 0.1  # what is above
_SHORT_STEPS = 40
_HARMONIC_STEPS = 1000  # at most; it ends where it is solved


def copy_pixels(image: Tensor, hole: Tensor, shifts: Tensor) -> Tensor:
    """Fill a hole by copying; (3,H,W)."""
    y, x = hole.nonzero().T
    dy, dx = shifts[:, y, x]
    copied = image.clone()
    copied[:, y, x] = image[:, y + dy, x + dx]
    return copied


def seam_correction(
    image: Tensor, hole: Tensor, source: Tensor, shifts: Tensor, coarser: Tensor | None, steps: int
) -> tuple[Tensor, Tensor]:
    """What to add to copies so that nothing shows between them and at the hole's rim.

    Args:
        image: (3,H,W).
        hole: (H,W), bool.
        source: what may be copied; (H,W), bool.
        shifts: (2,H,W).
        coarser: the far correction at about half the size, (3,h,w); None to start from nothing.
        steps: of the solver.

    Returns:
        Two corrections to be added, each (3,H,W), 0 outside the hole: a far one, for differences in exposure, and a
        near one, which joins what does not belong together.
    """
    copies = copy_pixels(image, hole, shifts)
    far, near = torch.zeros_like(image), torch.zeros_like(image)
    if coarser is not None:
        far = functional.interpolate(coarser[None], size=hole.shape, mode="nearest")[0]
    for part, (rows, columns) in _parts(hole):
        edge = part & (neighbor_sum(part[None].float())[0] < 4)  # noqa: PLR2004  neighbors of a pixel inside
        half_width = float(part.sum() / edge.sum().clamp(min=1))
        small, large = _jumps(image, source, shifts, copies, part, (rows, columns))
        start = far[:, rows, columns]
        solved = solve(part, small, start, steps=steps, screening=max(_REACH * half_width, 1.0) ** -2)
        far[:, rows, columns] = torch.where(part, solved, start)
        near[:, rows, columns] += solve(
            part, large, steps=_SHORT_STEPS, screening=max(_SHORT_REACH * half_width, 1.0) ** -2
        )
    return torch.where(hole, far, 0), near


def harmonic_fill(image: Tensor, hole: Tensor) -> Tensor:
    """The smoothest fill that agrees with the photo at the hole's rim; (3,H,W)."""
    known = torch.where(hole, 0, image)
    return torch.where(hole, solve(hole, neighbor_sum(known), steps=_HARMONIC_STEPS), image)


def _parts(hole: Tensor) -> list[tuple[Tensor, tuple[slice, slice]]]:
    """Connected parts of a hole, each in the box around it and a pixel more to each side."""
    numbered, _ = label(hole.numpy(), structure=np.ones((3, 3), int))
    parts = []
    for number, (rows, columns) in enumerate(find_objects(numbered), start=1):
        box = slice(max(rows.start - 1, 0), rows.stop + 1), slice(max(columns.start - 1, 0), columns.stop + 1)
        parts.append((torch.from_numpy(numbered[box] == number), box))
    return parts


def _jumps(
    image: Tensor, source: Tensor, shifts: Tensor, copies: Tensor, part: Tensor, box: tuple[slice, slice]
) -> tuple[Tensor, Tensor]:
    """Right-hand sides: at each seam, that its step is to become the one that its copies have there; (3,h,w) each.

    The first is for small differences and the beginning of large ones, the second for the rest of these.
    """
    small, large = (torch.zeros(3, *part.shape, dtype=image.dtype) for _ in range(2))
    moved = shifts[:, box[0], box[1]]
    for dy, dx in ((0, 1), (1, 0)):
        near = slice(0, part.shape[0] - dy), slice(0, part.shape[1] - dx)
        far = slice(dy, None), slice(dx, None)
        differ = (moved[:, near[0], near[1]] != moved[:, far[0], far[1]]).any(dim=0) & part[near] & part[far]
        y, x = (differ | (part[near] ^ part[far])).nonzero().T
        ends = (y, x), (y + dy, x + dx)
        places = [(row + box[0].start, column + box[1].start) for row, column in ends]
        wanted, known = torch.zeros(3, len(y), dtype=image.dtype), torch.zeros(len(y), dtype=image.dtype)
        for (row, column), end in zip(places, ends, strict=True):
            step, counts = _copied_step(image, source, shifts[:, row, column], places)
            counts &= part[end]
            wanted += torch.where(counts, step, 0)
            known += counts
        (row, column), (next_row, next_column) = places
        steps = copies[:, next_row, next_column] - copies[:, row, column]
        jump = wanted / known.clamp(min=1) - steps
        for jumps, portion in ((small, jump.clamp(-_MOST, _MOST)), (large, jump - jump.clamp(-_MOST, _MOST))):
            for (row, column), sign in zip(ends, (-1, 1), strict=True):
                jumps[:, row, column] += torch.where(part[row, column], sign * portion, 0)
    return small, large


def _copied_step(
    image: Tensor, source: Tensor, shift: Tensor, places: list[tuple[Tensor, Tensor]]
) -> tuple[Tensor, Tensor]:
    """The photo's step between two neighbors, where they are copied from, and whether both may be copied."""
    values, allowed = [], torch.ones(shift.shape[1], dtype=torch.bool)
    for y, x in places:
        row, column = y + shift[0], x + shift[1]
        allowed &= (row >= 0) & (row < source.shape[0]) & (column >= 0) & (column < source.shape[1])
        row, column = row.clamp(0, source.shape[0] - 1), column.clamp(0, source.shape[1] - 1)
        allowed &= source[row, column]
        values.append(image[:, row, column])
    return values[1] - values[0], allowed
