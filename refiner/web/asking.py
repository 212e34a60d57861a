"""Read requests within limits, every value checked: uploads, JSON, and the marks of a mask."""

from __future__ import annotations

import json
import math
from typing import TYPE_CHECKING, Any

from starlette.concurrency import run_in_threadpool

from refiner.images.drawing import Area, Stamp, Stroke, drawn
from refiner.web.clicked import Click
from refiner.web.problems import BAD_REQUEST, NOT_FOUND, TOO_LARGE, UNPROCESSABLE, Problem
from refiner.web.removal import Removal

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator, Mapping
    from pathlib import Path

    from starlette.requests import Request

    from refiner.images.drawing import Mark, Points
    from refiner.images.planes import Mask
    from refiner.web.limits import Limits
    from refiner.web.offer import Offer
    from refiner.web.records import Record
    from refiner.web.store import Store

_FARTHEST = 1_000_000  # pixels; larger coordinates are clipped to this
_LARGEST = 2**53  # whole numbers beyond it are no numbers in JSON's own language
_WIDEST = 4000  # largest diameter of a brush in pixels
_MOST_GROWTH = 500
_MOST_CLICKS = 100
_MOST_PAINT = 10**10  # pixels, counted anew at each point: some ten seconds of drawing
_CHOICES = ("model", "preset", "device", "settings")


async def receive_file(request: Request, path: Path, limit: int) -> None:
    """Write a request's body to a file; an upload that breaks off leaves no file.

    Raises:
        Problem: the body is empty, or has more bytes than the limit.
    """
    _check_length(request, limit)
    whole = False
    try:
        with path.open("wb") as file:
            async for chunk in _chunks(request, limit):
                file.write(chunk)
            whole = file.tell() > 0
    finally:
        if not whole:
            await run_in_threadpool(path.unlink, missing_ok=True)
    if not whole:
        raise Problem(BAD_REQUEST, "The upload is empty; expected the photo's bytes as the request's body.")


def told_size(request: Request, limit: int) -> int:
    """The bytes of a request's body as it tells them; the most there can be where it does not."""
    told = request.headers.get("content-length", "")
    return min(int(told), limit) if told.isdecimal() and len(told) <= len(str(limit)) else limit


async def receive_json(request: Request, limit: int) -> dict[str, Any]:
    """A request's JSON body; {} where it is empty.

    Raises:
        Problem: the body is no JSON object, or has more bytes than the limit.
    """
    _check_length(request, limit)
    body = b"".join([chunk async for chunk in _chunks(request, limit)])
    try:
        values = json.loads(body or b"{}")
    except (ValueError, RecursionError):
        raise Problem(BAD_REQUEST, "The request's body is not JSON.") from None
    if not isinstance(values, dict):
        raise Problem(BAD_REQUEST, "The request's body: expected a JSON object.")
    return values


def whole_number(asked: Mapping[str, Any], name: str, default: int, most: int) -> int:
    """The whole number, from 0 to `most`, that a request gives under a name.

    Raises:
        Problem: the value is no such number.
    """
    value = asked.get(name, default)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= most:
        raise Problem(UNPROCESSABLE, f"{name}: expected a whole number from 0 to {most}, got {value!r:.40}.")
    return value


def mask_of(asked: Mapping[str, Any], store: Store, record: Record, limits: Limits) -> Mask:
    """The mask (H,W) that a request's `marks` draw.

    Raises:
        Problem: a mark is not as the API describes it.
    """
    marks = asked.get("marks")
    if not isinstance(marks, list):
        raise Problem(UNPROCESSABLE, "marks: expected a list of what was drawn.")
    _check_marks(marks, max(record.size), limits)
    with store.drawing:  # one mask after the other is read, drawn and let go of
        return drawn(_marks(marks, store, record), record.size)


def removal_of(asked: Mapping[str, Any], store: Store, record: Record, limits: Limits, offer: Offer) -> Removal:
    """The removal that a request asks for.

    Raises:
        Problem: a value is not as the API describes it.
        SettingsError: a setting is out of range.
    """
    number = whole_number(asked, "round", record.last, 10**6)
    parent = store.round_of(record, number).number
    grow, feather = (whole_number(asked, name, 0, _MOST_GROWTH) for name in ("grow", "feather"))
    choice = offer.choose(asked)
    chosen = {name: asked[name] for name in _CHOICES if asked.get(name)}
    return Removal(parent, mask_of(asked, store, record, limits), grow, feather, choice, chosen)


