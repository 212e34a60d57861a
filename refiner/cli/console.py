"""What the command line shows a person: progress while it works, and a line at the end."""

from __future__ import annotations

import math
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from refiner.cli.listening import while_someone_reads
from refiner.errors import RefinerWarning
from refiner.models.download import quiet_downloads

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from typing import TypeAlias

    from refiner.engine.result import Progress, Result, ScaleResult
    from refiner.photo import PhotoResult
    from refiner.settings import Settings

    OnProgress: TypeAlias = Callable[[Progress], object]
    OnScale: TypeAlias = Callable[[ScaleResult], object]


_FIRST = 0.1  # share of the work that the smallest scale takes
_MINUTES, _HOURS = 90, 90  # times are told in minutes from 90 s, and in hours from 90 min
_LONG = 10  # seconds; a shorter time left is not told
_BAR = "{desc}: {percentage:3.0f}%|{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"


@contextmanager
def only_errors(*, quiet: bool) -> Iterator[None]:
    """With `quiet`, hide the progress of downloads and the warnings meant for users."""
    with quiet_downloads(quiet=quiet), warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore", RefinerWarning)
        yield


class ProgressBars:
    """A progress callback: one bar on stderr for each scale, for a terminal."""

    def __init__(self) -> None:
        self._bar: tqdm[Any] | None = None
        self._last: Progress | None = None
        self._before = 0  # predictions made in this scale's earlier windows
        self._planned = 0  # predictions planned for each window

    def __call__(self, progress: Progress) -> None:
        """Show one more prediction."""
        last, self._last = self._last, progress
        if last is None or last.scale != progress.scale:
            self.close()
            self._before, self._planned = 0, 0
            height, width = progress.size
            self._bar = tqdm(
                desc=f"scale {progress.scale}/{progress.scales} {width}x{height}",
                total=progress.steps * progress.windows,
                file=sys.stderr,
                bar_format=_BAR,
            )
        elif last.window < progress.window:
            self._before += last.step
        elif progress.window == 1:
            self._before = 0  # a scale that ran out of memory begins anew
        assert self._bar is not None  # noqa: S101  the first step of each scale makes it
        postfix = [] if progress.loss is None else [f"loss={progress.loss:.5f}"]
        if progress.seconds_left:
            postfix.append(f"about {in_time(progress.seconds_left)} left in all")
        self._bar.set_postfix_str(", ".join(postfix), refresh=False)
        # Where predictions end early, the bar's total shrinks, so that the bar is full at the end.
        self._planned = max(self._planned, progress.steps)
        self._bar.total = self._before + progress.steps + self._planned * (progress.windows - progress.window)
        self._bar.n = self._before + progress.step
        self._bar.refresh()

    def close(self) -> None:
        """Close the bar that is shown."""
        if self._bar is not None:
            self._bar.close()


class ScaleLines:
    """A progress callback: a line on stderr for each scale, where there is no terminal to show bars in."""

    def __init__(self) -> None:
        self._left: float | None = None
        self._told = False  # whether the time left was told

    def __call__(self, progress: Progress) -> None:
        """Say once how much time is left, when that is known."""
        self._left = progress.seconds_left
        if self._left is not None and not self._told:
            self._told = True
            if self._left > _LONG:
                click.echo(f"About {in_time(self._left)} to go.", err=True)

    def on_scale(self, scale: ScaleResult) -> None:
        """Say that a scale is done; say nothing of a scale that was not reached."""
        if not scale.shares:
            return
        height, width = scale.size
        line = f"{width}x{height} {'refined' if scale.windows else 'filled'} in {scale.seconds:.1f} s"
        if scale.windows:
            line += f", {scale.predictions} prediction{'s' if scale.predictions > 1 else ''}"
        if self._left is not None and self._left > _LONG:
            line += f"; about {in_time(self._left)} left"
        click.echo(f"{line}.", err=True)


