from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from refiner import Settings, refine
from refiner.engine.memory_estimate import estimate_peak, meta_copy
from refiner.engine.objective import Target, paper_objective
from refiner.engine.texture import texture_term, weighed
from refiner.engine.windows import Window
from refiner.evaluation.no_reference import octaves


@pytest.fixture
def parts():
    """A rough photo, a hole, and the photo with the hole filled smoothly."""
    image = 0.5 + 0.08 * torch.randn(1, 3, 120, 128, generator=torch.Generator().manual_seed(0))
    hole = torch.zeros(1, 1, 120, 128, dtype=torch.bool)
    hole[..., 40:80, 40:90] = True
    return image, hole, torch.where(hole, 0.5, image)


def test_the_distance_is_that_of_sorted_responses(parts) -> None:
    image, hole, smooth = parts
    term = texture_term(image, hole, (120, 128))
    same, far = term(image), term(smooth)
    assert 0 < same < far / 10
    # A smooth fill has a response of 0 nearly everywhere: the distance is the mean strength on the ring.
    assert 0.6 * term.wanted.abs().mean() < far < term.wanted.abs().mean()
    torch.testing.assert_close(term.filters.norm(dim=0), torch.ones(term.filters.shape[1]))


def test_the_fills_patches_lie_in_the_hole(parts) -> None:
    image, hole, _ = parts
    term = texture_term(image, hole, (120, 128))
    y, x = term.places[0] // 128 + 3, term.places[0] % 128 + 3  # the middle of a patch of 7
    assert hole[0, 0, y, x].all()
    assert len(term.places[0].unique()) > 900


def test_what_lies_in_the_hole_does_not_count_for_the_ring(parts) -> None:
    image, hole, _ = parts
    changed = torch.where(hole, 0.9, image)
    torch.testing.assert_close(
        texture_term(changed, hole, (120, 128)).wanted, texture_term(image, hole, (120, 128)).wanted
    )


def test_descending_it_gives_a_fill_the_photos_finest_octave(parts) -> None:
    image, hole, smooth = parts
    term = texture_term(image, hole, (120, 128))
    fill = torch.nn.Parameter(smooth + 0.005 * torch.randn(smooth.shape, generator=torch.Generator().manual_seed(1)))
    adam = torch.optim.Adam([fill], lr=0.02)
    before = octaves(torch.where(hole, fill.detach(), image), hole)[0, 0]
    for _ in range(40):
        adam.zero_grad()
        term(fill).sum().backward()
        adam.step()
    after = octaves(torch.where(hole, fill.detach(), image), hole)[0, 0]
    assert before < 0.15
    assert 0.75 < after < 1.2


def test_gradients_are_weighed_by_length() -> None:
    prediction = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0), requires_grad=True)
    main, other = weighed(prediction, 0.5)
    (gradient,) = torch.autograd.grad((main.square().sum() + 100 * other.sum()), prediction)
    first, second = 2 * prediction.detach(), torch.ones(2, 3, 8, 8)
    lengths = [x.flatten(1).norm(dim=1)[:, None, None, None] for x in (first, second)]
    torch.testing.assert_close(gradient, first + 0.5 * second * lengths[0] / lengths[1])
    main, other = weighed(prediction, 0.5)
    (gradient,) = torch.autograd.grad((main.square().sum() + 0 * other.sum()), prediction)
    torch.testing.assert_close(gradient, first)


def test_pictures_of_a_batch_holes_that_are_missing_and_padding(parts) -> None:
    image, hole, smooth = parts
    images, holes = torch.cat([image, image]), torch.cat([hole, torch.zeros_like(hole)])
    term = texture_term(images, holes, (118, 125))
    found = term(torch.cat([smooth, smooth]))
    assert found[1] == 0
    assert found[0] > 0
    padded = torch.cat([smooth, smooth])
    padded[..., 120 - 1 :, :] += 0.5
    assert term(padded)[0] == pytest.approx(float(found[0]), rel=0.02)
    everything = texture_term(image, torch.ones_like(hole), (120, 128))
    assert everything(smooth).tolist() == [0]
    tiny = texture_term(image[..., :5, :5], hole[..., :5, :5], (5, 5))
    assert tiny.there.tolist() == [False]


def test_off_it_is_the_papers_loss_and_on_it_adds(parts) -> None:
    image, hole, smooth = parts
    target = Target(image, hole, torch.zeros(1, 3, 60, 64), (120, 128))
    off, on = (paper_objective(target, Settings(texture_weight=weight)) for weight in (0, 0.5))
    assert off.texture is None
    torch.testing.assert_close(on(smooth), off(smooth) + 0.5 * texture_term(image, hole, (120, 128))(smooth))
    reseeded = paper_objective(target, Settings(texture_weight=0.5, seed=1))
    assert reseeded(smooth) != on(smooth)


def test_it_runs_on_shapes_alone(tiny) -> None:
    options = {"batch": 2, "dtype": torch.float32, "conv_dtype": None, "strip_rows": None}
    settings = Settings(texture_weight=0.5, guide_region="soft")
    peaks = [
        estimate_peak(meta_copy(tiny), Window(0, 0, 96, 104), settings=each, **options)
        for each in (replace(settings, texture_weight=0), settings)
    ]
    assert None not in peaks
    assert peaks[1] > peaks[0]


def test_the_setting_makes_a_fill_rougher(tiny, scene) -> None:
    image, mask = scene
    image = (image + 0.1 * torch.randn(image.shape, generator=torch.Generator().manual_seed(0))).clamp(0, 1)
    settings = Settings(detail="features", min_side=32, steps=15, lr=0.02, keep="last", precision="float32")
    smooth, rough = (refine(tiny, image, mask, replace(settings, texture_weight=w)).image for w in (0, 1))
    assert octaves(rough, mask > 0)[0, 0] > octaves(smooth, mask > 0)[0, 0]
    known = (mask == 0).expand_as(image)
    assert torch.equal(rough[known], image[known])
