"""Files written whole or not at all."""

from __future__ import annotations

import glob
import os
import secrets
import tempfile
from typing import TYPE_CHECKING

from refiner.errors import InputError, Option

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path


_PART = ".part"


def remove_unfinished(target: Path) -> None:
    """Remove temporary files that killed processes left beside a target; no process may be writing it now."""
    for part in target.parent.glob(f"{glob.escape(_part_of(target))}*{_PART}"):
        part.unlink(missing_ok=True)


def write_atomic(files: Mapping[Path, bytes]) -> None:
    """Write files whole or not at all: each goes to a temporary file beside its target, then all are renamed.

    A target's missing folder is made, not those above it, and removed again where nothing was written to it.

    Raises:
        InputError: a folder cannot be made or written to; then no file was written.
    """
    staged: dict[Path, Path] = {}
    made: list[Path] = []
    path = None
    try:
        for path in files:
            if not path.parent.is_dir():
                path.parent.mkdir()
                made.append(path.parent)
        for path, data in files.items():
            # Not by `tempfile`, whose files are private: this file gets the permissions of any new file.
            temporary = path.parent / f"{_part_of(path)}{secrets.token_hex(4)}{_PART}"
            with temporary.open("xb") as file:
                staged[path] = temporary
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        for path, temporary in staged.items():
            temporary.replace(path)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}).") from error
    finally:
        for temporary in staged.values():
            temporary.unlink(missing_ok=True)
        for folder in made:
            if not any(folder.iterdir()):
                folder.rmdir()


def _part_of(target: Path) -> str:
    return f".{target.name[:80]}."


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, unless they exist.

    Raises:
        InputError: the folder cannot be made, or is a file.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{path}: the folder cannot be made ({error.strerror}).") from error


def check_target(path: Path, *, overwrite: bool) -> None:
    """Refuse a target that could not be written, before hours of work are spent on it.

    Raises:
        InputError: the target exists and `overwrite` is off, is a folder, or its folder cannot be written to.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected a file name.")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already; choose another name or add ", Option("overwrite"), ".")
    if not path.parent.is_dir():
        raise InputError(f"{path}: its folder does not exist; create {path.parent} first.")
    try:
        with tempfile.TemporaryFile(dir=path.parent):
            pass
    except OSError as error:
        raise InputError(f"{path}: its folder cannot be written to ({error.strerror}).") from error
