"""What a result was made from: photo, mask, model and options. By it a stopped batch knows which results still hold."""

from __future__ import annotations

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping

    from refiner.batch.work import Work
    from refiner.images.pairs import Pair

_BLOCK = 1 << 20  # bytes read at a time
_SHOWN = 12  # characters of a checksum in a message
_NOT_SAID = "unknown"  # where a line of the report lacks a value


class Origins:
    """Tells what each result of a batch is made from, as the photo's line of the report has it.

    Args:
        work: what is done to every photo; the checksums of its model and weights are taken now.
    """

    def __init__(self, work: Work) -> None:
        self._work = work
        self._model = {"model": sha256_of(_file_of(work.model)), "weights": sha256_of(work.weights)}

    def of(self, pair: Pair) -> dict[str, Any]:
        """What a pair's result is made from, in plain values; reads photo and mask for their checksums."""
        work, target = self._work, self._work.target(pair)
        return {
            "image": str(pair.image),
            "mask": None if pair.mask is None else str(pair.mask),
            "model": work.model,
            "weights": None if work.weights is None else str(work.weights),
            "sha256": {"image": sha256_of(pair.image), "mask": sha256_of(pair.mask), **self._model},
            "format": target.suffix,
            "quality": work.quality_of(target),
            "page": work.page,
            "mask_options": asdict(work.mask_options),
            "settings": asdict(work.settings),
        }


def difference(before: Mapping[str, Any], now: Mapping[str, Any]) -> tuple[str, str, str] | None:
    """What the user chose otherwise than before: the first such thing, and its values before and now; None if nothing.

    A file is the same where its content is, wherever it lies. A photo or mask that was edited where it lies is no
    other choice, see `is_edited`. What a line does not say counts as different.

    Args:
        before: a photo's line of the report.
        now: the origin that its result would have now.
    """
    old, new = _options(before), _options(now)
    for name in [*new, *(name for name in old if name not in new)]:
        was, is_now = old.get(name, _NOT_SAID), new.get(name, _NOT_SAID)
        if was != is_now:
            return name, _shown(was), _shown(is_now)
    for name in ("model", "weights", "mask", "image"):
        path, checksum = before.get(name, _NOT_SAID), _checksum(before, name)
        path_now, checksum_now = now[name], _checksum(now, name)
        same_content = checksum == checksum_now and checksum is not None
        if path != path_now and not same_content:
            return name, _shown(path), _shown(path_now)
        if checksum != checksum_now and name in ("model", "weights"):
            return f"{name} of SHA-256", _shown(checksum)[:_SHOWN], _shown(checksum_now)[:_SHOWN]
    return None


def is_edited(before: Mapping[str, Any], now: Mapping[str, Any]) -> bool:
    """Whether the photo or its mask has another content than before.

    Args:
        before: a photo's line of the report.
        now: the origin that its result would have now.
    """
    return any(_checksum(before, name) != _checksum(now, name) for name in ("image", "mask"))


def sha256_of(path: Path | None) -> str | None:
    """The SHA-256 of a file; of a folder, that of its files and their names, hidden ones left out.

    None where there is no path, or nothing that can be read: who opens the file for the work says what is wrong.
    """
    if path is None:
        return None
    try:
        if not path.is_dir():
            return _sha256_of_file(path)
        digest = hashlib.sha256()
        for file in sorted(path.rglob("*")):
            name = file.relative_to(path)
            if file.is_file() and not any(part.startswith(".") for part in name.parts):
                digest.update(f"{name.as_posix()}\n{_sha256_of_file(file)}\n".encode())
        return digest.hexdigest()
    except OSError:
        return None


def _sha256_of_file(path: Path) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()


def _file_of(model: str) -> Path | None:
    """The file or folder of a model that is given by path, which is absolute in a batch."""
    return Path(model) if Path(model).is_absolute() else None


def _options(origin: Mapping[str, Any]) -> dict[str, Any]:
    """All options that decide a result, by name, with lists for tuples as JSON has them; memory decides none."""
    options = {**_mapping(origin, "mask_options"), **_mapping(origin, "settings")}
    options |= {name: origin[name] for name in ("format", "quality") if name in origin}
    options["page"] = origin.get("page")  # older reports have none, as no page could be chosen
    return {name: _plain(value) for name, value in options.items() if name != "memory"}


def _plain(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def _checksum(origin: Mapping[str, Any], name: str) -> Any:
    return _mapping(origin, "sha256").get(name, _NOT_SAID)


def _mapping(origin: Mapping[str, Any], name: str) -> dict[str, Any]:
    """A part of an origin; nothing where a damaged report has something else there."""
    part = origin.get(name)
    return part if isinstance(part, dict) else {}


def _shown(value: Any) -> str:
    return "none" if value is None else str(value)
