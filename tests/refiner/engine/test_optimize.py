from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from refiner import ModelError, StopRefinement
from refiner.engine.adam import Adam
from refiner.engine.optimize import optimize_features


def run(features, objective, *, rear=lambda f: f, steps=5, lr=0.1, keep="last", on_step=None):
    return optimize_features(rear, lambda: features, objective, steps=steps, lr=lr, keep=keep, on_step=on_step)


def squared(target: torch.Tensor):
    return lambda prediction: ((prediction - target) ** 2).sum(dim=(1, 2, 3))


@pytest.fixture
def start() -> torch.Tensor:
    return torch.full((2, 3, 2, 2), 0.5, dtype=torch.float64)


def test_steps_count_predictions_and_updates_are_adams(start) -> None:
    target = torch.zeros_like(start)
    outcome = run(start, squared(target), steps=4, lr=0.01)
    expected = start.clone().requires_grad_()
    adam = torch.optim.Adam([expected], lr=0.01)
    for _ in range(3):  # one update fewer than predictions
        adam.zero_grad()
        squared(target)(expected).sum().backward()
        adam.step()
    assert torch.equal(outcome.prediction, expected.detach()), "to the bit"
    assert len(outcome.losses) == 4
    assert outcome.kept == 3
    assert not outcome.prediction.requires_grad


def test_features_given_are_not_written_to(start) -> None:
    before = start.clone()
    run(start, squared(torch.zeros_like(start)))
    assert torch.equal(start, before)


def test_best_keeps_each_pictures_own_best(start) -> None:
    """The first picture starts next to its optimum and oversteps it; the second gets better."""
    target = torch.zeros_like(start)
    target[0] = start[0] - 1e-4  # less than one update away

    def distance(prediction: torch.Tensor) -> torch.Tensor:
        return (prediction - target).abs().sum(dim=(1, 2, 3))

    outcome = run(start, distance, keep="best", lr=0.05)
    assert torch.equal(outcome.prediction[0], start[0])
    assert (outcome.prediction[1] < start[1]).all()
    assert outcome.kept == 4
    last = run(start, distance, keep="last", lr=0.05)
    assert not torch.equal(last.prediction[0], start[0])
    assert torch.equal(last.prediction[1], outcome.prediction[1])


def test_best_is_the_unrefined_one_where_all_else_is_worse(start) -> None:
    rising = iter([1.0, 2.0, float("nan"), 3.0])
    outcome = run(start, lambda p: p.sum(dim=(1, 2, 3)) * 0 + next(rising), steps=4, keep="best")
    assert outcome.kept == 0
    assert torch.equal(outcome.prediction, start)


def test_stop_gives_the_best_so_far(start) -> None:
    def stop_at_third(step: int, _loss: float, _steps: int) -> None:
        if step == 2:
            raise StopRefinement

    outcome = run(start, squared(torch.zeros_like(start)), steps=50, on_step=stop_at_third)
    assert outcome.stopped
    assert len(outcome.losses) == 3
    assert outcome.kept == 2


class Reads(TorchDispatchMode):
    """Counts values read from the device."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func in (torch.ops.aten._local_scalar_dense.default, torch.ops.aten.is_nonzero.default)
        return func(*args, **(kwargs or {}))


def test_nothing_waits_for_the_device_unless_asked(start, monkeypatch) -> None:
    """Adam itself reads how many steps it made, on the CPU alone."""
    monkeypatch.setattr(Adam, "step", lambda _: None)

    def reads(**options) -> int:
        with Reads() as counted:
            optimize_features(
                lambda f: f, lambda: start, squared(torch.zeros_like(start)), steps=7, lr=0.1, keep="best", **options
            )
        return counted.count

    assert reads() == 0
    assert reads(on_step=lambda *_: None) == 7


def test_nested_features_are_optimized_together(start) -> None:
    features = {"a": [start.clone(), (start.clone(), torch.tensor([7]))], "b": start.clone()}
    seen = []

    def rear(f):
        seen.append([f["a"][0].clone(), f["a"][1][0].clone(), f["b"].clone()])
        assert f["a"][1][1].item() == 7  # integers are handed on untouched
        return f["a"][0] + f["a"][1][0] + f["b"]

    run(features, squared(torch.zeros_like(start)), rear=rear, steps=2)
    assert all((after < before).all() for before, after in zip(*seen, strict=True))


def test_a_leaf_without_influence_is_left_alone(start) -> None:
    outcome = run((start, start.clone()), squared(torch.zeros_like(start)), rear=lambda f: f[0])
    assert (outcome.prediction < start).all()


@pytest.mark.parametrize(
    ("features", "rear", "message"),
    [
        (torch.ones(1, 3, 2, 2), lambda f: f.detach(), "no gradient"),
        (torch.ones(1, 3, 2, 2, dtype=torch.int64), lambda f: f.double(), "no floating-point tensor"),
    ],
)
def test_features_that_cannot_be_optimized(features, rear, message) -> None:
    with pytest.raises(ModelError, match=message):
        run(features, squared(torch.zeros(1, 3, 2, 2)), rear=rear)
