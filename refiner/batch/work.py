"""What is done to every photo of a batch, and where its results go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from refiner.errors import InputError
from refiner.images.masks import MaskOptions
from refiner.images.writing import default_suffix
from refiner.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from refiner.images.pairs import Pair


@dataclass(frozen=True)
class Work:
    """What to do to every photo, in plain values that travel to other machines.

    Attributes:
        out: folder for the results.
        model: name, path or `module:attribute`.
        weights: file in place of a named model's own.
        settings: of the refinement.
        mask_options: how masks are read.
        quality: of results in formats that have one.
        suffix: of all results, such as `.png`; each photo's own where None.
    """

    out: Path
    model: str = "lama-small"
    weights: Path | None = None
    settings: Settings = field(default_factory=Settings)
    mask_options: MaskOptions = field(default_factory=MaskOptions)
    quality: int | None = None
    suffix: str | None = None

    def target(self, pair: Pair) -> Path:
        """The file that a pair's result goes to."""
        return self.out / f"{pair.output}{self.suffix or default_suffix(pair.image)}"

    def name(self, pair: Pair) -> str:
        """The result's path within `out`, by which the report knows it."""
        return str(self.target(pair).relative_to(self.out))

    def row(self, pair: Pair, **outcome: Any) -> dict[str, Any]:
        """A pair's line of the report."""
        mask = None if pair.mask is None else str(pair.mask)
        return {"image": str(pair.image), "mask": mask, "output": self.name(pair), **outcome}


def check_targets(work: Work, pairs: Iterable[Pair]) -> tuple[list[Pair], list[tuple[Path, str]]]:
    """The pairs to do, and the photos left out because another one's result would have the same name.

    Raises:
        InputError: results would be written over the photos or masks themselves.
    """
    taken: dict[str, Pair] = {}
    left_out: list[tuple[Path, str]] = []
    sources: set[Path] = set()
    pairs = list(pairs)
    for pair in pairs:
        sources |= {pair.image.resolve(), *([] if pair.mask is None else [pair.mask.resolve()])}
    kept = []
    for pair in pairs:
        target = work.target(pair)
        if target.resolve() in sources:
            raise InputError(f"{target}: would be written over; choose another folder for the results.")
        name = str(target).casefold()  # some file systems ignore case
        if name in taken:
            left_out.append((pair.image, f"its result would be {target.name}, as that of {taken[name].image.name}"))
            continue
        taken[name] = pair
        kept.append(pair)
    return kept, left_out
