"""`refiner masks`: pictures with random holes to measure inpainters on."""

from __future__ import annotations

from pathlib import Path

import click

from refiner.errors import InputError


@click.command(no_args_is_help=True)
@click.argument("images", metavar="IMAGES", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option(
    "--kind",
    default="thick",
    show_default=True,
    metavar="NAME|FILE",
    help="thin, medium, thick or a YAML file; several with commas.",
)
@click.option("--size", type=click.IntRange(16), default=1024, show_default=True, help="Side of the pictures.")
@click.option("--crops", type=click.IntRange(1), default=1, show_default=True, help="Pictures of each photo.")
@click.option("--seed", type=int, default=0, show_default=True, help="The same seed gives the same files.")
@click.option("--over-edges", is_flag=True, help="Of 16 crops and holes each, keep the one across the strongest edges.")
@click.option("--overwrite", is_flag=True, help="Replace files that exist.")
def masks(
    images: Path, out: Path, *, kind: str, size: int, crops: int, seed: int, over_edges: bool, overwrite: bool
) -> None:
    """Cut square pictures from the photos of IMAGES and draw holes for them, as LaMa's evaluation does.

    Each photo is scaled to the size on its short side and cropped at random. OUT gets NAME_crop000.png and
    NAME_crop000_mask000.png; several kinds get a folder each.
    """
    from refiner.evaluation.evaluation_set import draw_set  # noqa: PLC0415  so that help comes at once
    from refiner.evaluation.random_masks import load_mask_kind  # noqa: PLC0415

    if not images.is_dir():
        raise InputError(f"{images}: expected a folder of photos.")
    kinds = [name.strip() for name in kind.split(",") if name.strip()]
    for name in kinds:
        load_mask_kind(name)  # fails before any hole is drawn
    folders = [out if len(kinds) == 1 else out / Path(name).stem for name in kinds]
    if not kinds or len(set(folders)) < len(folders):
        raise InputError(f"--kind {kind}: expected names that differ, since each gives its folder the name.")
    total = 0
    for name, folder in zip(kinds, folders, strict=True):
        made, left_out = draw_set(
            images, folder, kind=name, size=size, crops=crops, seed=seed, over_edges=over_edges, overwrite=overwrite
        )
        for path, reason in left_out:
            click.echo(f"left out: {path}: {reason}", err=True)
        total += made
    if not total:
        raise InputError(f"{images}: none of its files is a photo that can be read.")
    click.echo(f"{total} pictures with holes in {out}", err=True)
