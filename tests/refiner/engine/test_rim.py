from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from refiner import ModelSpec, Settings, refine
from refiner.blur import gaussian_blur
from refiner.engine import rim as engine_rim
from refiner.engine.color_match import match_color
from refiner.engine.pyramid import build_pyramid
from refiner.engine.rim import blend_rim
from refiner.evaluation.no_reference import rim


@pytest.fixture
def parts():
    """A smooth photo with grain, a hole of two parts, and a prediction that is off by 0.06 everywhere."""
    y, x = torch.meshgrid(torch.linspace(0.2, 0.7, 90), torch.linspace(0.3, 0.6, 120), indexing="ij")
    grain = 0.004 * torch.randn(1, 3, 90, 120, generator=torch.Generator().manual_seed(0))
    image = torch.stack([x, y, (x + y) / 2])[None] + grain
    hole = torch.zeros(1, 1, 90, 120, dtype=torch.bool)
    hole[..., 20:70, 20:70] = hole[..., 40:43, 80:110] = True
    return image, hole, image + 0.06


def test_no_step_remains_and_the_middle_stays(parts) -> None:
    image, hole, prediction = parts
    blended = blend_rim(prediction, image, hole)
    before, after = (float(rim(torch.where(hole, fill, image), hole)) for fill in (prediction, blended))
    assert after - 1 < (before - 1) / 5
    off = (blended - image)[0].mean(dim=0)
    assert off[45, 20:28].diff().min() > 0  # rises from the edge
    torch.testing.assert_close(off[45, 45], torch.tensor(0.06), atol=0.006, rtol=0)
    assert off[41, 90] < 0.01  # in the middle of a hole of three rows


def test_known_pixels_and_the_prediction_given_stay(parts) -> None:
    image, hole, prediction = parts
    before = prediction.clone()
    blended = blend_rim(prediction, image, hole)
    assert torch.equal(prediction, before)
    known = ~hole.expand_as(image)
    assert torch.equal(blended[known], prediction[known])


@pytest.mark.parametrize("finish", [blend_rim, match_color])
def test_a_photo_on_a_gpu_would_stay_there(parts, finish, monkeypatch) -> None:
    """Another device by default shows what forgets the photo's; arrays are made of what was brought to the CPU."""
    image, hole, prediction = parts
    expected = finish(prediction, image, hole)
    brought = []
    to_cpu, to_numpy = torch.Tensor.cpu, torch.Tensor.numpy

    def cpu(tensor):
        brought.append(to_cpu(tensor).clone())
        return brought[-1]

    def numpy(tensor):
        assert any(tensor is each for each in brought), "a GPU's tensor has no array"
        return to_numpy(tensor)

    def blur(*given):
        with torch.device("cpu"):  # where kornia makes its weights, to move them to the photo's device
            return gaussian_blur(*given)

    monkeypatch.setattr(engine_rim, "gaussian_blur", blur)
    monkeypatch.setattr(torch.Tensor, "cpu", cpu)
    monkeypatch.setattr(torch.Tensor, "numpy", numpy)
    with torch.device("meta"):
        assert torch.equal(finish(prediction, image, hole), expected)
    assert brought


def test_where_nothing_differs_nothing_changes(parts) -> None:
    image, hole, _ = parts
    assert torch.equal(blend_rim(image, image, hole), image)


def test_edges_of_the_scene_are_not_spread(parts) -> None:
    image, hole, _ = parts
    prediction = image.clone()
    prediction[..., :20] += 0.4  # a whole region that the prediction does not have
    assert torch.equal(blend_rim(prediction, image, hole), prediction)


def test_holes_at_the_edge(parts) -> None:
    image, hole, prediction = parts
    edge = torch.zeros_like(hole)
    edge[..., 60:, :30] = True
    fills = image - 0.05, blend_rim(image - 0.05, image, edge)
    before, after = (rim(torch.where(edge, fill, image), edge) for fill in fills)
    assert after - 1 < (before - 1) / 4
    whole = torch.ones_like(hole)
    assert torch.equal(blend_rim(prediction, image, whole), prediction)  # nothing known to join to


class Tinted(nn.Module):
    """A network that knows the picture but for its colors."""

    spec = ModelSpec(multiple=4, train_size=32)

    def front(self, image: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        return image * (1 - mask) + 0.5 * mask

    def rear(self, features: torch.Tensor) -> torch.Tensor:
        return features + features.new_tensor([0.1, -0.1, 0.1]).view(1, 3, 1, 1)


@pytest.mark.parametrize("scales", [None, 1])
def test_the_setting_lowers_the_rim_of_a_networks_fill(scales) -> None:
    y, x = torch.meshgrid(torch.linspace(0.4, 0.6, 67), torch.linspace(0.45, 0.55, 90), indexing="ij")
    image, mask = torch.stack([x, y, (x + y) / 2])[None], torch.zeros(1, 1, 67, 90)
    mask[..., 20:50, 25:60] = 1
    settings = Settings(detail="features", steps=3, max_scales=scales, back_projection=0, match_color="off")
    fills = [refine(Tinted(), image, mask, replace(settings, blend_rim=on)) for on in (False, True)]
    known = (mask == 0).expand_as(image)
    levels = build_pyramid(image, mask > 0, len(fills[0].scales))
    for off, on, (_, hole) in zip(*(fill.scales for fill in fills), levels, strict=True):
        assert rim(on.composite, hole) < rim(off.composite, hole) / 2  # at every scale
    assert all(torch.equal(fill.image[known], image[known]) for fill in fills)
    alone = [refine(Tinted(), image, mask, Settings(refine=False, blend_rim=on)).image for on in (False, True)]
    assert torch.equal(*alone)  # the network's own result
    copied = [refine(Tinted(), image, mask, Settings(detail="exemplar", blend_rim=on)).image for on in (False, True)]
    assert torch.equal(*copied)
