"""Records of all pictures to a table: for each kind of hole and method, each metric with its interval."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.quality.scores import PER_IMAGE, frechet_distance, kernel_distance
from benchmarks.quality.statistics import Estimate, difference_of, mean_of

if TYPE_CHECKING:
    from collections.abc import Sequence

MIN_PICTURES = 100  # for FID and KID: with fewer, their bias prevails
_DIGITS = {"psnr": 2, "fid": 1}


@dataclass(frozen=True)
class Row:
    """One method on one kind of hole."""

    kind: str
    method: str
    count: int
    values: dict[str, Estimate]


@dataclass(frozen=True)
class Difference:
    """How one method differs from another, picture by picture."""

    kind: str
    method: str
    other: str
    values: dict[str, Estimate]


def summarize(records: Sequence[dict[str, Any]]) -> list[Row]:
    """A row for each kind and method."""
    rows = []
    methods = _methods(records)
    pairs = {(r["kind"], r["method"]) for r in records}
    for kind, method in sorted(pairs, key=lambda pair: (pair[0], methods.index(pair[1]))):
        chosen = _chosen(records, kind, method)
        photos = [r["photo"] for r in chosen]
        values = {name: mean_of([r["scores"][name] for r in chosen], photos) for name in _shared(chosen)}
        if all("features" in r for r in chosen) and len(chosen) >= MIN_PICTURES:
            values |= _distribution(chosen)
        rows.append(Row(kind, method, len(chosen), values))
    return rows


def compare(records: Sequence[dict[str, Any]], method: str) -> list[Difference]:
    """The scores of `method` less those of each other method, for each kind of hole."""
    differences = []
    for kind in sorted({r["kind"] for r in records}):
        ours = {r["name"]: r for r in _chosen(records, kind, method)}
        for other in _methods(records):
            theirs = [r for r in _chosen(records, kind, other) if r["name"] in ours]
            if other == method or not theirs:
                continue
            photos = [r["photo"] for r in theirs]
            names = [name for name in _shared(theirs) if all(name in r["scores"] for r in ours.values())]
            values = {
                name: difference_of(
                    [ours[r["name"]]["scores"][name] for r in theirs], [r["scores"][name] for r in theirs], photos
                )
                for name in names
            }
            differences.append(Difference(kind, method, other, values))
    return differences


def as_markdown(rows: Sequence[Row], differences: Sequence[Difference], missing: Sequence[str]) -> str:
    """The tables, and what could not be measured."""
    names = _names([row.values for row in rows])
    lines = [
        "| " + " | ".join(["hole", "method", "pictures", *names]) + " |",
        "|" + "---|" * (len(names) + 3),
        *(
            "| " + " | ".join([row.kind, row.method, str(row.count), *(_cell(row.values, n) for n in names)]) + " |"
            for row in rows
        ),
    ]
    if differences:
        names = _names([difference.values for difference in differences])
        known = any(not np.isnan(value.low) for d in differences for value in d.values.values())
        bold = "; bold where the 95 % interval excludes 0" if known else ""
        lines += [
            "",
            f"Differences picture by picture, `{differences[0].method}` less the other{bold}:",
            "",
            "| " + " | ".join(["hole", "against", *names]) + " |",
            "|" + "---|" * (len(names) + 2),
            *(
                "| " + " | ".join([d.kind, d.other, *(_cell(d.values, n, signed=True) for n in names)]) + " |"
                for d in differences
            ),
        ]
    lines += ["", *(f"Not measured: {reason}" for reason in missing)]
    return "\n".join(lines).rstrip() + "\n"


def _distribution(chosen: Sequence[dict[str, Any]]) -> dict[str, Estimate]:
    fake, real = (np.stack([np.load(r["features"][name]) for r in chosen]) for name in ("fake", "real"))
    # Without an interval: pictures drawn twice, as a bootstrap draws them, would bias both distances.
    values = {"fid": frechet_distance(fake, real), "kid": kernel_distance(fake, real)}
    return {name: Estimate(value) for name, value in values.items()}


def _chosen(records: Sequence[dict[str, Any]], kind: str, method: str) -> list[dict[str, Any]]:
    return [r for r in records if (r["kind"], r["method"]) == (kind, method)]


def _shared(records: Sequence[dict[str, Any]]) -> list[str]:
    return [name for name in PER_IMAGE if all(name in r["scores"] for r in records)]


def _methods(records: Sequence[dict[str, Any]]) -> list[str]:
    return list(dict.fromkeys(r["method"] for r in records))


def _names(values: Sequence[dict[str, Estimate]]) -> list[str]:
    return [name for name in (*PER_IMAGE, "fid", "kid") if any(name in v for v in values)]


def _cell(values: dict[str, Estimate], name: str, *, signed: bool = False) -> str:
    if name not in values:
        return "-"
    estimate = values[name]
    digits = _DIGITS.get(name, 4)
    sign = "+" if signed else ""
    if np.isnan(estimate.low):
        return f"{estimate.value:{sign}.{digits}f}"
    text = f"{estimate.value:{sign}.{digits}f} ({estimate.low:{sign}.{digits}f} to {estimate.high:{sign}.{digits}f})"
    return f"**{text}**" if signed and estimate.excludes_zero else text