@contextmanager
def progress_shown(*, in_lines: bool, quiet: bool) -> Iterator[tuple[OnProgress | None, OnScale | None]]:
    """Give two callbacks that show a photo's progress, one for predictions and one for scales; None for none.

    Args:
        in_lines: show a line for each prediction, for programs; the work ends where nobody reads them any more.
        quiet: show nothing at all.
    """
    if quiet:
        yield None, None
    elif in_lines:
        with while_someone_reads():
            yield progress_line, None
    elif not sys.stderr.isatty():
        lines = ScaleLines()
        yield lines, lines.on_scale
    else:
        bars = ProgressBars()
        try:
            yield bars, None
        finally:
            bars.close()


def in_time(seconds: float) -> str:
    """A rounded time in words: seconds, minutes or hours."""
    if seconds < _MINUTES:
        return f"{max(5 * round(seconds / 5), 5)} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < _HOURS else f"{minutes / 60:.1f} h"


def progress_line(progress: Progress) -> None:
    """A progress callback: one line on stderr for each step, for programs that show progress their own way."""
    step = (progress.window - 1) * progress.steps + progress.step
    click.echo(
        f"Progress: {100 * share_done(progress):.1f} %, scale {progress.scale}/{progress.scales}, "
        f"step {step}/{progress.steps * progress.windows}",
        err=True,
    )


def share_done(progress: Progress) -> float:
    """Share of the work that is done, 0 to 1; each scale counts four times as much as the scale before."""
    first = 1.0 if progress.scales == 1 else _FIRST
    if progress.scale == 1:
        return first * progress.step / progress.steps
    works = [4.0**number for number in range(1, progress.scales)]
    here = ((progress.window - 1) * progress.steps + progress.step) / (progress.windows * progress.steps)
    before, now = sum(works[: progress.scale - 2]), works[progress.scale - 2]
    return first + (1 - first) * (before + here * now) / sum(works)


def closing_line(result: PhotoResult, seconds: float, device: str) -> str:
    """Which scales were refined and how far the loss fell, or why none was."""
    done = what_was_done(result.refinement, result.settings, result.model.spec.train_size)
    return f"{done}; {seconds:.1f} s on {device}."


def what_was_done(result: Result, settings: Settings, train_size: int) -> str:
    """The same in words alone, for a result with a hole.

    Args:
        result: what `refine` gave.
        settings: of the refinement.
        train_size: of the model's spec.
    """
    scales = result.scales
    height, width = scales[-1].size
    if not settings.refine:
        return f"Not refined: the model's own result at {width}x{height}"
    if not any(scale.windows for scale in scales) and set(scales[-1].shares) != {"model"}:
        return f"Filled at {width}x{height} {_from_what(scales)}"
    refinable = [scale for scale in scales[1:] if scale.windows]
    if not refinable:
        if settings.max_scales == 1:
            return "Not refined: max_scales is 1"
        needed = math.ceil((settings.min_side or train_size) * math.sqrt(2))
        return (
            f"Not refined: a short side of {min(height, width)} px is too small for more than one scale "
            f"(about {needed} px are needed)"
        )
    refined = sum(scale.refined for scale in refinable)
    changes = ", ".join(_change(scale) for scale in refinable)
    line = f"Refined {refined} of {len(scales)} scales, the smallest by the model alone: {changes}"
    if set(scales[-1].shares) != {"features"}:
        line += f"; filled {_from_what(scales)}"
    return line


_NAMES = {
    "model": "by the model, unrefined",
    "features": "by the model's features",
    "exemplar": "from the photo's own pixels",
    "both": "by the smaller scale, with detail from the photo's own pixels",
    "guide": "by the guide as it was given",
}


def _from_what(scales: Sequence[ScaleResult]) -> str:
    """Words for what filled the last scale that was reached."""
    shares = next((scale.shares for scale in reversed(scales) if scale.shares), {})
    if len(shares) == 1:
        return _NAMES[next(iter(shares))]
    return ", ".join(f"{100 * share:.0f} % {_NAMES[name]}" for name, share in shares.items())


def _change(scale: ScaleResult) -> str:
    height, width = scale.size
    if not scale.refined:
        if len(scale.losses) == 1:
            return f"{width}x{height} not refined, with one prediction"
        return f"{width}x{height} kept as it was, as its loss did not fall"
    before, after = scale.loss_before, scale.loss_after
    return f"{width}x{height} loss {before:.4f} to {after:.4f} ({100 * (after / before - 1):+.1f} %)"
