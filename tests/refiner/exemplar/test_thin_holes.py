"""Thin holes, lettering and meshes: made scenes whose right content is known."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor

from refiner.engine.pyramid import build_pyramid
from refiner.exemplar import Exemplar, Level, level_count
from refiner.exemplar.structure import thin

HEIGHT, WIDTH = 480, 640


def filled(image: Tensor, hole: Tensor) -> Tensor:
    """By copies, over the engine's own pyramid; what lies under the hole is white."""
    shown = torch.where(hole, 1.0, image)
    pyramid = build_pyramid(shown[None], hole[None, None], level_count(HEIGHT, WIDTH, int(hole.sum())))
    exemplar = Exemplar([Level(*level) for level in pyramid])
    return exemplar.render(len(pyramid) - 1)[0]


def slats() -> Tensor:
    """Curved light slats, each 9 pixels wide, with dark gaps between them; (3,H,W)."""
    rows, columns = torch.meshgrid(torch.arange(HEIGHT).float(), torch.arange(WIDTH).float(), indexing="ij")
    phase = (rows + 5e-4 * (columns - 150) ** 2) % 14
    edge = torch.minimum(phase, (9 - phase).abs()).clamp(max=1)  # as soft as a photo's
    light = torch.where(phase < 9, 0.35 + 0.45 * edge, 0.35 - 0.25 * edge)
    return light.expand(3, -1, -1)


def lettering() -> Tensor:
    """A word with strokes about a dozen pixels wide, twice; (H,W), bool."""
    mask = Image.new("L", (WIDTH, HEIGHT))
    font = ImageFont.load_default(size=72)
    draw = ImageDraw.Draw(mask)
    for at in ((60, 100), (120, 290)):
        draw.text(at, "SAMPLE", fill=255, font=font, stroke_width=1)
    return torch.from_numpy(np.array(mask.rotate(20)) > 0)


def test_slats_go_on_under_lettering() -> None:
    image, hole = slats(), lettering()
    assert 0.03 < hole.float().mean() < 0.12
    error = (filled(image, hole) - image).abs().mean(dim=0)[hole]
    assert float(error.mean()) < 0.02


def test_a_mesh_leaves_a_gradient_as_it_is() -> None:
    rows, columns = torch.meshgrid(torch.arange(HEIGHT).float(), torch.arange(WIDTH).float(), indexing="ij")
    image = torch.stack([rows / HEIGHT, columns / WIDTH, 1 - rows / HEIGHT]) * 0.6 + 0.2
    hole = ((rows + columns) % 40 < 6) | ((rows - columns) % 40 < 6)
    error = (filled(image, hole) - image).abs().mean(dim=0)[hole]
    assert float(error.mean()) < 0.005
    assert float(error.max()) < 0.05


def test_slats_go_on_under_a_mesh() -> None:
    """Its wires are a pixel or two wide at the smallest level, where what shows between them would be lost."""
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    image, hole = slats(), ((rows + columns) % 40 < 8) | ((rows - columns) % 40 < 8)
    error = (filled(image, hole) - image).abs().mean(dim=0)[hole]
    assert float(error.mean()) < 0.01, "0.12 before edges were carried across"


def test_a_hole_is_thin_though_it_is_deep_where_strokes_meet() -> None:
    strokes = torch.zeros(80, 200, dtype=torch.bool)
    strokes[30:36] = strokes[:, 10:16] = True
    assert thin(strokes)
    junction = strokes.clone()
    junction[24:42, 4:22] = True
    assert thin(junction)
    disc = torch.zeros(80, 200, dtype=torch.bool)
    disc[24:42, 4:22] = True
    assert not thin(disc)


def test_what_a_hole_has_grown_by_shows_the_photo() -> None:
    """At smaller levels the hole is wider than what is filled: between the two lies what is known."""
    image, hole = slats(), lettering()
    pyramid = build_pyramid(image[None], hole[None, None], 2)
    levels = [Level(*level) for level in pyramid]
    small = Exemplar(levels).render(0)[0]
    grown = levels[0].hole[0, 0]
    truth = torch.nn.functional.avg_pool2d(image[None], 2)[0]
    assert torch.equal(small[:, ~grown], levels[0].image[0][:, ~grown])
    near = grown & ~(torch.nn.functional.max_pool2d(hole[None, None].float(), 2)[0, 0] > 0)
    assert near.any()
    assert float((small - truth).abs().mean(dim=0)[near].max()) < 1e-5
