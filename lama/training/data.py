"""Photos for training: decoded once into one memory-mapped file, shown as random crops with random holes.

A crop is a function of the seed and its number alone. So workers and restarts do not change what is shown.
"""

from __future__ import annotations

import hashlib
import json
import signal
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch.utils.data import DataLoader, Dataset

from refiner.errors import InputError
from refiner.files import write_atomic
from refiner.images.pairs import MASK_NAME
from refiner.images.picture import to_8_bits
from refiner.images.reading import DAMAGE

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from lama.training.config import DataConfig

_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff", ".bmp"})
_THREADS = 4
_LEAST_HOLE, _TRIES = 0.02, 20  # share of a crop; a smaller hole teaches little


@dataclass(frozen=True)
class PhotoSet:
    """Photos kept as 8-bit RGB in one file.

    Attributes:
        file: rows of all photos, one after the other.
        names: of the files they are from.
        sizes: height and width of each.
        offsets: of each in `file`, in bytes.
    """

    file: Path
    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    offsets: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.names)

    def photo(self, index: int) -> NDArray[np.uint8]:
        """One photo (H,W,3), read from the file where it is touched."""
        height, width = self.sizes[index]
        return np.memmap(self.file, np.uint8, "r", self.offsets[index], (height, width, 3))

    def only(self, indices: Sequence[int]) -> PhotoSet:
        """Some of the photos."""
        return PhotoSet(
            self.file,
            tuple(self.names[i] for i in indices),
            tuple(self.sizes[i] for i in indices),
            tuple(self.offsets[i] for i in indices),
        )


