from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from torch.nn import functional

from refiner import Settings, Target, load_model, paper_objective, refine
from refiner.engine import plan
from refiner.engine.back_projection import add_detail, back_project, back_project_window, trust_in_coarse
from refiner.engine.memory_estimate import Work, meta_copy, rehearse
from refiner.engine.pyramid import halve_image

QUICK = Settings(detail="features", min_side=16, steps=3, lr=0.01, precision="float32")


def box(height: int, width: int, *boxes: tuple[int, int, int, int]) -> torch.Tensor:
    hole = torch.zeros(1, 1, height, width, dtype=torch.bool)
    for top, left, bottom, right in boxes:
        hole[..., top:bottom, left:right] = True
    return hole


@examples(max_examples=20, deadline=None)
@given(height=st.integers(12, 60), width=st.integers(12, 60), times=st.integers(0, 3), seed=st.integers(0, 99))
def test_what_agrees_stays_and_nothing_outside_the_hole_changes(height, width, times, seed) -> None:
    generator = torch.Generator().manual_seed(seed)
    fill = torch.rand(2, 3, height, width, generator=generator, dtype=torch.float64)
    hole = torch.rand(2, 1, height, width, generator=generator) > 0.5
    assert torch.equal(back_project(fill, halve_image(fill), hole, times=times), fill)
    other = torch.rand_like(halve_image(fill))
    changed = back_project(fill, other, hole, times=times)
    known = ~hole.expand_as(fill)
    assert torch.equal(changed[known], fill[known])
    nothing = torch.zeros_like(other[:, :1])
    assert torch.equal(back_project(fill, other, hole, times=times, trust=nothing), fill)
    for i in range(2):
        alone = back_project(fill[i : i + 1], other[i : i + 1], hole[i : i + 1], times=times)
        torch.testing.assert_close(changed[i : i + 1], alone)


def step(column: int, side: int = 64) -> torch.Tensor:
    """Dark at the left, bright from a column on; (1,3,H,W)."""
    bright = (torch.arange(side) >= column).float()
    return (0.2 + 0.6 * bright).expand(1, 3, side, side).contiguous()


@pytest.mark.parametrize("column", [29, 30, 31, 33, 34, 36])
def test_an_edge_of_copies_beside_the_coarser_scales_leaves_no_dashes(column: int) -> None:
    hole = box(64, 64, (8, 8, 56, 56))
    found = add_detail(halve_image(step(32)), step(column), step(32), hole)
    assert found.min() > 0.19, found.min()
    assert found.max() < 0.81, found.max()
    assert (halve_image(found) - halve_image(step(32))).abs().mean() < 0.02, "the coarser scale is followed"
    assert torch.equal(found[~hole.expand_as(found)], step(32)[~hole.expand_as(found)])


def test_detail_of_copies_stays_where_the_coarser_scale_is_a_little_brighter() -> None:
    grain = 0.1 * (torch.rand(1, 3, 64, 64, generator=torch.Generator().manual_seed(1)) - 0.5)
    hole = box(64, 64, (8, 8, 56, 56))
    coarse = halve_image(0.55 + grain.flip(3))  # with a grain of its own
    found = add_detail(coarse, 0.53 + grain, 0.55 + grain, hole)[..., 12:52, 12:52]
    finest, wanted = (
        (x[..., 1:-1, 1:-1] - functional.avg_pool2d(x, 3, 1)).std() for x in (found, grain[..., 12:52, 12:52])
    )
    assert 0.75 < finest / wanted < 1.25
    assert abs(found.mean() - 0.55) < 0.01


def test_a_constant_offset_is_taken_off_at_once_and_a_smooth_one_more_each_time() -> None:
    hole = torch.ones(1, 1, 64, 64, dtype=torch.bool)
    wave = torch.sin(torch.linspace(0, 9, 32))[None, None, None].expand(1, 3, 32, 32)
    flat = torch.full((1, 3, 64, 64), 0.5)
    torch.testing.assert_close(back_project(flat, halve_image(flat) + 0.2, hole, times=1), flat + 0.2)
    off = [(halve_image(back_project(flat, wave, hole, times=times)) - wave).abs().mean().item() for times in range(4)]
    assert off[0] > 3 * off[1] > 6 * off[2] > 6 * off[3] > 0


