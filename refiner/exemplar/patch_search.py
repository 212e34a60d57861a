"""Patches searched for one hole, from a small picture to a larger one: how the scene around it goes on.

At each level every patch that reaches into the hole finds the known patch most like it, and every pixel becomes what
the patches over it say together; again and again, until it is one picture.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from scipy.ndimage import distance_transform_edt
from torch import Tensor
from torch.nn import functional

from refiner.exemplar.patches import Found, Patches, Scene
from refiner.exemplar.progress import part

if TYPE_CHECKING:
    from refiner.exemplar.locality import Locality
    from refiner.exemplar.nodes import Nodes
    from refiner.exemplar.progress import OnStep

_LEAST_TEXTURE = 1e-3
_TEXTURE_SHARE = 0.3  # of a change in texture, in the faults of a fill
_AROUND = 15  # pixels, within which a target belongs to a part of the hole
_HOLD = 1.0  # of the colors that the rim suggests, at the smallest level, against those of the patch
_TEXTURE_AREA = 9  # pixels over which texture is measured, where it is measured
_EDGE_AREA = 7  # pixels over which the least is taken
_NARROW = 4.0  # pixels from a hole's middle to its rim, at the smallest level at most
_LEAST_SIDE = 48  # of what may be halved
_BEGUN_AT = 80  # short side of the smallest size that is searched, in pixels; smaller ones are for faults alone


class PatchSearch:
    """A search of a photo's smallest level, by way of smaller ones still, where the hole is a few patches wide.

    Args:
        scene: the smallest level.
        random: draws.
        local: where like patches lie; None where that does not count.

    Attributes:
        possible: whether there are patches to copy.
    """

    def __init__(self, scene: Scene, random: torch.Generator, local: Locality | None = None) -> None:
        self._random = random
        scenes = _sizes(scene)
        made = (Patches(each, random, _HOLD / 2**number, local=local) for number, each in enumerate(scenes))
        self._levels = [patches for patches in made if patches.possible]
        self.possible = bool(self._levels) and self._levels[-1].size == tuple(scene.palette.known.shape)

    def run(self, nodes: Nodes, looks: Tensor, on_step: OnStep, *, tiny: bool = False) -> Found:
        """Search and vote from size to size, beginning with a fill at one where there is still something of it.

        A few patches fill the hole at the smallest, and go on with what they happen to show.

        Args:
            nodes: pixels of the scene's hole.
            looks: of the fill at each; (n,5).
            on_step: see `OnStep`.
            tiny: whether to begin at the smallest nevertheless.
        """
        picture = self._levels[-1].picture(nodes.at, looks)[None]
        levels = [each for each in self._levels if tiny or min(each.size) >= _BEGUN_AT] or self._levels[-1:]
        found: Found | None = None
        for number, patches in enumerate(levels):
            told = part(on_step, number / len(levels), (number + 1) / len(levels))
            if found is None:
                fill = functional.adaptive_avg_pool2d(picture, patches.size)[0][:, patches.hole].T
                found = patches.settled(fill, None, self._random, told)
            else:
                found = patches.settled(*patches.enlarged(found, self._random), self._random, told)
        assert found is not None  # noqa: S101  there are levels where a search is possible
        return found

    def match(self, fill: Tensor) -> Found:
        """The patches most like those of a fill, which is not changed.

        Args:
            fill: colors of the whole picture, (3,H,W).
        """
        return self._levels[-1].matched(fill, self._random)

    def looks_of(self, fill: Tensor, nodes: Nodes) -> Tensor:
        """The looks (n,5) of a fill, (3,H,W), at pixels of the hole, with the texture that the rim suggests."""
        return torch.cat([fill, self._levels[-1].suggested_texture]).flatten(1)[:, nodes.at].T

    def looks(self, copied: Tensor) -> Tensor:
        """The looks (n,5) of pixels of the palette, (n,)."""
        return self._levels[-1].looks(copied)

    def faults(self, nodes: Nodes, looks: Tensor) -> Tensor:
        """How far a fill is from all that the photo has, by patches of all sizes, in each part of the hole; (parts,).

        Args:
            nodes: pixels of the scene's hole.
            looks: of the fill at each; (n,5). In what else there is of the scene's hole the picture is as it is.
        """
        last = self._levels[-1]
        picture = last.picture(nodes.at, looks)
        part_of, count = nodes.parts()
        number = torch.zeros(1, 1, *last.size)
        number[0, 0].flatten()[nodes.at] = part_of.float() + 1
        number = functional.max_pool2d(number, _AROUND, 1, _AROUND // 2)  # targets lie around the hole too
        total = torch.zeros(count)
        for patches in self._levels:
            fill = functional.adaptive_avg_pool2d(picture[None], patches.size)[0][:, patches.hole].T
            which, cost = patches.faults(fill)
            rows, columns = (
                at[which] * whole // own for at, whole, own in zip(patches.at, last.size, patches.size, strict=True)
            )
            own = number[0, 0, rows, columns].long()
            sums, counts = (torch.zeros(count + 1).index_add_(0, own, each) for each in (cost, torch.ones_like(cost)))
            total += (sums / counts.clamp(min=1))[1:]
        return total * self._texture_changed(nodes, looks, part_of, count)

    def _texture_changed(self, nodes: Nodes, looks: Tensor, part_of: Tensor, count: int) -> Tensor:
        """A factor for each part of the hole, from 1, for more or less texture than the rim suggests; (count,)."""
        suggested = self._levels[-1].suggested_texture.flatten(1)[:, nodes.at].T
        have, expected = (
            torch.zeros(count).index_add_(0, part_of, each.sum(dim=1)) for each in (looks[:, 3:], suggested)
        )
        return ((have + _LEAST_TEXTURE) / (expected + _LEAST_TEXTURE)).log().abs().mul(_TEXTURE_SHARE).exp()


def where_like_lie(scene: Scene) -> Locality | None:
    """Where in a photo like patches lie, by the smallest of its sizes that is searched; None where there are none.

    Args:
        scene: the photo's smallest level.
    """
    random = torch.Generator().manual_seed(0)  # the photo's own, whatever is drawn for a fill
    scenes = _sizes(scene)
    patches = Patches(next((each for each in scenes if min(each.palette.known.shape) >= _BEGUN_AT), scene), random)
    return patches.locality(random) if patches.possible else None


def search_larger(
    scene: Scene,
    before: Found,
    random: torch.Generator,
    on_step: OnStep,
    *,
    across: bool = False,
    local: Locality | None = None,
) -> Found | None:
    """Search the next larger level, about twice as large, from what was found; None where there are no patches.

    Args:
        scene: the level.
        before: what was found at the level before.
        random: draws.
        on_step: see `OnStep`.
        across: whether patches reach across the hole.
        local: where like patches lie; None where that does not count.
    """
    patches = Patches(scene, random, near=across, local=local)
    if not patches.possible:
        return None
    return patches.settled(*patches.enlarged(before, random), random, on_step)


def search_across(scene: Scene, random: torch.Generator, on_step: OnStep) -> Found | None:
    """Search a level whose hole is so thin that patches reach across it; None where there are no patches."""
    patches = Patches(scene, random, near=True)
    if not patches.possible:
        return None
    return patches.settled(*patches.begun(random), random, on_step)


def texture_of(image: Tensor, hole: Tensor) -> Tensor:
    """How large the steps between pixels are on average around each known one, along rows and columns; (2,H,W)."""
    known = (~hole).float()
    gray = image.mean(dim=0)
    steps = torch.zeros(2, *gray.shape)
    steps[0, :, 1:] = (gray[:, 1:] - gray[:, :-1]).abs() * known[:, 1:] * known[:, :-1]
    steps[1, 1:] = (gray[1:] - gray[:-1]).abs() * known[1:] * known[:-1]
    total, share = (
        functional.avg_pool2d(each[None], _TEXTURE_AREA, 1, _TEXTURE_AREA // 2)[0] for each in (steps, known[None])
    )
    return total / share.clamp(min=1e-3) * known


def texture_without_edges(image: Tensor, hole: Tensor) -> Tensor:
    """Texture, the least of what is near by: the edge between two smooth things is no texture of either; (2,H,W)."""
    texture = texture_of(image, hole)
    most = float(texture.max()) + 1
    negated = -torch.where(hole, most, texture)
    return functional.max_pool2d(negated[None], _EDGE_AREA, 1, _EDGE_AREA // 2)[0].neg() * ~hole


def reduced(texture: Tensor, hole: Tensor, size: tuple[int, int]) -> Tensor:
    """Texture at a smaller size, the mean of what is known; (2,h,w)."""
    known = (~hole).float()[None]
    total, share = (functional.adaptive_avg_pool2d(each[None], size)[0] for each in (texture * known, known))
    return total / share.clamp(min=1e-3)


def _sizes(scene: Scene) -> list[Scene]:
    """A photo's smallest level and smaller sizes of it, the smallest first."""
    scenes = [scene]
    while _may_be_halved(scenes[0]):
        scenes.insert(0, _halved(scenes[0]))
    return scenes


def _may_be_halved(scene: Scene) -> bool:
    hole = ~scene.palette.known
    return min(hole.shape) >= _LEAST_SIDE and float(distance_transform_edt(hole.numpy()).max()) > _NARROW


def _halved(scene: Scene) -> Scene:
    """Half the size."""
    palette = scene.palette.halved()
    height, width = palette.known.shape
    texture, known = (each[..., : 2 * height, : 2 * width] for each in (scene.texture, scene.palette.known))
    return Scene(palette, reduced(texture, ~known, (height, width)) * palette.known)
