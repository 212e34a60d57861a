"""Photos on the server: the uploaded file as it came, and the changed pixels of each round.

A round's picture is its parent's picture with the changed pixels in it, in the photo's own mode and depth. So nothing
is encoded or decoded between removals.
"""

from __future__ import annotations

import shutil
import threading
import time
from collections import OrderedDict
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from refiner.errors import RefinerError
from refiner.files import write_atomic
from refiner.images.drawing import box_of, mask_file
from refiner.images.masks import MaskOptions, read_mask
from refiner.images.reading import read_picture, read_size
from refiner.images.screen import as_jpeg, part_for_screen, resized
from refiner.images.writing import losses_in
from refiner.web.problems import CONFLICT, FULL, NOT_FOUND, TOO_LARGE, TOO_MANY, UNPROCESSABLE, Problem, in_words
from refiner.web.records import Record, Round, new_id, read_record, safe_name, safe_suffix

PREVIEW = 2048  # longer side in pixels
SCREEN_QUALITY = 90  # of JPEGs that are only looked at

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from refiner.images.picture import Picture
    from refiner.images.planes import Mask
    from refiner.web.limits import Limits
    from refiner.web.workspace import Workspace


class Store:
    """All photos of all visitors; safe to use from several threads.

    Args:
        workspace: where the photos lie.
        limits: on what is kept.
    """

    def __init__(self, workspace: Workspace, limits: Limits) -> None:
        self._workspace = workspace
        self._limits = limits
        self._lock = threading.RLock()
        self._decoding = threading.Lock()  # one at a time: a decoded photo can be a gigabyte
        self._pictures: OrderedDict[tuple[str, int], Picture] = OrderedDict()
        self._busy: dict[str, int] = {}
        found = (read_record(folder) for folder in workspace.photos)
        self._records = {record.id: record for record in found if record is not None}

    def photos_of(self, owner: str) -> list[Record]:
        """A visitor's photos, the last used first."""
        with self._lock:
            own = [record for record in self._records.values() if record.owner == owner]
        return sorted(own, key=lambda record: -record.used)

    def get(self, photo: str, owner: str) -> Record:
        """A visitor's photo.

        Raises:
            Problem: there is no photo of this id, or it is another visitor's; the answer does not tell which.
        """
        with self._lock:
            record = self._records.get(photo)
            if record is None or record.owner != owner:
                raise Problem(NOT_FOUND, "There is no such photo here (any more); open it again.")
            record.used = time.time()
            return record

    def round_of(self, record: Record, number: int) -> Round:
        """One of a photo's rounds.

        Raises:
            Problem: the photo has no round of this number.
        """
        if not 0 <= number < len(record.rounds):
            raise Problem(NOT_FOUND, f"The photo has no round {number}.")
        return record.rounds[number]

    def check_room(self, owner: str, size: int) -> None:
        """Refuse an upload that there is no room for.

        Args:
            owner: the visitor who uploads.
            size: of the upload in bytes; 0 where it is not known.

        Raises:
            Problem: the visitor has too many photos, or the disk share is used up.
        """
        if len(self.photos_of(owner)) >= self._limits.photos:
            raise Problem(TOO_MANY, f"You have {self._limits.photos} photos here; remove one first.")
        if self._workspace.used_bytes() + size > self._limits.disk_bytes:
            self.expire()
            if self._workspace.used_bytes() + size > self._limits.disk_bytes:
                raise Problem(FULL, "The server's share of the disk is used up; try again later.")

    def incoming(self) -> Path:
        """A new path to write an upload to; the caller removes the file."""
        return self._workspace.folder / f"{new_id()}.part"

    def add(self, file: Path, name: str, owner: str, *, beside: Path | None = None) -> Record:
        """Take in a photo.

        Args:
            file: the uploaded file, which is moved in.
            name: the name that the visitor gives it.
            owner: the visitor.
            beside: the file on this machine that results are saved beside; None for none.

        Raises:
            Problem: the photo has too many pixels or cannot be read.
        """
        name = safe_name(name)
        named = file.with_name(f"original{new_id()}{safe_suffix(name)}")
        file.rename(named)
        try:
            with self._decoding:
                self._check_pixels(named, name)
                picture = replace(_read(named, name), name=name)
            record = Record(new_id(), owner, name, safe_suffix(name), picture.size, picture.mode, picture.depth, None)
            record.format, record.used = picture.format, time.time()
            record.notes = [line for line in (_depth_note(picture),) if line]
            record.beside = None if beside is None else str(beside)
            folder = self.folder(record)
            folder.mkdir()
            named.rename(self.original(record))
        except BaseException:
            named.unlink(missing_ok=True)
            raise
        record.write(folder)
        with self._lock:
            self._records[record.id] = record
            self._keep((record.id, 0), picture)
        return record

    def folder(self, record: Record) -> Path:
        """The folder of a photo."""
        return self._workspace.folder / record.id

    def original(self, record: Record) -> Path:
        """A photo's uploaded file."""
        return self.folder(record) / f"original{record.suffix}"

    def picture(self, record: Record, number: int) -> Picture:
        """The decoded picture of a round."""
        key = record.id, number
        with self._lock:
            if key in self._pictures:
                self._pictures.move_to_end(key)
                return self._pictures[key]
        made = self.round_of(record, number)
        if made.parent is None:
            with self._decoding:
                picture = replace(_read(self.original(record), record.name), name=record.name)
        else:
            picture = self.picture(record, made.parent)
            if made.box is not None:
                color = picture.color.copy()
                left, top, right, bottom = made.box
                color[top:bottom, left:right] = np.load(self._patch(record, number))
                picture = replace(picture, color=color)
        with self._lock:
            self._keep(key, picture)
        return picture

    def screen(self, record: Record, number: int, side: int = PREVIEW) -> Path:
        """A JPEG file of a round's picture in 8-bit sRGB, with a longer side of at most `side` pixels."""
        path = self.folder(record) / f"screen{side}-{number}.jpg"
        if not path.exists():
            picture = self.picture(record, number)
            pixels = resized(part_for_screen(picture, (0, 0, *picture.size[::-1])), side)
            write_atomic({path: as_jpeg(pixels, SCREEN_QUALITY)})
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
        with self._lock:
            number = len(record.rounds)
            if box is not None:
                left, top, right, bottom = box
                np.save(self._patch(record, number), result.color[top:bottom, left:right])
            made = replace(values, number=number, box=box)
            record.rounds.append(made)
            record.used = time.time()
            self._write(record)
            self._keep((record.id, number), result)
        return made

    def note_saved(self, record: Record, number: int, path: Path) -> None:
        """Note the file that a round was also written to."""
        with self._lock:
            record.rounds[number] = replace(record.rounds[number], saved=path.name)
            self._write(record)

    def add_mask(self, record: Record, mask: Mask) -> str:
        """Keep a mask of a photo; gives its id."""
        if len(record.masks) >= 10 * self._limits.rounds:
            raise Problem(TOO_MANY, "The photo has too many masks; open it anew.")
        name = new_id()
        (self.folder(record) / f"mask-{name}.png").write_bytes(mask_file(mask))
        with self._lock:
            record.masks.append(name)
            self._write(record)
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
        path = self.mask_path(record, name)
        return read_mask(path, self.picture(record, 0), MaskOptions()).mask

    def losses(self, record: Record, suffixes: list[str]) -> dict[str, list[str]]:
        """For each suffix, what the photo would lose in such a file, a line each."""
        picture = self.picture(record, 0)
        return {suffix: losses_in(picture, self.original(record).with_suffix(suffix)) for suffix in suffixes}

    def remove(self, record: Record) -> None:
        """Forget a photo, its rounds and its masks.

        Raises:
            Problem: a job works on the photo.
        """
        with self._lock:
            if self._busy.get(record.id):
                raise Problem(CONFLICT, "The photo is being worked on; cancel that first.")
            self._records.pop(record.id, None)
            for key in [key for key in self._pictures if key[0] == record.id]:
                del self._pictures[key]
        shutil.rmtree(self.folder(record), ignore_errors=True)

    def expire(self) -> None:
        """Forget photos that nobody asked for during `Limits.keep_seconds`."""
        before = time.time() - self._limits.keep_seconds
        with self._lock:
            old = [record for record in self._records.values() if record.used < before]
        for record in old:
            if not self._busy.get(record.id):
                self.remove(record)

    @contextmanager
    def in_use(self, record: Record) -> Iterator[None]:
        """Keep a photo from being removed while the block runs."""
        with self._lock:
            self._busy[record.id] = self._busy.get(record.id, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._busy[record.id] -= 1
                record.used = time.time()

    def _check_pixels(self, file: Path, name: str) -> None:
        height, width = read_size(file)
        megapixels = height * width / 1e6
        if megapixels > self._limits.megapixels:
            raise Problem(
                TOO_LARGE,
                f"{name}: has {megapixels:.0f} megapixels, this server takes up to {self._limits.megapixels:g}.",
            )

    def _patch(self, record: Record, number: int) -> Path:
        return self.folder(record) / f"round{number}.npy"

    def _write(self, record: Record) -> None:
        if record.id in self._records:
            record.write(self.folder(record))

    def _keep(self, key: tuple[str, int], picture: Picture) -> None:
        """Keep a decoded picture in memory; beyond the limit, drop those used longest ago."""
        self._pictures[key] = picture
        self._pictures.move_to_end(key)
        total = sum(kept.color.nbytes for kept in self._pictures.values())
        while total > self._limits.picture_bytes and len(self._pictures) > 1:
            _, dropped = self._pictures.popitem(last=False)
            total -= dropped.color.nbytes


def _read(file: Path, name: str) -> Picture:
    """Read a photo's picture; an error calls the photo by the visitor's name for it."""
    try:
        return read_picture(file)
    except RefinerError as error:
        raise Problem(UNPROCESSABLE, in_words(error).replace(str(file), name)) from error


def _depth_note(picture: Picture) -> str | None:
    if picture.stored_depth is None:
        return None
    return f"{picture.name}: holds {picture.stored_depth} bits a channel, of which {picture.depth} were read."
