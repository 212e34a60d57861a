"""Files written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING

from refiner.errors import InputError, Option

if TYPE_CHECKING:
    from collections.abc import Mapping


def write_atomic(files: Mapping[Path, bytes]) -> None:
    """Write files whole or not at all: each goes to a temporary file beside its target, then all are renamed.

    A folder that is missing in a folder that exists is made, and removed again where nothing came to lie in it.

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
            handle, name = tempfile.mkstemp(prefix=f".{path.name[:80]}.", suffix=".part", dir=path.parent)
            staged[path] = Path(name)
            with os.fdopen(handle, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            # mkstemp keeps the file private; a picture gets the permissions any new file would have.
            staged[path].chmod(0o666 & ~_umask())
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


def make_folder(path: Path) -> None:
    """Make a folder, and those above it, unless it is there.

    Raises:
        InputError: it cannot be made, or is a file.
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


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
