"""Copies put together without a seam, in the gradient domain.

Source: Pérez, Gangnet and Blake, "Poisson Image Editing", SIGGRAPH 2003. What is solved for is the correction that is
added to the copies. It is screened: it falls off away from seams, so that a difference at one rim does not tint the
whole fill.
"""

from __future__ import annotations

import numpy as np
import torch
from scipy.ndimage import find_objects, label
from torch import Tensor

from refiner.exemplar.multigrid import neighbor_sum, solve

_MOST = 0.25  # a larger difference is an edge of the scene, not of exposure: it is not spread
_REACH = 2.0  # over how many of the hole's half-widths a correction falls off
_TOLERANCE = 3e-3
_EXACT = 1e-4


def copy_pixels(image: Tensor, hole: Tensor, shifts: Tensor) -> Tensor:
    """Fill a hole by copying; (3,H,W)."""
    y, x = hole.nonzero().T
    dy, dx = shifts[:, y, x]
    copied = image.clone()
    copied[:, y, x] = image[:, y + dy, x + dx]
    return copied


def blend(image: Tensor, hole: Tensor, source: Tensor, shifts: Tensor) -> Tensor:
    """Fill a hole by copying, without seams between the copies and at its rim.

    Args:
        image: (3,H,W) in [0,1].
        hole: (H,W), bool.
        source: what may be copied; (H,W), bool.
        shifts: (2,H,W).

    Returns:
        (3,H,W) in [0,1]; equal to `image` outside the hole.
    """
    filled = copy_pixels(image, hole, shifts)
    for part, box in _parts(hole):
        copies = filled[..., box[0], box[1]]
        wanted = _jumps(image, source, shifts, filled, part, box)
        edge = part & (neighbor_sum(part[None].float())[0] < 4)  # noqa: PLR2004  neighbors of a pixel inside
        half_width = float(part.sum() / edge.sum().clamp(min=1))
        screening = max(_REACH * half_width, 1.0) ** -2
        correction = solve(part, wanted, screening=screening, tolerance=_TOLERANCE)
        filled[..., box[0], box[1]] = torch.where(part, (copies + correction).clamp(0, 1), copies)
    return filled


def harmonic_fill(image: Tensor, hole: Tensor) -> Tensor:
    """The smoothest fill that agrees with the photo at the hole's rim; (3,H,W)."""
    known = torch.where(hole, 0, image)
    return torch.where(hole, solve(hole, hole * neighbor_sum(known), tolerance=_EXACT), image)


def _parts(hole: Tensor) -> list[tuple[Tensor, tuple[slice, slice]]]:
    """Connected parts of a hole, each in the box around it and a pixel more to each side."""
    numbered, _ = label(hole.numpy(), structure=np.ones((3, 3), int))
    parts = []
    for number, (rows, columns) in enumerate(find_objects(numbered), start=1):
        box = slice(max(rows.start - 1, 0), rows.stop + 1), slice(max(columns.start - 1, 0), columns.stop + 1)
        parts.append((torch.from_numpy(numbered[box] == number), box))
    return parts


def _jumps(
    image: Tensor, source: Tensor, shifts: Tensor, filled: Tensor, part: Tensor, box: tuple[slice, slice]
) -> Tensor:
    """The right-hand side: by how much each seam's step differs from the step that its copies have there; (3,h,w)."""
    jumps = torch.zeros(3, *part.shape, dtype=image.dtype)
    for dy, dx in ((0, 1), (1, 0)):
        near = slice(0, part.shape[0] - dy), slice(0, part.shape[1] - dx)
        far = slice(dy, None), slice(dx, None)
        moved = shifts[..., box[0], box[1]]
        differ = (moved[..., near[0], near[1]] != moved[..., far[0], far[1]]).any(dim=0) & part[near] & part[far]
        y, x = (differ | (part[near] ^ part[far])).nonzero().T
        here = y + box[0].start, x + box[1].start
        there = here[0] + dy, here[1] + dx
        wanted, known = torch.zeros(3, len(y), dtype=image.dtype), torch.zeros(len(y), dtype=image.dtype)
        for end, inside in ((here, part[y, x]), (there, part[y + dy, x + dx])):
            step, counts = _copied_step(image, source, shifts[..., end[0], end[1]], here, there)
            wanted += torch.where(counts & inside, step, 0)
            known += counts & inside
        jump = wanted / known.clamp(min=1) - (filled[..., there[0], there[1]] - filled[..., here[0], here[1]])
        jump = jump.clamp(-_MOST, _MOST)
        jumps[:, y, x] -= torch.where(part[y, x], jump, 0)
        jumps[:, y + dy, x + dx] += torch.where(part[y + dy, x + dx], jump, 0)
    return jumps


def _copied_step(
    image: Tensor, source: Tensor, shift: Tensor, here: tuple[Tensor, Tensor], there: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """The photo's step between two neighbors, where they are copied from, and whether both may be copied."""
    values, allowed = [], torch.ones(shift.shape[1], dtype=torch.bool)
    for y, x in (here, there):
        row, column = y + shift[0], x + shift[1]
        allowed &= (row >= 0) & (row < source.shape[0]) & (column >= 0) & (column < source.shape[1])
        row, column = row.clamp(0, source.shape[0] - 1), column.clamp(0, source.shape[1] - 1)
        allowed &= source[row, column]
        values.append(image[:, row, column])
    return values[1] - values[0], allowed
