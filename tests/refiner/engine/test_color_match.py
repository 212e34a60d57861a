from __future__ import annotations

import torch

from refiner import Settings, refine
from refiner.engine.color_match import match_color


def test_each_hole_loses_its_own_offset() -> None:
    image = torch.rand(1, 3, 80, 120, generator=torch.Generator().manual_seed(0)) * 0.4 + 0.3
    hole = torch.zeros(1, 1, 80, 120, dtype=torch.bool)
    hole[..., 20:40, 20:40] = hole[..., 30:60, 90:110] = True
    offset = torch.zeros(1, 3, 80, 120)
    offset[..., :60] = torch.tensor([0.1, -0.1, 0.05]).view(1, 3, 1, 1)
    offset[..., 60:] = torch.tensor([-0.2, 0.0, 0.1]).view(1, 3, 1, 1)
    prediction = image + offset
    before = prediction.clone()
    matched = match_color(prediction, image, hole)
    torch.testing.assert_close(matched[hole.expand_as(image)], image[hole.expand_as(image)])
    assert torch.equal(prediction, before)  # not changed in place
    outside = ~hole.expand_as(image)
    assert torch.equal(matched[outside], prediction[outside])


def test_only_the_ring_is_looked_at() -> None:
    image, hole = torch.full((1, 3, 100, 100), 0.5), torch.zeros(1, 1, 100, 100, dtype=torch.bool)
    hole[..., 45:55, 45:55] = True
    prediction = image.clone()
    prediction[..., :10] = 0.9  # far from the hole
    assert torch.equal(match_color(prediction, image, hole), prediction)
    prediction[..., 45:55, 30:45] = 0.6  # near it
    assert (match_color(prediction, image, hole)[..., 50, 50] < 0.5).all()


def test_values_stay_in_range_and_pictures_of_a_batch_apart() -> None:
    image, hole = torch.full((2, 3, 40, 40), 0.9), torch.zeros(2, 1, 40, 40, dtype=torch.bool)
    hole[..., 10:20, 10:20] = True
    prediction = torch.full((2, 3, 40, 40), 0.5)
    prediction[1] = 0.9
    prediction[0, :, 10:20, 10:20] = 0.8  # 0.8 + 0.4 is too bright
    matched = match_color(prediction, image, hole)
    assert matched[0, :, 15, 15].tolist() == [1, 1, 1]
    assert torch.equal(matched[1], prediction[1])


def test_a_smooth_offset_follows_the_rim() -> None:
    y, x = torch.meshgrid(torch.linspace(0, 1, 120), torch.linspace(0, 1, 160), indexing="ij")
    image = torch.stack([0.3 + 0.2 * x, 0.4 + 0.2 * y, 0.5 + 0 * x])[None]
    hole = torch.zeros(1, 1, 120, 160, dtype=torch.bool)
    hole[..., 30:90, 40:120] = True
    prediction = image + torch.stack([0.1 * x - 0.05, 0.02 + 0 * x, 0.06 * y])[None]
    inside, known = hole.expand_as(image), ~hole.expand_as(image)
    off = {
        smooth: (match_color(prediction, image, hole, smooth=smooth) - image)[inside].abs().max()
        for smooth in (False, True)
    }
    assert off[True] < 0.008
    assert off[False] > 0.02
    matched = match_color(prediction, image, hole, smooth=True)
    assert torch.equal(matched[known], prediction[known])
    torch.testing.assert_close(match_color(image, image, hole, smooth=True), image, atol=2e-5, rtol=0)


def test_a_smooth_offset_in_float64_batches_and_narrow_pictures() -> None:
    image = torch.rand(2, 3, 21, 43, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    hole = torch.zeros(2, 1, 21, 43, dtype=torch.bool)
    hole[0, :, 5:21, 3:9] = hole[1, :, :, 20:] = True
    prediction = (image + 0.1).clamp(0, 1)
    together = match_color(prediction, image, hole, smooth=True)
    assert together.dtype == torch.float64
    alone = [match_color(prediction[i : i + 1], image[i : i + 1], hole[i : i + 1], smooth=True) for i in range(2)]
    torch.testing.assert_close(together, torch.cat(alone))
    assert ((together - image)[hole.expand_as(image)].mean()).abs() < 0.05


def test_the_setting_brings_the_fill_nearer_to_its_surroundings(toy, scene) -> None:
    image, mask = scene
    results = [
        refine(toy, image, mask, Settings(detail="features", steps=3, match_color=on)).image
        for on in ("off", "mean", "smooth")
    ]
    known = (mask == 0).expand_as(image)
    assert all(torch.equal(result[known], image[known]) for result in results)
    ring_color = image[..., 15:55, 20:65].mean(dim=(2, 3))
    distances = [(result[..., 20:50, 25:60].mean(dim=(2, 3)) - ring_color).abs().mean() for result in results]
    assert max(distances[1:]) < distances[0]


def test_a_hole_without_a_ring_is_left_alone() -> None:
    image = torch.full((1, 3, 4, 4), 0.5)
    hole = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    prediction = torch.rand(1, 3, 4, 4)
    assert torch.equal(match_color(prediction, image, hole), prediction)
