"""`refiner inpaint`: one photo."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from refiner.cli.mask_options import mask_options
from refiner.cli.refine_options import refine_options
from refiner.errors import InputError

if TYPE_CHECKING:
    from refiner.cli.refine_options import Choices
    from refiner.images.masks import MaskOptions

_PATH = click.Path(path_type=Path)


@click.command(no_args_is_help=True)
@click.argument("image", metavar="IMAGE", type=_PATH)
@click.argument("mask", metavar="[MASK]", type=_PATH, required=False)
@click.option("-o", "--output", type=_PATH, help="File to write [default: IMAGE_refined beside IMAGE, in its format].")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@refine_options
@mask_options
@click.option("--quality", type=click.IntRange(1, 100), metavar="N", help="Of JPEG, WebP, AVIF and HEIF results.")
@click.option("--save-scales", type=_PATH, metavar="DIR", help="Also write the result of every scale.")
@click.option("--compare", type=_PATH, metavar="FILE.png", help="Also write hole, plain and refined side by side.")
@click.option("--report", type=_PATH, metavar="FILE.json", help="Also write settings, sizes, losses and seconds.")
@click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but errors.")
def inpaint(
    image: Path,
    mask: Path | None,
    output: Path | None,
    *,
    overwrite: bool,
    choices: Choices,
    options: MaskOptions,
    quality: int | None,
    save_scales: Path | None,
    compare: Path | None,
    report: Path | None,
    quiet: bool,
) -> None:
    """Remove what MASK marks white from IMAGE. Prints the path of the result."""
    # PyTorch is imported here, so that help and version come at once.
    from refiner.cli import job  # noqa: PLC0415
    from refiner.devices import pick_devices  # noqa: PLC0415
    from refiner.images.writing import default_ending  # noqa: PLC0415

    if (mask is None) != options.from_alpha:
        raise InputError("mask: expected either MASK or --mask-from-alpha.")
    settings = choices.settings()
    beside = (("--compare", compare), ("--save-scales", save_scales))
    idle = choices.idle() + [option for option, path in beside if path is not None and not choices.refine]
    if idle:
        raise InputError(f"{', '.join(idle)}: without effect together with --no-refine; leave out one or the other.")
    for path, role in ((image, "image"), (mask, "mask")):
        if path is not None and not path.is_file():
            reason = f"is a folder, expected the {role} file" if path.is_dir() else f"no such {role} file"
            raise InputError(f"{path}: {reason}; check the path.")
    targets = job.Targets(
        output=output or image.with_name(f"{image.stem}_refined{default_ending(image)}"),
        compare=compare,
        report=report,
        scales=save_scales,
        quality=quality,
    )
    targets.check(overwrite=overwrite)
    devices = pick_devices(choices.device)
    request = job.Request(image, mask, options, choices.model, choices.weights, choices.preset, settings, devices)
    job.run(request, targets, quiet=quiet)
