"""Photos of Unsplash-Lite to measure on: the same thousand for everybody.

    python -m benchmarks.unsplash photos.tsv000 OUT

The list is the data set's own file, which Unsplash gives to those who accept its terms
(https://github.com/unsplash/datasets). Photos are taken in the order of the SHA-256 of their ids, so the choice depends
on nothing else; holes drawn with `refiner masks OUT ...` depend on the ids and the seed.
"""

from __future__ import annotations

import csv
import hashlib
import http.client
import io
import sys
import time
import urllib.error
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click
from PIL import Image
from tqdm import tqdm

from refiner.errors import InputError, RefinerError
from refiner.files import make_folder, write_atomic

if TYPE_CHECKING:
    from collections.abc import Callable

_TRIES = 5
_TIMEOUT = 60  # seconds
_FAILURES = (urllib.error.URLError, http.client.HTTPException, OSError, ValueError, SyntaxError)
_GONE = (400, 403, 404, 410)  # HTTP codes that another try does not change


@dataclass(frozen=True)
class Photo:
    """A line of the list.

    Attributes:
        key: its id.
        url: of the photo; parameters choose the size.
        width: of the original.
        height: of the original.
    """

    key: str
    url: str
    width: int
    height: int

    def sized(self, size: int) -> str:
        """URL of the photo with a short side of `size`."""
        side = "h" if self.width >= self.height else "w"
        return f"{self.url}?fm=jpg&q=95&{side}={size}"


def read_list(path: Path) -> list[Photo]:
    """Read `photos.tsv000`.

    Raises:
        InputError: the file is missing or not that list.
    """
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
        photos = [
            Photo(row["photo_id"], row["photo_image_url"], int(row["photo_width"]), int(row["photo_height"]))
            for row in rows
        ]
    except (OSError, KeyError, ValueError, TypeError, csv.Error) as error:
        raise InputError(
            f"{path}: is not the photos.tsv000 of Unsplash-Lite ({type(error).__name__}: {error}); get it from "
            "https://github.com/unsplash/datasets."
        ) from error
    if not photos:
        raise InputError(f"{path}: lists no photos.")
    return photos


def sample(photos: list[Photo], count: int, size: int) -> list[Photo]:
    """The first `count` large enough photos in the order of their ids' hashes."""
    large = [photo for photo in photos if min(photo.width, photo.height) >= size]
    return sorted(large, key=lambda photo: hashlib.sha256(photo.key.encode()).digest())[:count]


def download(photo: Photo, folder: Path, size: int, *, pause: float = 1.0) -> str | None:
    """Download a photo, cropped to a square from its middle, unless it is there; gives the reason of a failure.

    Args:
        photo: the photo's line of the list.
        folder: for `ID.png`.
        size: side of the square.
        pause: seconds before the second try, twice as many before each further one.
    """
    target = folder / f"{photo.key}.png"
    if _is_there(target, size):
        return None
    reason = ""
    for number in range(_TRIES):
        if number:
            time.sleep(pause * 2 ** (number - 1))
        try:
            with urllib.request.urlopen(photo.sized(size), timeout=_TIMEOUT) as answer:  # noqa: S310  the list's own URLs
                data = answer.read()
                expected = answer.headers.get("Content-Length")
            if expected is not None and len(data) != int(expected):
                raise ValueError(f"{len(data)} of {expected} bytes came")
            write_atomic({target: _square(data, size)})
        except urllib.error.HTTPError as error:
            reason = f"HTTP {error.code}"
            if error.code in _GONE:
                break
        except _FAILURES as error:
            reason = str(error) or type(error).__name__
        else:
            return None
    return reason


def download_all(
    photos: list[Photo],
    folder: Path,
    size: int,
    on_photo: Callable[[], object],
    *,
    pause: float = 1.0,
    threads: int = 8,
) -> list[tuple[Photo, str]]:
    """Download photos in parallel; gives those that failed, with the reason."""
    make_folder(folder)

    def bring(photo: Photo) -> tuple[Photo, str | None]:
        reason = download(photo, folder, size, pause=pause)
        on_photo()
        return photo, reason

    with ThreadPoolExecutor(threads) as pool:
        return [(photo, reason) for photo, reason in pool.map(bring, photos) if reason is not None]


def _is_there(path: Path, size: int) -> bool:
    """Whether a photo was downloaded before, at this size."""
    try:
        with Image.open(path) as image:
            return bool(image.size == (size, size))
    except (OSError, ValueError, SyntaxError):
        return False


def _square(data: bytes, size: int) -> bytes:
    """The middle of a picture as PNG; raises where the picture is cut short or too small."""
    with Image.open(io.BytesIO(data)) as opened:
        image = opened.convert("RGB")
    if min(image.size) < size - 1:
        raise ValueError(f"is {image.width}x{image.height}, expected a short side of {size}")
    if min(image.size) < size:  # the server rounded down
        image = image.resize((max(image.width, size), max(image.height, size)), Image.Resampling.BICUBIC)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    buffer = io.BytesIO()
    image.crop((left, top, left + size, top + size)).save(buffer, "PNG")
    return buffer.getvalue()


@click.command(context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("tsv", metavar="photos.tsv000", type=click.Path(path_type=Path))
@click.argument("out", metavar="OUT", type=click.Path(path_type=Path))
@click.option("--count", type=click.IntRange(1), default=1000, show_default=True)
@click.option("--size", type=click.IntRange(16), default=1024, show_default=True, help="Side of the squares.")
def main(tsv: Path, out: Path, count: int, size: int) -> None:
    """Bring photos of Unsplash-Lite; run again, it goes on where it stopped."""
    try:
        chosen = sample(read_list(tsv), count, size)
        with tqdm(total=len(chosen), unit="photo", disable=not sys.stderr.isatty()) as bar:
            failed = download_all(chosen, out, size, bar.update)
    except RefinerError as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(2) from error
    for photo, reason in failed:
        click.echo(f"{photo.key}: {reason}", err=True)
    click.echo(f"{len(chosen) - len(failed)} of {len(chosen)} photos in {out}", err=True)
    if failed:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
