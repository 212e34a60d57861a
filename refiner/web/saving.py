"""Results that are also written to folders of this machine, where whoever started the server asked for it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from refiner.errors import InputError
from refiner.files import write_atomic
from refiner.images.writing import default_suffix, encode

if TYPE_CHECKING:
    from refiner.images.picture import Picture
    from refiner.web.records import Record


def save_result(record: Record, picture: Picture, number: int, output: Path | None) -> Path | None:
    """Write a round beside its photo or into the output folder, where asked for; never over an existing file."""
    if record.beside is not None:
        beside = Path(record.beside)
        folder, stem = beside.parent, f"{beside.stem}_refined"
    elif output is not None:
        folder, stem = output, f"{Path(record.name).stem}_round{number}"
    else:
        return None
    suffix = default_suffix(Path(record.name))
    try:
        data = encode(picture, Path(f"{stem}{suffix}"))
    except InputError:  # the photo's format cannot hold the result
        suffix = ".png"
        data = encode(picture, Path(f"{stem}{suffix}"))
    path = _free(folder, stem, suffix)
    write_atomic({path: data})
    return path


def _free(folder: Path, stem: str, suffix: str) -> Path:
    """A path of this name at which there is no file yet."""
    path, number = folder / f"{stem}{suffix}", 1
    while path.exists():
        number += 1
        path = folder / f"{stem}_{number}{suffix}"
    return path
