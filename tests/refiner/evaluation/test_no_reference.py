"""Measures against pictures whose faults are made and known."""

from __future__ import annotations

import pytest
import torch
from kornia.filters import gaussian_blur2d

from refiner import InputError
from refiner.evaluation.no_reference import agreement, grid, looks, octaves, rim, seams


@pytest.fixture
def noise() -> torch.Tensor:
    """Grain of one kind everywhere."""
    random = torch.rand(1, 3, 192, 192, generator=torch.Generator().manual_seed(0))
    return 0.3 + 0.4 * gaussian_blur2d(random, (3, 3), (0.6, 0.6))


@pytest.fixture
def hole() -> torch.Tensor:
    hole = torch.zeros(1, 1, 192, 192, dtype=torch.bool)
    hole[..., 48:144, 50:146] = True
    return hole


def test_a_fill_like_its_surroundings_has_no_fault(noise, hole) -> None:
    seen = looks(noise, hole)
    assert seen.octaves[0].tolist() == pytest.approx([1, 1, 1], abs=0.1)
    assert float(seen.rim) == pytest.approx(1, abs=0.1)
    assert float(seen.grid) < 0.15
    assert torch.equal(seen.sharpness, seen.octaves[:, 0])


@pytest.mark.parametrize("factor", [0.25, 0.5, 2.0])
def test_octaves_are_ratios_of_contrast(noise, hole, factor) -> None:
    """Contrast halved around the mean halves every octave."""
    changed = torch.where(hole, 0.5 + (noise - 0.5) * factor, noise)
    assert octaves(changed, hole)[0].tolist() == pytest.approx([factor] * 3, rel=0.15)


def test_blur_loses_the_finest_octave_first(noise, hole) -> None:
    blurred = torch.where(hole, gaussian_blur2d(noise, (7, 7), (1.5, 1.5)), noise)
    first, second, third = octaves(blurred, hole)[0].tolist()
    assert first < 0.3
    assert first < second < third


@pytest.mark.parametrize("period", [2, 4, 8, 16])
def test_a_grid_is_found_at_each_period_and_nowhere_else(noise, hole, period) -> None:
    lines = torch.zeros_like(noise)
    lines[..., ::period] = 0.3
    gridded = torch.where(hole, noise + lines, noise)
    assert float(grid(gridded, hole)) > 4 * float(grid(noise, hole))
    assert float(grid(gridded.transpose(2, 3), hole.transpose(2, 3))) == pytest.approx(float(grid(gridded, hole)))
    odd = torch.zeros_like(noise)
    odd[..., ::7] = 0.3
    assert float(grid(torch.where(hole, noise + odd, noise), hole)) < float(grid(gridded, hole))


def test_a_step_at_the_rim_is_measured_in_steps_beside_it(hole) -> None:
    """Stripes of step 0.1 beside, a step of 0.3 at the rim."""
    picture = torch.zeros(1, 3, 192, 192)
    picture[..., ::2] = 0.1
    picture[..., 1::2, :] += 0.1
    assert float(rim(picture, hole)) == pytest.approx(1, abs=0.05)
    raised = torch.where(hole, picture + 0.3, picture)
    assert float(rim(raised, hole)) == pytest.approx(3, abs=0.2)


def test_seams_are_where_labels_change(noise, hole) -> None:
    labels = torch.zeros(1, 1, 192, 192)
    assert float(seams(noise, labels, hole)) == 1
    labels[..., 96:] = 1
    assert float(seams(noise, labels, hole)) == pytest.approx(1, abs=0.3)
    stepped = torch.where((labels > 0) & hole, noise + 0.3, noise)
    assert float(seams(stepped, labels, hole)) > 3


def test_agreement_is_a_mean_difference(noise, hole) -> None:
    assert float(agreement(noise + 0.05, noise, hole)) == pytest.approx(0.05, abs=1e-6)


def test_each_picture_and_each_region_is_measured_by_itself(noise, hole) -> None:
    blurred = torch.where(hole, gaussian_blur2d(noise, (7, 7), (1.5, 1.5)), noise)
    pair, holes = torch.cat([noise, blurred]), torch.cat([hole, hole])
    for both, one in zip((looks(pair, holes).octaves, looks(pair, holes).rim), ("octaves", "rim"), strict=True):
        torch.testing.assert_close(both[:1], getattr(looks(noise, hole), one))
        torch.testing.assert_close(both[1:], getattr(looks(blurred, hole), one))
    left = hole & (torch.arange(192) < 98)
    half = torch.where(left, blurred, noise)
    assert float(looks(half, hole, left).sharpness) < 0.4
    assert float(looks(half, hole, hole & ~left).sharpness) > 0.8


def test_shapes_that_do_not_fit_are_refused(noise, hole) -> None:
    with pytest.raises(InputError, match=r"expected masks of shape \(1, 1, 192, 192\)"):
        looks(noise, hole[..., :-1])
    with pytest.raises(InputError, match="nothing is marked"):
        looks(noise, torch.zeros_like(hole))
