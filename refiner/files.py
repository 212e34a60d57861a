"""Files written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from refiner.errors import InputError


def write_atomic(path: Path, data: bytes) -> None:
    """Write `data` to a temporary file beside `path`, then rename it: no reader ever sees half a file.

    Raises:
        InputError: the folder is missing or cannot be written to.
    """
    temporary: str | None = None
    try:
        handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:80]}.", suffix=".part", dir=path.parent)
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        # mkstemp keeps the file private; a picture gets the permissions any new file would have.
        Path(temporary).chmod(0o666 & ~_umask())
        Path(temporary).replace(path)
    except BaseException as error:
        if temporary is not None:
            Path(temporary).unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise InputError(f"{path}: cannot be written ({error.strerror}).") from error
        raise


def check_target(path: Path, *, overwrite: bool) -> None:
    """Refuse a target that could not be written, before hours of work are spent on it.

    Raises:
        InputError: the target exists and `overwrite` is off, is a folder, or its folder cannot be written to.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected a file name.")
    if path.exists() and not overwrite:
        raise InputError(f"{path}: exists already; choose another name or add --overwrite.")
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
