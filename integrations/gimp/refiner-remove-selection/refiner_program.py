"""The `refiner` program as GIMP's plug-in calls it: found, started, watched, its errors in one line."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_PROGRESS = re.compile(r"Progress: ([\d.]+) %")
_FOLDER = "refiner-gimp-"
_DAY = 24 * 60 * 60
# GIMP sets these for its own Python; with them, another Python would not find its modules.
_OF_GIMPS_PYTHON = ("PYTHONHOME", "PYTHONPATH")


class Failure(Exception):  # noqa: N818  it reads better where it is caught
    """What went wrong, in a line for the user."""


@dataclass(frozen=True)
class Choices:
    """What the user chose in the dialog.

    Attributes:
        program: name or path of `refiner`.
        model: a model's name or the path of a weights file.
        preset: a preset's name or the path of a YAML file.
        more: further options of `refiner inpaint`, as in a shell.
    """

    program: str = "refiner"
    model: str = "lama-small"
    preset: str = "default"
    more: str = ""


def command(choices: Choices, photo: Path, mask: Path, result: Path) -> list[str]:
    """The command that starts the program.

    Raises:
        Failure: the program is not there, or the further options are not written as in a shell.
    """
    program = shutil.which(choices.program.strip() or "refiner")
    if program is None:
        raise Failure(
            f"{choices.program}: no such program. Install refiner, then give its full path as the program in this "
            "filter's dialog (`command -v refiner` in a terminal shows it)."
        )
    try:
        more = shlex.split(choices.more)
    except ValueError as error:
        raise Failure(f"Further options: {error}; expected them as in a shell, such as --steps 20.") from None
    options = ["--model", choices.model, "--preset", choices.preset, "--progress", "lines", "--overwrite", *more]
    return [program, "inpaint", str(photo), str(mask), "-o", str(result), *options]


def run(arguments: list[str], on_share: Callable[[float], object]) -> list[str]:
    """Run the program to its end.

    The program writes a line for each prediction. Where GIMP ends the plug-in, as its Cancel button does, nobody reads
    the next line, and the program ends too.

    Args:
        arguments: from `command`.
        on_share: called with the share of the work that is done, 0 to 1.

    Returns:
        The other lines that it wrote: warnings, and what was refined.

    Raises:
        Failure: the program ended with an error; the message is the program's own where it has one.
    """
    environment = {name: value for name, value in os.environ.items() if name not in _OF_GIMPS_PYTHON}
    lines: list[str] = []
    with subprocess.Popen(  # noqa: S603  the user's own program
        arguments,
        env={**environment, "PYTHONIOENCODING": "utf-8"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        encoding="utf-8",
        errors="replace",
        creationflags=getattr(subprocess, "CREATE_NO_WINDOW", 0),
    ) as process:
        try:
            for line in process.stderr or ():
                share = _PROGRESS.match(line)
                if share:
                    on_share(float(share[1]) / 100)
                elif line.strip():
                    lines.append(line.strip())
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        said = next((line for line in lines if line.startswith("Error: ")), None) or (lines or ["nothing"])[-1]
        raise Failure(f"refiner failed: {said.removeprefix('Error: ')}")
    return lines


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for the program's files, removed afterwards; also removes folders that ended runs left a day ago."""
    parent = Path(tempfile.gettempdir())
    for old in parent.glob(f"{_FOLDER}*"):
        if time.time() - old.stat().st_mtime > _DAY:
            shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_FOLDER) as name:
        yield Path(name)
