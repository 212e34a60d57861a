from __future__ import annotations

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from refiner import ModelError, StopRefinement
from refiner.engine.optimize import descend, optimize_features


def run(features, objective, *, rear=lambda f: f, steps=5, lr=0.1, keep="last", on_step=None, min_gain=None):
    return optimize_features(
        rear, lambda: features, objective, steps=steps, lr=lr, keep=keep, on_step=on_step, min_gain=min_gain
    )


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
    torch.testing.assert_close(outcome.prediction, expected.detach())
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


class Scripted:
    """Losses that fall as written, one row for each prediction; perhaps with a guide's term that falls otherwise."""

    def __init__(self, losses, terms=None) -> None:
        self._losses, self._terms = iter(losses), iter(terms or ())
        if terms is not None:
            self.guide_term = lambda _prediction: torch.tensor(next(self._terms), dtype=torch.float64)

    def __call__(self, prediction: torch.Tensor) -> torch.Tensor:
        return prediction.sum(dim=(1, 2, 3)) * 0 + torch.tensor(next(self._losses), dtype=torch.float64)


FALLING = [(0.9**n,) * 2 for n in range(9)]  # by 19 % over two


@pytest.mark.parametrize(
    ("losses", "terms", "made"),
    [
        (FALLING, None, 9),
        ([(1.0, 1.0)] * 9, None, 3),
        ([(3.0, 3.0), (2.0, 2.0), (2.0, 2.0), (1.9, 1.9), (1.8, 1.8), *FALLING], None, 4),
        (FALLING, [(1.0, 1.0)] * 9, 3),  # the term counts where there is one
        ([(1.0, 1.0)] * 9, FALLING, 9),
        (FALLING, [(0.0, 0.0)] * 9, 9),  # and the loss where nothing is guided
        ([(1.0, 0.9**n) for n in range(9)], None, 9),  # one of a batch is enough to go on
    ],
)
def test_predictions_end_where_two_gain_too_little(start, losses, terms, made) -> None:
    told = []
    outcome = run(start, Scripted(losses, terms), steps=9, min_gain=0.1, on_step=lambda *args: told.append(args))
    assert len(outcome.losses) == made
    assert [(step, steps) for step, _, steps in told[:-1]] == [(step, 9) for step in range(made - 1)]
    assert told[-1][::2] == (made - 1, made), "the last one says that it is"
    assert not outcome.stopped


@pytest.mark.parametrize("keep", ["best", "last"])
def test_an_image_that_ends_earlier_keeps_what_it_would_keep_alone(start, keep) -> None:
    def squares(target: torch.Tensor):
        return lambda prediction: ((prediction - target) ** 2).mean(dim=(1, 2, 3))

    target = torch.zeros_like(start)
    target[0] = 0.46  # reached at once, and overstepped; the other comes nearer for long
    outcome = run(start, squares(target), keep=keep, lr=0.02, steps=20, min_gain=0.1)
    alone = [
        run(start[i : i + 1], squares(target[i : i + 1]), keep=keep, lr=0.02, steps=20, min_gain=0.1) for i in (0, 1)
    ]
    assert 3 <= len(alone[0].losses) < len(alone[1].losses) == len(outcome.losses) == 20
    torch.testing.assert_close(outcome.prediction, torch.cat([one.prediction for one in alone]))


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
    monkeypatch.setattr(torch.optim.Adam, "step", lambda _: None)

    def reads(**options) -> int:
        with Reads() as counted:
            descend(
                lambda f: f, lambda: start, squared(torch.zeros_like(start)), steps=7, lr=0.1, keep="best", **options
            )
        return counted.count

    assert reads() == 0
    assert reads(min_gain=1e-9) == 1, "all ended at the third, as nothing changes"
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
