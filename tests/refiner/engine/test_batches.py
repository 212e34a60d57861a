"""Images of a batch do not influence each other, whatever their holes are like."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch.nn import functional

from refiner import Settings, StopRefinement, load_model, refine


def picture(seed: int, height: int = 152, width: int = 208) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    octaves = (torch.rand(1, 3, height // s, width // s, generator=generator) for s in (2, 5, 20))
    return sum(functional.interpolate(x, (height, width), mode="bicubic") for x in octaves).clamp(0, 3) / 3


@pytest.fixture(scope="module")
def batch() -> tuple[torch.Tensor, torch.Tensor]:
    """A small hole beside a large one elsewhere, beside none, beside two."""
    images, masks = torch.cat([picture(seed) for seed in range(4)]), torch.zeros(4, 1, 152, 208)
    masks[0, :, 70:82, 28:44] = 1
    masks[1, :, 14:138, 84:194] = 1
    masks[3, :, 8:28, 8:36] = masks[3, :, 124:138, 180:194] = 1
    return images, masks


@pytest.mark.parametrize("detail", ["features", "exemplar", "both", "auto"])
def test_each_image_is_filled_as_it_would_be_alone(batch, detail) -> None:
    images, masks = batch
    model = load_model("lama-small")
    model.spec = replace(model.spec, train_size=64, detail="auto")
    settings = Settings(detail=detail, steps=2, precision="float32")
    together = refine(model, images, masks, settings)
    assert not together.scales[0].windows
    for i in range(4):
        alone = refine(model, images[i : i + 1], masks[i : i + 1], settings)
        assert torch.equal(together.image[i : i + 1], alone.image), i
        for scale, own in zip(together.scales, alone.scales or together.scales, strict=True):
            assert scale.composite.shape[0] == 4
            if alone.scales:
                assert torch.equal(scale.composite[i : i + 1], own.composite)
                assert [replace(w, image=0) for w in scale.windows if w.image == i] == list(own.windows)
    assert torch.equal(together.image[2], images[2])


def test_progress_tells_which_image(batch, toy) -> None:
    images, masks = batch
    seen = []
    refine(toy, images, masks, Settings(detail="features", steps=1, min_side=76), seen.append)
    assert {(p.image, p.images) for p in seen} == {(1, 4), (2, 4), (4, 4)}
    assert [p.image for p in seen] == sorted(p.image for p in seen)


def test_a_stop_gives_every_image_back_whole(batch, toy) -> None:
    images, masks = batch
    seen = []

    def stop(progress) -> None:
        seen.append(progress)
        if len(seen) == 2:
            raise StopRefinement

    result = refine(toy, images, masks, Settings(detail="features", steps=9, min_side=38), stop)
    assert result.stopped
    assert result.image.shape == images.shape
    known = (masks == 0).expand_as(images)
    assert torch.equal(result.image[known], images[known])
    assert len([p for p in seen if p.loss is not None]) == 1, "no other image is refined"


def test_a_batch_of_which_one_has_no_hole_is_shrunk_as_a_whole(batch, toy) -> None:
    images, masks = batch
    result = refine(toy, images, masks, Settings(detail="features", steps=1, pixel_budget=9000))
    assert result.shrunk_from == (152, 208)
    assert result.image.shape[0] == 4
    assert result.image.shape[2] * result.image.shape[3] <= 9000
