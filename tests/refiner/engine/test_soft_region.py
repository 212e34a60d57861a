from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from refiner import Settings, refine
from refiner.engine.objective import Target, paper_objective
from refiner.engine.pyramid import halve_hole_inward, halve_image
from refiner.engine.soft_region import soft_region


def _band(height: int, width: int, thickness: int, top: int = 20) -> torch.Tensor:
    hole = torch.zeros(1, 1, height, width, dtype=torch.bool)
    hole[..., top : top + thickness, :] = True
    return hole


def test_weights_rise_from_the_edge_of_a_wide_hole_as_far_as_told() -> None:
    column = soft_region(_band(200, 64, 120), most=7)[0, 0, :, 16]
    inside = column[10:70]
    assert (column[:10] == 0).all()
    assert (column[70:] == 0).all()
    rise = (torch.arange(1, 31) - 0.5).div(7).clamp(max=1)
    torch.testing.assert_close(inside[:30], rise**2 * (3 - 2 * rise))
    torch.testing.assert_close(inside, inside.flip(0))


@pytest.mark.parametrize("thickness", [1, 2, 3, 4, 6, 10, 16, 30])
def test_no_hole_is_left_unguided(thickness) -> None:
    for top in (20, 21):
        weights = soft_region(_band(80, 64, thickness, top), most=7)
        column = weights[0, 0, :, 16]
        assert column.max() >= (0.7 if thickness > 2 else 0.5)
        touched = functional.max_pool2d(_band(80, 64, thickness, top).float(), 2) > 0
        assert (weights[~touched] == 0).all()


def test_width_is_that_of_the_hole_around_a_pixel() -> None:
    hole = _band(160, 300, 100)
    hole[..., 160:] = False
    hole[..., 68:72, 160:290] = True  # a wide hole with a thin arm
    weights = soft_region(hole, most=7)[0, 0]
    assert weights[34:36, 100:140].min() == 1  # the arm: two pixels of half the size, half-width 1
    assert weights[10, 20:60].max() < 0.02  # the wide hole's edge


def test_no_erosion_means_the_whole_hole() -> None:
    hole = _band(80, 64, 20)
    assert torch.equal(soft_region(hole, most=0) == 1, halve_hole_inward(hole))


@pytest.mark.parametrize("size", [(64, 80), (65, 80), (64, 81), (67, 83)])
def test_batches_odd_sizes_and_shapes_alone(size) -> None:
    hole = torch.zeros(2, 1, *size, dtype=torch.bool)
    hole[0, :, 10:60, 8:50] = hole[1, :, 30:33, 5:70] = True
    together = soft_region(hole, most=7)
    assert together.shape == (2, 1, size[0] // 2, size[1] // 2)
    assert 0 <= together.min() <= together.max() == 1
    assert torch.equal(together, torch.cat([soft_region(hole[i : i + 1], most=7) for i in range(2)]))
    assert soft_region(hole.to("meta"), most=7).shape == together.shape


def test_the_loss_is_the_weighted_mean() -> None:
    generator = torch.Generator().manual_seed(0)
    image, prediction = (torch.rand(2, 3, 64, 64, generator=generator, dtype=torch.float64) for _ in range(2))
    guide = torch.zeros(2, 3, 32, 32, dtype=torch.float64)
    hole = torch.zeros(2, 1, 64, 64, dtype=torch.bool)
    hole[0, :, 8:40, 8:40] = True  # the second has none: its term is left out
    target = Target(image, hole, guide, (64, 64))
    objective = paper_objective(target, Settings(guide_region="soft"))
    alone = paper_objective(target, Settings(guide_region="soft", guide_weight=0))
    found = objective(prediction) - alone(prediction)
    weights = soft_region(hole, most=7).double()
    error = halve_image(prediction).abs()
    torch.testing.assert_close(found[0], (error * weights).sum(dim=(1, 2, 3))[0] / (3 * weights[0].sum()))
    assert found[1] == 0
    constant = torch.full_like(prediction, 0.25)
    torch.testing.assert_close(objective(constant) - alone(constant), torch.tensor([0.25, 0.0]).double())


def test_thin_holes_are_held_to_the_guide(toy, scene) -> None:
    image, _ = scene
    mask = torch.zeros(1, 1, *image.shape[2:])
    mask[..., 30:38, 10:80] = 1
    guide = torch.full((1, 3, 33, 45), 0.9)
    fills = []
    for region in ("eroded", "soft"):
        settings = Settings(detail="features", guide_region=region, steps=15, lr=0.05, windows="off")
        fills.append(refine(toy, image, mask, settings, guide=guide).image[mask.expand_as(image) > 0].mean())
    assert fills[1] > fills[0] + 0.02
