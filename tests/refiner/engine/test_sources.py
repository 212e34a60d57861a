"""Who fills what: the network, the photo's own pixels, a fill that was given, or the one that holds better."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from conftest import Toy
from PIL import Image
from torch import nn
from torch.nn import functional

import refiner
from refiner import InputError, ModelSpec, Settings, StopRefinement, refine
from refiner.engine.pyramid import halve_image
from refiner.evaluation.no_reference import agreement, looks

QUICK = Settings(min_side=40, steps=2, precision="float32")


def scene(height: int = 160, width: int = 200) -> tuple[torch.Tensor, torch.Tensor]:
    """A picture of many octaves, and two holes in it."""
    random = torch.Generator().manual_seed(4)
    image = sum(
        functional.interpolate(
            torch.rand(1, 3, height // s, width // s, generator=random), (height, width), mode="area"
        )
        for s in (1, 2, 4, 8)
    )
    mask = torch.zeros(1, 1, height, width)
    mask[..., 30:70, 40:90] = 1
    mask[..., 100:130, 130:170] = 1
    return image / 4, mask


class Knowing(nn.Module):
    """A network that knows the truth, at every size."""

    spec = ModelSpec(multiple=1, train_size=40)

    def __init__(self, truth: torch.Tensor) -> None:
        super().__init__()
        self.levels = [truth]
        while min(self.levels[-1].shape[2:]) > 20:
            self.levels.append(halve_image(self.levels[-1]))
        self.runs = 0

    def front(self, image: torch.Tensor, _mask: torch.Tensor) -> torch.Tensor:
        self.runs += 1
        (truth,) = [level for level in self.levels if level.shape == image.shape]
        return truth.clone()

    def rear(self, features: torch.Tensor) -> torch.Tensor:
        return features


def test_a_network_that_knows_is_taken() -> None:
    image, mask = scene()
    result = refine(Knowing(image), image, mask, Settings(min_side=40, steps=1, windows="off", precision="float32"))
    assert [dict(scale.shares) for scale in result.scales] == [{"model": 1.0}, {"features": 1.0}, {"features": 1.0}]
    torch.testing.assert_close(result.image, image)


@pytest.mark.parametrize("name", ["toy", "big-lama's shape"])
def test_a_network_that_knows_nothing_is_not_run_on(name) -> None:
    torch.manual_seed(0)
    if name == "toy":
        model = Toy()
    else:
        from lama.adapter import LamaInpainter
        from lama.generator import Generator, GeneratorConfig

        model = LamaInpainter(Generator(GeneratorConfig()).eval())
    image, mask = scene()
    result = refine(model, image, mask, QUICK)
    assert [dict(scale.shares) for scale in result.scales] == [{"exemplar": 1.0}] * len(result.scales)
    assert not any(scale.windows for scale in result.scales)
    copied = refine(model, image, mask, Settings(min_side=40, detail="exemplar"))
    assert torch.equal(result.image, copied.image)


def test_each_part_of_the_hole_is_judged_by_itself() -> None:
    image, mask = scene()

    class HalfKnowing(Knowing):
        def rear(self, features: torch.Tensor) -> torch.Tensor:
            left = torch.arange(features.shape[3]) < features.shape[3] * 0.55
            return torch.where(left, features, 0.5)

    model = HalfKnowing(image)
    result = refine(model, image, mask, Settings(min_side=40, steps=1, windows="off", precision="float32"))
    shares = result.scales[-1].shares
    assert set(shares) == {"features", "exemplar"}
    torch.testing.assert_close(result.image[..., :110], image[..., :110])
    assert (result.image[..., 100:130, 130:170] - 0.5).abs().max() > 0.1  # no gray


def test_copying_alone_runs_no_network() -> None:
    image, mask = scene()

    class Forbidden(Toy):
        def front(self, *_):
            raise AssertionError

    plans = []
    result = refine(Forbidden(), image, mask, Settings(detail="exemplar"), on_plan=plans.append)
    assert plans == [result.plan]
    assert not result.plan.network
    assert str(result.plan).startswith("copies within the photo, 200x160, without a network; about ")


def test_the_seed_is_of_copies() -> None:
    image = torch.rand(1, 3, 90, 100, generator=torch.Generator().manual_seed(3))
    mask = torch.zeros(1, 1, 90, 100)
    mask[..., 30:60, 30:70] = 1
    first, again, other = (
        refine(Toy(), image, mask, Settings(detail="exemplar", seed=seed)).image for seed in (0, 0, 4294967295)
    )
    assert torch.equal(first, again)
    assert (first - other).abs()[..., 35:55, 35:65].mean() > 0.05


def test_a_models_wish_is_followed_and_settings_go_over_it() -> None:
    image, mask = scene()
    model = Toy()
    model.spec = ModelSpec(multiple=4, train_size=40, detail="exemplar")
    assert refine(model, image, mask, QUICK).scales[-1].shares == {"exemplar": 1.0}
    features = refine(model, image, mask, Settings(min_side=40, steps=2, detail="features"))
    assert features.scales[-1].shares == {"features": 1.0}
    with pytest.raises(refiner.ModelError, match="detail is 'magic'"):
        ModelSpec(detail="magic")


@pytest.mark.parametrize("size", [(80, 100), (75, 94), (160, 200)])
def test_a_given_fill_is_followed_up_to_full_size(size) -> None:
    """Its halved copies agree with it, and it is as sharp as its surroundings."""
    image, mask = scene(320, 400)
    truth = halve_image(image) if size == (160, 200) else halve_image(halve_image(image))
    guide = functional.interpolate(truth, size=size, mode="bilinear", align_corners=False, antialias=True)
    result = refine(Toy(), image, mask, Settings(detail="both", precision="float32"), guide=guide)
    assert result.scales[0].shares == {"guide": 1.0}
    assert result.scales[-1].shares == {"both": 1.0}
    halved, inside = result.image, mask
    for scale in result.scales[-2::-1]:
        halved, inside = halve_image(halved), -functional.max_pool2d(-inside, 2)
        assert float(agreement(halved, scale.composite, inside > 0)) < 0.02
    assert 0.7 < float(looks(result.image, mask > 0).sharpness) < 1.3
    known = (mask == 0).expand_as(image)
    assert torch.equal(result.image[known], image[known])


def test_a_guide_can_be_made_of_the_smallest_scale() -> None:
    image, mask = scene()
    seen = []

    def fill(small: torch.Tensor, hole: torch.Tensor) -> torch.Tensor:
        seen.append((small.shape, hole.unique().tolist()))
        return torch.where(hole > 0, 0.25, small)

    result = refine(Toy(), image, mask, Settings(min_side=40, detail="both"), guide=fill)
    assert seen == [(result.scales[0].composite.shape, [0.0, 1.0])]
    inside = mask.expand_as(image) > 0
    assert result.image[inside].mean() == pytest.approx(0.25, abs=0.05)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guide": torch.rand(1, 3, 50, 50)}, "guide: is 50x50, which is not the aspect of 200x160"),
        ({"guide": torch.rand(1, 1, 80, 100)}, r"guide: expected shape \(1, 3, 'h', 'w'\)"),
        ({"guide": torch.full((1, 3, 80, 100), 2.0)}, r"guide: expected values in \[0,1\]"),
        ({"avoid": torch.ones(1, 1, 5, 5)}, r"avoid: expected shape \(1, 1, 160, 200\)"),
        ({"avoid": torch.ones(1, 1, 160, 200)}, "avoid: leaves nothing of the photo to copy from"),
    ],
)
def test_guides_and_masks_that_do_not_fit_are_refused(options, message) -> None:
    with pytest.raises(InputError, match=message):
        refine(Toy(), *scene(), Settings(detail="exemplar"), **options)


@pytest.mark.parametrize("settings", [{"detail": "features"}, {"refine": False}])
def test_what_to_avoid_is_refused_where_nothing_is_copied(settings) -> None:
    avoid = torch.zeros(1, 1, 160, 200)
    with pytest.raises(InputError, match="avoid: nothing is copied where the network alone fills the hole"):
        refine(Toy(), *scene(), Settings(**settings), avoid=avoid)
    settings = Settings(detail="features", start="exemplar", steps=2)
    assert refine(Toy(), *scene(), settings, avoid=avoid).scales[0].shares == {"exemplar": 1.0}


def test_guides_from_files(tmp_path) -> None:
    image, mask = scene()
    pixels = (image[0].permute(1, 2, 0) * 255).round().byte().numpy()
    hole = mask[0, 0].bool().numpy()
    guide = np.full((80, 100, 3), 200, np.uint8)
    result = refiner.inpaint(pixels, hole, Toy(), settings=Settings(detail="both"), device="cpu", guide=guide)
    assert abs(np.asarray(result)[hole].mean() - 200) < 8
    with pytest.raises(InputError, match="is 60x60, which is not the aspect of 200x160"):
        refiner.inpaint(pixels, hole, Toy(), device="cpu", guide=np.zeros((60, 60, 3), np.uint8))
    clear = np.dstack([guide, np.zeros((80, 100), np.uint8)])
    Image.fromarray(clear, "RGBA").save(tmp_path / "clear.png")
    with pytest.raises(InputError, match=r"clear\.png: is transparent all over the hole; expected a fill there"):
        refiner.inpaint(pixels, hole, Toy(), device="cpu", guide=tmp_path / "clear.png")


def test_stopping_while_copies_are_chosen_keeps_what_there_is() -> None:
    image, mask = scene()
    steps = []

    def stop(progress) -> None:
        steps.append(progress.step)
        if len(steps) == 3:
            raise StopRefinement

    result = refine(Toy(), image, mask, Settings(min_side=40, detail="exemplar"), progress=stop)
    assert result.stopped
    assert len(steps) == 3
    assert result.image.shape == image.shape

    def cancel(_progress) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        refine(Toy(), image, mask, Settings(min_side=40, detail="exemplar"), progress=cancel)


def test_pictures_of_a_batch_are_filled_one_by_one() -> None:
    image, mask = scene()
    images, masks = torch.cat([image, image.flip(3)]), torch.cat([mask, torch.zeros_like(mask)])
    result = refine(Toy(), images, masks, Settings(detail="exemplar"))
    assert torch.equal(result.image[1:], images[1:])
    assert torch.equal(result.image[:1], refine(Toy(), image, mask, Settings(detail="exemplar")).image)


def test_what_to_avoid_is_marked_on_the_photo_as_it_came() -> None:
    image, mask = scene()
    avoid = torch.zeros_like(mask)
    avoid[..., 140:, :] = 1
    settings = Settings(detail="exemplar", pixel_budget=8000)
    result = refine(Toy(), image, mask, settings, avoid=avoid)
    assert result.shrunk_from == (160, 200)


def test_stopping_leaves_the_parts_that_are_copied_as_copies() -> None:
    image, mask = scene()

    class HalfKnowing(Knowing):
        def rear(self, features: torch.Tensor) -> torch.Tensor:
            left = torch.arange(features.shape[3]) < features.shape[3] * 0.55
            return torch.where(left, features, 0.5)

    def stop(progress) -> None:
        if progress.loss is not None:
            raise StopRefinement

    settings = Settings(min_side=40, steps=1, windows="off", precision="float32", max_scales=2)
    result = refine(HalfKnowing(image), image, mask, settings, progress=stop)
    assert result.stopped
    assert set(result.scales[-1].shares) == {"features", "exemplar"}
    assert (result.image[..., 100:130, 130:170] - 0.5).abs().max() > 0.1  # no gray


def test_a_guide_is_refused_where_nothing_follows_it() -> None:
    with pytest.raises(InputError, match="guide: nothing follows it where `refine` is off"):
        refine(Toy(), *scene(), Settings(refine=False), guide=torch.rand(1, 3, 80, 100))
