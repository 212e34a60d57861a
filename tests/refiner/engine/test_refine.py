from __future__ import annotations

import json
from contextlib import nullcontext
from dataclasses import replace
from functools import partial

import pytest
import torch
from conftest import Toy
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from refiner import InputError, ModelError, Settings, StopRefinement, Target, paper_objective, refine

QUICK = Settings(detail="features", min_side=16, steps=4, lr=0.01, windows="off", precision="float32")


def test_known_pixels_are_the_inputs_bit_for_bit(toy, scene) -> None:
    image, mask = scene
    result = refine(toy, image, mask, QUICK)
    known = (mask == 0).expand_as(image)
    assert torch.equal(result.image[known], image[known])
    assert not torch.equal(result.image, image)
    assert result.image.shape == image.shape


def test_what_lies_in_the_hole_does_not_matter_where_holes_do_not_grow_over_it(toy, scene) -> None:
    image, mask = scene
    hidden = torch.where(mask > 0, torch.rand_like(image), image)
    one, other = (refine(toy, x, mask, QUICK).image for x in (image, hidden))
    torch.testing.assert_close(one, other)


def test_inputs_and_model_are_left_as_they_were(toy, scene) -> None:
    image, mask = scene
    before = image.clone(), mask.clone(), {k: v.clone() for k, v in toy.state_dict().items()}
    toy.train()
    toy.inward.bias.requires_grad_(requires_grad=False)
    refine(toy, image, mask, QUICK)
    assert torch.equal(image, before[0])
    assert torch.equal(mask, before[1])
    assert all(torch.equal(value, before[2][key]) for key, value in toy.state_dict().items())
    assert toy.training
    assert toy.dropout.training
    assert [p.requires_grad for p in toy.inward.parameters()] == [True, False]
    assert all(p.grad is None for p in toy.parameters())


def test_a_network_that_is_not_asked_is_not_copied(toy, scene, monkeypatch) -> None:
    copied = []
    monkeypatch.setattr("refiner.engine.refine.private", lambda model: copied.append(model) or nullcontext(model))
    refine(toy, *scene, Settings(start="exemplar", detail="exemplar"))
    assert not copied
    refine(toy, *scene, QUICK)
    assert copied == [toy]


def test_dropout_is_off_while_refining(toy, scene) -> None:
    toy.train()
    assert torch.equal(refine(toy, *scene, QUICK).image, refine(toy, *scene, QUICK).image)


def test_scales_report_what_happened(toy, scene) -> None:
    result = refine(toy, *scene, QUICK)
    assert [scale.size for scale in result.scales] == [(16, 22), (33, 45), (67, 90)]
    assert result.scales[0].windows == ()
    assert not result.scales[0].refined
    for scale in result.scales[1:]:
        assert len(scale.losses) == 4
        (window,) = scale.windows
        assert scale.refined == (window.kept > 0)
        assert window.losses == pytest.approx(scale.losses)
        assert scale.loss_after == min(scale.losses)
        assert scale.loss_before == scale.losses[0]
        assert scale.losses[-1] < scale.losses[0]
    assert torch.equal(result.scales[-1].composite, result.image)
    assert result.shrunk_from is None
    assert not result.stopped


@pytest.mark.parametrize("half", ["front", "rear"])
def test_a_model_that_fails_is_named(toy, scene, half, monkeypatch) -> None:
    def broken(*_: object) -> None:
        raise ValueError("mat1 and mat2\nmust match")

    monkeypatch.setattr(toy, half, broken)
    with pytest.raises(ModelError, match=rf"its {half} failed \(ValueError: mat1 and mat2\)"):
        refine(toy, *scene, QUICK)


