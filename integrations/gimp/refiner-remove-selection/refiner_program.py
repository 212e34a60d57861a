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
# Options that the plug-in sets itself, or that leave no result for it.
_OWN = frozenset(
    {
        "-o",
        "--output",
        "--overwrite",
        "--progress",
        "-q",
        "--quiet",
        "--dry-run",
        "--guide",
        "--avoid",
        "--help",
        "--mask-from-alpha",
    }
)
# What the program calls by the names of its files.
_NAMES = {
    "photo.png": "the picture",
    "mask.png": "the selection",
    "guide.png": "the guide",
    "avoid.png": "what to avoid",
}
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
        seed: of the first fill; each variant has the next.
        variants: how many fills to make.
    """

    program: str = "refiner"
    model: str = "lama-small"
    preset: str = "default"
    more: str = ""
    seed: int = 0
    variants: int = 1

    @property
    def seeds(self) -> range:
        """One for each variant."""
        return range(self.seed, self.seed + self.variants)


def command(
    choices: Choices,
    photo: Path,
    mask: Path,
    result: Path,
    *,
    seed: int | None = None,
    guide: Path | None = None,
    avoid: Path | None = None,
) -> list[str]:
    """The command that starts the program.

    Args:
        choices: the user's. Where model or preset is empty, the program takes its own.
        photo: the picture's file.
        mask: the selection's file.
        result: the file to be written.
        seed: of this fill; None for the choices' own.
        guide: a fill to follow; None for none.
        avoid: white where nothing may be copied from; None for nowhere.

    Raises:
        Failure: the program is not there, or the further options are not written as in a shell, or not for here.
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
    _refuse_own(more)
    options = ["--progress", "lines", "--overwrite", "--seed", str(choices.seed if seed is None else seed)]
    for option, value in (("--model", choices.model.strip()), ("--preset", choices.preset.strip())):
        options += [option, value] if value else []
    for option, file in (("--guide", guide), ("--avoid", avoid)):
        options += [option, str(file)] if file is not None else []
    return [program, "inpaint", str(photo), str(mask), "-o", str(result), *options, *more]


def _refuse_own(more: list[str]) -> None:
    for word in more:
        option = word.partition("=")[0]
        short = word[:2] if word.startswith("-") and not word.startswith("--") else option
        if option in _OWN or short in _OWN:
            raise Failure(
                f"Further options: {word} is for the command line alone; leave it out: the result becomes a layer."
            )


def run(arguments: list[str], on_share: Callable[[float], object], result: Path | None = None) -> list[str]:
    """Run the program to its end.

    The program writes a line for each prediction. Where GIMP ends the plug-in, as its Cancel button does, nobody reads
    the next line, and the program ends too.

    Args:
        arguments: from `command`.
        on_share: called with the share of the work that is done, 0 to 1.
        result: the file that must be there at the end; None for none.

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
        said = next((line for line in lines if line.startswith("Error: ")), None) or (lines or [""])[-1]
        if not said:
            ended = f"ended with code {process.returncode} and said nothing"
            raise Failure(
                f"{arguments[0]}: {ended}; start it in a terminal to see why, such as `{arguments[0]} --version`."
            )
        raise Failure(f"refiner failed: {_in_gimps_words(said.removeprefix('Error: '), arguments)}")
    if result is not None and not result.is_file():
        raise Failure(f"{arguments[0]}: ended without a result; is it refiner's program?")
    return lines


def _in_gimps_words(line: str, arguments: list[str]) -> str:
    """A line that names what the user knows in place of files in a folder that is gone."""
    for name, words in _NAMES.items():
        for path in (word for word in arguments if Path(word).name == name):
            line = line.replace(path, words)
        line = line.replace(name, words)
    return line


@contextmanager
def folder() -> Iterator[Path]:
    """A folder for the program's files, removed afterwards; also removes folders that ended runs left a day ago."""
    parent = Path(tempfile.gettempdir())
    for old in parent.glob(f"{_FOLDER}*"):
        if time.time() - old.stat().st_mtime > _DAY:
            shutil.rmtree(old, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_FOLDER) as name:
        yield Path(name)
