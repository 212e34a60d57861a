"""Pictures with holes whose content is known."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from refiner.errors import InputError
from refiner.images.pairs import Pair, find_pairs, image_files

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_CROP = re.compile(r"_crop\d+$")


@dataclass(frozen=True)
class Case:
    """A picture with a hole, whose content is known.

    Attributes:
        kind: of hole; the folder's name.
        pair: the files of picture and mask.
        photo: name of the photo that the picture was cut from.
    """

    kind: str
    pair: Pair
    photo: str


def find_cases(folder: Path, on_skip: Callable[[str], object] = lambda _reason: None) -> list[Case]:
    """Find pictures with holes in a folder and the folders in it, each of which is a kind of hole.

    Args:
        folder: as `refiner masks` makes it.
        on_skip: called with what is left out, in a line.

    Raises:
        InputError: there are no pictures with holes.
    """
    folder = folder.resolve()
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder, as `refiner masks` makes it.")
    cases = []
    for kind in [folder, *(path for path in sorted(folder.iterdir()) if path.is_dir())]:
        if not image_files(kind)[0]:
            continue  # a folder of something else, such as the report
        try:
            pairing = find_pairs(kind)
        except InputError as error:
            on_skip(str(error))
            continue
        for path, reason in pairing.left_out:
            on_skip(f"{path}: {reason}")
        cases += [Case(kind.name, pair, _CROP.sub("", pair.image.stem)) for pair in pairing.pairs]
    if not cases:
        raise InputError(f"{folder}: has no pairs of pictures and masks, as `refiner masks` makes them.")
    return sorted(cases, key=lambda case: (case.kind, case.pair.output))