@pytest.mark.parametrize("change", [{"erosion": 1}, {"coarse_weight": 0}, {"coarse_weight": 3}])
def test_erosion_and_the_coarser_scales_weight_reach_the_loss(toy, scene, change) -> None:
    settings = replace(QUICK, max_scales=2)
    plain, changed = (
        refine(toy, *scene, settings, objective=partial(paper_objective, **options)).scales[1].losses[0]
        for options in ({"erosion": 3}, {"erosion": 3, **change})  # the hole is small
    )
    assert plain != changed
    if "coarse_weight" in change:
        assert (plain < changed) == (change["coarse_weight"] > 1)


@pytest.mark.parametrize("options", [{"erosion": 4}, {"erosion": -1}, {"coarse_weight": -0.5}])
def test_numbers_of_the_objective_that_make_no_sense_are_refused(toy, scene, options) -> None:
    with pytest.raises(InputError, match="expected"):
        refine(toy, *scene, QUICK, objective=partial(paper_objective, **options))


def test_the_smallest_scale_follows_from_the_model(toy, scene) -> None:
    assert (
        len(refine(toy, *scene, Settings(detail="features", steps=1)).scales) == 2
    )  # 67 px against the 32 it was trained at
    toy.spec = replace(toy.spec, train_size=16)
    assert len(refine(toy, *scene, Settings(detail="features", steps=1)).scales) == 3
    assert len(refine(toy, *scene, Settings(detail="features", steps=1, max_scales=2)).scales) == 2
    assert len(refine(toy, *scene, Settings(detail="features", steps=1, min_side=60)).scales) == 1


def test_the_learning_rate_follows_from_the_model(toy, scene) -> None:
    given = {lr: refine(toy, *scene, replace(QUICK, lr=lr)).image for lr in (0.002, 0.03)}
    assert torch.equal(refine(toy, *scene, replace(QUICK, lr=None)).image, given[0.002])
    toy.spec = replace(toy.spec, learning_rate=0.03)
    assert torch.equal(refine(toy, *scene, replace(QUICK, lr=None)).image, given[0.03])
    assert not torch.equal(given[0.002], given[0.03])


def test_a_batch_is_its_pictures_one_by_one(toy, scene) -> None:
    image, mask = scene
    images = torch.cat([image, image.flip(3)]).double()
    masks = torch.cat([mask, mask.flip(2)])
    toy.double()
    together = refine(toy, images, masks, QUICK)
    for i in range(2):
        alone = refine(toy, images[i : i + 1], masks[i : i + 1], QUICK)
        torch.testing.assert_close(together.image[i : i + 1], alone.image)


def test_mask_values_and_types(toy, scene) -> None:
    image, mask = scene
    expected = refine(toy, image, mask, QUICK).image
    for other in (mask * 1e-9, (mask * 255).byte(), mask.bool(), -1 + 2 * mask):
        assert torch.equal(refine(toy, image, other, QUICK).image, expected)


def test_progress_sees_every_prediction(toy, scene) -> None:
    seen = []
    refine(toy, *scene, QUICK, progress=seen.append)
    assert [(p.scale, p.step, p.steps) for p in seen] == [(1, 1, 1)] + [
        (scale, step, 4) for scale in (2, 3) for step in (1, 2, 3, 4)
    ]
    assert seen[0].loss is None
    assert seen[5].size == (67, 90)
    assert all(p.loss > 0 and p.scales == 3 for p in seen[1:])


def test_predictions_by_scale(toy, scene) -> None:
    seen = []
    result = refine(toy, *scene, replace(QUICK, steps=(3, 2)), progress=seen.append)
    assert [len(scale.losses) for scale in result.scales] == [0, 3, 2]
    assert [scale.predictions for scale in result.scales] == [0, 3, 2]
    assert [(p.scale, p.step, p.steps) for p in seen[1:]] == [(2, 1, 3), (2, 2, 3), (2, 3, 3), (3, 1, 2), (3, 2, 2)]
    assert torch.equal(result.scales[1].composite, refine(toy, *scene, replace(QUICK, steps=3)).scales[1].composite)
    repeated = refine(toy, *scene, replace(QUICK, steps=(2,)))
    assert [len(scale.losses) for scale in repeated.scales] == [0, 2, 2]


