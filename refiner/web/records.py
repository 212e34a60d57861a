"""What the server knows of a photo, in plain values that lie beside it on disk."""

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
        parent: the round it started from; None for round 0.
        mask: id of the mask as it was drawn.
        grow: pixels it was grown by.
        feather: pixels it was blended over.
        box: left, top, right and bottom of what changed; None where nothing did.
        seconds: the work took.
        stopped: whether it was ended early.
        saved: the file it was also written to.
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


@dataclass
class Record:
    """A photo on the server.

    Attributes:
        id: by which it is asked for; cannot be guessed.
        owner: visitor whose it is.
        name: of its file, for people; never a path.
        suffix: of the file as it lies here.
        size: height and width in pixels.
        mode: see `Picture.mode`.
        depth: bits a channel.
        format: of its file; None where it has no name here.
        notes: what could not be read of it, a line each.
        beside: the file it was opened from on this machine, where results go beside it.
        rounds: by number.
        masks: ids of masks.
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

    def write(self, folder: Path) -> None:
        """Put it beside the photo."""
        write_atomic({folder / _FILE: json.dumps(asdict(self)).encode()})


def read_record(folder: Path) -> Record | None:
    """The record in a folder; None where there is none that can be read."""
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
    """A file name for people to read and to download by, from whatever a client calls its file: no folders in it."""
    name = _UNFIT.sub("_", given.replace("\\", "/").rsplit("/", 1)[-1]).strip(" .")
    stem, dot, suffix = name.rpartition(".")
    return f"{stem[:_NAME_LENGTH]}{dot}{suffix[:8]}" if stem else (name[:_NAME_LENGTH] or "photo")


def safe_suffix(name: str) -> str:
    """What a file's name ends in, where that is plain; by it some formats are told apart."""
    match = re.search(r"\.[A-Za-z0-9]{1,8}$", name)
    return match[0].lower() if match else ""
