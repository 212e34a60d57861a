"""What became of photos on the server: the changed pixels of each round, and the masks.

A round's picture is its parent's picture with the changed pixels in it, in the photo's own mode and depth. So nothing
is encoded or decoded between removals.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from refiner.images.drawing import box_of, mask_file
from refiner.images.masks import MaskOptions, read_mask
from refiner.images.picture import Picture
from refiner.images.screen import as_jpeg, part_for_screen, resized
from refiner.images.writing import losses_in
from refiner.web.patches import patch_of, patched
from refiner.web.photos import Photos, read_photo
from refiner.web.problems import CONFLICT, NOT_FOUND, TOO_MANY, Problem
from refiner.web.records import Record, Round, new_id

if TYPE_CHECKING:
    from pathlib import Path

    from refiner.images.planes import Mask

PREVIEW = 2048  # longer side in pixels
SCREEN_QUALITY = 90  # of JPEGs that are only looked at
_AROUND = 320  # longer side in pixels of the picture of a change
_LEAST_AROUND = 48  # pixels that it shows beside the change, at least


class Store(Photos):
    """All photos with their rounds and masks; safe to use from several threads."""

    def round_of(self, record: Record, number: int) -> Round:
        """One of a photo's rounds.

        Raises:
            Problem: the photo has no round of this number.
        """
        if not 0 <= number < len(record.rounds) or record.rounds[number].gone:
            raise Problem(NOT_FOUND, f"The photo has no round {number}.")
        return record.rounds[number]

    def picture(self, record: Record, number: int) -> Picture:
        """The decoded picture of a round."""
        kept = self._decoded.get(record.id, number)
        if kept is not None:
            return kept
        made = record.rounds[number]  # it may have been deleted: its pixels stay as long as others build on them
        if made.parent is None:
            with self._decoding:
                picture = replace(read_photo(self.original(record), record.name), name=record.name)
        else:
            picture = self.picture(record, made.parent)
            if made.box is not None:
                picture = patched(picture, self._patch(record, number))
        self._decoded.keep(record.id, number, picture)
        return picture

    def screen(self, record: Record, number: int, side: int = PREVIEW) -> Path:
        """A JPEG file of a round's picture in 8-bit sRGB, with a longer side of at most `side` pixels."""
        self.round_of(record, number)
        path = self.folder(record) / f"screen{side}-{number}.jpg"
        if not path.exists():
            picture = self.picture(record, number)
            data = as_jpeg(resized(part_for_screen(picture, (0, 0, *picture.size[::-1])), side), SCREEN_QUALITY)
            self._write_file(path, data)
        return path

    def around(self, record: Record, number: int) -> Path:
        """A JPEG file of what a round changed and of what surrounds it; of the whole photo for the first."""
        box = self.round_of(record, number).box
        if box is None:
            return self.screen(record, number, _AROUND)
        path = self.folder(record) / f"screen{_AROUND}-{number}-part.jpg"
        if not path.exists():
            height, width = record.size
            margin = max(max(box[2] - box[0], box[3] - box[1]) // 2, _LEAST_AROUND)
            part = (
                max(box[0] - margin, 0),
                max(box[1] - margin, 0),
                min(box[2] + margin, width),
                min(box[3] + margin, height),
            )
            pixels = part_for_screen(self.picture(record, number), part)
            self._write_file(path, as_jpeg(resized(pixels, _AROUND), SCREEN_QUALITY))
        return path

    def add_round(self, record: Record, result: Picture, values: Round, changed: Mask) -> Round:
        """Keep a removal's result as a new round.

        Args:
            record: of the photo.
            result: the picture after the removal.
            values: of the round; number and box are set here.
            changed: (H,W), true where the picture may have changed.
        """
        box = box_of(changed)
        with self._writing[record.id]:
            number = len(record.rounds)
            made = replace(values, number=number, box=box)
            if box is not None:
                self._write_file(self._patch(record, number), patch_of(result, changed))
            self._change(record, replace(record, rounds=[*record.rounds, made]))
        self._decoded.keep(record.id, number, result)
        return made

    def note_saved(self, record: Record, number: int, path: Path) -> None:
        """Note the file that a round was also written to."""
        self._note(record, number, saved=path.name)

    def note_faults(self, record: Record, number: int, faults: float) -> None:
        """Note how much a round's fill differs from the photo around it."""
        self._note(record, number, faults=faults)

    def delete_round(self, record: Record, number: int) -> None:
        """Take a round out of the history, with its files where no other round builds on it.

        Raises:
            Problem: it is the photo as it came.
        """
        if number == 0:
            raise Problem(CONFLICT, "The photo as it came cannot be deleted alone; delete the photo.")
        with self._writing[record.id]:
            self._note(record, self.round_of(record, number).number, gone=True)
            needed: set[int | None] = set()
            for made in record.rounds:
                above: int | None = None if made.gone else made.number
                while above is not None and above not in needed:
                    needed.add(above)
                    above = record.rounds[above].parent
            for made in record.rounds:
                if made.gone:
                    for path in self.folder(record).glob(f"screen*-{made.number}[.-]*"):
                        path.unlink(missing_ok=True)
                if made.number not in needed:
                    self._patch(record, made.number).unlink(missing_ok=True)
        self._decoded.forget(record.id)

    def add_mask(self, record: Record, mask: Mask) -> str:
        """Keep a mask of a photo; gives its id."""
        if len(record.masks) >= 10 * self._limits.rounds:
            raise Problem(TOO_MANY, "The photo has too many masks; open it anew.")
        name = new_id()
        self._write_file(self.folder(record) / f"mask-{name}.png", mask_file(mask))
        with self._writing[record.id]:
            self._change(record, replace(record, masks=[*record.masks, name]))
        return name

    def mask_path(self, record: Record, name: str) -> Path:
        """The file of a mask.

        Raises:
            Problem: the photo has no mask of this id.
        """
        if name not in record.masks:
            raise Problem(NOT_FOUND, "There is no such mask here (any more).")
        return self.folder(record) / f"mask-{name}.png"

    def mask(self, record: Record, name: str) -> Mask:
        """A mask that was kept, (H,W)."""
        blank = Picture(np.broadcast_to(np.zeros(1, np.uint8), (*record.size, 1)))  # its size is all that counts
        return read_mask(self.mask_path(record, name), blank, MaskOptions()).mask

    def losses(self, record: Record, suffixes: list[str]) -> dict[str, list[str]]:
        """For each suffix, what the photo would lose in such a file, a line each."""
        picture = self.picture(record, 0)
        return {suffix: losses_in(picture, self.original(record).with_suffix(suffix)) for suffix in suffixes}

    def _patch(self, record: Record, number: int) -> Path:
        return self.folder(record) / f"round{number}.npz"

    def _note(self, record: Record, number: int, **known: Any) -> None:
        """Change what is known of a round."""
        with self._writing[record.id]:
            rounds = list(record.rounds)
            rounds[number] = replace(rounds[number], **known)
            self._change(record, replace(record, rounds=rounds))

    def _change(self, record: Record, changed: Record) -> None:
        """Change a record on disk first, and in memory only where that succeeds; under the photo's lock."""
        if record.id in self._records:
            changed.write(self.folder(record))
        record.rounds, record.masks = changed.rounds, changed.masks
