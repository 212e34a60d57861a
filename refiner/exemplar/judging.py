"""Which of several fills looks most like its photo, without knowing what was there; in each part of a hole."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import torch
from torch.nn import functional

from refiner.exemplar.laplace import harmonic_fill

if TYPE_CHECKING:
    from torch import Tensor

    from refiner.exemplar.energy import Energy
    from refiner.exemplar.patch_search import PatchSearch

# Exponents and the area were fitted on 110 pictures with holes over edges, and confirmed on 247 holes of 130 others.
_BY_SHADE, _BY_ENERGY = 0.5, 0.25  # exponents, where faults of patches have 1
_LEAST_SHADE = 0.01
_SHADE_AREA = 9  # pixels at the smallest level, over which colors are compared


class Verdict(NamedTuple):
    """What speaks against a fill, in each connected part of the hole.

    Attributes:
        faults: how far it is from all that the photo has; (parts,). Patches that the photo has nowhere, colors far from
            those of the smoothest fill, and what shows at the rim and at seams count: the product of powers of them.
        energy: what shows at the rim and at seams; (parts,).
    """

    faults: Tensor
    energy: Tensor

    def where(self, which: Tensor, other: Verdict) -> Verdict:
        """This one in some parts of the hole, bool (parts,), and another in the rest."""
        return Verdict(*(torch.where(which, *each) for each in zip(self, other, strict=True)))


class Judge:
    """Compares shift maps of one hole at the smallest level.

    Args:
        search: of the photo's patches.
        energy: what shows at the rim and at seams, of the hole's pixels.
    """

    def __init__(self, search: PatchSearch, energy: Energy) -> None:
        self._search, self._energy = search, energy
        self._palette, self._nodes = energy.palette, energy.nodes
        self._smooth = harmonic_fill(self._palette.image, ~self._palette.known)

    def of(self, shifts: Tensor) -> Verdict:
        """What speaks against the fill that shifts (n,2) copy."""
        at, _ = self._palette.copied(self._nodes.places, shifts)
        faults = self._search.faults(self._nodes, self._search.looks(at))
        shade = (self._shade(self._palette.colors(at)) + _LEAST_SHADE) ** _BY_SHADE
        energy = self._energy.of_parts(shifts)
        return Verdict(faults * shade * energy**_BY_ENERGY, energy)

    def _shade(self, colors: Tensor) -> Tensor:
        """How far a fill (n,3), blurred, is from the smoothest one, whose edges speak for neither; (parts,)."""
        apart, at = torch.zeros_like(self._smooth), self._nodes.at
        apart.flatten(1)[:, at] = colors.T - self._smooth.flatten(1)[:, at]
        apart = functional.avg_pool2d(apart[None], _SHADE_AREA, 1, _SHADE_AREA // 2, count_include_pad=False)[0]
        return self._nodes.part_means(apart.flatten(1)[:, at].abs().mean(dim=0))
