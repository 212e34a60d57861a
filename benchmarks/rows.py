"""One measurement of speed and memory, and the table of all."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.overhead import Overhead


@dataclass(frozen=True)
class Row:
    """One measurement."""

    what: str
    method: str
    width: int
    height: int
    precision: str
    seconds: float
    spread: float | None
    peak_bytes: int
    saved_bytes: int | None = None
    note: str = ""
    kernel_share: float | None = None
    cores: float | None = None
    faults: int | None = None
    objective: float | None = None
    overhead: Overhead | None = None

    def cells(self) -> list[str]:
        """The row as text."""
        pixels = self.width * self.height
        return [
            self.what,
            self.method,
            f"{self.width}x{self.height}",
            self.precision,
            f"{self.seconds:.2f}",
            f"{1e6 * self.seconds / pixels:.2f}",
            f"{self.peak_bytes / 1e9:.2f}",
            f"{self.peak_bytes / pixels:.0f}",
            "" if self.saved_bytes is None else f"{self.saved_bytes / pixels:.0f}",
            "" if self.kernel_share is None else f"{self.kernel_share:.1%}",
            "" if self.cores is None else f"{self.cores:.2f}",
            "" if self.faults is None else f"{self.faults / 1e3:.0f}",
            "" if self.objective is None else f"{self.objective:.4f}",
            self.note,
        ]


_HEAD = [
    "what", "method", "size", "precision", "s", "s/MP", "peak GB", "peak B/px", "saved B/px",
    "kernel", "cores", "1000 faults", "objective", "note",
]  # fmt: skip


def table(rows: list[Row]) -> str:
    """All rows in Markdown."""
    lines = [_HEAD, ["---"] * len(_HEAD), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