@pytest.mark.parametrize("at", [1, 3, 7])
def test_stopping_gives_a_full_size_result(toy, scene, at) -> None:
    image, mask = scene
    calls = []

    def stop(progress) -> None:
        calls.append(progress)
        if len(calls) == at:
            raise StopRefinement

    result = refine(toy, image, mask, QUICK, progress=stop)
    assert len(calls) == at
    assert result.stopped
    assert result.image.shape == image.shape
    assert len(result.scales) == 3
    known = (mask == 0).expand_as(image)
    assert torch.equal(result.image[known], image[known])
    assert ((result.image >= 0) & (result.image <= 1)).all()


def test_no_refinement_is_one_pass(toy, scene) -> None:
    image, mask = scene
    result = refine(toy, image, mask, Settings(refine=False, pixel_budget=256))
    assert [scale.size for scale in result.scales] == [(67, 90)]
    assert not result.scales[0].refined


def test_budget_is_said(toy, scene) -> None:
    result = refine(toy, *scene, Settings(detail="features", min_side=16, steps=2, pixel_budget=2000))
    assert result.shrunk_from == (67, 90)
    assert result.image.shape == (1, 3, 38, 51)


def test_an_empty_hole_gives_the_picture_back(toy, scene) -> None:
    image, mask = scene
    result = refine(toy, image, torch.zeros_like(mask), QUICK)
    assert torch.equal(result.image, image)
    assert result.scales == ()


