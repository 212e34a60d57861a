"""The engine against outputs of the authors' implementation, made on CPU in float64."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import GOLDEN

from lama.weights import CHECKPOINTS
from refiner import Settings, load_preset, refine
from refiner.engine import pyramid
from refiner.engine.objective import erode

CASES = ["thick", "thin", "budget", "single"]
DTYPES = [torch.float64, torch.float32]


class Case:
    def __init__(self, name: str) -> None:
        with np.load(GOLDEN / f"{name}.npz") as stored:
            self.values = dict(stored)
        self.settings = replace(
            load_preset("reference"),
            min_side=int(self.values["min_side"]),
            max_scales=int(self.values["max_scales"]),
            steps=int(self.values["n_iters"]),
            lr=float(self.values["lr"]),
            pixel_budget=int(self.values["px_budget"]),
        )
        self.scales = sum(key.startswith("inpainted_") for key in self.values)

    def inputs(self, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
        image = torch.from_numpy(self.values["image"]).permute(2, 0, 1)[None].to(dtype) / 255
        return image, torch.from_numpy(self.values["mask"])[None, None]

    def difference(self, tensor: torch.Tensor, key: str) -> np.ndarray:
        expected = self.values[key]
        actual = tensor[0].numpy()
        assert actual.shape == expected.shape
        return np.abs(actual - expected)


@pytest.fixture(scope="module", params=CASES)
def case(request) -> Case:
    return Case(request.param)


@pytest.mark.parametrize("dtype", DTYPES)
def test_pyramid_and_masks(case: Case, dtype: torch.dtype) -> None:
    image, mask = case.inputs(dtype)
    image, hole = pyramid.shrink_to_budget(image, mask > 0, case.settings.pixel_budget)
    count = pyramid.scale_count(*image.shape[-2:], case.settings.min_side, case.settings.max_scales)
    assert count == case.scales
    for i, (level, level_hole) in enumerate(pyramid.build_pyramid(image, hole, count)):
        assert case.difference(level, f"pyramid_image_{i}").max() <= (1e-6 if dtype == torch.float64 else 1e-5)
        np.testing.assert_array_equal(level_hole[0, 0].numpy(), case.values[f"pyramid_mask_{i}"])
        if i > 0:
            eroded = erode(pyramid.halve_hole_inward(level_hole), 15)
            np.testing.assert_array_equal(eroded[0, 0].numpy(), case.values[f"eroded_{i}"])


@pytest.fixture(scope="module", params=DTYPES, ids=str)
def run(case: Case, request):
    model = CHECKPOINTS.open(GOLDEN).to(request.param)
    image, mask = case.inputs(request.param)
    refined = refine(model, image, mask, case.settings)
    plain = refine(model, image, mask, Settings(refine=False, precision="float32"))
    return case, request.param, refined, plain


def test_composites(run) -> None:
    case, dtype, refined, plain = run
    largest, mean = (1e-6, 1e-6) if dtype == torch.float64 else (5e-3, 5e-5)
    pairs = [(plain.image, "plain"), (refined.image, "refined")]
    pairs += [(scale.composite, f"inpainted_{i}") for i, scale in enumerate(refined.scales)]
    for tensor, key in pairs:
        difference = case.difference(tensor, key)
        assert difference.max() <= largest, key
        assert difference.mean() <= mean, key


def test_losses(run) -> None:
    case, dtype, refined, _ = run
    for i, scale in enumerate(refined.scales):
        expected = case.values[f"loss_{i}"]
        assert len(scale.losses) == len(expected)
        assert np.isfinite(scale.losses).all()
        if not np.isnan(expected).any():  # theirs is NaN where the eroded hole is empty
            tolerance = 1e-6 if dtype == torch.float64 else 1e-5
            np.testing.assert_allclose(scale.losses, expected, rtol=tolerance, atol=0)


def test_thin_reports_the_known_pixel_term() -> None:
    case = Case("thin")
    model = CHECKPOINTS.open(GOLDEN).double()
    image, mask = case.inputs(torch.float64)
    first = refine(model, image, mask, case.settings).scales[1].losses[0]
    hole = mask > 0  # the sides of this case are multiples of 8: nothing is padded
    with torch.no_grad():
        prediction = model.rear(model.front(image, hole.double()))
    known = (~hole).expand_as(image)
    assert first == pytest.approx((prediction - image).abs()[known].mean().item(), rel=1e-12)
