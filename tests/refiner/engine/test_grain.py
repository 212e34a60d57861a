from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from refiner import ModelSpec, Settings, refine
from refiner.engine.grain import add_grain

SIZE = 200
LEVELS = torch.tensor([0.012, 0.008, 0.010]).view(1, 3, 1, 1)


def _noise(seed: int) -> torch.Tensor:
    """Grain (1,3,H,W) as of film: neighbors and channels are correlated, each channel has a level of its own."""
    white = torch.randn(1, 4, SIZE + 2, SIZE + 2, generator=torch.Generator().manual_seed(seed))
    mixed = 0.7 * white[:, :1] + 0.7 * white[:, 1:]
    grain = functional.avg_pool2d(mixed, 2, stride=1)[..., :SIZE, :SIZE]
    return grain / grain.std(dim=(2, 3), keepdim=True) * LEVELS


@pytest.fixture
def parts():
    smooth = torch.linspace(0.3, 0.7, SIZE).expand(1, 3, SIZE, SIZE).clone()
    hole = torch.zeros(1, 1, SIZE, SIZE, dtype=torch.bool)
    hole[..., 50:150, 60:140] = True
    return smooth, hole


def _statistics(grain: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of (3,h,w): levels, correlation of channels, correlation of neighbors."""
    grain = grain - grain.mean(dim=(1, 2), keepdim=True)
    levels = grain.std(dim=(1, 2))
    lagged = (grain[..., 1:] * grain[..., :-1]).mean(dim=(1, 2)) / levels**2
    return levels.numpy(), np.corrcoef(grain.flatten(1).numpy()), lagged.numpy()


def test_a_smooth_fill_gets_the_photos_level_spectrum_and_correlation(parts) -> None:
    smooth, hole = parts
    added = add_grain(smooth, smooth + _noise(0), hole) - smooth
    assert not added[..., :50, :].any()
    levels, channels, neighbors = _statistics(added[0, :, 55:145, 65:135])
    expected = _statistics(_noise(1)[0])
    np.testing.assert_allclose(levels, expected[0], rtol=0.15)
    np.testing.assert_allclose(channels, expected[1], atol=0.08)
    np.testing.assert_allclose(neighbors, expected[2], atol=0.08)


def test_a_photo_without_grain_stays_without(parts) -> None:
    smooth, hole = parts
    assert torch.equal(add_grain(smooth, smooth, hole), smooth)
    rounded = (smooth * 255).round() / 255
    assert torch.equal(add_grain(smooth, rounded, hole), smooth)
    white = torch.ones_like(smooth)
    assert torch.equal(add_grain(smooth, white, hole), smooth)


def test_texture_is_no_grain(parts) -> None:
    smooth, hole = parts
    leaves = functional.interpolate(torch.rand(1, 3, 50, 50, generator=torch.Generator().manual_seed(1)), (SIZE, SIZE))
    assert torch.equal(add_grain(smooth, leaves, hole), smooth)
    gravel = smooth + _noise(0)
    gravel[..., :40] = smooth[..., :40]  # what is out of focus shows that the photo has no grain
    assert torch.equal(add_grain(smooth, gravel, hole), smooth)


def test_a_fill_that_has_grain_or_texture_gets_none(parts) -> None:
    smooth, hole = parts
    photo = smooth + _noise(0)
    half = smooth.clone()
    half[..., :100] += 2 * _noise(2)[..., :100]
    added = add_grain(half, photo, hole) - half
    assert added[..., 60:148, 62:90].abs().max() < 1e-6
    assert added[..., 60:148, 112:138].std() > 0.006


def test_the_same_each_time_and_another_with_another_seed(parts) -> None:
    smooth, hole = parts
    photo = smooth + _noise(0)
    first, again, other = (add_grain(smooth, photo, hole, seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first, again)
    assert 0 <= first.min() <= first.max() <= 1
    assert (other - first).std() > 0.5 * (first - smooth).std()


def test_small_pictures_and_holes_that_leave_little_stay(parts) -> None:
    smooth, hole = parts
    photo = smooth + _noise(0)
    assert torch.equal(
        add_grain(smooth[..., :12, :12], photo[..., :12, :12], hole[..., 45:57, 55:67]), smooth[..., :12, :12]
    )
    most = torch.ones_like(hole)
    most[..., :10] = False
    assert torch.equal(add_grain(smooth, photo, most), smooth)


class Smooth(nn.Module):
    """A network whose fills have no detail."""

    spec = ModelSpec(multiple=4, train_size=32)

    def front(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return functional.avg_pool2d(image * (1 - mask) + 0.5 * mask, 16, stride=4, padding=6, count_include_pad=False)

    def rear(self, features: torch.Tensor) -> torch.Tensor:
        return functional.interpolate(features, scale_factor=4, mode="bilinear")


@pytest.mark.parametrize("scales", [None, 1])
def test_the_setting_is_for_the_full_size_alone(scales) -> None:
    image = (torch.full((1, 3, 96, 128), 0.5) + _noise(0)[..., :96, :128]).clamp(0, 1)
    mask = torch.zeros(1, 1, 96, 128)
    mask[..., 34:62, 50:80] = 1
    options = {"detail": "features", "steps": 2, "max_scales": scales}
    off, on = (refine(Smooth(), image, mask, Settings(grain=grain, **options)) for grain in (False, True))
    known = (mask == 0).expand_as(image)
    assert torch.equal(on.image[known], image[known])
    added = (on.image - off.image)[..., 34:62, 50:80]
    assert 0.006 < added.std() < 0.014
    if scales is None:
        assert torch.equal(off.scales[0].composite, on.scales[0].composite)
    reseeded = refine(Smooth(), image, mask, Settings(seed=1, **options)).image
    assert not torch.equal(reseeded, on.image)
    alone = [refine(Smooth(), image, mask, Settings(refine=False, grain=grain)).image for grain in (False, True)]
    assert torch.equal(*alone)  # the network's own result


def test_copies_keep_the_grain_that_they_have(toy) -> None:
    image = (torch.full((1, 3, 96, 128), 0.5) + _noise(0)[..., :96, :128]).clamp(0, 1)
    mask = torch.zeros(1, 1, 96, 128)
    mask[..., 34:62, 50:80] = 1
    copied = [refine(toy, image, mask, Settings(detail="exemplar", grain=grain)).image for grain in (False, True)]
    assert torch.equal(*copied)
