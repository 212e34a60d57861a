"""`refiner batch`: a folder of photos."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refiner.cli.mask_options import mask_options
from refiner.cli.refine_options import refine_options
from refiner.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from refiner.batch.worker import ReportFile, Work
    from refiner.cli.refine_options import Choices
    from refiner.images.masks import MaskOptions
    from refiner.images.pairs import Pair

_PATH = click.Path(path_type=Path)
_FAILED = 1


@click.command(no_args_is_help=True)
@click.argument("source", metavar="SOURCE", type=_PATH)
@click.argument("out", metavar="OUT", type=_PATH)
@click.option("--masks", type=_PATH, metavar="DIR", help="Masks by the same names in another folder.")
@click.option("--mask", "one_mask", type=_PATH, metavar="FILE", help="One mask for all photos.")
@click.option("--glob", default="*", show_default=True, metavar="PATTERN", help="Which photos, such as '*.jpg'.")
@click.option("--recursive", is_flag=True, help="Also the folders below SOURCE.")
@click.option("--dry-run", is_flag=True, help="Only show what would be done.")
@click.option("--resume", is_flag=True, help="Skip what is done already.")
@click.option("--overwrite", is_flag=True, help="Start over where OUT has a report.")
@click.option("--format", "ending", metavar="ENDING", help="Of all results, such as png [default: each photo's own].")
@click.option("--quality", type=click.IntRange(1, 100), metavar="N", help="Of JPEG, WebP, AVIF and HEIF results.")
@refine_options
@mask_options
@click.option("--ray", "on_ray", is_flag=True, help="On a Ray cluster, or several processes of this machine.")
@click.option("--ray-address", metavar="ADDRESS", help="Of a running cluster; 'auto' finds the one this machine is in.")
@click.option("--workers", type=click.IntRange(1), metavar="N", help="Of Ray [default: by its GPUs or machines].")
@click.option("--gpus-per-worker", type=click.FloatRange(0), default=0, metavar="X", help="A fraction shares a GPU.")
@click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but errors.")
def batch(
    source: Path,
    out: Path,
    *,
    masks: Path | None,
    one_mask: Path | None,
    glob: str,
    recursive: bool,
    dry_run: bool,
    resume: bool,
    overwrite: bool,
    ending: str | None,
    quality: int | None,
    choices: Choices,
    options: MaskOptions,
    on_ray: bool,
    ray_address: str | None,
    workers: int | None,
    gpus_per_worker: float,
    quiet: bool,
) -> None:
    """Fill every photo of SOURCE that has a mask; results and report.jsonl go to OUT.

    The mask of NAME.jpg is NAME_mask.png beside it, or NAME_mask000.png, NAME_mask001.png and so on. Exits with 1 where
    a photo failed.
    """
    from refiner.batch.worker import ReportFile, Work, check_targets, local_worker  # noqa: PLC0415  so that help comes at once
    from refiner.images.pairs import find_pairs  # noqa: PLC0415
    from refiner.images.writing import format_of, takes_quality  # noqa: PLC0415

    if (masks is not None) + (one_mask is not None) + options.from_alpha > 1:
        raise InputError("--masks, --mask and --mask-from-alpha: give one of them.")
    if not on_ray and (ray_address is not None or workers is not None or gpus_per_worker):
        raise InputError("--ray-address, --workers and --gpus-per-worker: without effect without --ray.")
    if choices.idle():
        raise InputError(f"{', '.join(choices.idle())}: without effect together with --no-refine.")
    if resume and overwrite:
        raise InputError("--resume and --overwrite: one goes on, the other starts over; give one of them.")
    if ending is not None:
        ending = f".{ending.removeprefix('.')}"
        format_of(Path(f"--format x{ending}"))
    if quality is not None and ending is not None and not takes_quality(Path(f"x{ending}")):
        raise InputError(f"--quality: {ending} has none; leave it out, or use --format jpg.")
    # Absolute, since a cluster's workers have other folders.
    source, out = source.absolute(), out.absolute()
    masks, one_mask = (None if path is None else path.absolute() for path in (masks, one_mask))
    model = str(Path(choices.model).absolute()) if Path(choices.model).exists() else choices.model
    weights = None if choices.weights is None else choices.weights.absolute()
    work = Work(out, model, weights, choices.settings(), options, quality, ending)
    pairing = find_pairs(
        source, masks=masks, one_mask=one_mask, from_alpha=options.from_alpha, glob=glob, recursive=recursive, apart=out
    )
    pairs, doubled = check_targets(work, pairing.pairs)
    left_out = [*pairing.left_out, *doubled]
    report = ReportFile(work, pairs, resume=resume, overwrite=overwrite)
    todo = [pair for pair in pairs if not report.has(work.name(pair))]
    if dry_run:
        _show(work, todo, left_out, len(pairs) - len(todo))
        return
    if todo:
        start = local_worker
        if on_ray:
            from refiner.batch.cluster import ray_workers  # noqa: PLC0415  an extra

            start = partial(ray_workers, address=ray_address, workers=workers, gpus_per_worker=gpus_per_worker)
        with start(work, choices.device) as fill:
            report.start()
            _follow(fill(todo), todo, report, quiet=quiet)
    report.finish()
    _conclude(report.rows, left_out, len(pairs) - len(todo), quiet=quiet)


def _follow(rows: Iterator[dict[str, Any]], todo: Sequence[Pair], report: ReportFile, *, quiet: bool) -> None:
    """Put each row into the report as it comes, and show how far it is, by the photos' sizes."""
    from tqdm import tqdm  # noqa: PLC0415

    shown = not quiet and sys.stderr.isatty()
    sizes = {str(pair.image): _megapixels(pair.image) if shown else 0.0 for pair in todo}
    with tqdm(
        total=round(sum(sizes[str(pair.image)] for pair in todo), 1),
        unit="MP",
        desc=f"{len(todo)} photos",
        bar_format="{desc}: {percentage:3.0f}% |{bar}| {elapsed} gone, {remaining} left{postfix}",
        disable=not shown,
    ) as bar:
        for row in rows:
            report.add(row)
            bar.set_postfix_str(f"{len(report.rows)} done", refresh=False)
            bar.update(sizes.get(row["image"], 0.0))
            if row["status"] != "ok":
                bar.write(f"{row['image']}: {row['error']}", file=sys.stderr)
            elif not quiet and not shown:
                click.echo(f"{row['output']}: {row['seconds']:.1f} s", err=True)


