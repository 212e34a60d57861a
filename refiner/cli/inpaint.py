"""`refiner inpaint`: one photo."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from refiner.errors import InputError

_PATH = click.Path(path_type=Path)


@click.command(no_args_is_help=True)
@click.argument("image", metavar="IMAGE", type=_PATH)
@click.argument("mask", metavar="MASK", type=_PATH)
@click.option("-o", "--output", type=_PATH, help="File to write [default: IMAGE_refined.png beside IMAGE].")
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
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda|mps", help="Where to compute.")
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
@click.option("--no-refine", is_flag=True, help="The model's own result: one pass at full size.")
@click.option("--save-scales", type=_PATH, metavar="DIR", help="Also write the result of every scale.")
@click.option("--compare", type=_PATH, metavar="FILE.png", help="Also write hole, plain and refined side by side.")
@click.option("--report", type=_PATH, metavar="FILE.json", help="Also write settings, sizes, losses and seconds.")
@click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but errors.")
def inpaint(
    image: Path,
    mask: Path,
    output: Path | None,
    *,
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
    # PyTorch is imported here, so that help and version come at once.
    from refiner.cli import job  # noqa: PLC0415
    from refiner.devices import pick_device  # noqa: PLC0415
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
        if not path.is_file():
            raise InputError(f"{path}: no such {role} file; check the path.")
    targets = job.Targets(
        output=output or image.with_name(f"{image.stem}_refined.png"),
        compare=compare,
        report=report,
        scales=save_scales,
    )
    targets.check(overwrite=overwrite)
    job.run(job.Request(image, mask, model, weights, preset, settings, pick_device(device)), targets, quiet=quiet)
