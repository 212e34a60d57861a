"""What the command line shows a person: progress while it works, and a line at the end."""

from __future__ import annotations

import math
import sys
import warnings
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from refiner.errors import RefinerWarning
from refiner.models.download import quiet_downloads

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from types import TracebackType

    from typing_extensions import Self

    from refiner.engine.result import Progress, ScaleResult
    from refiner.photo import PhotoResult


_FIRST = 0.1  # share of the smallest scale in the work


@contextmanager
def only_errors(*, quiet: bool) -> Iterator[None]:
    """Where `quiet`, let neither downloads nor warnings show anything."""
    with quiet_downloads(quiet=quiet), warnings.catch_warnings():
        if quiet:
            warnings.simplefilter("ignore", RefinerWarning)
        yield


class ProgressBars:
    """A progress callback: one bar on stderr for each scale, and none where stderr is not a terminal."""

    def __init__(self, *, quiet: bool) -> None:
        self._off = quiet or not sys.stderr.isatty()
        self._bar: tqdm[Any] | None = None
        self._scale = 0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def __call__(self, progress: Progress) -> None:
        """Show one more prediction."""
        if self._off:
            return
        if progress.scale != self._scale:
            self._close()
            self._scale = progress.scale
            height, width = progress.size
            self._bar = tqdm(
                desc=f"scale {progress.scale}/{progress.scales} {width}x{height}",
                total=progress.steps * progress.windows,
                file=sys.stderr,
            )
        assert self._bar is not None  # noqa: S101  made for the first step of each scale
        if progress.loss is not None:
            self._bar.set_postfix(loss=f"{progress.loss:.5f}", refresh=False)
        self._bar.total = max(self._bar.total or 0, progress.steps * progress.windows)
        self._bar.n = (progress.window - 1) * progress.steps + progress.step
        self._bar.refresh()

    def _close(self) -> None:
        if self._bar is not None:
            self._bar.close()


def progress_line(progress: Progress) -> None:
    """A progress callback: one line on stderr for each step, for programs that show progress their own way."""
    step = (progress.window - 1) * progress.steps + progress.step
    click.echo(
        f"Progress: {100 * share_done(progress):.1f} %, scale {progress.scale}/{progress.scales}, "
        f"step {step}/{progress.steps * progress.windows}",
        err=True,
    )


def share_done(progress: Progress) -> float:
    """How much of the work is done, 0 to 1: a step counts four times as much as one at the scale before."""
    first = 1.0 if progress.scales == 1 else _FIRST
    if progress.scale == 1:
        return first * progress.step / progress.steps
    works = [4.0**number for number in range(1, progress.scales)]
    here = ((progress.window - 1) * progress.steps + progress.step) / (progress.windows * progress.steps)
    before, now = sum(works[: progress.scale - 2]), works[progress.scale - 2]
    return first + (1 - first) * (before + here * now) / sum(works)


def closing_line(result: PhotoResult, seconds: float, device: str) -> str:
    """Which scales were refined and how far the loss fell, or why none was."""
    settings, scales = result.settings, result.refinement.scales
    took = f"{seconds:.1f} s on {device}"
    height, width = scales[-1].size
    if not settings.refine:
        return f"Not refined: the model's own result at {width}x{height}, {took}."
    if not any(scale.windows for scale in scales) and set(scales[-1].shares) != {"model"}:
        return f"Filled at {width}x{height} {_from_what(scales)}; {took}."
    refinable = [scale for scale in scales[1:] if scale.windows]
    if not refinable:
        if settings.max_scales == 1:
            return f"Not refined: max_scales is 1, {took}."
        needed = math.ceil((settings.min_side or result.model.spec.train_size) * math.sqrt(2))
        return (
            f"Not refined: a short side of {min(height, width)} px is too small for more than one scale "
            f"(about {needed} px are needed), {took}."
        )
    refined = sum(scale.refined for scale in refinable)
    changes = ", ".join(_change(scale) for scale in refinable)
    line = f"Refined {refined} of {len(scales)} scales, the smallest being the guide: {changes}"
    if set(scales[-1].shares) != {"features"}:
        line += f"; filled {_from_what(scales)}"
    return f"{line}; {took}."


_NAMES = {
    "model": "by the model, unrefined",
    "features": "by the model's features",
    "exemplar": "from the photo's own pixels",
    "both": "by the smaller scale, with detail from the photo's own pixels",
    "guide": "by the guide as it was given",
}


def _from_what(scales: Sequence[ScaleResult]) -> str:
    """What filled the last scale that was reached."""
    shares = next((scale.shares for scale in reversed(scales) if scale.shares), {})
    if len(shares) == 1:
        return _NAMES[next(iter(shares))]
    return ", ".join(f"{100 * share:.0f} % {_NAMES[name]}" for name, share in shares.items())


def _change(scale: ScaleResult) -> str:
    height, width = scale.size
    if len(scale.losses) == 1:
        return f"{width}x{height} not refined, with one prediction"
    if not scale.refined:
        return f"{width}x{height} kept as it was, as its loss did not fall"
    before, after = scale.loss_before, scale.loss_after
    return f"{width}x{height} loss {before:.4f} to {after:.4f} ({100 * (after / before - 1):+.1f} %)"
