"""`python -m benchmarks.quality`."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from tqdm import tqdm

from benchmarks.measure import machine
from benchmarks.quality.cases import Case, find_cases
from benchmarks.quality.fills import Given, PatchMatch, Photo, Telea
from benchmarks.quality.methods import Method
from benchmarks.quality.report import write_report
from benchmarks.quality.run import Bench, measure_all
from benchmarks.quality.scores import Inception, Perceptual
from benchmarks.quality.statistics import MIN_PHOTOS
from benchmarks.quality.table import MIN_PICTURES, as_markdown, compare, summarize
from refiner.cli.counts import Counts
from refiner.cli.exits import Command
from refiner.devices import pick_device
from refiner.errors import InputError
from refiner.files import check_target, make_folder, write_atomic
from refiner.settings import load_preset

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.quality.fills import Method as Compared

_METRICS = (
    "Metrics are of the hole alone but LPIPS, FID and KID, which are of the whole picture. Texture distances are "
    "sliced Wasserstein distances of 7x7 patches in the hole at each level of a Laplacian pyramid, the finest first. "
    "Grid, rim and sharpness compare the fill with the photo around it (refiner.evaluation.no_reference): the photo "
    "itself has a grid near 0, and 1 at the rim and in sharpness. Unlikeness is how far patches of the fill are from "
    "all of the photo's (refiner.exemplar.unlikeness): broken structure raises it. "
    "In brackets: 95 % intervals by studentized bootstrap over photos; FID and KID have none."
)


@click.command(cls=Command, context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("pairs", metavar="PAIRS", type=click.Path(path_type=Path))
@click.option("--out", type=click.Path(path_type=Path), required=True, help="Folder for the report.")
@click.option(
    "--methods",
    default="plain,upsampled,refined",
    show_default=True,
    metavar="[MODEL/]WAY[@PRESET],...",
    help="Ways to fill: plain, the model alone; upsampled, its fill at training size enlarged; refined, by its "
    "features; exemplar, copies of the photo; filled, by default settings. Beside them photo, telea, patchmatch, and "
    "NAME=FOLDER for fills of another tool (FOLDER/KIND/NAME.png, named as the masks are).",
)
@click.option("--against", help="The method that the others are compared with [default: refined, or the last].")
@click.option("--model", default="lama-small", show_default=True, help="Of the methods that name none.")
@click.option("--preset", default="default", show_default=True, help="Settings of the refinement.")
@click.option("--steps", type=Counts(), help="Predictions at each refined scale, or by scale, as 12,8,4.")
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
    against: str | None,
    model: str,
    preset: str,
    steps: int | tuple[int, ...] | None,
    lr: float | None,
    device: str,
    lpips_net: str,
    inception_weights: Path | None,
    fid: bool,
    title: str,
) -> None:
    """Measure how well methods fill the holes of PAIRS, a folder as `refiner masks` makes it, and write a report."""
    make_folder(out)
    for name in ("report.md", "report.html", "records.json"):
        check_target(out / name, overwrite=True)
    given: dict[str, Any] = {name: value for name, value in (("steps", steps), ("lr", lr)) if value is not None}
    settings = replace(load_preset(preset), **given)
    where = pick_device(device)
    found = machine(where)  # read now, since the code may change before the end
    cases = find_cases(pairs, lambda reason: click.echo(f"left out: {reason}", err=True))
    models: dict[str, Any] = {}
    names = [name.strip() for name in methods.split(",")]
    if len(set(names)) < len(names):
        raise InputError(f"--methods {methods}: names one twice; give each once.")
    chosen = [_method(name, lambda name: Method(name, model, settings, where, models, given)) for name in names]
    if against is None:
        against = next((method.name for method in chosen if method.name.endswith("refined")), chosen[-1].name)
    elif against not in [method.name for method in chosen]:
        raise InputError(f"--against {against}: expected one of the methods: {', '.join(m.name for m in chosen)}.")
    missing: list[str] = []
    perceptual = None if lpips_net == "off" else _had(missing, lambda: Perceptual(lpips_net, where))
    if inception_weights is not None and not inception_weights.is_file():
        raise InputError(f"--inception: {inception_weights} is not a file; check the path.")
    inception = None
    if fid and max(Counter(case.kind for case in cases).values()) < MIN_PICTURES:
        missing.append(f"FID and KID: they need {MIN_PICTURES} pictures of a kind to mean anything.")
    elif fid and inception_weights is not None:
        inception = Inception(inception_weights, where)
    elif fid:
        inception = _had(missing, lambda: Inception(None, where))
    bench = Bench(out, perceptual, inception, found["commit"])
    with tqdm(total=len(cases) * len(chosen), unit="fill", disable=not sys.stderr.isatty()) as bar:
        records = measure_all(bench, cases, chosen, lambda _record: bar.update())
    notes = _notes(found, chosen, cases, records)
    click.echo(_report(out, title, notes, found, chosen, records, missing, against))
    click.echo(out / "report.html")


def _report(
    out: Path,
    title: str,
    notes: list[str],
    found: dict[str, Any],
    chosen: list[Compared],
    records: list[dict[str, Any]],
    missing: list[str],
    against: str,
) -> str:
    """Write the report and all numbers; gives the tables."""
    rows, differences = summarize(records), compare(records, against)
    tables = as_markdown(rows, differences, missing)
    write_report(out, title, tables, notes, records, against)
    methods = {method.name: method.described for method in chosen}
    content = {"machine": found, "methods": methods, "records": [_portable(record) for record in records]}
    write_atomic({out / "records.json": (json.dumps(content, indent=1) + "\n").encode()})
    return tables


def _method(name: str, ours: Callable[[str], Compared]) -> Compared:
    """The method of this name."""
    given, equals, folder = name.partition("=")
    if equals:
        return Given(given, Path(folder))
    others: dict[str, Callable[[], Compared]] = {"photo": Photo, "telea": Telea, "patchmatch": PatchMatch}
    return others[name]() if name in others else ours(name)


def _had(missing: list[str], make: Any) -> Any:
    """What `make` gives; None where it fails, with the reason added to `missing`."""
    try:
        return make()
    except InputError as error:
        missing.append(str(error))
        return None


def _notes(
    found: dict[str, Any], chosen: list[Compared], cases: list[Case], records: list[dict[str, Any]]
) -> list[str]:
    """Lines for the report on what was measured, and how."""
    photos = len({case.photo for case in cases})
    commits = sorted({str(record.get("commit")) for record in records})
    refining = {method.name for method in chosen if method.described["way"] == "refined"}
    unrefined = {record["name"] for record in records if record["method"] in refining and not record["losses"]}
    notes = [
        f"{len(cases)} pictures from {photos} photos.",
        f"Machine: {found['cpu']}, {found['cores']} cores; PyTorch {found['torch']}; commit {', '.join(commits)}.",
        *(f"{method.name}: {_described(method.described)}." for method in chosen),
        _METRICS,
    ]
    if photos < MIN_PHOTOS:
        notes.append(f"No intervals: they need {MIN_PHOTOS} photos; more crops of one do not show how photos differ.")
    if unrefined:
        notes.append(f"Nothing was refined in {len(unrefined)} pictures, which are too small for two scales.")
    return notes


def _described(described: dict[str, Any]) -> str:
    if "model" not in described:
        return ", ".join(f"{name} {value}" if name != "way" else str(value) for name, value in described.items())
    settings = ", ".join(f"{name} {value}" for name, value in described["settings"].items() if value is not None)
    return f"model {described['model']} (weights {described['weights'] or 'unknown'}), {described['way']}, {settings}"


def _portable(record: dict[str, Any]) -> dict[str, Any]:
    """A record without the paths of its files, in plain JSON, which knows no infinity."""
    scores = {name: value if math.isfinite(value) else None for name, value in record["scores"].items()}
    record = record | {"scores": scores}
    return {name: value for name, value in record.items() if name not in ("picture", "image", "mask", "features")}


if __name__ == "__main__":
    main()
