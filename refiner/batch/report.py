"""The report of a batch: a line for each photo, by which a stopped batch goes on."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from refiner.errors import InputError, Option
from refiner.files import make_folder, write_atomic
from refiner.settings import RENAMED

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from refiner.batch.work import Work
    from refiner.images.pairs import Pair

REPORT = "report.jsonl"


class ReportFile:
    """`report.jsonl`: a line for each photo, written as it is done.

    Args:
        work: what is done; the report lies in its folder.
        pairs: all photos of the batch.
        resume: keep the lines that are there; photos that are done, whose result is there, are not done again.
        overwrite: start over where there is a report, and replace results.

    Raises:
        InputError: there is a report or a result, and neither is set; or results to go on from were made with
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
                raise _in_the_way(existing, resume=resume)

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


def _in_the_way(existing: Path, *, resume: bool) -> InputError:
    start = f"{existing}: exists already; "
    if resume:
        more = (f"no {REPORT} tells of it; add ", Option("overwrite"), " in place of ", Option("resume"))
        return InputError(start, *more, " to replace it.")
    return InputError(start, "add ", Option("resume"), " to go on, or ", Option("overwrite"), " to start over.")


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
            "same, or add ",
            Option("overwrite"),
            " in place of ",
            Option("resume"),
            ".",
        )


def _comparable(model: object, settings: object) -> dict[str, Any]:
    """What decides a result: the model and the settings but for the memory, as JSON holds them."""
    known: dict[str, Any] = json.loads(json.dumps(settings)) if isinstance(settings, dict) else {}
    return {"model": model, **{RENAMED.get(name, name): value for name, value in known.items() if name != "memory"}}
