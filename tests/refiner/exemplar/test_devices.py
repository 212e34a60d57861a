"""Copies are put together on the photo's device, which here is a stand-in whose tensors do not mix with the CPU's."""

from __future__ import annotations

import pytest
import torch
from far_device import FAR, FarDevice, MixedError
from torch.nn import functional

from refiner.engine.pyramid import build_pyramid
from refiner.exemplar import Exemplar, Level, level_count


def ridge(height: int, width: int) -> torch.Tensor:
    """Sky and rock, (1,3,H,W), brighter to the right."""
    random = torch.Generator().manual_seed(3)
    coarse = torch.rand(1, 3, height // 4, width // 4, generator=random)
    grain = functional.interpolate(coarse, size=(height, width), mode="bilinear")
    y, x = torch.arange(height).view(1, 1, -1, 1), torch.arange(width).view(1, 1, 1, -1)
    rock = (y > 0.45 * height + 0.1 * x).float()
    return (0.75 - 0.5 * rock + 0.15 * (grain - 0.5) + 0.2 * x / width).clamp(0, 1)


def hole_of(height: int, width: int, *boxes: tuple[float, float, float, float]) -> torch.Tensor:
    hole = torch.zeros(1, 1, height, width, dtype=torch.bool)
    for top, left, bottom, right in boxes:
        hole[..., int(top * height) : int(bottom * height), int(left * width) : int(right * width)] = True
    return hole


def rendered(levels: list[tuple[torch.Tensor, torch.Tensor]], device: torch.device) -> list[torch.Tensor]:
    """All levels filled, back on the CPU."""
    exemplar = Exemplar([Level(image.to(device), hole.to(device)) for image, hole in levels])
    filled = [exemplar.render(index) for index in range(len(levels))]
    assert {each.device for each in filled} == {device}
    return [each.to("cpu") for each in filled]


@pytest.mark.parametrize(
    ("size", "boxes"),
    [
        ((150, 190), [(0.3, 0.35, 0.7, 0.6)]),
        ((151, 189), [(0.2, 0.1, 0.5, 0.3), (0.6, 0.65, 0.9, 0.8)]),
        ((150, 190), [(0.4, 0.05, 0.42, 0.95)]),  # thin: levels shrink no hole
        ((151, 189), [(0.0, 0.0, 1.0, 0.9)]),  # the smallest levels have nothing to copy
    ],
)
def test_a_device_fills_as_the_cpu_does(size, boxes) -> None:
    image, hole = ridge(*size), hole_of(*size, *boxes)
    levels = build_pyramid(torch.where(hole, 0.5, image), hole, level_count(*size, int(hole.sum())) + 1)
    expected = rendered(levels, torch.device("cpu"))
    with FarDevice() as far:
        found = rendered(levels, FAR)
    assert far.operations > 300, "the work was done there"
    for one, other in zip(found, expected, strict=True):
        # Two orders of adding up the same numbers.
        torch.testing.assert_close(one, other, rtol=0, atol=1e-3)
        assert ((one - other).abs() > 1 / 255).any(dim=1).float().mean() <= 1e-4


def test_the_stand_in_keeps_devices_apart() -> None:
    with FarDevice():
        far, near = torch.ones(3).to(FAR), torch.ones(3)
        assert (far * 2).sum().item() == 6
        with pytest.raises(MixedError):
            far + near


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_a_real_device_fills_as_the_cpu_does(device) -> None:
    if not getattr(torch, device).is_available():
        pytest.skip(f"needs a {device.upper()} device")
    size = 660, 840
    image, hole = ridge(*size), hole_of(*size, (0.3, 0.35, 0.7, 0.6))
    levels = build_pyramid(torch.where(hole, 0.5, image), hole, level_count(*size, int(hole.sum())))
    results = []
    for where in ("cpu", device, device):
        exemplar = Exemplar([Level(*(part.to(where) for part in level)) for level in levels])
        results.append(exemplar.render(len(levels) - 1).cpu())
    assert ((results[0] - results[1]).abs() > 1 / 255).any(dim=1).float().mean() <= 1e-4
    assert torch.equal(results[1], results[2])
