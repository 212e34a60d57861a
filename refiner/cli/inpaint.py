"""`refiner inpaint`: one photo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refiner.cli.mask_options import mask_options
from refiner.errors import InputError

if TYPE_CHECKING:
    from refiner.masks import MaskOptions

_PATH = click.Path(path_type=Path)


@click.command(no_args_is_help=True)
@click.argument("image", metavar="IMAGE", type=_PATH)
@click.argument("mask", metavar="[MASK]", type=_PATH, required=False)
@click.option("-o", "--output", type=_PATH, help="File to write [default: IMAGE_refined beside IMAGE, in its format].")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
@click.option(
    "--model",
    default="lama-small",
    show_default=True,
    metavar="NAME|PATH",
    help="See `refiner weights list`.",
)
@click.option("--weights", type=_PATH, metavar="PATH", help="Weights file in place of the named model's own.")
@click.option(
    "--preset",
    default="default",
    show_default=True,
    metavar="NAME|FILE",
    help="default, reference, or a YAML file.",
)
@click.option(
    "--device",
    default="auto",
    show_default=True,
    metavar="auto|cpu|cuda|mps",
    help="Where to compute; cuda:0,cuda:1 shares the network among several.",
)
@click.option("--steps", type=int, metavar="N", help="Predictions at each refined scale [preset: 15].")
@click.option("--lr", type=float, metavar="X", help="Learning rate of the features [preset: the model's own].")
@click.option("--min-side", type=int, metavar="N", help="Short side of the smallest scale [preset: the model's own].")
@click.option(
    "--windows",
    type=click.Choice(["auto", "off"]),
    help="Refine around the holes alone, or the whole photo [preset: auto].",
)
@click.option(
    "--precision",
    type=click.Choice(["auto", "float32", "bfloat16"]),
    help="Of convolutions [preset: auto, bfloat16 where the hardware has it].",
)
@click.option("--memory", metavar="SIZE", help="Most to take, such as 6GB [preset: most of what is free].")
@mask_options
@click.option("--match-color", is_flag=True, help="Remove the fill's colour offset against its surroundings.")
@click.option("--quality", type=click.IntRange(1, 100), metavar="N", help="Of JPEG, WebP, AVIF and HEIF results.")
@click.option("--no-refine", is_flag=True, help="The model's own result: one pass at full size.")
@click.option("--save-scales", type=_PATH, metavar="DIR", help="Also write the result of every scale.")
@click.option("--compare", type=_PATH, metavar="FILE.png", help="Also write hole, plain and refined side by side.")
@click.option("--report", type=_PATH, metavar="FILE.json", help="Also write settings, sizes, losses and seconds.")
@click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but errors.")
def inpaint(
    image: Path,
    mask: Path | None,
    output: Path | None,
    *,
    options: MaskOptions,
    match_color: bool,
    quality: int | None,
    overwrite: bool,
    model: str,
    weights: Path | None,
    preset: str,
    device: str,
    steps: int | None,
    lr: float | None,
    min_side: int | None,
    windows: str | None,
    precision: str | None,
    memory: str | None,
    no_refine: bool,
    save_scales: Path | None,
    compare: Path | None,
    report: Path | None,
    quiet: bool,
) -> None:
    """Remove what MASK marks white from IMAGE. Prints the path of the result."""
    if (mask is None) != options.from_alpha:
        raise InputError("mask: expected either MASK or --mask-from-alpha.")
    # PyTorch is imported here, so that help and version come at once.
    from refiner.cli import job  # noqa: PLC0415
    from refiner.devices import pick_devices  # noqa: PLC0415
    from refiner.image_writing import default_ending  # noqa: PLC0415
    from refiner.settings import load_preset  # noqa: PLC0415

    given: dict[str, Any] = {
        "steps": steps,
        "lr": lr,
        "min_side": min_side,
        "windows": windows,
        "precision": precision,
        "memory": memory,
    }
    given = {name: value for name, value in given.items() if value is not None}
    settings = replace(load_preset(preset), **given)
    if match_color:
        settings = replace(settings, match_color=True)
    if no_refine:
        idle = [f"--{name.replace('_', '-')}" for name in given if name not in ("precision", "memory")]
        idle += [
            option for option, path in (("--compare", compare), ("--save-scales", save_scales)) if path is not None
        ]
        if idle:
            raise InputError(
                f"{', '.join(idle)}: without effect together with --no-refine; leave out one or the other."
            )
        settings = replace(settings, refine=False)
    for path, role in ((image, "image"), (mask, "mask")):
        if path is not None and not path.is_file():
            article = "an" if role == "image" else "a"
            reason = f"is a folder, expected {article}" if path.is_dir() else "no such"
            raise InputError(f"{path}: {reason} {role} file; check the path.")
    targets = job.Targets(
        output=output or image.with_name(f"{image.stem}_refined{default_ending(image)}"),
        compare=compare,
        report=report,
        scales=save_scales,
        quality=quality,
    )
    targets.check(overwrite=overwrite)
    job.run(
        job.Request(image, mask, options, model, weights, preset, settings, pick_devices(device)), targets, quiet=quiet
    )
