"""Photos for training: decoded once into one memory-mapped file, shown as random crops with random holes.

A crop is a function of the seed and its number alone. So workers and restarts do not change what is shown.
"""

from __future__ import annotations

import hashlib
import json
import signal
import warnings
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from refiner.errors import InputError
from refiner.files import write_atomic
from refiner.images import formats
from refiner.images.pairs import MASK_NAME, image_files
from refiner.images.reading import read_rgb

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterator, Sequence
    from pathlib import Path

    from numpy.typing import NDArray
    from torch import Tensor

    from lama.training.config import DataConfig
    from refiner.images.planes import Pixels

_VERSION = 2  # of the decoding; photos that another version decoded are decoded again
_THREADS = 4
_LEAST_HOLE, _TRIES = 0.02, 20  # share of a crop, as smaller holes teach little; draws to get such a hole


@dataclass(frozen=True)
class PhotoSet:
    """Photos kept as 8-bit RGB in one file.

    Attributes:
        file: rows of all photos, one after the other.
        names: of the photos' files.
        sizes: height and width of each photo.
        offsets: of each photo in `file`, in bytes.
    """

    file: Path
    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    offsets: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.names)

    def photo(self, index: int) -> NDArray[np.uint8]:
        """One photo (H,W,3), memory-mapped: only pixels that are used are read."""
        height, width = self.sizes[index]
        return np.memmap(self.file, np.uint8, "r", self.offsets[index], (height, width, 3))

    def only(self, indices: Sequence[int]) -> PhotoSet:
        """The photos of these indices."""
        return PhotoSet(
            self.file,
            tuple(self.names[i] for i in indices),
            tuple(self.sizes[i] for i in indices),
            tuple(self.offsets[i] for i in indices),
        )


def find_photos(folder: Path, *, exclude: Sequence[Path] = ()) -> list[Path]:
    """Image files in a folder and those below it, in order of their names, without masks.

    Args:
        folder: to search.
        exclude: folders whose files are left out.

    Raises:
        InputError: there is no such folder, or no photo in it.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: expected a folder of photos.")
    excluded = {path.resolve() for path in exclude}
    found = [
        path
        for path in image_files(folder, recursive=True)[0]
        if not MASK_NAME.fullmatch(path.stem) and not excluded & {parent.resolve() for parent in path.parents}
    ]
    if not found:
        usual = formats.listed(kind.suffix for kind in formats.writable())
        raise InputError(f"{folder}: has no photos; expected files whose names end in {usual}.")
    return found


def keep_photos(
    folder: Path,
    cache: Path,
    *,
    side: int,
    min_side: int,
    on_skip: Callable[[Path, str], object],
    exclude: Path | None = None,
) -> PhotoSet:
    """Decode a folder's photos into the cache, or take them from the cache where the files have not changed.

    Args:
        folder: of photos, searched with the folders below it.
        cache: folder for the decoded photos.
        side: short side that photos are scaled down to; smaller photos stay as they are.
        min_side: photos with a shorter side are left out.
        on_skip: called with each file that is left out, and why.
        exclude: folder whose photos are left out, such as the held-out photos.

    Raises:
        InputError: there are no photos, none can be used, or the cache cannot be written.
    """
    own = cache.parent / "sheets"  # the training's own sample sheets
    paths = find_photos(folder, exclude=[own] if exclude is None else [own, exclude])
    stats = [(str(path.resolve()), path.stat().st_size, path.stat().st_mtime_ns) for path in paths]
    key = hashlib.sha256(json.dumps([_VERSION, stats, side, min_side]).encode()).hexdigest()[:16]
    file, index = cache / f"photos-{key}.rgb", cache / f"photos-{key}.json"
    if not (file.is_file() and index.is_file()):
        _decode_all(paths, folder, file, index, side, min_side)
    known: dict[str, Any] = json.loads(index.read_text(encoding="utf-8"))
    for name, reason in known["skipped"]:
        on_skip(folder / name, reason)
    if not known["names"]:
        raise InputError(f"{folder}: none of its {len(paths)} photos can be used; the first: {known['skipped'][0][1]}.")
    return PhotoSet(
        file, tuple(known["names"]), tuple((h, w) for h, w in known["sizes"]), tuple(int(o) for o in known["offsets"])
    )


def _decode_all(paths: list[Path], folder: Path, file: Path, index: Path, side: int, min_side: int) -> None:
    """Write the photos to `file`, one after the other, and their names, sizes and offsets to `index`."""
    names, sizes, offsets, skipped, offset = [], [], [], [], 0
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        partial_file = file.with_suffix(".part")
        with warnings.catch_warnings(), partial_file.open("wb") as out, ThreadPoolExecutor(_THREADS) as pool:
            # Pillow warns of odd metadata. The filter is set once, since all threads share it.
            warnings.simplefilter("ignore")
            decoded = pool.map(partial(_decode, side=side, min_side=min_side), paths)
            for path, pixels in zip(paths, decoded, strict=True):
                name = str(path.relative_to(folder))
                if isinstance(pixels, str):
                    skipped.append((name, pixels))
                    continue
                out.write(pixels.tobytes())
                names.append(name)
                sizes.append(pixels.shape[:2])
                offsets.append(offset)
                offset += pixels.nbytes
        partial_file.replace(file)
    except OSError as error:
        raise InputError(f"{file.parent}: decoded photos cannot be kept there ({error.strerror}).") from error
    content = {"names": names, "sizes": sizes, "offsets": offsets, "skipped": skipped}
    write_atomic({index: json.dumps(content).encode()})


def _decode(path: Path, *, side: int, min_side: int) -> Pixels | str:
    """A photo (H,W,3) with a short side of at most `side`, or why it cannot be used."""
    try:
        photo = read_rgb(path, enough=2 * side)
    except InputError as error:
        return str(error).removeprefix(f"{path}: ")
    short = min(photo.size)
    if short < min_side:
        return f"is {photo.width}x{photo.height}, expected a short side of at least {min_side}"
    if short > side:
        size = (max(side, round(photo.width * side / short)), max(side, round(photo.height * side / short)))
        photo = photo.resize(size, Image.Resampling.LANCZOS, reducing_gap=3.0)
    return np.asarray(photo)


def hold_out(photos: PhotoSet, share: float) -> tuple[PhotoSet, PhotoSet]:
    """Divide photos, by their names alone, into some to train on and some to evaluate on.

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
        part = Image.fromarray(photo[outer[1] : outer[3], outer[0] : outer[2]])  # reads only what the crop needs
        box = (box[0] - outer[0], box[1] - outer[1], box[2] - outer[0], box[3] - outer[1])
        picture = np.asarray(part.resize((crop, crop), Image.Resampling.BICUBIC, box=box))
        if rng.random() < 0.5:  # noqa: PLR2004  a coin toss
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
    """Endless batches from the `start`-th on; the caller closes them, since workers live until then."""
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
    """Keep a worker alive at Ctrl-C, which reaches every process of a terminal: the training stops its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)


def held_out_crops(photos: PhotoSet, config: DataConfig, count: int) -> tuple[Tensor, Tensor]:
    """Crops of the photos in turn and holes, the same at every evaluation: (count,3,H,W) and (count,1,H,W)."""
    pairs = [Crops(photos.only([number % len(photos)]), config, seed=1 << 30)[number] for number in range(count)]
    return torch.stack([picture for picture, _ in pairs]), torch.stack([hole for _, hole in pairs])
