from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional

from refiner.engine import padding, pyramid
from refiner.frozen import FrozenGradients


@pytest.mark.parametrize(
    ("short_side", "min_side", "max_scales", "expected"),
    [
        (512, 512, 3, 1),
        (724, 512, 3, 1),  # log2 just under 0.5
        (725, 512, 3, 2),
        (100, 512, 3, 1),
        (1448, 512, None, 2),
        (1449, 512, None, 3),
        (2160, 512, 3, 3),
        (2160, 256, 3, 3),
        (2160, 256, None, 4),
        (9000, 256, None, 6),
    ],
)
def test_scale_count(short_side, min_side, max_scales, expected) -> None:
    assert pyramid.scale_count(short_side, 2 * short_side, min_side, max_scales) == expected
    assert pyramid.scale_count(2 * short_side, short_side, min_side, max_scales) == expected


@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    more=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    mode=st.sampled_from(["reflect", "symmetric"]),
)
def test_pad_is_numpys(height, width, more, mode) -> None:
    x = torch.arange(2 * height * width).reshape(1, 2, height, width)
    padded = padding.pad(x, (height + more[0], width + more[1]), mode)
    widths = ((0, 0), (0, 0), (0, more[0]), (0, more[1]))
    np.testing.assert_array_equal(padded.numpy(), np.pad(x.numpy(), widths, mode=mode))


def test_halving_keeps_a_constant_and_rounds_sizes_down() -> None:
    halved = pyramid.halve_image(torch.full((1, 3, 33, 50), 0.25, dtype=torch.float64))
    assert halved.shape == (1, 3, 16, 25)
    torch.testing.assert_close(halved, torch.full_like(halved, 0.25))


def test_halving_weighs_pixels_by_a_gaussian() -> None:
    """A line of light in the middle of a picture, worked out by hand along one axis."""
    image = torch.zeros(1, 3, 16, 16, dtype=torch.float64)
    image[..., 8] = 1
    weights = np.exp(-0.5 * np.arange(-2, 3) ** 2.0)
    blurred = np.zeros(16)
    blurred[6:11] = weights / weights.sum()
    expected = (blurred[0::2] + blurred[1::2]) / 2  # bilinear to half averages pairs
    np.testing.assert_allclose(pyramid.halve_image(image)[0, 0, 4].numpy(), expected, atol=1e-12)


def test_hole_grows_going_down_and_shrinks_going_inward() -> None:
    hole = torch.zeros(1, 1, 32, 32, dtype=torch.bool)
    hole[..., 10:20, 10:20] = True
    grown = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    grown[..., 4:11, 4:11] = True  # the blur reaches 2 pixels, so 8 to 21
    assert torch.equal(pyramid.halve_hole(hole), grown)
    inward = torch.zeros(1, 1, 16, 16, dtype=torch.bool)
    inward[..., 5:10, 5:10] = True
    assert torch.equal(pyramid.halve_hole_inward(hole), inward)


@given(st.integers(20, 60), st.integers(20, 60))
def test_a_solid_hole_has_no_gaps_inward(height, width) -> None:
    """In float32 rounding in the resize would drop pixels here."""
    assert pyramid.halve_hole_inward(torch.ones(1, 1, height, width, dtype=torch.bool)).all()


def test_budget_shrinks_only_what_exceeds_it() -> None:
    image, hole = torch.rand(1, 3, 30, 40), torch.zeros(1, 1, 30, 40, dtype=torch.bool)
    hole[..., 12, 17] = True
    same, same_hole = pyramid.shrink_to_budget(image, hole, 1200)
    assert same is image
    assert same_hole is hole
    small, small_hole = pyramid.shrink_to_budget(image, hole, 800)
    assert small.shape == (1, 3, 24, 32)
    assert small_hole.any()