def clicks_of(asked: Mapping[str, Any]) -> list[Click]:
    """The clicks that a request gives.

    Raises:
        Problem: a click is not as the API describes it.
    """
    given = asked.get("clicks")
    if not isinstance(given, list) or not given or len(given) > _MOST_CLICKS:
        raise Problem(UNPROCESSABLE, f"clicks: expected a list of up to {_MOST_CLICKS} places.")
    clicks = []
    for click in given:
        place = [click.get("x"), click.get("y")] if isinstance(click, dict) else [None]
        if not all(map(_is_number, place)) or not isinstance(click.get("plus", True), bool):
            raise Problem(UNPROCESSABLE, "clicks: expected objects with x and y, and with plus as true or false.")
        x, y = (max(0.0, min(_FARTHEST, float(click[name]))) for name in ("x", "y"))
        clicks.append(Click(x, y, click.get("plus", True)))
    return clicks


def _check_marks(marks: list[Any], side: int, limits: Limits) -> None:
    points = paint = masks = 0
    for mark in marks:
        if not isinstance(mark, dict):
            raise Problem(UNPROCESSABLE, "marks: expected objects with a kind.")
        own = mark.get("points")
        own_points = len(own) // 2 if isinstance(own, list) else 0
        points += own_points + 1
        if _is_number(mark.get("size")):
            paint += own_points * int(min(mark["size"], side)) ** 2
        masks += mark.get("kind") == "mask"
    if points > limits.marks or paint > _MOST_PAINT:
        raise Problem(
            TOO_LARGE,
            f"marks: more than {limits.marks} points, or too much paint; save the mask as a file and load it.",
        )
    if masks > limits.stamps:
        raise Problem(TOO_LARGE, f"marks: more than {limits.stamps} masks; save them as one file and load it.")


def _marks(marks: list[Any], store: Store, record: Record) -> Iterator[Mark]:
    """Each mark, checked when its turn comes."""
    for mark in marks:
        yield _mark(mark, store, record)


def _mark(mark: Mapping[str, Any], store: Store, record: Record) -> Mark:
    kind, erase = mark.get("kind"), mark.get("erase", False) is True
    if kind == "stroke":
        size = mark.get("size")
        if not isinstance(size, (int, float)) or not _is_number(size) or not 0 < size <= _WIDEST:
            raise Problem(UNPROCESSABLE, f"marks: a stroke's size: expected up to {_WIDEST} pixels, got {size!r:.40}.")
        return Stroke(_points(mark), float(size), erase)
    if kind == "area":
        return Area(_points(mark), erase)
    if kind == "mask":
        name = mark.get("id")
        if not isinstance(name, str):
            raise Problem(NOT_FOUND, "marks: a mask needs the id of one that was made before.")
        return Stamp(store.mask(record, name), erase)
    raise Problem(UNPROCESSABLE, f"marks: kind {kind!r:.40}: expected stroke, area or mask.")


def _points(mark: Mapping[str, Any]) -> Points:
    values = mark.get("points")
    if not isinstance(values, list) or not values or len(values) % 2 or not all(map(_is_number, values)):
        raise Problem(UNPROCESSABLE, "marks: points: expected numbers x, y, x, y and so on.")
    clipped = [max(-_FARTHEST, min(_FARTHEST, float(value))) for value in values]
    return tuple(zip(clipped[::2], clipped[1::2], strict=True))


def _is_number(value: object) -> bool:
    if not isinstance(value, (int, float)) or isinstance(value, bool):
        return False
    return abs(value) <= _LARGEST if isinstance(value, int) else math.isfinite(value)


async def _chunks(request: Request, limit: int) -> AsyncIterator[bytes]:
    total = 0
    async for chunk in request.stream():
        total += len(chunk)
        if total > limit:
            raise _too_large(limit)
        yield chunk


def _check_length(request: Request, limit: int) -> None:
    length = request.headers.get("content-length", "0")
    if not length.isdecimal():
        raise Problem(BAD_REQUEST, "content-length: expected a number.")
    if int(length) > limit:
        raise _too_large(limit)


def _too_large(limit: int) -> Problem:
    return Problem(TOO_LARGE, f"The upload has more than {limit / 1e6:.0f} MB, which is the most this server takes.")
