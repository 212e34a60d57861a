"""Copies put together without a seam, in the gradient domain.

Source: Pérez, Gangnet and Blake, "Poisson Image Editing", SIGGRAPH 2003. What is solved for is the correction that is
added to the copies. It is screened: it falls off away from seams, so that a difference at one rim does not tint the
whole fill. Each level of a pyramid starts from the correction of the level before, and needs a few steps.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from scipy.ndimage import find_objects, label, uniform_filter
from torch import Tensor
from torch.nn import functional

from refiner.exemplar.laplace import neighbor_sum, solve

if TYPE_CHECKING:
    from refiner.exemplar.palette import Palette

_MOST = 0.2  # a larger difference is an edge of the scene, not of exposure: what is above does not reach far
_REACH = 2.0  # over how many of the hole's half-widths a correction falls off
_SHORT_REACH = 0.1  # what is above
_SHORT_STEPS = 40
_BUSIER = 1.25  # by how much copies may be busier than the photo beside them before steps across the rim are lessened
_HOLD = 2.0  # how firmly steps across the rim are held to what is wanted there: what is left of them shows on its line
_AREA = 31  # pixels, over which that is compared
_LEAST_STEP = 1e-6
_HARMONIC_STEPS = 1000  # at most; it ends where it is solved


def copy_pixels(palette: Palette, hole: Tensor, shifts: Tensor) -> Tensor:
    """The photo with its hole (H,W) filled by copying; (3,H,W)."""
    at, _ = palette.copied(hole.nonzero(), shifts[:, hole].T)
    copied = palette.image[..., : hole.shape[1]].clone()
    copied[:, hole] = palette.image.flatten(1)[:, at]
    return copied


def seam_correction(
    palette: Palette, hole: Tensor, shifts: Tensor, coarser: Tensor | None, steps: int
) -> tuple[Tensor, Tensor]:
    """What to add to copies so that nothing shows between them and at the hole's rim.

    Args:
        palette: what may be copied.
        hole: (H,W), bool.
        shifts: (2,H,W).
        coarser: the far correction at about half the size, (3,h,w); None to start from nothing.
        steps: of the solver.

    Returns:
        Two corrections to be added, each (3,H,W), 0 outside the hole: a far one, for differences in exposure, and a
        near one, which joins what does not belong together.
    """
    copies = copy_pixels(palette, hole, shifts)
    far, near = torch.zeros_like(copies), torch.zeros_like(copies)
    if coarser is not None:
        far = functional.interpolate(coarser[None], size=hole.shape, mode="nearest")[0]
    calm = _calm(copies, hole)
    for part, (rows, columns) in _parts(hole):
        edge = part & (neighbor_sum(part[None].float())[0] < 4)  # noqa: PLR2004  neighbors of a pixel inside
        half_width = int(part.sum()) / max(int(edge.sum()), 1)
        small, large = _jumps(palette, shifts, copies, part, (rows, columns), calm)
        start = far[:, rows, columns]
        for_far, for_near = (max(reach * half_width, 1.0) ** -2 for reach in (_REACH, _SHORT_REACH))
        solved = solve(part, small, start, steps=steps, screening=for_far, hold=_HOLD)
        far[:, rows, columns] = torch.where(part, solved, start)
        near[:, rows, columns] += solve(part, large, steps=_SHORT_STEPS, screening=for_near, hold=_HOLD)
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


def _calm(copies: Tensor, hole: Tensor) -> Tensor:
    """Factors on steps across the rim: below 1 where copies are busier than the photo beside them; (H,W)."""
    beside, copied = _mean_step(copies, ~hole), _mean_step(copies, hole)
    return (_BUSIER * beside / copied.clamp(min=_LEAST_STEP)).clamp(max=1)


def _mean_step(image: Tensor, where: Tensor) -> Tensor:
    """Between neighbors that are both marked, around each pixel; (H,W), 0 where there are none."""
    total, count = torch.zeros_like(image[0]), torch.zeros_like(image[0])
    for dy, dx in ((0, 1), (1, 0)):
        here = slice(0, where.shape[0] - dy), slice(0, where.shape[1] - dx)
        there = slice(dy, None), slice(dx, None)
        both = where[here] & where[there]
        total[here] += (image[:, there[0], there[1]] - image[:, here[0], here[1]]).abs().mean(dim=0) * both
        count[here] += both
    # A running sum, which costs the same whatever the area.
    mean, share = (torch.from_numpy(uniform_filter(each.numpy(), _AREA, mode="constant")) for each in (total, count))
    around: Tensor = mean / share.clamp(min=_LEAST_STEP)
    return around


def _jumps(
    palette: Palette, shifts: Tensor, copies: Tensor, part: Tensor, box: tuple[slice, slice], calm: Tensor
) -> tuple[Tensor, Tensor]:
    """Right-hand sides: at each seam, that its step is to become the one that its copies have there; (3,h,w) each.

    The first is for small differences and the beginning of large ones, the second for the rest of these.
    """
    small, large = (torch.zeros(3, *part.shape, dtype=copies.dtype) for _ in range(2))
    moved = shifts[:, box[0], box[1]]
    for dy, dx in ((0, 1), (1, 0)):
        near = slice(0, part.shape[0] - dy), slice(0, part.shape[1] - dx)
        far = slice(dy, None), slice(dx, None)
        differ = (moved[:, near[0], near[1]] != moved[:, far[0], far[1]]).any(dim=0) & part[near] & part[far]
        y, x = (differ | (part[near] ^ part[far])).nonzero().T
        ends = (y, x), (y + dy, x + dx)
        places = [(row + box[0].start, column + box[1].start) for row, column in ends]
        wanted, known = torch.zeros(3, len(y), dtype=copies.dtype), torch.zeros(len(y), dtype=copies.dtype)
        for (row, column), end in zip(places, ends, strict=True):
            step, counts = _copied_step(palette, shifts[:, row, column], places)
            counts &= part[end]
            wanted += torch.where(counts, step, 0)
            known += counts
        (row, column), (next_row, next_column) = places
        steps = copies[:, next_row, next_column] - copies[:, row, column]
        wanted /= known.clamp(min=1)
        at_rim = part[ends[0]] ^ part[ends[1]]
        wanted *= torch.where(at_rim, torch.minimum(calm[row, column], calm[next_row, next_column]), 1)
        jump = wanted - steps
        hold = torch.where(at_rim, _HOLD, 1.0)
        for jumps, portion in ((small, jump.clamp(-_MOST, _MOST)), (large, jump - jump.clamp(-_MOST, _MOST))):
            for (row, column), sign in zip(ends, (-1, 1), strict=True):
                jumps[:, row, column] += torch.where(part[row, column], sign * hold * portion, 0)
    return small, large


def _copied_step(palette: Palette, shift: Tensor, places: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """The step between two neighbors where they are copied from, and whether both may be copied."""
    values, allowed = [], torch.ones(shift.shape[1], dtype=torch.bool)
    for y, x in places:
        at, may = palette.copied(torch.stack([y, x], dim=1), shift.T)
        allowed &= may
        values.append(palette.image.flatten(1)[:, at])
    return values[1] - values[0], allowed
