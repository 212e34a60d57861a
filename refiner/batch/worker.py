"""Folders of photos: the same work for each, a line of report for each, and none of them stops the rest."""

from __future__ import annotations

import json
import time
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path  # noqa: TC003  dataclass fields
from typing import TYPE_CHECKING, Any, TypeAlias

from refiner.devices import pick_devices
from refiner.engine.plan import memory_for
from refiner.errors import InputError, RefinerError
from refiner.files import make_folder, write_atomic
from refiner.images.masks import MaskOptions
from refiner.images.writing import check_fits, default_ending, reductions, takes_quality
from refiner.memory import Peak
from refiner.models.registry import load_model
from refiner.photo import as_file, fill, read_photo, stays_as_it_is
from refiner.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    import torch

    from refiner.engine.result import Result
    from refiner.images.pairs import Pair
    from refiner.models.inpainter import Inpainter

    Fill: TypeAlias = Callable[[Sequence[Pair]], Iterator[dict[str, Any]]]  # photos to their lines of the report

REPORT = "report.jsonl"


@dataclass(frozen=True)
class Work:
    """What to do to every photo, in plain values that travel to other machines.

    Attributes:
        out: folder for the results.
        model: name, path or `module:attribute`.
        weights: file in place of a named model's own.
        settings: of the refinement.
        mask_options: how masks are read.
        quality: of JPEG, WebP, AVIF and HEIF results.
        ending: of all results, such as `.png`; each photo's own where None.
    """

    out: Path
    model: str = "lama-small"
    weights: Path | None = None
    settings: Settings = field(default_factory=Settings)
    mask_options: MaskOptions = field(default_factory=MaskOptions)
    quality: int | None = None
    ending: str | None = None

    def target(self, pair: Pair) -> Path:
        """The file that a pair's result goes to."""
        ending = self.ending or default_ending(pair.image)
        return self.out / f"{pair.output}{ending}"

    def name(self, pair: Pair) -> str:
        """The result's path within `out`, by which the report knows it."""
        return str(self.target(pair).relative_to(self.out))

    def row(self, pair: Pair, **outcome: Any) -> dict[str, Any]:
        """A pair's line of the report."""
        mask = None if pair.mask is None else str(pair.mask)
        return {"image": str(pair.image), "mask": mask, "output": self.name(pair), **outcome}


class Worker:
    """Fills one photo after the other; loads the model once.

    Args:
        work: what to do.
        devices: where to compute.
        share: of the free memory that is this worker's, where others work on the same machine.

    Raises:
        ModelError: the model cannot be had.
    """

    def __init__(self, work: Work, devices: tuple[torch.device, ...], *, share: float = 1) -> None:
        self._work, self._devices = work, devices
        self._settings = work.settings
        if share < 1 and work.settings.memory is None:
            self._settings = replace(work.settings, memory=str(memory_for(devices, share)))
        self._model: Inpainter = load_model(work.model, weights=work.weights)

    def __call__(self, pair: Pair) -> dict[str, Any]:
        """Fill one photo and write the result; gives its line of the report. Only an interrupt gets through."""
        row = self._work.row(pair, status="ok")
        start = time.perf_counter()
        try:
            with Peak(self._devices[0]) as peak:
                row |= self._fill(pair)
            row["peak_memory"] = peak.bytes
        except RefinerError as error:
            row |= {"status": "failed", "error": str(error)}
        except Exception as error:  # noqa: BLE001  one photo must not stop the rest, whatever it brings about
            row |= {"status": "failed", "error": f"{type(error).__name__}: {error}"}
        row["seconds"] = round(time.perf_counter() - start, 3)
        return row

    def _fill(self, pair: Pair) -> dict[str, Any]:
        work, target = self._work, self._work.target(pair)
        picture, hole = read_photo(pair.image, pair.mask, work.mask_options)
        check_fits(target, picture.mode, picture.size, picture.metadata)
        filled, result = fill(self._model, picture, hole, self._settings, self._devices)
        target.parent.mkdir(parents=True, exist_ok=True)
        quality = work.quality if takes_quality(target) else None  # a folder may hold both kinds
        write_atomic({target: as_file(filled, hole, pair.image, target, quality)})
        notes = [hole.warning] if hole.warning else []
        notes += [] if stays_as_it_is(filled, hole, target, quality) else reductions(picture, target, quality)
        return {
            "size": list(filled.size[::-1]),
            "scales": _scales(result),
            "plan": None if result.plan is None else str(result.plan),
            "model": work.model,
            "settings": asdict(work.settings),
            **({"notes": notes} if notes else {}),
        }


@contextmanager
def local_worker(work: Work, device: str) -> Iterator[Fill]:
    """One worker in this process; a context in which photos can be filled.

    Args:
        work: what to do.
        device: where to compute, as `pick_devices` takes it.

    Raises:
        ModelError: the model cannot be had.
    """
    worker = Worker(work, pick_devices(device))
    yield lambda pairs: map(worker, pairs)


