"""Which images of a folder go with which masks."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

from PIL import Image

from refiner.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Container, Iterator

MASK_NAME = re.compile(r"(?P<name>.+)_mask(?P<number>\d*)$")


@dataclass(frozen=True)
class Pair:
    """One picture to make.

    Attributes:
        image: the photo.
        mask: its mask; None where the hole is in the photo's alpha.
        output: the result's path within the output folder, without ending, with `/` between folders.
    """

    image: Path
    mask: Path | None
    output: str


@dataclass(frozen=True)
class Pairing:
    """What a folder gives.

    Attributes:
        pairs: in order of their outputs' names.
        left_out: files that are not used, and why.
    """

    pairs: tuple[Pair, ...]
    left_out: tuple[tuple[Path, str], ...]


def find_pairs(
    source: Path,
    *,
    masks: Path | None = None,
    one_mask: Path | None = None,
    from_alpha: bool = False,
    glob: str = "*",
    recursive: bool = False,
    apart: Path | None = None,
) -> Pairing:
    """Pair a folder's images with masks.

    Without more, the mask of `NAME.jpg` is `NAME_mask.png` beside it, or each of `NAME_mask000.png`,
    `NAME_mask001.png`, ... as LaMa's evaluation names them; a result of several is named as its mask.

    Args:
        source: folder of images.
        masks: folder of masks instead: `NAME.png`, or named as above; folders below it as in `source`.
        one_mask: one mask for all images.
        from_alpha: holes are in the images' alpha.
        glob: pattern that an image's file name must fit.
        recursive: search folders below `source` too.
        apart: folder that is left out of the search, such as that of the results.

    Raises:
        InputError: a folder is not there, or no pair is found.
    """
    for folder in (source, masks):
        if folder is not None and not folder.is_dir():
            raise InputError(f"{folder}: expected a folder.")
    if one_mask is not None and not one_mask.is_file():
        raise InputError(f"{one_mask}: no such mask file; check the path.")
    if not glob:
        raise InputError("--glob: expected a pattern, such as '*.jpg', got nothing.")
    files, left_out = image_files(source, recursive=recursive, apart=apart)
    beside = masks is None and one_mask is None and not from_alpha
    by_image = _masks_by_image(source if beside else masks, plain_names=not beside, recursive=recursive, apart=apart)
    own_masks = {path for group in by_image.values() for path, _ in group} if beside else {one_mask}

    pairs: list[Pair] = []
    for path in files:
        where = path.parent.relative_to(source).as_posix()
        group: list[tuple[Path | None, str]] = [*by_image.get((where, path.stem), [])]
        if one_mask is not None or from_alpha:
            group = [(one_mask, "")]
        reason = _unfit(path, own_masks, files, glob, has_mask=bool(group))
        if reason is None:
            pairs += [Pair(path, mask, _output(where, path.stem, number)) for mask, number in group]
        elif reason:
            left_out.append((path, reason))
    if not pairs:
        reasons = Counter(reason for _, reason in left_out).most_common(1)
        why = f"its images: {reasons[0][0]}" if reasons else "there are no images"
        raise InputError(f"{source}: nothing to do ({why}); name masks NAME_mask.png, or give --masks or --mask.")
    pairs.sort(key=lambda pair: (pair.output, str(pair.image)))
    return Pairing(tuple(pairs), tuple(sorted(left_out)))


def _unfit(
    path: Path, own_masks: Container[Path | None], files: list[Path], glob: str, *, has_mask: bool
) -> str | None:
    """Why a file is not an image to fill; empty where that needs no telling, None where it is one."""
    if path in own_masks:
        match = MASK_NAME.fullmatch(path.stem)
        used = match is None or any(p.parent == path.parent and p.stem == match["name"] for p in files)
        return "" if used else "is named as a mask, but there is no image of that name"
    if not PurePosixPath(path.name).match(glob):
        return f"does not fit {glob}"
    return None if has_mask else "has no mask"


def _output(where: str, stem: str, number: str) -> str:
    name = f"{stem}_mask{number}" if number else stem
    return name if where == "." else f"{where}/{name}"


def _masks_by_image(
    folder: Path | None, *, plain_names: bool, recursive: bool, apart: Path | None
) -> dict[tuple[str, str], list[tuple[Path, str]]]:
    """Masks, with the number that tells several apart, by folder and name of their image."""
    by_image: dict[tuple[str, str], list[tuple[Path, str]]] = {}
    if folder is None:
        return by_image
    for path in image_files(folder, recursive=recursive, apart=apart)[0]:
        where = path.parent.relative_to(folder).as_posix()
        match = MASK_NAME.fullmatch(path.stem)
        if match:
            by_image.setdefault((where, match["name"]), []).append((path, match["number"]))
        elif plain_names:
            by_image.setdefault((where, path.stem), []).append((path, ""))
    return by_image


def image_files(
    folder: Path, *, recursive: bool = False, apart: Path | None = None
) -> tuple[list[Path], list[tuple[Path, str]]]:
    """A folder's files with an image's ending, in order, and what looks like one and is not, with the reason."""
    Image.init()
    endings = {*Image.registered_extensions(), ".heic", ".heif", ".avif"}
    files: list[Path] = []
    left_out: list[tuple[Path, str]] = []
    below = apart is not None and folder in apart.parents  # a folder within it is searched all the same
    for path in _entries(folder, recursive=recursive):
        if path.suffix.lower() not in endings or (below and apart in path.parents):
            continue
        if path.is_file():
            files.append(path)
        else:
            left_out.append((path, "is a folder" if path.is_dir() else "is not a file"))
    return sorted(files), left_out


def _entries(folder: Path, *, recursive: bool) -> Iterator[Path]:
    found = folder.rglob("*") if recursive else folder.iterdir()
    yield from (path for path in found if not path.name.startswith("."))
