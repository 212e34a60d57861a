"""How long the work will go on, by a clock that is turned by hand."""

from __future__ import annotations

from dataclasses import replace

import pytest

from refiner import Settings, refine
from refiner.engine import plan
from refiner.engine import reporter as reporter_module
from refiner.engine.reporter import Forecast, duration

QUICK = Settings(detail="features", min_side=16, steps=(4, 2), lr=0.01, precision="float32")


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_work_of_an_even_pace_is_foretold_exactly() -> None:
    clock = Clock()
    forecast = Forecast(clock)
    works = [0, 40, 160, 320]
    forecast.expect(works)
    left = []
    for scale, work in enumerate(works, start=1):
        forecast.begin(scale)
        clock.now += 1.0 if scale == 1 else 0.0
        for part in (1, 2, 3, 4) if work else ():
            clock.now += 0.5 * work / 4
            left.append((forecast.left(scale, part / 4, sure=part > 1), 0.5 * sum(works[1:]) + 101 - clock.now))
    assert left[0][0] is None, "one prediction says too little"
    for told, real in left[1:]:
        assert told == pytest.approx(real)
    assert left[-1][0] == 0


def test_a_scale_that_is_slower_is_taken_into_account() -> None:
    clock = Clock()
    forecast = Forecast(clock)
    forecast.expect([0, 10, 40])
    forecast.begin(2)
    clock.now += 10
    assert forecast.left(2, 1, sure=False) == pytest.approx(40)
    forecast.begin(3)
    told = []
    for part in range(1, 11):
        clock.now += 8  # twice as slow
        told.append(forecast.left(3, part / 10, sure=True) - (80 - 8 * part))
    assert told[0] == pytest.approx(-18)
    assert all(abs(told[n]) >= abs(told[n + 1]) for n in range(9))
    assert told[-1] == pytest.approx(0)


def test_a_scale_that_begins_anew_counts_once() -> None:
    clock = Clock()
    forecast = Forecast(clock)
    forecast.expect([0, 10, 40])
    forecast.begin(2)
    clock.now += 10
    forecast.begin(3)
    clock.now += 1000  # out of memory
    forecast.expect([0, 10, 20])
    forecast.begin(3)
    clock.now += 10
    assert forecast.left(3, 0.5, sure=True) == pytest.approx(10)


def test_nothing_is_foretold_of_work_that_is_not_known() -> None:
    forecast = Forecast(Clock())
    assert forecast.left(1, 0.5, sure=True) is None
    forecast.expect([0, 10])
    assert forecast.left(1, 1, sure=True) is None


def test_the_first_prediction_takes_less() -> None:
    assert duration(15) - duration(14) == 1
    assert 0 < duration(1) < 1


def test_a_refinement_tells_it(toy, scene, monkeypatch) -> None:
    """Every prediction takes as long as its pixels: the clock is turned by what the work itself tells."""
    clock, seen = Clock(), []
    forecast = Forecast(clock)
    monkeypatch.setattr(reporter_module, "Forecast", lambda: forecast)
    rear, steps = toy.rear, {"last": None}

    def slow(features):
        prediction = rear(features)
        if not prediction.is_meta:
            area = prediction.shape[2] * prediction.shape[3]
            clock.now += area * (1 if steps["last"] == area else 0.5)
            steps["last"] = area
        return prediction

    monkeypatch.setattr(toy, "rear", slow)
    ends = {}

    def progress(news) -> None:
        seen.append(news)
        ends[news.scale, news.step] = clock.now

    image, mask = (part[..., :64, :88] for part in scene)  # which nothing is padded of
    refine(toy, image, mask, replace(QUICK, windows="off"), progress)
    assert [(p.scale, p.step, p.steps) for p in seen] == [
        (1, 1, 1),
        *((2, n, 4) for n in (1, 2, 3, 4)),
        (3, 1, 2),
        (3, 2, 2),
    ]
    assert [p.seconds_left is None for p in seen] == [True, True, False, False, False, False, False]
    for news in seen[2:]:
        real = clock.now - ends[news.scale, news.step]
        assert news.seconds_left == pytest.approx(real), news
    assert [p.scale_done for p in seen if p.scale == 3] == [pytest.approx(1 / 3), 1]


def test_a_window_counts_by_its_area(toy, scene, monkeypatch) -> None:
    image, mask = scene
    mask = mask * 0
    mask[..., 4:10, 4:10] = 1
    mask[..., 40:60, 66:85] = 1
    toy.spec = replace(toy.spec, train_size=8)
    seen = []
    monkeypatch.setattr(plan, "CONTEXT", 0.1)
    settings = replace(QUICK, min_side=40, steps=2)
    result = refine(toy, image, mask, settings, seen.append)
    first, second = (window.window.area for window in result.scales[-1].windows)
    assert first < second
    share = first / (first + second)
    done = [p.scale_done for p in seen if p.scale == 2]
    assert done == pytest.approx([share / 3, share, share + (1 - share) / 3, 1])
    assert result.plan.areas == (33 * 45, first + second)