@given(st.integers(8, 40), st.integers(8, 40))
def test_resampled_to_exactly_half_a_ramp_stays_where_it_is(height, width) -> None:
    """A linear ramp tells positions: each pixel's value is its place in the larger picture."""
    y, x = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    ramp = torch.stack([y, x])[None].double()
    halved = functional.interpolate(ramp, size=(height // 2, width // 2), mode="bilinear", align_corners=False)
    exact = pyramid.exactly_half(halved, (height, width))
    assert exact.shape[-2:] == (-(-height // 2), -(-width // 2))
    inner = exact[..., 1:-1, 1:-1]  # the outermost pixels have nothing beyond them to be resampled from
    rows = torch.arange(1, exact.shape[-2] - 1) * 2.0 + 1
    columns = torch.arange(1, exact.shape[-1] - 1) * 2.0 + 1
    torch.testing.assert_close(inner[0, 0], rows[:, None].expand_as(inner[0, 0]).double())
    torch.testing.assert_close(inner[0, 1], columns[None, :].expand_as(inner[0, 1]).double())


@given(st.integers(8, 40), st.integers(8, 40))
def test_resampled_as_grid_sample_does_which_some_devices_lack(height, width) -> None:
    """The oracle: places clamped to the picture, which Metal's `grid_sample` cannot do before PyTorch 2.13."""
    torch.manual_seed(0)
    halved = torch.rand(1, 3, height // 2, width // 2, dtype=torch.float64)
    places = [(torch.arange(-(-side // 2)).double() * 2 + 1) / side * 2 - 1 for side in (height, width)]
    grid = torch.stack(torch.meshgrid(*places, indexing="ij")[::-1], dim=-1)[None]
    expected = functional.grid_sample(halved, grid, padding_mode="border", align_corners=False)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(functional, "grid_sample", lambda *_, **__: pytest.fail("is not there on every device"))
        exact = pyramid.exactly_half(halved, (height, width))
    torch.testing.assert_close(exact, expected)


def test_masks_are_computed_where_there_is_float64() -> None:
    for name, expected in (("cpu", "cpu"), ("cuda:1", "cuda:1"), ("meta", "meta"), ("mps", "cpu"), ("xpu", "cpu")):
        assert pyramid._device_with_float64(torch.device(name)) == torch.device(expected)


def test_padding_to_even() -> None:
    assert padding.pad_to_even(torch.zeros(1, 1, 7, 8)).shape == (1, 1, 8, 8)
    assert padding.pad_to_even(torch.zeros(1, 1, 6, 9)).shape == (1, 1, 6, 10)


@given(height=st.integers(4, 20), width=st.integers(4, 20), share=st.floats(0, 1), seed=st.integers(0, 999))
def test_holes_of_even_sides_are_halved_as_by_blur_and_resize(height, width, share, seed) -> None:
    """The definition, in float64: blur, resize, threshold."""
    hole = torch.rand(1, 1, 2 * height, 2 * width, generator=torch.Generator().manual_seed(seed)) < share
    mask = hole.double()
    grown = functional.interpolate(pyramid._blur(mask), size=(height, width), mode="bilinear") >= 1e-8
    shrunk = functional.interpolate(mask, size=(height, width), mode="bilinear") >= 1 - 1e-8
    assert torch.equal(pyramid.halve_hole(hole), grown)
    assert torch.equal(pyramid.halve_hole_inward(hole), shrunk)


@pytest.mark.parametrize(("height", "width"), [(8, 8), (64, 98), (10, 202)])
@pytest.mark.parametrize("saving", [False, True])
def test_pictures_of_even_sides_are_halved_as_by_blur_and_resize(height, width, saving) -> None:
    image = torch.rand(2, 3, height, width, dtype=torch.float64, requires_grad=True)
    with FrozenGradients() if saving else nullcontext():
        halved = pyramid.halve_image(image)
    expected = pyramid._resize(pyramid._blur(image), (height // 2, width // 2))
    torch.testing.assert_close(halved, expected, rtol=0, atol=1e-14)
    weights = torch.rand_like(halved)
    given, wanted = (torch.autograd.grad((x * weights).sum(), image)[0] for x in (halved, expected))
    torch.testing.assert_close(given, wanted, rtol=0, atol=1e-14)
