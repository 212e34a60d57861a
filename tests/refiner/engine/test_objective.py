from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from kornia.morphology import erosion

from refiner.engine.objective import Objective, Target, ellipse_kernel, erode, paper_objective
from refiner.engine.pyramid import halve_hole_inward, halve_image

OPENCV_ELLIPSES = [  # pixels set in each row
    [1],
    [1, 3, 1],
    [1, 5, 5, 5, 1],
    [1, 5, 7, 7, 7, 5, 1],
    [1, 9, 11, 13, 13, 15, 15, 15, 15, 15, 13, 13, 11, 9, 1],
]


@pytest.mark.parametrize("rows", OPENCV_ELLIPSES)
def test_ellipse_is_opencvs(rows) -> None:
    ellipse = ellipse_kernel(len(rows))
    assert ellipse.sum(dim=1).int().tolist() == rows
    assert torch.equal(ellipse, ellipse.flip(1))


@settings(max_examples=25, deadline=None)
@given(
    height=st.integers(1, 50),
    width=st.integers(1, 50),
    known=st.floats(0, 0.03),
    side=st.sampled_from([1, 3, 7, 15]),
    seed=st.integers(0, 99),
)
def test_erosion_is_kornias(height, width, known, side, seed) -> None:
    hole = torch.rand(2, 1, height, width, generator=torch.Generator().manual_seed(seed)) >= known
    expected = erosion(hole.float(), ellipse_kernel(side)) >= 1 - 1e-8
    assert torch.equal(erode(hole, side), expected)


def _objective(hole: torch.Tensor, image: torch.Tensor, coarse: torch.Tensor, **options) -> Objective:
    return paper_objective(Target(image, hole, coarse, tuple(hole.shape[2:])), **options)


@pytest.fixture
def parts():
    generator = torch.Generator().manual_seed(1)
    image, prediction = (torch.rand(2, 3, 64, 72, generator=generator, dtype=torch.float64) for _ in range(2))
    coarse = torch.rand(2, 3, 32, 36, generator=generator, dtype=torch.float64)
    hole = torch.zeros(2, 1, 64, 72, dtype=torch.bool)
    hole[0, :, 8:60, 8:60] = True
    hole[1, :, 4:50, 10:70] = True
    return hole, image, coarse, prediction


def test_loss_is_the_sum_of_two_means(parts) -> None:
    hole, image, coarse, prediction = parts
    losses = _objective(hole, image, coarse)(prediction)
    inside = erode(halve_hole_inward(hole), 15)
    assert 0 < inside.sum() < halve_hole_inward(hole).sum()
    for i in range(2):
        known_term = (prediction - image)[i].abs()[(~hole[i]).expand(3, -1, -1)].mean()
        halved = halve_image(prediction)
        coarse_term = (halved - coarse)[i].abs()[inside[i].expand(3, -1, -1)].mean()
        torch.testing.assert_close(losses[i], known_term + coarse_term)


def test_padding_counts_as_known_but_not_in_the_coarser_scale(parts) -> None:
    hole, image, coarse, prediction = parts
    inside = erode(halve_hole_inward(hole[..., :56, :60]), 15)
    padded = Objective(image, ~hole, coarse[..., :28, :30], inside, (56, 60))
    before = padded(prediction)
    changed = prediction.clone()
    changed[..., 63, 71] += 1.0  # known padding in both pictures
    count = 3 * (~hole).sum(dim=(1, 2, 3))
    was = (prediction - image)[..., 63, 71].abs().sum(dim=1)
    now = (changed - image)[..., 63, 71].abs().sum(dim=1)
    torch.testing.assert_close(padded(changed) - before, (now - was) / count)


def test_an_empty_term_is_left_out(parts) -> None:
    hole, image, coarse, prediction = parts
    thin = torch.zeros_like(hole)
    thin[..., 30:33, :] = True
    known_only = _objective(thin, image, coarse)(prediction.requires_grad_())
    expected = (prediction - image).abs()[(~thin).expand_as(image)].reshape(2, -1).mean(dim=1)
    torch.testing.assert_close(known_only, expected)
    (gradient,) = torch.autograd.grad(known_only.sum(), prediction)
    assert gradient.isfinite().all()
    assert not gradient[thin.expand_as(image)].any()


def test_the_coarser_scale_is_weighted_and_its_region_eroded_as_told(parts) -> None:
    hole, image, coarse, prediction = parts
    whole = halve_hole_inward(hole)
    known_term = _objective(hole, image, coarse, coarse_weight=0)(prediction)
    weighted = _objective(hole, image, coarse, erosion=1, coarse_weight=2.5)(prediction)
    for i in range(2):
        coarse_term = (halve_image(prediction) - coarse)[i].abs()[whole[i].expand(3, -1, -1)].mean()
        torch.testing.assert_close(weighted[i], known_term[i] + 2.5 * coarse_term)


def test_pictures_of_a_batch_do_not_mix(parts) -> None:
    hole, image, coarse, prediction = parts
    together = _objective(hole, image, coarse)(prediction)
    alone = [_objective(hole[i : i + 1], image[i : i + 1], coarse[i : i + 1])(prediction[i : i + 1]) for i in range(2)]
    torch.testing.assert_close(together, torch.cat(alone))
