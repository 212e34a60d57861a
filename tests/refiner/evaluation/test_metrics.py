import numpy as np
import pytest
import torch

from refiner.errors import InputError
from refiner.evaluation.metrics import hole_l1, hole_psnr, hole_ssim, texture_distance


@pytest.fixture
def case():
    generator = torch.Generator().manual_seed(0)
    target = torch.rand(2, 3, 40, 48, generator=generator)
    hole = torch.zeros(2, 1, 40, 48, dtype=torch.bool)
    hole[0, :, 8:30, 10:36] = True
    hole[1, :, 20:33, 5:40] = True
    return target, hole


def test_equal_pictures_are_at_no_distance(case):
    target, hole = case
    assert hole_l1(target, target, hole).tolist() == [0, 0]
    assert hole_psnr(target, target, hole).tolist() == [np.inf, np.inf]
    assert hole_ssim(target, target, hole).tolist() == pytest.approx([1, 1], abs=1e-6)
    assert texture_distance(target, target, hole).abs().max() == 0


def test_worse_pictures_are_further(case):
    target, hole = case
    noise = torch.randn(target.shape, generator=torch.Generator().manual_seed(1))
    a, b = (target + strength * noise for strength in (0.05, 0.2))
    assert (hole_l1(a, target, hole) < hole_l1(b, target, hole)).all()
    assert (hole_psnr(a, target, hole) > hole_psnr(b, target, hole)).all()
    assert (hole_ssim(a, target, hole) > hole_ssim(b, target, hole)).all()
    assert (texture_distance(a, target, hole) < texture_distance(b, target, hole)).all()


def test_only_the_hole_counts(case):
    target, hole = case
    other = torch.where(hole, target, torch.rand_like(target))
    assert hole_l1(other, target, hole).max() == 0
    assert hole_psnr(other, target, hole).min() == np.inf


def test_l1_and_psnr_by_hand():
    target, hole = torch.zeros(1, 3, 4, 4), torch.zeros(1, 1, 4, 4, dtype=torch.bool)
    hole[..., 0, 0] = hole[..., 1, 1] = True
    prediction = target.clone()
    prediction[0, 0, 0, 0] = 0.6
    assert hole_l1(prediction, target, hole).item() == pytest.approx(0.6 / 6)
    assert hole_psnr(prediction, target, hole).item() == pytest.approx(10 * np.log10(6 / 0.36))


def test_texture_distance_is_the_sorted_difference_of_projected_patches(case):
    """Against a direct computation with unfolded patches, at the one level that has no pyramid."""
    target, hole = case
    prediction = (target + 0.1).clamp(0, 1)
    found = texture_distance(prediction, target, hole, levels=1, directions=5, seed=3)
    random = torch.randn(5, 147, generator=torch.Generator().manual_seed(3), dtype=torch.float64).numpy()
    random /= np.linalg.norm(random, axis=1, keepdims=True)
    for index in range(2):
        sets = []
        for picture in (prediction, target):
            padded = np.pad(picture[index].double().numpy(), ((0, 0), (3, 3), (3, 3)), mode="edge")
            places = np.argwhere(hole[index, 0].numpy())
            sets.append(np.stack([padded[:, y : y + 7, x : x + 7].ravel() for y, x in places]))
        distances = [np.abs(np.sort(sets[0] @ d) - np.sort(sets[1] @ d)).mean() for d in random]
        assert found[index, 0].item() == pytest.approx(np.mean(distances), rel=1e-4)


def test_texture_distance_does_not_mind_where_a_texture_is():
    noise = torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    hole = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    hole[..., 16:48, 16:48] = True
    shifted = torch.roll(noise, (5, 7), (2, 3))
    blurred = torch.nn.functional.avg_pool2d(noise, 5, stride=1, padding=2)
    assert hole_l1(shifted, noise, hole) > hole_l1(blurred, noise, hole)  # L1 likes blur ...
    near, far = (texture_distance(p, noise, hole)[0, 0] for p in (shifted, blurred))
    assert near < 0.3 * far  # ... this does not


def test_a_wrong_color_shows_at_the_coarsest_level_alone(case):
    target, hole = case
    target = 0.8 * target
    by_level = texture_distance(target + 0.2, target, hole)[0]
    assert by_level[:-1].max() < 1e-3 < by_level[-1]


def test_bad_input_is_named(case):
    target, hole = case
    with pytest.raises(InputError, match="one shape"):
        hole_l1(target, target[..., 1:], hole)
    with pytest.raises(InputError, match="empty"):
        texture_distance(target, target, torch.zeros_like(hole))