@pytest.mark.parametrize("width", [2, 4, 10, 40, 200])
def test_every_hole_is_trusted_in_its_middle_and_nowhere_at_its_rim(width) -> None:
    """Also beside a thick one: its own width counts."""
    thin, thick = (20, 20, 220, 20 + width), (20, 30 + width, 220, 230 + width)
    (trust,) = trust_in_coarse(box(240, 260 + width, thin, thick))[0]
    own = trust[10:110, 10 : 10 + width // 2]
    assert own.max() == 1
    assert not trust[:10].any()
    assert not trust[:, :10].any()
    assert torch.equal(trust, trust.flip(0))
    if width >= 10:
        assert own[50, 0] < 0.1 * own[50, width // 4]
    row = own[50]
    assert (row[: width // 4].diff() >= 0).all()


def test_trust_has_no_step() -> None:
    """Not even where a thin arm leaves a thick body."""
    hole = box(400, 400, (50, 50, 250, 250), (140, 250, 160, 380))
    hole[..., 250:300, 60:70] = True
    (trust,) = trust_in_coarse(hole)[0]
    inside = trust[25:150, 25:190]
    thick = inside[:100, :100]
    for dim in (0, 1):
        assert thick.diff(dim=dim).abs().max() < 0.15
    assert trust[75, 180] > 0.5, "the arm's middle"
    along = trust[75, 25:186]
    assert along.diff().abs().max() < 0.2


def test_trust_of_what_is_all_hole_and_of_no_hole() -> None:
    assert (trust_in_coarse(torch.ones(1, 1, 20, 30, dtype=torch.bool)) == 1).all()
    both = torch.cat([box(40, 50, (10, 10, 30, 30)), box(40, 50)])
    trust = trust_in_coarse(both)
    assert trust.shape == (2, 1, 20, 25)
    assert trust[0].any()
    assert not trust[1].any()
    assert torch.equal(trust[:1], trust_in_coarse(both[:1]))
    assert trust_in_coarse(both.to("meta")).shape == trust.shape


@pytest.fixture
def target() -> Target:
    """A window of 45x61 padded to 48x64, in a batch of two."""
    generator = torch.Generator().manual_seed(3)
    image = torch.rand(2, 3, 48, 64, generator=generator)
    hole = torch.cat([box(48, 64, (8, 8, 36, 50)), box(48, 64, (5, 20, 40, 30))])
    coarse = torch.rand(2, 3, 22, 30, generator=generator)
    return Target(image, hole, coarse, (45, 61))


def test_following_changes_the_hole_alone_and_lowers_the_loss(target) -> None:
    objective = paper_objective(target, erosion=3)
    prediction = torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(4))
    followed, loss, taken = back_project_window(prediction, objective(prediction), target, objective, 1, "best")
    assert taken.all()
    assert (loss < objective(prediction)).all()
    torch.testing.assert_close(loss, objective(followed))
    known = ~target.hole.expand_as(prediction)
    assert torch.equal(followed[known], prediction[known])
    assert ((followed >= 0) & (followed <= 1)).all()
    # The rim too: what is halved there holds less of the hole than the coarser scale does.
    rim = target.hole & (functional.max_pool2d((~target.hole).float(), 3, 1, 1) > 0)
    changed = (followed - prediction).abs().mean(dim=1, keepdim=True)
    assert changed[rim].mean() < 0.3 * changed[target.hole & ~rim].mean()


def test_an_image_whose_loss_would_rise_keeps_its_prediction(target) -> None:
    prediction = torch.rand(2, 3, 48, 64, generator=torch.Generator().manual_seed(4))

    def stays(x: torch.Tensor) -> torch.Tensor:
        """The second image is to stay as it is, the first not."""
        return torch.tensor([0.0, 1.0]) * (x - prediction).abs().mean(dim=(1, 2, 3))

    followed, loss, taken = back_project_window(prediction, stays(prediction), target, stays, 1, "best")
    assert taken.tolist() == [True, False]
    assert torch.equal(followed[1], prediction[1])
    assert not torch.equal(followed[0], prediction[0])
    assert not loss.any()
    _, loss, taken = back_project_window(prediction, stays(prediction), target, stays, 1, "last")
    assert taken.all()
    assert loss[1] > 0


@pytest.mark.parametrize("windows", ["auto", "off"])
def test_in_a_refinement_it_is_told_and_lowers_the_loss(toy, scene, windows, monkeypatch) -> None:
    image, mask = scene  # of odd height
    toy.spec = replace(toy.spec, train_size=8)
    monkeypatch.setattr(plan, "CONTEXT", 0.05)
    objective = partial(paper_objective, erosion=3)  # the hole is small
    settings = replace(QUICK, windows=windows)
    plain, followed = (
        refine(toy, image, mask, replace(settings, back_projection=n), objective=objective) for n in (0, 1)
    )
    known = (mask == 0).expand_as(image)
    assert torch.equal(followed.image[known], image[known])
    assert not torch.equal(followed.image, plain.image)
    assert (followed.scales[-1].windows[0].window.size == (67, 90)) == (windows == "off")
    for before, after in zip(plain.scales[1:], followed.scales[1:], strict=True):
        assert before.windows[0].corrected is None
        assert after.loss_after == after.windows[0].corrected < after.windows[0].losses[after.windows[0].kept]
        assert after.to_dict()["windows"][0]["corrected"] == after.loss_after
    assert followed.scales[1].losses == plain.scales[1].losses, "the predictions are the same"
    alone = refine(toy, image, mask, replace(settings, back_projection=1, steps=1))
    assert alone.scales[1].refined, "one prediction and a correction"


def test_each_image_of_a_batch_is_followed_alone(toy, scene) -> None:
    image, mask = scene
    images, masks = torch.cat([image, image.flip(3)]).double(), torch.cat([mask, mask.flip(2)])
    toy.double()
    settings = replace(QUICK, windows="off", back_projection=2)
    together = refine(toy, images, masks, settings)
    for i in range(2):
        alone = refine(toy, images[i : i + 1], masks[i : i + 1], settings)
        torch.testing.assert_close(together.image[i : i + 1], alone.image)


def test_it_takes_less_memory_than_the_optimization_before_it() -> None:
    model = meta_copy(load_model("lama-small"))
    without, with_it = (
        rehearse(model, Work(torch.float32, torch.bfloat16, back_projection=times), (256, 320), 128) for times in (0, 2)
    )
    assert with_it == without