@examples(max_examples=20, deadline=None)
@given(height=st.integers(1, 40), width=st.integers(1, 40))
def test_any_size_comes_back_whole(height, width) -> None:
    image, mask = torch.rand(1, 3, height, width), torch.zeros(1, 1, height, width)
    if height * width > 1:
        mask[..., height // 2, width // 2] = 1
    result = refine(Toy(), image, mask, Settings(detail="features", min_side=16, steps=2))
    assert torch.equal(result.image * (1 - mask), image * (1 - mask))


def test_lama_takes_the_smallest_pictures(tiny) -> None:
    image, mask = torch.rand(1, 3, 1, 9), torch.zeros(1, 1, 1, 9)
    mask[..., 4] = 1
    assert refine(tiny, image, mask).image.shape == image.shape


def test_scales_are_given_as_they_come(toy, scene) -> None:
    seen = []
    result = refine(toy, *scene, QUICK, on_scale=seen.append)
    assert [scale.size for scale in seen] == [(16, 22), (33, 45), (67, 90)]
    assert seen == list(result.scales)


def test_who_is_given_a_scale_can_stop_or_end_the_work(toy, scene) -> None:
    def stop(scale):
        if scale.size == (33, 45):
            raise StopRefinement

    result = refine(toy, *scene, QUICK, on_scale=stop)
    assert result.stopped
    assert [scale.refined for scale in result.scales] == [False, True, False]
    assert result.image.shape == scene[0].shape

    def fail(scale):
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        refine(toy, *scene, QUICK, on_scale=fail)


def test_pictures_that_lie_pixel_by_pixel_are_laid_out_color_by_color(toy, scene) -> None:
    """As those from NumPy and ComfyUI do, on which every pass over a color takes half as long again."""
    image, mask = scene
    pixels = image.movedim(1, -1).contiguous().movedim(-1, 1)
    assert not pixels.is_contiguous()
    settings, scales = Settings(start="exemplar", detail="exemplar"), []
    result = refine(toy, pixels, mask, settings, on_scale=scales.append)
    assert torch.equal(result.image, refine(toy, image, mask, settings).image)
    assert all(scale.composite.is_contiguous() for scale in scales)


def test_callers_in_inference_mode(toy, scene) -> None:
    with torch.inference_mode():
        image, mask = scene[0].clone(), scene[1].clone()
        result = refine(toy, image, mask, QUICK)
    torch.testing.assert_close(result.image, refine(toy, *scene, QUICK).image)


@pytest.mark.parametrize(
    ("image", "mask", "message"),
    [
        (torch.rand(3, 9, 9), torch.ones(1, 1, 9, 9), r"image: expected shape \(N,3,H,W\), got \(3, 9, 9\)"),
        (torch.rand(1, 4, 9, 9), torch.ones(1, 1, 9, 9), r"image: expected shape"),
        (torch.ones(1, 3, 9, 9, dtype=torch.uint8), torch.ones(1, 1, 9, 9), "divide 8-bit values by 255"),
        (torch.full((1, 3, 9, 9), 2.0), torch.ones(1, 1, 9, 9), r"values in \[0,1\], got 2 to 2"),
        (torch.full((1, 3, 9, 9), float("nan")), torch.ones(1, 1, 9, 9), r"values in \[0,1\], got nan"),
        (torch.rand(1, 3, 9, 9), torch.ones(1, 1, 9, 8), r"mask: expected shape \(1, 1, 9, 9\)"),
        (torch.rand(2, 3, 9, 9), torch.ones(1, 1, 9, 9), "mask: expected shape"),
        (torch.rand(1, 3, 9, 9), torch.ones(1, 1, 9, 9), "covers the whole picture"),
        (torch.rand(1, 3, 9, 9, dtype=torch.float64), torch.zeros(1, 1, 9, 9), "the model torch.float32"),
    ],
)
def test_bad_tensors_are_refused(toy, image, mask, message) -> None:
    with pytest.raises(InputError, match=message):
        refine(toy, image, mask)


def test_a_prediction_of_the_wrong_shape_is_refused(toy, scene) -> None:
    toy.up.stride = (5, 5)
    toy.front = lambda _image, _mask: torch.rand(1, 8, 5, 6)
    toy.rear = lambda features: torch.sigmoid(toy.out(toy.up(features)))
    with pytest.raises(ModelError, match="check `multiple` in the model's spec"):
        refine(toy, *scene, QUICK)


class SecondMoment:
    """An objective of one's own: the known pixels in squares, nothing in the hole."""

    def __init__(self, target: Target) -> None:
        self.target = target

    def __call__(self, prediction: torch.Tensor) -> torch.Tensor:
        known = ~self.target.hole
        return ((prediction - self.target.image).square() * known).flatten(1).mean(dim=1)


def test_another_objective_is_one_class(toy, scene) -> None:
    made: list[SecondMoment] = []

    def objective(target: Target) -> SecondMoment:
        made.append(SecondMoment(target))
        return made[-1]

    ours = refine(toy, *scene, QUICK, objective=objective)
    assert ours.plan.bytes is not None  # memory is estimated with it too
    at_work = [one for one in made if not one.target.image.is_meta]
    assert [one.target.size for one in at_work] == [(33, 45), (67, 90)]
    assert at_work[0].target.coarse.shape[-2:] == (16, 22)
    assert ours.scales[-1].losses[-1] < ours.scales[-1].losses[0]
    assert ours.scales[-1].losses != refine(toy, *scene, QUICK).scales[-1].losses


def test_results_as_plain_values(toy, scene) -> None:
    result = refine(toy, *scene, QUICK)
    plain = json.loads(json.dumps(result.to_dict()))
    assert plain == result.to_dict()
    assert plain["stopped"] is False
    assert plain["shrunk_from"] is None
    assert [scale["size"] for scale in plain["scales"]] == [[22, 16], [45, 33], [90, 67]]
    assert plain["scales"][0]["loss_before"] is None
    (window,) = plain["scales"][2]["windows"]
    assert (window["left"], window["top"], window["size"]) == (0, 0, [90, 67])
    assert plain["scales"][2]["loss_after"] == min(window["losses"])
