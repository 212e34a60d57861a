"""The report of a batch: a line for each photo, by which a stopped batch goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refiner.batch.origin import Origins, difference, is_edited
from refiner.errors import InputError, Option
from refiner.files import make_folder, remove_unfinished, write_atomic

if TYPE_CHECKING:
    from collections.abc import Sequence

    from refiner.batch.work import Work
    from refiner.images.pairs import Pair

REPORT = "report.jsonl"


class ReportFile:
    """`report.jsonl`: a line for each photo, written as soon as the photo is done.

    Args:
        work: what is done; the report lies in its folder.
        pairs: all photos of the batch.
        resume: keep the lines of photos that are done, so that they are not done again: the result is there, and the
            photo and its mask are as they were.
        overwrite: start anew, and replace the report and the results that are there.

    Raises:
        InputError: there is a report or a result, and neither is set; or a result to keep was made with another
            choice, such as another model.
    """

    def __init__(self, work: Work, pairs: Sequence[Pair], *, resume: bool, overwrite: bool) -> None:
        self._path = work.out / REPORT
        self._others: list[dict[str, Any]] = []  # lines of photos that are not in this batch
        self._rows: dict[str, dict[str, Any]] = {}
        if resume and self._path.is_file():
            self._keep(_read_rows(self._path), work, pairs)
        elif not overwrite:
            there = [self._path, *(work.out / name for name in sorted(map(work.name, pairs)))]
            existing = next((path for path in there if path.exists()), None)
            if existing is not None:
                raise _in_the_way(existing, resume=resume)

    def _keep(self, rows: Sequence[dict[str, Any]], work: Work, pairs: Sequence[Pair]) -> None:
        """Take over the lines of a report that still hold, and those of photos that are not in this batch."""
        origins = Origins(work)
        by_output = {work.name(pair): pair for pair in pairs}
        by_photo = {(str(pair.image), pair.output): pair for pair in pairs}  # also where the format was another
        for row in rows:
            output = row["output"]
            pair = by_output.get(output) or by_photo.get((str(row.get("image")), _without_suffix(output)))
            if pair is None:
                self._others.append(row)
            elif row.get("status") == "ok" and (work.out / output).is_file():
                origin = origins.of(pair)
                differing = difference(row, origin)
                if differing is not None:
                    raise _made_otherwise(work.out / output, *differing)
                if not is_edited(row, origin):
                    self._rows[output] = row

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The lines of this batch's photos, sorted by the names of the results."""
        return sorted(self._rows.values(), key=_result_name)

    def start(self) -> None:
        """Write the lines that are kept, in place of the report that was there.

        Raises:
            InputError: the folder cannot be made or written to.
        """
        make_folder(self._path.parent)
        self._write()

    def has(self, output: str) -> bool:
        """Whether there is a line for this result."""
        return output in self._rows

    def add(self, row: dict[str, Any]) -> None:
        """Add a line to the file at once; nothing where there is one for this result already."""
        if row["output"] in self._rows:
            return
        self._rows[row["output"]] = row
        with self._path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")

    def finish(self) -> None:
        """Put the lines in order, and remove what killed workers left half written."""
        self._write()
        for output in self._rows:
            remove_unfinished(self._path.parent / output)

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
    """Lines of a report; one that was cut short when the batch was killed is left out."""
    rows = []
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("output"), str):
            rows.append(row)
    return rows


def _made_otherwise(result: Path, name: str, before: str, now: str) -> InputError:
    return InputError(
        f"{result}: was made with {name} {before}, not {now}; go on with the same, or add ",
        Option("overwrite"),
        " in place of ",
        Option("resume"),
        ".",
    )


def _without_suffix(output: str) -> str:
    """A result's name as `Pair.output` has it."""
    return Path(output).with_suffix("").as_posix()
