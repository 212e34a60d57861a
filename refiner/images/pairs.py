"""Finding the picture files of a folder, and which photos go with which masks."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, TypeAlias

from refiner.errors import InputError, Option
from refiner.images import formats

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

MASK_NAME = re.compile(r"(?P<name>.+)_mask(?P<number>\d*)$")

_Numbered: TypeAlias = "tuple[Path | None, str]"  # a mask, and the number that its name ends in


@dataclass(frozen=True)
class Pair:
    """One photo to fill.

    Attributes:
        image: the photo.
        mask: its mask; None where the hole is in the photo's alpha.
        output: the result's path within the output folder, with `/` between folders and without suffix.
    """

    image: Path
    mask: Path | None
    output: str


@dataclass(frozen=True)
class Pairing:
    """What was found in a folder.

    Attributes:
        pairs: in the order of their outputs' names.
        left_out: files that are not used, and why.
    """

    pairs: tuple[Pair, ...]
    left_out: tuple[tuple[Path, str], ...]


@dataclass(frozen=True)
class _Holes:
    """Where the photos' holes are.

    Attributes:
        of: gives a photo's masks, by its folder within the source and its name without suffix.
        masks: files among the photos that are masks.
    """

    of: Callable[[str, str], Sequence[_Numbered]]
    masks: frozenset[Path] = frozenset()


def image_files(
    folder: Path, *, recursive: bool = False, exclude: Path | None = None
) -> tuple[list[Path], list[tuple[Path, str]]]:
    """Find the files in a folder that are named as pictures.

    Args:
        folder: to search; hidden files are passed over.
        recursive: search the folders below it too.
        exclude: a folder below it that is not searched.

    Returns:
        The files in order, and what is named as a picture but is no file, with the reason.
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


def find_pairs(
    source: Path,
    *,
    masks: Path | None = None,
    mask: Path | None = None,
    from_alpha: bool = False,
    glob: str = "*",
    recursive: bool = False,
    exclude: Path | None = None,
) -> Pairing:
    """Pair a folder's photos with masks.

    Without `masks`, `mask` or `from_alpha`, the mask of `NAME.jpg` is `NAME_mask.png` beside it, or each of
    `NAME_mask000.png`, `NAME_mask001.png`, ... as LaMa's evaluation names them. A result is named as its photo, or as
    its mask where that has a number.

    Args:
        source: folder of photos.
        masks: folder of masks: `NAME.png`, or named as above, in folders as those of `source`.
        mask: one mask for all photos.
        from_alpha: take the holes from the photos' alpha.
        glob: pattern that a photo's file name must fit.
        recursive: search folders below `source` too.
        exclude: folder that is not searched, such as that of the results.

    Raises:
        InputError: a folder or the mask is missing, or no pair is found.
    """
    _check_arguments(source, masks, mask, glob)
    files, left_out = image_files(source, recursive=recursive, exclude=exclude)
    if mask is not None:
        holes = _in_one_mask(mask)
    elif from_alpha:
        holes = _in_alpha()
    elif masks is not None:
        holes = _in_folder(masks, image_files(masks, recursive=recursive, exclude=exclude)[0])
    else:
        holes = _beside(source, files)
    pairs, unpaired = _paired(source, files, holes, glob)
    left_out += unpaired
    if not pairs:
        raise _nothing_to_do(source, left_out)
    pairs.sort(key=lambda pair: (pair.output, str(pair.image)))
    return Pairing(tuple(pairs), tuple(sorted(left_out)))


def _entries(folder: Path, *, recursive: bool) -> Iterator[Path]:
    found = folder.rglob("*") if recursive else folder.iterdir()
    yield from (path for path in found if not path.name.startswith("."))


def _check_arguments(source: Path, masks: Path | None, mask: Path | None, glob: str) -> None:
    for folder in (source, masks):
        if folder is not None and not folder.is_dir():
            raise InputError(f"{folder}: expected a folder.")
    if mask is not None and not mask.is_file():
        raise InputError(f"{mask}: no such mask file; check the path.")
    if not glob:
        raise InputError(Option("glob"), ": expected a pattern, such as '*.jpg', got nothing.")


def _beside(source: Path, files: Iterable[Path]) -> _Holes:
    """The holes are in masks that lie among the photos."""
    masks = [path for path in files if MASK_NAME.fullmatch(path.stem)]
    by_photo = _by_photo(source, masks)
    return _Holes(lambda folder, stem: by_photo.get((folder, stem), []), frozenset(masks))


def _in_folder(folder: Path, files: Iterable[Path]) -> _Holes:
    """The holes are in masks with a folder of their own, where a mask may have its photo's very name."""
    by_photo = _by_photo(folder, files)
    return _Holes(lambda folder, stem: by_photo.get((folder, stem), []))


def _in_one_mask(mask: Path) -> _Holes:
    return _Holes(lambda _folder, _stem: [(mask, "")], frozenset({mask}))


def _in_alpha() -> _Holes:
    return _Holes(lambda _folder, _stem: [(None, "")])


def _by_photo(folder: Path, masks: Iterable[Path]) -> dict[tuple[str, str], list[_Numbered]]:
    """Masks and their numbers, by the folder and name of their photo."""
    by_photo: dict[tuple[str, str], list[_Numbered]] = {}
    for path in masks:
        match = MASK_NAME.fullmatch(path.stem)
        name, number = (match["name"], match["number"]) if match else (path.stem, "")
        by_photo.setdefault((_folder_in(folder, path), name), []).append((path, number))
    return by_photo


def _paired(source: Path, files: Sequence[Path], holes: _Holes, glob: str) -> tuple[list[Pair], list[tuple[Path, str]]]:
    """The pairs, and the files left out with the reason; masks that were paired are not among those."""
    pairs: list[Pair] = []
    left_out: list[tuple[Path, str]] = []
    photos = {(path.parent, path.stem) for path in files}
    for path in files:
        if path in holes.masks:
            match = MASK_NAME.fullmatch(path.stem)
            if match and (path.parent, match["name"]) not in photos:
                left_out.append((path, "is named as a mask, but there is no image of that name"))
            continue
        folder = _folder_in(source, path)
        found = holes.of(folder, path.stem)
        if not PurePosixPath(path.name).match(glob):
            left_out.append((path, f"does not fit {glob}"))
        elif not found:
            left_out.append((path, "has no mask"))
        else:
            pairs += [Pair(path, mask, _output(folder, path.stem, number)) for mask, number in found]
    return pairs, left_out


def _folder_in(root: Path, path: Path) -> str:
    """The path from a root folder to the folder of a file; `.` for the root itself."""
    return path.parent.relative_to(root).as_posix()


def _output(folder: str, stem: str, number: str) -> str:
    name = f"{stem}_mask{number}" if number else stem
    return name if folder == "." else f"{folder}/{name}"


def _nothing_to_do(source: Path, left_out: Iterable[tuple[Path, str]]) -> InputError:
    """The error where no pair was found; it names the reason why most files were left out."""
    reasons = Counter(reason for _, reason in left_out).most_common(1)
    why = f"its images: {reasons[0][0]}" if reasons else "there are no images"
    hint = (Option("masks"), " or ", Option("mask"), ".")
    return InputError(f"{source}: nothing to do ({why}); name masks NAME_mask.png, or give ", *hint)
