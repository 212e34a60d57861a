from __future__ import annotations

import torch

from refiner import Settings, refine
from refiner.engine.color_match import match_color


def test_each_hole_loses_its_own_offset() -> None:
    image = torch.full((1, 3, 80, 200), 0.5)
    hole = torch.zeros(1, 1, 80, 200, dtype=torch.bool)
    hole[..., 20:40, 20:40] = hole[..., 30:60, 150:170] = True
    prediction = image.clone()
    prediction[..., :100] += torch.tensor([0.1, -0.1, 0.05]).view(1, 3, 1, 1)
    prediction[..., 100:] += torch.tensor([-0.2, 0.0, 0.1]).view(1, 3, 1, 1)
    before = prediction.clone()
    matched = match_color(prediction, image, hole)
    inside = hole.expand_as(image)
    torch.testing.assert_close(matched[inside], image[inside], atol=1e-4, rtol=0)
    assert torch.equal(prediction, before)  # not changed in place
    assert torch.equal(matched[~inside], prediction[~inside])


def test_only_the_ring_is_looked_at() -> None:
    image, hole = torch.full((1, 3, 100, 100), 0.5), torch.zeros(1, 1, 100, 100, dtype=torch.bool)
    hole[..., 45:55, 45:55] = True
    prediction = image.clone()
    prediction[..., :10] = 0.9  # far from the hole
    torch.testing.assert_close(match_color(prediction, image, hole)[..., 45:55, 45:55], image[..., 45:55, 45:55])
    prediction[..., 45:55, 30:45] = 0.6  # near it
    assert (match_color(prediction, image, hole)[..., 50, 48] < 0.49).all()


def test_values_stay_in_range() -> None:
    image, hole = torch.full((1, 3, 40, 40), 0.9), torch.zeros(1, 1, 40, 40, dtype=torch.bool)
    hole[..., 10:20, 10:20] = True
    prediction = torch.full((1, 3, 40, 40), 0.5)
    prediction[..., 10:20, 10:20] = 0.8  # and as much brighter as 0.9 is than 0.5
    matched = match_color(prediction, image, hole)
    torch.testing.assert_close(matched[0, :, 15, 15], torch.ones(3), atol=1e-5, rtol=0)
    assert ((matched >= 0) & (matched <= 1)).all()


def test_a_smooth_offset_follows_the_rim() -> None:
    y, x = torch.meshgrid(torch.linspace(0, 1, 120), torch.linspace(0, 1, 160), indexing="ij")
    image = torch.stack([0.3 + 0.2 * x, 0.4 + 0.2 * y, 0.5 + 0 * x])[None]
    hole = torch.zeros(1, 1, 120, 160, dtype=torch.bool)
    hole[..., 30:90, 40:120] = True
    prediction = image + torch.stack([0.1 * x - 0.05, 0.02 + 0 * x, 0.06 * y])[None]
    inside, known = hole.expand_as(image), ~hole.expand_as(image)
    matched = match_color(prediction, image, hole)
    assert (matched - image)[inside].abs().max() < 0.008
    assert torch.equal(matched[known], prediction[known])
    torch.testing.assert_close(match_color(image, image, hole), image, atol=2e-5, rtol=0)


def test_a_smooth_offset_in_float64_and_narrow_pictures() -> None:
    image = torch.rand(1, 3, 21, 43, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    hole = torch.zeros(1, 1, 21, 43, dtype=torch.bool)
    hole[..., 5:21, 3:9] = hole[..., 20:, 20:] = True
    matched = match_color((image + 0.1).clamp(0, 1), image, hole)
    assert matched.dtype == torch.float64
    assert ((matched - image)[hole.expand_as(image)].mean()).abs() < 0.05


def test_the_setting_brings_the_fill_nearer_to_its_surroundings(toy, scene) -> None:
    image, mask = scene
    results = [
        refine(toy, image, mask, Settings(detail="features", steps=3, match_color=on)).image for on in ("off", "on")
    ]
    known = (mask == 0).expand_as(image)
    assert all(torch.equal(result[known], image[known]) for result in results)
    ring_color = image[..., 15:55, 20:65].mean(dim=(2, 3))
    distances = [(result[..., 20:50, 25:60].mean(dim=(2, 3)) - ring_color).abs().mean() for result in results]
    assert distances[1] < distances[0]


def test_a_hole_without_a_ring_is_left_alone() -> None:
    image = torch.full((1, 3, 4, 4), 0.5)
    hole = torch.ones(1, 1, 4, 4, dtype=torch.bool)
    prediction = torch.rand(1, 3, 4, 4)
    assert torch.equal(match_color(prediction, image, hole), prediction)
