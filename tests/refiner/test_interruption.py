"""Work is ended within a step, at any of its layers, forward and backward."""

from __future__ import annotations

import pytest
import torch
from conftest import Toy

from refiner import Settings, StopRefinement, refine
from refiner.interruption import breathe, interrupted_by, stoppable

QUICK = Settings(detail="features", min_side=16, steps=4, lr=0.01, windows="off", precision="float32")


class _AskedError(Exception):
    pass


def test_what_a_check_raises_passes_those_that_catch_exceptions() -> None:
    def check(_: bool) -> None:
        raise _AskedError

    def careless() -> None:
        try:
            breathe()
        except Exception:  # noqa: BLE001  as in a network's own code
            pytest.fail("caught")

    with pytest.raises(_AskedError), interrupted_by(check):
        careless()
    breathe()  # nobody asks any more


def test_a_check_is_told_whether_the_work_can_be_stopped() -> None:
    told: list[bool] = []
    with interrupted_by(told.append):
        breathe()
        with stoppable():
            breathe()
        breathe()
    assert told == [False, True, False]


def test_a_check_alone_changes_nothing(toy, scene) -> None:
    told: list[bool] = []
    plain = refine(toy, *scene, QUICK).image
    with interrupted_by(told.append):
        assert torch.equal(refine(toy, *scene, QUICK).image, plain)
    assert len(told) > 3 * 4  # several times in each of the predictions
    assert {True, False} == set(told)


def breaths(toy: Toy, scene) -> list[bool]:
    told: list[bool] = []
    with interrupted_by(told.append):
        refine(toy, *scene, QUICK)
    return told


@pytest.mark.parametrize("share", [0.0, 0.1, 0.35, 0.6, 0.8, 0.99])
def test_the_work_ends_wherever_it_is_canceled(toy, scene, share) -> None:
    """At the first pass, in a front half, a prediction or its gradient."""
    left = int(share * len(breaths(toy, scene)))

    def check(_: bool) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise _AskedError

    with pytest.raises(_AskedError), interrupted_by(check):
        refine(toy, *scene, QUICK)
    assert left == -1  # and nothing went on after it
    assert refine(toy, *scene, QUICK).image.shape == scene[0].shape


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.55, 0.9])
def test_a_stop_within_a_prediction_keeps_the_best_before_it(toy, scene, share) -> None:
    image, mask = scene
    places = [number for number, can_stop in enumerate(breaths(toy, scene)) if can_stop]
    left, predictions = places[int(share * len(places))], []

    def check(can_stop: bool) -> None:
        nonlocal left
        left -= 1
        if left < 0 and can_stop:
            raise StopRefinement

    with interrupted_by(check):
        result = refine(toy, image, mask, QUICK, predictions.append)
    assert result.stopped
    assert [scale.size for scale in result.scales] == [(16, 22), (33, 45), (67, 90)]
    assert len(predictions) < 1 + 2 * QUICK.steps
    known = (mask == 0).expand_as(image)
    assert torch.equal(result.image[known], image[known])
    assert ((result.image >= 0) & (result.image <= 1)).all()
    assert all(len(window.losses) >= 1 for scale in result.scales for window in scale.windows)
