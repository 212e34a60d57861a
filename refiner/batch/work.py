"""What is done to every photo of a batch, and where the results go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from refiner.errors import InputError
from refiner.images.masks import MaskOptions
from refiner.images.writing import default_suffix, takes_quality
from refiner.settings import Settings

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from refiner.images.pairs import Pair


@dataclass(frozen=True)
class Work:
    """What to do to every photo, in plain values that can be sent to other machines.

    Whatever decides a result also belongs into `refiner.batch.origin`, or `--resume` would mix different results.

    Attributes:
        out: folder for the results.
        model: name, absolute path or `module:attribute`.
        weights: file in place of a named model's own.
        settings: of the refinement.
        mask_options: how masks are read.
        quality: 1 to 100, for results in a format that has it.
        suffix: of all results, such as `.png`; each photo's own where None.
        page: which page or frame of photos' files, from 1; None where each has one.
    """

    out: Path
    model: str = "lama-small"
    weights: Path | None = None
    settings: Settings = field(default_factory=Settings)
    mask_options: MaskOptions = field(default_factory=MaskOptions)
    quality: int | None = None
    suffix: str | None = None
    page: int | None = None

    def target(self, pair: Pair) -> Path:
        """The file for a pair's result."""
        return self.out / f"{pair.output}{self.suffix or default_suffix(pair.image)}"

    def name(self, pair: Pair) -> str:
        """The result's path within `out`, which names it in the report."""
        return str(self.target(pair).relative_to(self.out))

    def quality_of(self, target: Path) -> int | None:
        """The quality that a result is written with; None where its format has none, or none was given."""
        return self.quality if takes_quality(target) else None  # a folder may hold both kinds

    def row(self, pair: Pair, **outcome: Any) -> dict[str, Any]:
        """A pair's line of the report: its files, and what came of them."""
        mask = None if pair.mask is None else str(pair.mask)
        return {"image": str(pair.image), "mask": mask, "output": self.name(pair), **outcome}


def check_targets(work: Work, pairs: Iterable[Pair]) -> tuple[list[Pair], list[tuple[Path, str]]]:
    """Find results that would get in each other's way.

    Returns:
        The pairs to fill; and the photos left out because another photo's result has the same name, with that reason.

    Raises:
        InputError: a result would replace one of the photos or masks.
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
