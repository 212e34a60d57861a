"""Named weights: where they come from, what they were trained at, and how they are checked."""

from __future__ import annotations

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import platformdirs
import torch

from lama.adapter import LamaInpainter, RegularLamaInpainter
from lama.checkpoint import convert, load_network
from lama.regular import RegularGenerator
from refiner.errors import ModelError
from refiner.models.download import downloaded, md5_of
from refiner.models.spec import DEFAULT_LEARNING_RATE, DEFAULT_TRAIN_SIZE

if TYPE_CHECKING:
    from refiner.detail import Detail
    from refiner.models.inpainter import Inpainter


@dataclass(frozen=True)
class NamedWeights:
    """A LaMa model by name; calling it gives the inpainter.

    Attributes:
        name: what the user types.
        train_size: the side in pixels that the model was trained for.
        learning_rate: learning rate that suits its features in refinement.
        summary: one line for `refiner weights list`.
        bundled: file name inside this package, for weights that ship with it.
        url: where weights that do not ship with it are downloaded from, once.
        md5: checksum of the file at `url`, the only one its publisher gives.
        detail: what fills the larger scales of a photo best where this network fills the smallest.
        split_block: how many residual blocks lie before the features, see `LamaInpainter`.
        rank: where the user names no model, the one of highest rank on this machine is taken.
    """

    name: str
    train_size: int
    summary: str
    bundled: str | None = None
    url: str | None = None
    md5: str | None = None
    learning_rate: float = DEFAULT_LEARNING_RATE
    detail: Detail = "auto"
    split_block: int = 0
    rank: int = 0

    def __call__(self, weights: Path | None = None) -> Inpainter:
        """Load the inpainter; `weights` replaces the named file by one on disk.

        Raises:
            ModelError: the weights cannot be downloaded, are damaged, or are not a LaMa's.
        """
        detail = self.detail if weights is None else "auto"
        return _open(weights or self.locate(), self.train_size, self.learning_rate, detail, self.split_block)

    def is_here(self) -> bool:
        """Whether it can be loaded without a download."""
        return self.bundled is not None or self._cached().is_file()

    def locate(self) -> Path:
        """Path of the weights on this machine; downloads and converts them first where they are not here."""
        if self.bundled is not None:
            return Path(__file__).parent / "data" / self.bundled
        if not self._cached().is_file():
            self._fetch()
        return self._cached()

    def describe(self) -> str:
        """What the model is, and where its file is or will come from, in one line."""
        if self.bundled is not None:
            return f"{self.summary}; bundled, works offline"
        place = f"at {self._cached()}" if self._cached().is_file() else f"downloaded on first use from {self.url}"
        return f"{self.summary}; {place}"

    def _cached(self) -> Path:
        return cache_folder() / f"{self.name}.safetensors"

    def _fetch(self) -> None:
        """Put the published file into the cache, checked and converted; leaves nothing half-done."""
        assert self.url is not None and self.md5 is not None  # noqa: S101, PT018  every unbundled record has both
        by_hand = cache_folder() / self.url.rsplit("/", 1)[-1]
        if by_hand.is_file():
            self._take(by_hand, str(by_hand), "remove it, or ")
            return
        try:
            with downloaded(self.url, cache_folder()) as file:
                self._take(file, self.url, "try again, or ")
        except OSError as error:
            raise ModelError(
                f"{self.name}: {self.url} could not be downloaded ({error}); {self._otherwise()}."
            ) from error

    def _take(self, published: Path, source: str, remedy: str) -> None:
        """Check the published file, and convert it into the cache."""
        found = md5_of(published)
        if found != self.md5:
            raise ModelError(
                f"{self.name}: {source} is damaged (MD5 {found}, expected {self.md5}); {remedy}{self._otherwise()}."
            )
        convert(published, self._cached(), train_size=str(self.train_size))

    def _otherwise(self) -> str:
        file = cache_folder() / str(self.url).rsplit("/", 1)[-1]
        return f"put the file at {file} by hand, or use lama-small, which works offline"


LAMA_SMALL = NamedWeights(
    name="lama-small",
    train_size=256,
    summary="small LaMa, 4.8 M parameters, trained at 256 px",
    bundled="lama-small.safetensors",
    learning_rate=0.01,  # on five photos it brings every scale nearer to the scale before than 0.002 does
    detail="exemplar",  # its fills are soft and gridded; the photo's own pixels are neither
)
BIG_LAMA = NamedWeights(
    name="big-lama",
    train_size=512,
    summary="Big LaMa of the LaMa authors, 51 M parameters, trained for 512 px (206 MB)",
    url="https://github.com/Sanster/models/releases/download/add_big_lama/big-lama.pt",
    md5="e3aa4aaa15225a33ec84f9f4bc47e500",
    rank=1,
)


class LamaCheckpoints:
    """How the engine opens and converts a LaMa file given by path."""

    def open(self, path: Path) -> Inpainter:
        """Load the inpainter that a checkpoint holds.

        Train size, learning rate and cut are read from the header that `convert` writes. Without it they are 512 px,
        0.002 and before the residual blocks.

        Raises:
            ModelError: the file is not a readable LaMa.
        """
        return _open(path, DEFAULT_TRAIN_SIZE, DEFAULT_LEARNING_RATE)

    def convert(
        self,
        source: Path,
        target: Path,
        *,
        half: bool = False,
        train_size: int | None = None,
        learning_rate: float | None = None,
        split_block: int | None = None,
    ) -> None:
        """Write a LaMa checkpoint as safetensors, in float16 with `half`; the values given go into the header.

        Raises:
            ModelError: the source is not a readable LaMa.
        """
        known = {"train_size": train_size, "learning_rate": learning_rate, "split_block": split_block}
        metadata = {name: str(value) for name, value in known.items() if value is not None}
        convert(source, target, dtype=torch.float16 if half else None, **metadata)


CHECKPOINTS = LamaCheckpoints()


def cache_folder() -> Path:
    """Where downloaded weights are kept: `REFINER_CACHE`, else the user's cache folder."""
    return Path(os.environ.get("REFINER_CACHE") or platformdirs.user_cache_path("refiner"))


def _open(
    path: Path, train_size: int, learning_rate: float, detail: Detail = "auto", split_block: int = 0
) -> Inpainter:
    """Load a LaMa; values in its file's header go before the values given."""
    network, header = load_network(path)
    try:
        train_size = int(header.get("train_size", train_size))
        learning_rate = float(header.get("learning_rate", learning_rate))
        split_block = int(header.get("split_block", split_block))
    except ValueError as error:
        raise ModelError(f"{path}: its header is not as `refiner weights convert` writes it ({error}).") from error
    if train_size < 1 or not 0 < learning_rate < math.inf:
        raise ModelError(
            f"{path}: its header has train_size {train_size} and learning_rate {learning_rate:g}; expected numbers "
            "above 0."
        )
    if not 0 <= split_block <= network.config.n_blocks:
        raise ModelError(
            f"{path}: its split_block is {split_block}; expected 0 to {network.config.n_blocks}, the residual blocks."
        )
    options: dict[str, Any] = {
        "train_size": train_size, "learning_rate": learning_rate, "detail": detail, "split_block": split_block
    }  # fmt: skip
    if isinstance(network, RegularGenerator):
        return RegularLamaInpainter(network, **options)
    return LamaInpainter(network, **options)
