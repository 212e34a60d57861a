"""`python -m benchmarks.quality`."""

from __future__ import annotations

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from tqdm import tqdm

from benchmarks.measure import machine
from benchmarks.quality.methods import Method
from benchmarks.quality.report import write_report
from benchmarks.quality.run import Bench, find_cases, measure_all
from benchmarks.quality.scores import Inception, Perceptual
from benchmarks.quality.table import as_markdown, compare, summarise
from refiner.devices import pick_device
from refiner.errors import InputError, RefinerError
from refiner.files import write_atomic
from refiner.settings import load_preset

_METRICS = (
    "Metrics are of the hole alone but LPIPS, FID and KID, which are of the whole picture. Texture distances are "
    "sliced Wasserstein distances of 7x7 patches in the hole at each level of a Laplacian pyramid, the finest first. "
    "In brackets: 95 % intervals by bootstrap over photos; FID and KID have none."
)


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("pairs", metavar="PAIRS", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the report.")
@click.option(
    "--methods",
    default="plain,upsampled,refined",
    show_default=True,
    metavar="[MODEL/]WAY[@PRESET],...",
    help="Ways to fill: the model alone, its fill at training size enlarged, refined.",
)
@click.option("--model", default="lama-small", show_default=True, help="Of the methods that name none.")
@click.option("--preset", default="default", show_default=True, help="Settings of the refinement.")
@click.option("--steps", type=click.IntRange(1), help="Predictions at each refined scale.")
@click.option("--lr", type=click.FloatRange(0, min_open=True), help="Learning rate of the features.")
@click.option("--device", default="auto", show_default=True)
@click.option("--lpips", "lpips_net", type=click.Choice(["vgg", "alex", "off"]), default="vgg", show_default=True)
@click.option(
    "--inception",
    "inception_weights",
    type=click.Path(path_type=Path),
    help="File of its weights.",
)
@click.option("--fid/--no-fid", default=True, show_default=True, help="FID and KID.")
@click.option("--title", default="Inpainting quality", show_default=True)
def main(
    pairs: Path,
    out: Path,
    methods: str,
    model: str,
    preset: str,
    steps: int | None,
    lr: float | None,
    device: str,
    lpips_net: str,
    inception_weights: Path | None,
    fid: bool,
    title: str,
) -> None:
    """Measure how well methods fill the holes of PAIRS, a folder as `refiner masks` makes it, and write a report."""
    try:
        given: dict[str, Any] = {name: value for name, value in (("steps", steps), ("lr", lr)) if value is not None}
        settings = replace(load_preset(preset), **given)
        where = pick_device(device)
        found = machine(where)  # now: the code may be another at the end
        cases = find_cases(pairs)
        models: dict[str, Any] = {}
        chosen = [Method(name.strip(), model, settings, where, models) for name in methods.split(",")]
        missing: list[str] = []
        perceptual = None if lpips_net == "off" else _had(missing, lambda: Perceptual(lpips_net, where))
        inception = _had(missing, lambda: Inception(inception_weights, where)) if fid else None
        bench = Bench(out, perceptual, inception)
        with tqdm(total=len(cases) * len(chosen), unit="fill", disable=not sys.stderr.isatty()) as bar:
            records = measure_all(bench, cases, chosen, lambda _record: bar.update())
    except RefinerError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(2) from error
    main_method = next((method.name for method in chosen if method.name.endswith("refined")), chosen[-1].name)
    rows, differences = summarise(records), compare(records, main_method)
    tables = as_markdown(rows, differences, missing)
    notes = _notes(found, model, settings, len(cases), len({case.photo for case in cases}))
    write_report(out, title, tables, notes, records, main_method)
    content = {"machine": found, "records": [_portable(record) for record in records]}
    write_atomic({out / "records.json": (json.dumps(content, indent=1) + "\n").encode()})
    click.echo(tables)
    click.echo(out / "report.html")


def _had(missing: list[str], make: Any) -> Any:
    """What can be had; the reason why not goes on the list, and the rest is measured without."""
    try:
        return make()
    except InputError as error:
        missing.append(str(error))
        return None


def _notes(found: dict[str, Any], model: str, settings: object, pictures: int, photos: int) -> list[str]:
    return [
        f"{pictures} pictures from {photos} photos; model {model}; {settings}.",
        f"Machine: {found['cpu']}, {found['cores']} cores; PyTorch {found['torch']}; commit {found['commit']}.",
        _METRICS,
    ]


def _portable(record: dict[str, Any]) -> dict[str, Any]:
    """A record without this machine's paths."""
    return {name: value for name, value in record.items() if name not in ("picture", "image", "mask", "features")}


if __name__ == "__main__":
    main()
