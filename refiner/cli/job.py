"""One photo through the engine: read, fill, write all that was asked for, say how it went."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import click
import torch
from torch.nn import functional

from refiner import __version__
from refiner.cli.console import ProgressBars, closing_line
from refiner.errors import InputError
from refiner.files import check_target, write_atomic
from refiner.images.picture import Picture, from_rgb
from refiner.images.writing import check_fits, encode, format_of, reductions, takes_quality
from refiner.memory import give_back_freed_memory
from refiner.models.inpainter import Inpainter, learning_rate, train_size
from refiner.models.registry import load_model
from refiner.photo import as_file, fill, read_photo, stays_as_it_is

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from refiner.engine.plan import Plan
    from refiner.engine.result import Result
    from refiner.images.masks import Hole, MaskOptions
    from refiner.settings import Settings

_KEPT = 2  # times what is in use is what the C library may hold where it keeps freed memory
_HOLE_COLOUR = (1.0, 0.0, 1.0)


@dataclass(frozen=True)
class Request:
    """What to do to one photo."""

    image: Path
    mask: Path | None  # None where it is in the photo's alpha
    mask_options: MaskOptions
    model: str
    weights: Path | None
    preset: str
    settings: Settings
    devices: tuple[torch.device, ...]


@dataclass(frozen=True)
class Targets:
    """What to write: the result, and what was asked for beside it."""

    output: Path
    compare: Path | None
    report: Path | None
    scales: Path | None  # a folder
    quality: int | None = None

    def check(self, *, overwrite: bool) -> None:
        """Refuse before any work what could not be written after it; raises `InputError`."""
        files = [path for path in (self.output, self.compare, self.report) if path is not None]
        for path in files:
            check_target(path, overwrite=overwrite)
        named = [*files, *([] if self.scales is None else [self.scales])]
        resolved = [path.resolve() for path in named]
        if len(set(resolved)) < len(resolved):
            twice = next(path for path in reversed(named) if resolved.count(path.resolve()) > 1)
            raise InputError(f"{twice}: named for two outputs; give each its own file.")
        if self.scales is not None and self.scales.resolve() in [path.parent for path in resolved]:
            raise InputError(f"{self.scales}: is for the scales alone; put the other files elsewhere.")
        for name in {self.output, self.compare or self.output}:
            format_of(name)
        if self.quality is not None and not takes_quality(self.output):
            raise InputError(f"--quality: {format_of(self.output)} has none; leave it out, or use a name in .jpg.")
        if self.scales is not None:
            self._check_scales(self.scales, overwrite=overwrite)

    def check_fit(self, picture: Picture) -> None:
        """Refuse before any work what the formats could not hold after it; raises `InputError`."""
        height, width = picture.size
        check_fits(self.output, picture.mode, (height, width), picture.metadata)
        if self.compare is not None:
            check_fits(self.compare, "RGB", (height, 3 * width))

    @staticmethod
    def _check_scales(folder: Path, *, overwrite: bool) -> None:
        if not folder.is_dir():
            check_target(folder, overwrite=False)
            return
        check_target(folder / "scale", overwrite=overwrite)
        if any(folder.iterdir()) and not overwrite:
            raise InputError(f"{folder}: is not empty; choose another folder or add --overwrite.")


def run(request: Request, targets: Targets, *, quiet: bool) -> None:
    """Fill the photo and write the results; prints the path of the filled photo."""
    start = time.perf_counter()

    def say(line: str) -> None:
        if not quiet:
            click.echo(line, err=True)

    picture, hole = read_photo(request.image, request.mask, request.mask_options)
    if hole.warning is not None:
        say(f"Warning: {hole.warning}")
    targets.check_fit(picture)
    copied = stays_as_it_is(picture, hole, targets.output, targets.quality)
    for line in [] if copied else reductions(picture, targets.output, targets.quality):
        say(line)
    model = load_model(request.model, weights=request.weights)

    def say_plan(plan: Plan) -> None:
        if plan.bytes is None or _KEPT * plan.bytes > plan.budget:
            give_back_freed_memory()  # slower, so only where memory is short
        say(f"Plan: {plan}.")

    with ProgressBars(quiet=quiet) as bars:
        filled, result = fill(model, picture, hole, request.settings, request.devices, bars, say_plan)

    written: dict[Path, bytes] = {targets.output: as_file(filled, hole, request.image, targets.output, targets.quality)}
    if targets.compare is not None:
        plain, _ = fill(model, picture, hole, replace(request.settings, refine=False), request.devices)
        written[targets.compare] = encode(_side_by_side(picture, hole, plain, filled), targets.compare)
    seconds = time.perf_counter() - start
    written |= _beside(request, targets, model, result, filled, seconds)
    write_atomic(written)

    for line in _how_it_went(request, picture, result, train_size(model), seconds, copied=copied):
        say(line)
    click.echo(targets.output)


def _beside(
    request: Request, targets: Targets, model: Inpainter, result: Result, filled: Picture, seconds: float
) -> dict[Path, bytes]:
    """The report and the scales, where they were asked for."""
    written: dict[Path, bytes] = {}
    if targets.report is not None:
        written[targets.report] = _report(request, targets, model, result, filled, seconds)
    if targets.scales is not None:
        for number, scale in enumerate(result.scales, start=1):
            path = targets.scales / f"scale{number}_{scale.size[1]}x{scale.size[0]}.png"
            written[path] = encode(from_rgb(scale.composite), path)
    return written


def _how_it_went(
    request: Request, picture: Picture, result: Result, side: int, seconds: float, *, copied: bool
) -> Iterator[str]:
    """What the user should know at the end, a line each."""
    if not result.scales:
        what = f"{request.image} was copied unchanged" if copied else "no pixel was filled"
        yield f"{request.mask or 'The alpha'} marks nothing to remove; {what}."
        return
    if result.shrunk_from is not None:
        (before_height, before_width), (height, width) = picture.size, result.scales[-1].size
        yield (
            f"The photo was shrunk from {before_width}x{before_height} to {width}x{height}: preset "
            f"{request.preset} has a pixel_budget of {request.settings.pixel_budget}."
        )
    yield closing_line(result, request.settings, side, seconds, _names(request.devices))


def _names(devices: tuple[torch.device, ...]) -> str:
    return ",".join(str(device) for device in devices)


def _side_by_side(picture: Picture, hole: Hole, plain: Picture, refined: Picture) -> Picture:
    """Original with its hole tinted, plain, refined, in 8-bit RGB; all of the refined one's size."""
    tint = torch.tensor(_HOLE_COLOUR).view(1, 3, 1, 1)
    original = picture.rgb()
    marked = torch.where(torch.from_numpy(hole.mask), torch.lerp(original, tint, 0.6), original)
    panels = [marked, plain.rgb(), refined.rgb()]
    size = panels[-1].shape[-2:]
    panels = [p if p.shape[-2:] == size else functional.interpolate(p, size=size, mode="area") for p in panels]
    return from_rgb(torch.cat(panels, dim=3))


