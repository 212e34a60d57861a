"""The picture files of a folder."""

from __future__ import annotations

from typing import TYPE_CHECKING

from refiner.images import formats

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def image_files(
    folder: Path, *, recursive: bool = False, exclude: Path | None = None
) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Find the files in a folder that are named as pictures.

    Args:
        folder: to search; hidden files are passed over.
        recursive: search the folders below it too.
        exclude: a folder below it that is passed over.

    Returns:
        The files in order, and what is named as a picture and is no file, with the reason.
    """
    suffixes = formats.suffixes()
    files: list[Path] = []
    left_out: list[tuple[Path, str]] = []
    below = exclude is not None and folder in exclude.parents  # a folder within the excluded one is searched
    for path in _entries(folder, recursive=recursive):
        if path.suffix.lower() not in suffixes or (below and exclude in path.parents):
            continue
        if path.is_file():
            files.append(path)
        else:
            left_out.append((path, "is a folder" if path.is_dir() else "is not a file"))
    return sorted(files), left_out


def _entries(folder: Path, *, recursive: bool) -> Iterator[Path]:
    found = folder.rglob("*") if recursive else folder.iterdir()
    yield from (path for path in found if not path.name.startswith("."))