class ReportFile:
    """`report.jsonl`: a line for each photo, written as it is done.

    Args:
        work: whose folder it is in.
        pairs: all photos of the batch.
        resume: keep the lines that are there; photos that are done, whose result is there, are not done again.
        overwrite: start over where there is a report, and replace results.

    Raises:
        InputError: there is a report, or a result, and neither is asked for; or results to go on from were made with
            another model or other settings.
    """

    def __init__(self, work: Work, pairs: Sequence[Pair], *, resume: bool, overwrite: bool) -> None:
        self._path = work.out / REPORT
        own = {work.name(pair) for pair in pairs}
        self._others: list[dict[str, Any]] = []  # lines of photos that are not in this batch
        self._rows: dict[str, dict[str, Any]] = {}
        if resume and self._path.is_file():
            for row in _read_rows(self._path):
                if row["output"] not in own:
                    self._others.append(row)
                elif row.get("status") == "ok" and (work.out / row["output"]).is_file():
                    _check_alike(row, work)
                    self._rows[row["output"]] = row
        elif not overwrite:
            there = [self._path, *(work.out / name for name in sorted(own))]
            existing = next((path for path in there if path.exists()), None)
            if existing is not None:
                how = "add --resume to go on, or --overwrite to start over"
                if resume:
                    how = f"no {REPORT} tells of it; add --overwrite in place of --resume to replace it"
                raise InputError(f"{existing}: exists already; {how}.")

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The batch's lines, by the names of their results."""
        return sorted(self._rows.values(), key=_result_name)

    def start(self) -> None:
        """Write what is known so far; what was there and is not kept is gone then.

        Raises:
            InputError: the folder cannot be made or written to.
        """
        make_folder(self._path.parent)
        self._write()

    def has(self, output: str) -> bool:
        """Whether a photo is in it."""
        return output in self._rows

    def add(self, row: dict[str, Any]) -> None:
        """Add a line at once; a photo that is in it already is not added again."""
        if row["output"] in self._rows:
            return
        self._rows[row["output"]] = row
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def finish(self) -> None:
        """Bring the lines into order."""
        self._write()

    def _write(self) -> None:
        rows = sorted([*self._others, *self._rows.values()], key=_result_name)
        write_atomic({self._path: "".join(json.dumps(row) + "\n" for row in rows).encode()})


def _result_name(row: dict[str, Any]) -> str:
    return str(row["output"])


def check_targets(work: Work, pairs: Iterable[Pair]) -> tuple[list[Pair], list[tuple[Path, str]]]:
    """The pairs whose results have a file of their own, and the photos left out because another one takes it.

    Raises:
        InputError: results would be written over the photos or masks themselves.
    """
    taken: dict[str, Pair] = {}
    left_out: list[tuple[Path, str]] = []
    sources: set[Path] = set()
    pairs = list(pairs)
    for pair in pairs:
        sources |= {pair.image.resolve(), *([] if pair.mask is None else [pair.mask.resolve()])}
    kept = []
    for pair in pairs:
        target = work.target(pair)
        if target.resolve() in sources:
            raise InputError(f"{target}: would be written over; choose another folder for the results.")
        name = str(target).casefold()  # file systems may not tell case apart
        if name in taken:
            left_out.append((pair.image, f"its result would be {target.name}, as that of {taken[name].image.name}"))
            continue
        taken[name] = pair
        kept.append(pair)
    return kept, left_out


def _read_rows(path: Path) -> list[dict[str, Any]]:
    """Lines of a report; one cut short by a kill is left out."""
    if not path.is_file():
        return []
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("output"), str):
            rows.append(row)
    return rows


def _check_alike(row: dict[str, Any], work: Work) -> None:
    """Refuse to put results of another model or of other settings beside those to come."""
    now = _comparable(work.model, asdict(work.settings))
    before = _comparable(row.get("model"), row.get("settings"))
    differing = sorted(name for name in now.keys() | before.keys() if now.get(name) != before.get(name))
    if differing:
        name = differing[0]
        raise InputError(
            f"{work.out / row['output']}: was made with {name} {before.get(name)}, not {now.get(name)}; go on with the "
            "same, or add --overwrite in place of --resume."
        )


def _comparable(model: object, settings: object) -> dict[str, Any]:
    """What decides a result: the model and the settings but for the memory, as JSON holds them."""
    known: dict[str, Any] = json.loads(json.dumps(settings)) if isinstance(settings, dict) else {}
    return {"model": model, **{name: value for name, value in known.items() if name != "memory"}}


def _scales(result: Result) -> list[dict[str, Any]]:
    return [
        {
            "size": list(scale.size[::-1]),
            "refined": scale.refined,
            "loss_before": scale.loss_before if scale.losses else None,
            "loss_after": scale.loss_after if scale.losses else None,
            "windows": len(scale.windows),
            "seconds": round(scale.seconds, 3),
        }
        for scale in result.scales
    ]