def _report(
    request: Request, targets: Targets, model: Inpainter, result: Result, filled: Picture, seconds: float
) -> bytes:
    """What was done, as JSON. Sizes are width and height in pixels."""
    scales: list[dict[str, Any]] = [
        {
            "size": scale.size[::-1],
            "refined": scale.refined,
            "losses": scale.losses,
            "windows": [
                {
                    "left": w.window.left,
                    "top": w.window.top,
                    "size": w.window.size[::-1],
                    "losses": w.losses,
                    "kept": w.kept,
                }
                for w in scale.windows
            ],
            "seconds": round(scale.seconds, 3),
        }
        for scale in result.scales
    ]
    content = {
        "refiner": __version__,
        "torch": torch.__version__,
        "image": str(request.image),
        "mask": None if request.mask is None else str(request.mask),
        "mask_options": asdict(request.mask_options),
        "output": str(targets.output),
        "model": request.model,
        "weights": None if request.weights is None else str(request.weights),
        "train_size": train_size(model),
        "device": _names(request.devices),
        "preset": request.preset,
        "settings": asdict(request.settings),
        "learning_rate": request.settings.lr or learning_rate(model),
        "plan": None if result.plan is None else str(result.plan),
        "size": filled.size[::-1],
        "shrunk_from": None if result.shrunk_from is None else result.shrunk_from[::-1],
        "seconds": round(seconds, 3),
        "scales": scales,
    }
    return (json.dumps(content, indent=2) + "\n").encode()