def _megapixels(path: Path) -> float:
    """Size of a photo, from its header alone; 0 where it cannot be read, which is reported in its turn."""
    from refiner.images.reading import size_of  # noqa: PLC0415

    height, width = size_of(path)
    return height * width / 1e6


def _show(work: Work, todo: Sequence[Pair], left_out: Sequence[tuple[Path, str]], skipped: int) -> None:
    """What would be done."""
    for pair in todo:
        click.echo(f"{pair.image} + {pair.mask or 'its alpha'} -> {work.target(pair)}")
    for path, reason in left_out:
        click.echo(f"left out: {path}: {reason}")
    before = f"{skipped} done before, " if skipped else ""
    click.echo(f"{len(todo)} to make, {before}{len(left_out)} files left out.", err=True)


def _conclude(rows: list[dict[str, Any]], left_out: Sequence[tuple[Path, str]], skipped: int, *, quiet: bool) -> None:
    failed = [row for row in rows if row["status"] != "ok"]
    if not quiet:
        before = f", {skipped} of them before" if skipped else ""
        click.echo(f"{len(rows) - len(failed)} done{before}, {len(failed)} failed, {len(left_out)} left out.", err=True)
    for row in failed:
        click.echo(f"failed: {row['image']}: {row['error']}", err=True)
    if failed:
        sys.exit(_FAILED)
