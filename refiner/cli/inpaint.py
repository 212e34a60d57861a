"""`refiner inpaint`: one photo."""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refiner import __version__
from refiner.cli.collector import look_again
from refiner.cli.mask_options import mask_options
from refiner.cli.page_option import page_option
from refiner.cli.refine_options import refine_options
from refiner.cli.spelling import in_words
from refiner.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

    from refiner.cli.refine_options import Choices
    from refiner.cli.targets import Targets
    from refiner.engine.plan import Plan
    from refiner.images.masks import MaskOptions
    from refiner.images.picture import Picture
    from refiner.models.inpainter import Inpainter
    from refiner.photo import Photo, PhotoResult

_PATH = click.Path(path_type=Path)


@click.command(no_args_is_help=True)
@click.argument("image", metavar="IMAGE", type=_PATH)
@click.argument("mask", metavar="[MASK]", type=_PATH, required=False)
@click.option("-o", "--output", type=_PATH, help="File to write [default: IMAGE_refined beside IMAGE, in its format].")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@refine_options
@mask_options
@click.option(
    "--guide", type=_PATH, metavar="FILE", help="A fill of the whole photo by any other tool, to bring to full size."
)
@click.option("--avoid", type=_PATH, metavar="FILE", help="Mask of what must not be copied into the hole.")
@page_option
@click.option("--quality", type=click.IntRange(1, 100), metavar="N", help="Of results in a lossy format, such as JPEG.")
@click.option("--save-scales", type=_PATH, metavar="DIR", help="Also write the result of every scale.")
@click.option(
    "--compare",
    type=_PATH,
    metavar="FILE.png",
    help="Also write hole, the network alone where it was run, and result, side by side.",
)
@click.option("--report", type=_PATH, metavar="FILE.json", help="Also write settings, sizes, losses and seconds.")
@click.option(
    "--progress",
    type=click.Choice(["bars", "lines"]),
    default="bars",
    show_default=True,
    help="Bars in a terminal, a line for each scale elsewhere; or a line for each step, for programs.",
)
@click.option("--dry-run", is_flag=True, help="Only say how the work would be cut, and in how much memory.")
@click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but errors.")
def inpaint(
    image: Path,
    mask: Path | None,
    output: Path | None,
    *,
    overwrite: bool,
    choices: Choices,
    options: MaskOptions,
    guide: Path | None,
    avoid: Path | None,
    page: int | None,
    quality: int | None,
    save_scales: Path | None,
    compare: Path | None,
    report: Path | None,
    progress: str,
    dry_run: bool,
    quiet: bool,
) -> None:
    """Remove what MASK marks white from IMAGE. Prints the path of the result."""
    # PyTorch is imported here, so that help and version come at once.
    from refiner.cli.console import only_errors  # noqa: PLC0415
    from refiner.cli.targets import Targets, default_output  # noqa: PLC0415
    from refiner.devices import pick_devices  # noqa: PLC0415
    from refiner.memory import manage_allocator  # noqa: PLC0415

    manage_allocator()
    look_again()
    if (mask is None) != options.from_alpha:
        raise InputError("mask: expected either MASK or --mask-from-alpha.")
    beside = (("--guide", guide), ("--avoid", avoid), ("--compare", compare), ("--save-scales", save_scales))
    idle = choices.idle() + [option for option, path in beside if path is not None and not choices.refine]
    if idle:
        raise InputError(f"{', '.join(idle)}: without effect together with --no-refine; leave out one or the other.")
    for path, role in ((image, "image"), (mask, "mask"), (guide, "guide"), (avoid, "avoid")):
        if path is not None and not path.is_file():
            reason = f"is a folder, expected the {role} file" if path.is_dir() else f"no such {role} file"
            raise InputError(f"{path}: {reason}; check the path.")
    targets = Targets(output or default_output(image), compare, report, save_scales, quality)
    targets.check(overwrite=overwrite)
    job = _Job(image, page, mask, options, guide, avoid, choices, pick_devices(choices.device), targets)
    say = (lambda _: None) if quiet else (lambda line: click.echo(line, err=True))
    with only_errors(quiet=quiet):
        if dry_run:
            _say_plan(job, say)
            return
        _run(job, say, quiet=quiet, in_lines=progress == "lines" and not quiet)


@dataclass(frozen=True)
class _Job:
    """What to do to one photo, and what to write."""

    image: Path
    page: int | None
    mask: Path | None  # None where the photo's alpha says what to remove
    mask_options: MaskOptions
    guide: Path | None
    avoid: Path | None
    choices: Choices
    devices: tuple[torch.device, ...]
    targets: Targets

    @property
    def device_names(self) -> str:
        """The devices, separated by commas."""
        return ",".join(str(device) for device in self.devices)


