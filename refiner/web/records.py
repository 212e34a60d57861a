"""What the server knows of a photo, kept as JSON beside it on disk."""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from refiner.files import write_atomic

if TYPE_CHECKING:
    from pathlib import Path

_FILE = "photo.json"
_NAME_LENGTH = 120
_UNFIT = re.compile(r'[\x00-\x1f\x7f<>:"/\\|?*]+')


@dataclass(frozen=True)
class Round:
    """The photo after one removal; round 0 is the photo as it came.

    Attributes:
        number: from 0.
        parent: number of the round it started from; None for round 0.
        mask: id of the mask as it was drawn.
        grow: pixels the mask was grown by.
        feather: pixels the fill was blended over.
        box: left, top, right and bottom of the changed part; None where nothing changed.
        seconds: how long the work took.
        stopped: whether the work was ended early.
        saved: name of the file that the round was also written to; None for none.
        asked: what was chosen for it: model, preset, device and settings, by name.
        variant_of: number of the round that this is another fill of; None for the first fill.
        faults: how much the fill differs from the photo around it, see `refiner.engine.judge`; None where not known.
        copied: whether most of the fill was copied from the photo, and not made by the network.
        gone: whether it was deleted; numbers stay what they are.
    """

    number: int
    parent: int | None = None
    mask: str | None = None
    grow: int = 0
    feather: int = 0
    box: tuple[int, int, int, int] | None = None
    seconds: float = 0
    stopped: bool = False
    saved: str | None = None
    asked: dict[str, Any] = field(default_factory=dict)
    variant_of: int | None = None
    faults: float | None = None
    copied: bool = False
    gone: bool = False


@dataclass
class Record:
    """A photo on the server.

    Attributes:
        id: names the photo in requests; cannot be guessed.
        owner: the visitor.
        name: of the uploaded file, for people; never a path.
        suffix: of the file in the server's folder.
        size: height and width in pixels.
        mode: see `Picture.mode`.
        depth: bits a channel.
        format: name of the file's format, see `Picture.format`; None where it is not known.
        notes: what could not be read of the photo, a line each.
        beside: the file on this machine that results are saved beside; None for none.
        rounds: by number.
        masks: ids of its masks.
        used: when somebody last asked for it, in seconds since 1970.
    """

    id: str
    owner: str
    name: str
    suffix: str
    size: tuple[int, int]
    mode: str
    depth: int
    format: str | None
    notes: list[str] = field(default_factory=list)
    beside: str | None = None
    rounds: list[Round] = field(default_factory=lambda: [Round(0)])
    masks: list[str] = field(default_factory=list)
    used: float = 0

    @property
    def last(self) -> int:
        """Number of the last round that was not deleted."""
        return next(made.number for made in reversed(self.rounds) if not made.gone)

    def first_fill(self, number: int) -> int:
        """Number of the first fill of a round's hole."""
        first = self.rounds[number].variant_of
        return number if first is None else first

    def write(self, folder: Path) -> None:
        """Write the record into the photo's folder."""
        write_atomic({folder / _FILE: json.dumps(asdict(self)).encode()})


def read_record(folder: Path) -> Record | None:
    """The record in a photo's folder; None where it is missing or cannot be read."""
    try:
        values: dict[str, Any] = json.loads((folder / _FILE).read_text(encoding="utf-8"))
        rounds = [Round(**{**given, "box": given["box"] and tuple(given["box"])}) for given in values["rounds"]]
        return Record(**{**values, "size": tuple(values["size"]), "rounds": rounds})
    except (OSError, ValueError, TypeError, KeyError):
        return None


def new_id() -> str:
    """An id that nobody can guess: 128 bits."""
    return secrets.token_urlsafe(16)


def safe_name(given: str) -> str:
    """A file name to show and to download by, made safe from the name that a client gives: without folders."""
    name = _UNFIT.sub("_", given.replace("\\", "/").rsplit("/", 1)[-1]).strip(" .")
    stem, dot, suffix = name.rpartition(".")
    return f"{stem[:_NAME_LENGTH]}{dot}{suffix[:8]}" if stem else (name[:_NAME_LENGTH] or "photo")


def safe_suffix(name: str) -> str:
    """A file name's suffix, which tells some formats apart; empty where it is not 1 to 8 letters and digits."""
    match = re.search(r"\.[A-Za-z0-9]{1,8}$", name)
    return match[0].lower() if match else ""
