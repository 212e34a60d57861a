"""Photos of visitors on this server: taken in, found again, and forgotten in time."""

from __future__ import annotations

import contextlib
import logging
import shutil
import threading
import time
from collections import defaultdict
from contextlib import contextmanager
from dataclasses import replace
from typing import TYPE_CHECKING

from refiner.errors import RefinerError
from refiner.files import write_atomic
from refiner.images.reading import read_picture, read_size
from refiner.web.decoded import Decoded
from refiner.web.problems import FULL, NOT_FOUND, TOO_LARGE, TOO_MANY, UNPROCESSABLE, Problem, in_words
from refiner.web.records import Record, new_id, read_record, safe_name, safe_suffix

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from refiner.images.picture import Picture
    from refiner.web.limits import Limits
    from refiner.web.workspace import Workspace

_DRAWING = 2  # masks drawn at a time, each of which takes two bytes a pixel
_log = logging.getLogger(__name__)


class Photos:
    """All photos of all visitors; safe to use from several threads.

    Args:
        workspace: where the photos lie.
        limits: on what is kept.

    Attributes:
        drawing: held while a mask is drawn.
        wanted: gives the ids of photos that must not expire, as jobs wait for them.
    """

    def __init__(self, workspace: Workspace, limits: Limits) -> None:
        self._workspace = workspace
        self._limits = limits
        # Held for a moment only, since the event loop takes it too; writing to disk has a lock for each photo.
        self._lock = threading.Lock()
        self._writing: defaultdict[str, threading.RLock] = defaultdict(threading.RLock)
        self._decoding = threading.Lock()  # one at a time: a decoded photo can be a gigabyte
        self._decoded = Decoded(limits.picture_bytes)
        self._busy: dict[str, int] = {}
        self._reserved = 0
        self._records: dict[str, Record] = {}
        self.wanted: Callable[[], set[str]] = set
        self.drawing = threading.BoundedSemaphore(_DRAWING)
        self._add_found(workspace.photos)

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

    def check_photos(self, owner: str) -> None:
        """Refuse a further photo of a visitor who has too many.

        Raises:
            Problem: the visitor has.
        """
        if len(self.photos_of(owner)) >= self._limits.photos:
            raise Problem(TOO_MANY, f"You have {self._limits.photos} photos here; remove one first.")

    @contextmanager
    def room(self, size: int) -> Iterator[None]:
        """Reserve space on disk for what is written in the block.

        Raises:
            Problem: the server's share of the disk is used up.
        """
        self.reserve(size)
        try:
            yield
        finally:
            self.release(size)

    def reserve(self, size: int) -> None:
        """As `room`, until `release`; for what cannot wait for the disk."""
        with self._lock:
            self._reserved += size
        if self._fits():
            return
        self.expire()
        if not self._fits():
            self.release(size)
            raise Problem(FULL, "The server's share of the disk is used up; delete photos here, or try later.")

    def release(self, size: int) -> None:
        """Let go of reserved space: it is taken by files now, or not needed."""
        with self._lock:
            self._reserved -= size

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
        folder = None
        try:
            with self._decoding:
                self._check_pixels(named, name)
                picture = replace(read_photo(named, name), name=name)
            record = Record(new_id(), owner, name, safe_suffix(name), picture.size, picture.mode, picture.bits, None)
            record.format, record.used = picture.format, time.time()
            record.notes = [line for line in (_depth_note(picture),) if line]
            record.beside = None if beside is None else str(beside)
            folder = self.folder(record)
            folder.mkdir()
            named.rename(self.original(record))
            record.write(folder)
        except BaseException:
            named.unlink(missing_ok=True)
            if folder is not None:
                shutil.rmtree(folder, ignore_errors=True)
            raise
        self._decoded.keep(record.id, 0, picture)
        with self._lock:
            self._records[record.id] = record
        return record

    def folder(self, record: Record) -> Path:
        """The folder of a photo."""
        return self._workspace.folder / record.id

    def original(self, record: Record) -> Path:
        """A photo's uploaded file."""
        return self.folder(record) / f"original{record.suffix}"

    def remove(self, record: Record) -> None:
        """Forget a photo, its rounds and its masks; its files go once no work needs them."""
        with self._lock:
            self._records.pop(record.id, None)
            busy = self._busy.get(record.id, 0) > 0
        self._decoded.forget(record.id)
        if not busy:
            self._remove_files(record)

    def expire(self) -> None:
        """Forget photos that nobody asked for during `Limits.keep_seconds`."""
        before, wanted = time.time() - self._limits.keep_seconds, self.wanted()
        with self._lock:
            old = [
                record
                for record in self._records.values()
                if record.used < before and record.id not in wanted and not self._busy.get(record.id)
            ]
        for record in old:
            self.remove(record)

    def take_over(self) -> None:
        """Take in the photos of servers that have ended."""
        self._workspace.give_sign()
        self._add_found(self._workspace.take_over())

    def drop_idle(self, seconds: float) -> bool:
        """Drop decoded pictures that nobody used for so long; gives whether there were any."""
        return self._decoded.drop_idle(seconds)

    @contextmanager
    def in_use(self, record: Record) -> Iterator[None]:
        """Keep a photo's files from being removed while the block runs.

        Raises:
            Problem: the photo was forgotten already.
        """
        with self._lock:
            if record.id not in self._records:
                raise Problem(NOT_FOUND, "The photo was deleted meanwhile.")
            self._busy[record.id] = self._busy.get(record.id, 0) + 1
        try:
            yield
        finally:
            with self._lock:
                self._busy[record.id] -= 1
                free = not self._busy[record.id]
                if free:
                    del self._busy[record.id]
                record.used = time.time()
                forgotten = record.id not in self._records
            if free and forgotten:
                self._decoded.forget(record.id)
                self._remove_files(record)

    def _check_pixels(self, file: Path, name: str) -> None:
        height, width = read_size(file)
        megapixels = height * width / 1e6
        if megapixels > self._limits.megapixels:
            raise Problem(
                TOO_LARGE,
                f"{name}: has {megapixels:.0f} megapixels, this server takes up to {self._limits.megapixels:g}.",
            )

    def _write_file(self, path: Path, data: bytes) -> None:
        with self.room(len(data)):
            write_atomic({path: data})

    def _fits(self) -> bool:
        return self._workspace.used_bytes() + self._reserved <= self._limits.disk_bytes

    def _add_found(self, folders: list[Path]) -> None:
        found = [record for record in map(read_record, folders) if record is not None]
        with self._lock:
            self._records.update({record.id: record for record in found})

    def _remove_files(self, record: Record) -> None:
        self._writing.pop(record.id, None)
        with contextlib.suppress(FileNotFoundError):
            try:
                shutil.rmtree(self.folder(record))
            except OSError as error:
                if self.folder(record).exists():
                    _log.warning("%s", error)


def read_photo(file: Path, name: str) -> Picture:
    """Read a photo's picture; an error calls the photo by the visitor's name for it."""
    try:
        return read_picture(file)
    except RefinerError as error:
        raise Problem(UNPROCESSABLE, in_words(error).replace(str(file), name)) from error


def _depth_note(picture: Picture) -> str | None:
    if picture.stored_depth is None:
        return None
    return f"{picture.name}: holds {picture.stored_depth} bits a channel, of which {picture.depth} were read."