def find_photos(folder: Path, *, apart: Sequence[Path] = ()) -> list[Path]:
    """Image files in a folder and those below it, in order of their names; masks and the folders `apart` left out.

    Raises:
        InputError: there is no such folder, or nothing in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of photos.")
    resolved = {path.resolve() for path in apart}
    found = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _SUFFIXES
        and path.is_file()
        and not MASK_NAME.fullmatch(path.stem)
        and not resolved & {parent.resolve() for parent in path.parents}
    )
    if not found:
        raise InputError(f"{folder}: has no photos; expected files ending in {', '.join(sorted(_SUFFIXES))}.")
    return found


def keep_photos(
    folder: Path,
    cache: Path,
    *,
    side: int,
    least: int,
    on_skip: Callable[[Path, str], object],
    apart: Path | None = None,
) -> PhotoSet:
    """Decode a folder's photos, or take them as they were decoded before where the files are the same.

    Args:
        folder: of photos, searched with the folders below it.
        cache: folder for the decoded photos.
        side: short side they are scaled down to; smaller ones stay as they are.
        least: photos with a shorter side are left out.
        on_skip: told of each file that is left out, and why.
        apart: folder whose photos are not taken, such as that of the held-out ones.

    Raises:
        InputError: there are no photos, none can be used, or the cache cannot be written.
    """
    own = cache.parent / "sheets"  # the training's own pictures
    paths = find_photos(folder, apart=[own] if apart is None else [own, apart])
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    key = hashlib.sha256(json.dumps([stats, side, least]).encode()).hexdigest()[:16]
    file, index = cache / f"photos-{key}.rgb", cache / f"photos-{key}.json"
    if not (file.is_file() and index.is_file()):
        _decode(paths, folder, file, index, side, least)
    known: dict[str, Any] = json.loads(index.read_text(encoding="utf-8"))
    for name, reason in known["skipped"]:
        on_skip(folder / name, reason)
    if not known["names"]:
        raise InputError(f"{folder}: none of its {len(paths)} photos can be used; the first: {known['skipped'][0][1]}.")
    return PhotoSet(
        file, tuple(known["names"]), tuple((h, w) for h, w in known["sizes"]), tuple(int(o) for o in known["offsets"])
    )


def _decode(paths: list[Path], folder: Path, file: Path, index: Path, side: int, least: int) -> None:
    def decode(path: Path) -> NDArray[np.uint8] | str:
        try:
            with Image.open(path) as opened:
                opened.draft("RGB", (2 * side, 2 * side))  # JPEG decodes to a fraction of the size at once
                picture = ImageOps.exif_transpose(opened)
            if picture.mode.startswith("I;16"):  # which Pillow would cut off at 255
                picture = Image.fromarray(to_8_bits(np.asarray(picture).astype(np.uint16)))
            picture = picture.convert("RGB")
            short = min(picture.size)
            if short < least:
                return f"is {picture.width}x{picture.height}, expected a short side of at least {least}"
            if short > side:
                size = (max(side, round(picture.width * side / short)), max(side, round(picture.height * side / short)))
                picture = picture.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
            return np.asarray(picture)
        except (*DAMAGE, Image.DecompressionBombError) as error:
            return f"cannot be read ({str(error) or type(error).__name__})"

    names, sizes, offsets, skipped, offset = [], [], [], [], 0
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_suffix(".part")
        with partial.open("wb") as out, ThreadPoolExecutor(_THREADS) as pool:
            for path, decoded in zip(paths, pool.map(decode, paths), strict=True):
                name = str(path.relative_to(folder))
                if isinstance(decoded, str):
                    skipped.append((name, decoded))
                    continue
                out.write(decoded.tobytes())
                names.append(name)
                sizes.append(decoded.shape[:2])
                offsets.append(offset)
                offset += decoded.nbytes
        partial.replace(file)
    except OSError as error:
        raise InputError(f"{file.parent}: decoded photos cannot be kept there ({error.strerror}).") from error
    content = {"names": names, "sizes": sizes, "offsets": offsets, "skipped": skipped}
    write_atomic({index: json.dumps(content).encode()})


def hold_out(photos: PhotoSet, share: float) -> tuple[PhotoSet, PhotoSet]:
    """Divide photos into those to train on and those to evaluate on, by their names alone.

    Raises:
        InputError: a part is empty.
    """
    order = sorted(range(len(photos)), key=lambda i: hashlib.sha256(photos.names[i].encode()).digest())
    count = max(1, round(share * len(photos)))
    if len(photos) <= count:
        raise InputError(
            f"{photos.file}: {len(photos)} photo is too few; expected some to train on and some to hold out."
        )
    return photos.only(sorted(order[count:])), photos.only(sorted(order[:count]))


class Crops(Dataset[tuple["Tensor", "Tensor"]]):
    """Endless random crops, by number: picture (3,crop,crop) in [0,1] and hole (1,crop,crop), 1 inside."""

    def __init__(self, photos: PhotoSet, config: DataConfig, seed: int) -> None:
        self.photos, self.config, self.seed = photos, config, seed

    def __getitem__(self, number: int) -> tuple[Tensor, Tensor]:
        rng = np.random.default_rng((self.seed, number))
        photo = self.photos.photo(int(rng.integers(len(self.photos))))
        crop = self.config.crop
        zoom = np.exp(rng.uniform(0, np.log(self.config.max_zoom_out)))
        side = min(float(crop * zoom), *photo.shape[:2])
        top, left = (float(rng.uniform(0, extent - side)) for extent in photo.shape[:2])
        box = (left, top, left + side, top + side)
        outer = (
            int(left),
            int(top),
            min(int(left + side) + 2, photo.shape[1]),
            min(int(top + side) + 2, photo.shape[0]),
        )
        part = Image.fromarray(photo[outer[1] : outer[3], outer[0] : outer[2]])  # reads no more than it needs
        box = (box[0] - outer[0], box[1] - outer[1], box[2] - outer[0], box[3] - outer[1])
        picture = np.asarray(part.resize((crop, crop), Image.Resampling.BICUBIC, box=box))
        if rng.random() < 0.5:  # noqa: PLR2004  a coin
            picture = picture[:, ::-1]
        for _ in range(_TRIES):
            hole = self.config.masks.draw(crop, crop, rng)
            if (hole > 0).mean() >= _LEAST_HOLE:
                break
        return (
            torch.from_numpy(picture.transpose(2, 0, 1).copy()).float().div_(255),
            torch.from_numpy(hole.copy()).unsqueeze(0).gt(0).float(),
        )


def batches(crops: Crops, *, start: int, workers: int) -> Generator[tuple[Tensor, Tensor]]:
    """Batches from the `start`-th on, without end; to be closed, since workers live until then."""
    size = crops.config.batch

    class Numbers:
        def __iter__(self) -> Iterator[list[int]]:
            step = start
            while True:
                yield list(range(step * size, (step + 1) * size))
                step += 1

    loader = DataLoader(
        crops,
        batch_sampler=Numbers(),
        num_workers=workers,
        persistent_workers=workers > 0,
        worker_init_fn=_ignore_signals if workers else None,
    )
    yield from loader


def _ignore_signals(_: int) -> None:
    """Ctrl-C reaches every process of a terminal: it is for the training to stop its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def held_out_crops(photos: PhotoSet, config: DataConfig, count: int) -> tuple[Tensor, Tensor]:
    """The same crops and holes at every evaluation, photos taken in turn: (count,3,H,W) and (count,1,H,W)."""
    pairs = [Crops(photos.only([number % len(photos)]), config, seed=1 << 30)[number] for number in range(count)]
    return torch.stack([picture for picture, _ in pairs]), torch.stack([hole for _, hole in pairs])
