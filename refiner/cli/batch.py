"""`refiner batch`: fill the photos of a folder."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from refiner.cli.batch_options import cluster_options, restart_options, selection_options
from refiner.cli.collector import look_again
from refiner.cli.exits import FAILED
from refiner.cli.mask_options import mask_options
from refiner.cli.page_option import page_option
from refiner.cli.refine_options import refine_options
from refiner.cli.spelling import in_words
from refiner.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence
    from contextlib import AbstractContextManager

    from refiner.batch.report import ReportFile
    from refiner.batch.work import Work
    from refiner.batch.worker import Fill
    from refiner.cli.batch_options import Cluster, Restart, Selection
    from refiner.cli.refine_options import Choices
    from refiner.images.masks import MaskOptions
    from refiner.images.pairs import Pair

_PATH = click.Path(path_type=Path)


@click.command(no_args_is_help=True)
@click.argument("source", metavar="SOURCE", type=_PATH)
@click.argument("out", metavar="OUT", type=_PATH)
@selection_options
@restart_options
@click.option("--format", "suffix", metavar="SUFFIX", help="Of all results, such as png [default: each photo's own].")
@page_option
@click.option("--quality", type=click.IntRange(1, 100), metavar="N", help="Of results in a lossy format, such as JPEG.")
@refine_options
@mask_options
@cluster_options
@click.option("-q", "--quiet", is_flag=True, help="Nothing on stderr but errors.")
def batch(
    source: Path,
    out: Path,
    *,
    selection: Selection,
    restart: Restart,
    suffix: str | None,
    page: int | None,
    quality: int | None,
    choices: Choices,
    options: MaskOptions,
    cluster: Cluster,
    quiet: bool,
) -> None:
    """Fill every photo of SOURCE that has a mask; results and report.jsonl go to OUT.

    The mask of NAME.jpg is NAME_mask.png beside it, or NAME_mask000.png, NAME_mask001.png and so on. Exits with 1 where
    a photo failed.
    """
    from refiner.batch.report import ReportFile  # noqa: PLC0415  so that help comes at once
    from refiner.batch.work import check_targets  # noqa: PLC0415
    from refiner.images.pairs import find_pairs  # noqa: PLC0415

    selection.check(options)
    cluster.check()
    restart.check()
    if choices.idle():
        raise InputError(f"{', '.join(choices.idle())}: without effect together with --no-refine.")
    # Absolute, since a cluster's workers run in other folders.
    source, out = source.absolute(), out.absolute()
    work = _work(out, choices, options, quality, suffix, page)
    pairing = find_pairs(source, exclude=out, from_alpha=options.from_alpha, **selection.arguments())
    pairs, doubled = check_targets(work, pairing.pairs)
    left_out = [*pairing.left_out, *doubled]
    report = ReportFile(work, pairs, resume=restart.resume, overwrite=restart.overwrite)
    todo = [pair for pair in pairs if not report.has(work.name(pair))]
    if restart.dry_run:
        _show(work, todo, left_out, len(pairs) - len(todo))
        return
    if todo:
        from refiner.cli.console import only_errors  # noqa: PLC0415  imports PyTorch
        from refiner.memory import manage_allocator  # noqa: PLC0415

        manage_allocator()
        look_again()

        with only_errors(quiet=quiet), _workers(cluster)(work, choices.device, phrase=in_words) as fill:
            report.start()
            _follow(fill(todo), todo, report, page, quiet=quiet)
    report.finish()
    _conclude(report.rows, left_out, len(pairs) - len(todo), quiet=quiet)


def _work(
    out: Path, choices: Choices, options: MaskOptions, quality: int | None, suffix: str | None, page: int | None
) -> Work:
    """What to do to each photo.

    Raises:
        InputError: `--format` or `--quality` cannot be used.
    """
    from refiner.batch.work import Work  # noqa: PLC0415
    from refiner.images.writing import format_of, takes_quality  # noqa: PLC0415

    if suffix is not None:
        suffix = f".{suffix.removeprefix('.')}"
        format_of(Path(f"--format x{suffix}"))
        if quality is not None and not takes_quality(Path(f"x{suffix}")):
            raise InputError(f"--quality: {suffix} has none; leave it out, or use --format jpg.")
    model = choices.model
    if Path(model).exists():
        from refiner.models.registry import model_names  # noqa: PLC0415  imports PyTorch

        if model not in model_names():  # names go before paths, as in `load_model`
            model = str(Path(model).absolute())
    weights = None if choices.weights is None else choices.weights.absolute()
    return Work(out, model, weights, choices.settings(), options, quality, suffix, page)


def _workers(cluster: Cluster) -> Callable[..., AbstractContextManager[Fill]]:
    """The function that starts the workers, in this process or on Ray."""
    if not cluster.ray:
        from refiner.batch.worker import local_worker  # noqa: PLC0415

        return local_worker
    from refiner.batch.cluster import ray_workers  # noqa: PLC0415  an extra

    return partial(
        ray_workers, address=cluster.address, workers=cluster.workers, gpus_per_worker=cluster.gpus_per_worker
    )


def _follow(
    rows: Iterator[dict[str, Any]], todo: Sequence[Pair], report: ReportFile, page: int | None, *, quiet: bool
) -> None:
    """Add each row to the report as it comes, and show progress in megapixels."""
    from tqdm import tqdm  # noqa: PLC0415

    shown = not quiet and sys.stderr.isatty()
    sizes = {str(pair.image): _megapixels(pair.image, page) if shown else 0.0 for pair in todo}
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


def _megapixels(path: Path, page: int | None) -> float:
    """Megapixels of a photo, from its header alone; 0 where it cannot be read, which the work on it will report."""
    from refiner.images.reading import read_size  # noqa: PLC0415

    height, width = read_size(path, page)
    return height * width / 1e6


def _show(work: Work, todo: Sequence[Pair], left_out: Sequence[tuple[Path, str]], skipped: int) -> None:
    """Print what would be done."""
    for pair in todo:
        click.echo(f"{pair.image} + {pair.mask or 'its alpha'} -> {work.target(pair)}")
    for path, reason in left_out:
        click.echo(f"left out: {path}: {reason}")
    before = f"{skipped} done before, " if skipped else ""
    click.echo(f"{len(todo)} to make, {before}{len(left_out)} files left out.", err=True)


def _conclude(rows: list[dict[str, Any]], left_out: Sequence[tuple[Path, str]], skipped: int, *, quiet: bool) -> None:
    """Print how many photos are done and which failed; where one failed, exit with 1."""
    failed = [row for row in rows if row["status"] != "ok"]
    if not quiet:
        before = f", {skipped} of them before" if skipped else ""
        click.echo(f"{len(rows) - len(failed)} done{before}, {len(failed)} failed, {len(left_out)} left out.", err=True)
    for row in failed:
        click.echo(f"failed: {row['image']}: {row['error']}", err=True)
    if failed:
        sys.exit(FAILED)
