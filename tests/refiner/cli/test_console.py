"""Progress as a person sees it."""

from __future__ import annotations

import io
import sys

import pytest
import torch

from refiner import Progress, ScaleResult, WindowResult
from refiner.cli.console import ScaleLines, in_time, progress_shown
from refiner.engine.windows import Window


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def result(predictions: int, *, shares: dict[str, float] | None = None) -> ScaleResult:
    windows = (WindowResult(Window(0, 0, 20, 30), (0.5,) * predictions, 0),) if predictions else ()
    shares = {"features": 1.0} if shares is None else shares
    return ScaleResult((20, 30), torch.zeros(1, 3, 20, 30), windows, 12.34, shares)


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "5 s"), (11, "10 s"), (88, "90 s"), (91, "2 min"), (540, "9 min"), (5399, "1.5 h"), (9000, "2.5 h")],
)
def test_time_in_words(seconds, words) -> None:
    assert in_time(seconds) == words


def test_a_line_for_each_scale_and_one_when_it_is_known_how_long(capsys) -> None:
    lines = ScaleLines()
    lines(Progress(1, 3, (10, 15)))
    lines.on_scale(result(0, shares={"model": 1.0}))
    lines(Progress(2, 3, (20, 30), step=1, steps=2, loss=0.5))
    lines(Progress(2, 3, (20, 30), step=2, steps=2, loss=0.5, seconds_left=540.0))
    lines.on_scale(result(2))
    lines(Progress(3, 3, (40, 60), step=1, steps=2))  # something is copied
    lines(Progress(3, 3, (40, 60), step=1, steps=2, loss=0.5, seconds_left=20.0))
    lines(Progress(3, 3, (40, 60), step=2, steps=2, loss=0.5, seconds_left=0.0))
    lines.on_scale(result(1))
    lines.on_scale(result(0, shares={}))  # not reached
    assert capsys.readouterr().err.splitlines() == [
        "30x20 filled in 12.3 s.",
        "About 9 min to go.",
        "30x20 refined in 12.3 s, 2 predictions; about 9 min left.",
        "30x20 refined in 12.3 s, 1 prediction.",
    ]


def test_nothing_is_said_of_seconds(capsys) -> None:
    lines = ScaleLines()
    lines(Progress(2, 3, (20, 30), step=2, steps=2, loss=0.5, seconds_left=4.0))
    lines.on_scale(result(2))
    assert capsys.readouterr().err == "30x20 refined in 12.3 s, 2 predictions.\n"


def test_bars_are_full_where_predictions_end_early(monkeypatch) -> None:
    """Two windows, of 3 and 2 predictions out of 15."""
    monkeypatch.setattr(sys, "stderr", Terminal())
    with progress_shown(in_lines=False, quiet=False) as (show, on_scale):
        assert on_scale is None
        for window, made in ((1, 3), (2, 2)):
            for step in range(1, made + 1):
                steps = made if step == made else 15
                show(Progress(2, 3, (20, 30), step, steps, 0.5, window, 2, seconds_left=540.0))
        show(Progress(2, 3, (20, 30), 1, 15, 0.5, 1, 2))  # out of memory: anew, and now to the end
        for window in (1, 2):
            show(Progress(2, 3, (20, 30), 15, 15, 0.5, window, 2, seconds_left=540.0))
    drawn = sys.stderr.getvalue().replace("\n", "\r").split("\r")
    shown = [line for line in drawn if "2/3 30x20" in line]
    counts = [line.rpartition("| ")[2].partition(" ")[0] for line in shown]
    assert [each for each in dict.fromkeys(counts) if not each.startswith("0")] == [
        "1/30",
        "2/30",
        "3/18",
        "4/18",
        "5/5",
        "15/30",
        "30/30",
    ]
    assert "loss=0.50000, about 9 min left in all" in shown[-1]
    assert "100%" in shown[-1]


def test_quiet_asks_for_nothing() -> None:
    with progress_shown(in_lines=False, quiet=True) as callbacks:
        assert callbacks == (None, None)