def _opened(job: _Job, say: Callable[[str], object]) -> tuple[Photo, Inpainter]:
    """Read the photo and load the model; tell the user what matters before the work."""
    from refiner.models.registry import load_model  # noqa: PLC0415
    from refiner.photo import read_photo  # noqa: PLC0415

    photo = read_photo(job.image, job.mask, job.mask_options, job.page).with_hints(job.guide, job.avoid)
    if photo.hole.warning is not None:
        say(f"Warning: {in_words(photo.hole.warning)}")
    job.targets.check_fit(photo)
    for line in photo.losses_in(job.targets.output, job.targets.quality):
        say(line)
    name = job.choices.model
    model = load_model(name, weights=job.choices.weights)
    if job.choices.named is None:
        say(f"Model: {name}, the best one on this machine; `refiner weights list` shows others.")
    return photo, model


def _say_plan(job: _Job, say: Callable[[str], object]) -> None:
    photo, model = _opened(job, say)
    click.echo(f"Plan: {photo.plan(model, job.choices.settings(), job.devices)}.")


def _run(job: _Job, say: Callable[[str], object], *, quiet: bool, in_lines: bool) -> None:
    """Fill the photo and write the results; prints the path of the filled photo."""
    from refiner.cli.console import progress_shown  # noqa: PLC0415
    from refiner.files import write_atomic  # noqa: PLC0415
    from refiner.memory import give_back_freed_memory  # noqa: PLC0415

    start = time.perf_counter()
    targets = job.targets
    settings = job.choices.settings()
    photo, model = _opened(job, say)

    def on_plan(plan: Plan) -> None:
        if not plan.roomy:
            give_back_freed_memory()  # slower, so only where memory is short
        say(f"Plan: {plan}.")

    with progress_shown(in_lines=in_lines, quiet=quiet) as (on_progress, on_scale):
        result = photo.inpaint(model, settings, job.devices, on_progress, on_plan, on_scale=on_scale)
    plain = None
    if targets.compare is not None and result.network_ran:
        plain = photo.inpaint(model, replace(settings, refine=False), job.devices).picture
    seconds = time.perf_counter() - start
    write_atomic(_files(job, result, plain, seconds))
    for line in _closing_lines(job, result, seconds):
        say(line)
    click.echo(targets.output)


def _files(job: _Job, result: PhotoResult, plain: Picture | None, seconds: float) -> dict[Path, bytes]:
    """The bytes of all files to write: the result and the extras."""
    from refiner.cli.side_by_side import side_by_side  # noqa: PLC0415
    from refiner.images.picture import from_rgb  # noqa: PLC0415
    from refiner.images.writing import encode  # noqa: PLC0415

    targets = job.targets
    files: dict[Path, bytes] = {targets.output: result.encode(targets.output, quality=targets.quality)}
    if targets.compare is not None:
        files[targets.compare] = encode(side_by_side(result, plain), targets.compare)
    if targets.report is not None:
        files[targets.report] = (json.dumps(_report(job, result, seconds), indent=2) + "\n").encode()
    if targets.scales is not None:
        for number, scale in enumerate(result.refinement.scales, start=1):
            path = targets.scales / f"scale{number}_{scale.size[1]}x{scale.size[0]}.png"
            files[path] = encode(from_rgb(scale.composite), path)
    return files


def _closing_lines(job: _Job, result: PhotoResult, seconds: float) -> Iterator[str]:
    """What the user should know at the end, a line each."""
    from refiner.cli.console import closing_line  # noqa: PLC0415

    if not result.refinement.scales:
        copied = result.photo.is_copied_to(job.targets.output, job.targets.quality)
        what = f"{job.image} was copied unchanged" if copied else "no pixel was filled"
        yield f"{job.mask or 'The alpha'} marks nothing to remove; {what}."
        return
    shrinking = result.shrinking()
    if shrinking is not None:
        budget = result.settings.pixel_budget
        yield f"The photo {shrinking}: preset {job.choices.preset} has a pixel_budget of {budget}."
    yield closing_line(result, seconds, job.device_names)


def _report(job: _Job, result: PhotoResult, seconds: float) -> dict[str, Any]:
    """What was done, in values that JSON takes. Sizes are width and height in pixels."""
    import torch  # noqa: PLC0415

    choices = job.choices
    return {
        "refiner": __version__,
        "torch": torch.__version__,
        "image": str(job.image),
        "page": job.page,
        "mask": None if job.mask is None else str(job.mask),
        "mask_options": asdict(job.mask_options),
        "output": str(job.targets.output),
        "model": choices.model,
        "guide": None if job.guide is None else str(job.guide),
        "avoid": None if job.avoid is None else str(job.avoid),
        "weights": None if choices.weights is None else str(choices.weights),
        "device": job.device_names,
        "preset": choices.preset,
        "seconds": round(seconds, 3),
        **result.to_dict(),
    }
