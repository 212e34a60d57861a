"""What a GPU is to reach, measured in one run, in one table: target, measured, met or missed.

python -m benchmarks.targets --reference ~/lama --json targets.json

On a CPU it runs too, at a size to try it out: --share 0.125.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import click
import torch
from PIL import Image

from benchmarks.cases import Bench
from benchmarks.measure import machine, synchronize
from benchmarks.reference import Reference
from lama import Generator, GeneratorConfig, load_generator
from refiner import Settings, inpaint, load_model
from refiner.devices import pick_device
from refiner.engine.precision import uses_tf32
from refiner.memory import give_back_freed_memory, manage_allocator

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.overhead import Overhead
    from benchmarks.rows import Row
    from refiner.detail import Detail
    from refiner.models.inpainter import Inpainter

_EXAMPLES = Path(__file__).parents[1] / "examples"
# Where their code is not at hand: what it took on one NVIDIA H200 (PyTorch 2.11, CUDA 13), convolutions in TF32.
_AUTHORS_SECONDS, _AUTHORS_BYTES = 2.54, 9.46e9


@dataclass(frozen=True)
class Target:
    """What is to be reached, and whether it was.

    Attributes:
        what: is measured.
        most: that it may be.
        measured: what it is; None where it could not be measured.
        unit: of both.
        note: how it was measured, or why it was not.
    """

    what: str
    most: float
    measured: float | None
    unit: str
    note: str = ""

    @property
    def verdict(self) -> str:
        """In a word."""
        return "not measured" if self.measured is None else "met" if self.measured <= self.most else "missed"

    def cells(self) -> list[str]:
        """The target as text."""
        measured = "" if self.measured is None else f"{self.measured:.3g} {self.unit}"
        return [self.what, f"{self.most:.3g} {self.unit}", measured, self.verdict, self.note]


@dataclass
class Trial:
    """Measures everything once; each time after a run that sets up what a process sets up once.

    Attributes:
        bench: with Big LaMa's shape.
        share: of the sides that targets are for.
        model: of the photo's fill by features.
        reference: the authors' code.
    """

    bench: Bench
    share: float
    model: str
    reference: Path | None

    def targets(self) -> list[tuple[str, Callable[[], list[Target]]]]:
        """Groups of targets by name, and the function that measures each."""
        return [
            ("1024x1024", self.square),
            ("default preset", self.default),
            ("3840x2160, whole", lambda: [self.large("off", 6.0)]),
            ("3840x2160, one window", lambda: [self.large("auto", 1.0)]),
            ("otter by features", lambda: [self.otter("features", 0.8)]),
            ("otter by copies", lambda: [self.otter("exemplar", 3.0)]),
            ("overhead", self.overhead),
        ]

    @property
    def precision(self) -> str:
        """What the device computes in by default, float32 where that is bfloat16: what the authors' code has too."""
        return "tf32" if uses_tf32("auto", self.bench.device) else "float32"

    def side(self, pixels: int) -> int:
        """A side of the size that is measured, in steps of 8 as networks take them."""
        return max(round(self.share * pixels / 8) * 8, 64)

    def square(self) -> list[Target]:
        """1024x1024, 15 predictions, beside the authors' code in the same precision."""
        side = self.side(1024)
        ours = self._second(lambda: self.bench.refinement(side, side, self.precision, "off"))
        seconds, size, note = _AUTHORS_SECONDS, _AUTHORS_BYTES, "theirs as on an H200"
        if self.reference is not None:
            reference = Reference(self.reference, self.bench.generator, self.bench.device)
            theirs = self._second(lambda: self.bench.authors(reference, side, side, self.precision))
            seconds, size, note = theirs.seconds, theirs.peak_bytes, "theirs beside it"
        note = f"{self.precision}; {note}: {seconds:.2f} s, {size / 1e9:.2f} GB"
        what = f"{side}x{side}, {self.bench.steps} predictions"
        return [
            Target(f"{what}: seconds", 0.2 * seconds, ours.seconds, "s", note),
            Target(f"{what}: memory", 0.2 * size / 1e9, ours.peak_bytes / 1e9, "GB", note),
        ]

    def default(self) -> list[Target]:
        """The default preset by features at 1024x1024."""
        side = self.side(1024)
        row = self._second(lambda: self.bench.default(side, side, "auto"))
        return [Target(f"{side}x{side}, default preset", 0.3, row.seconds, "s", row.note)]

    def large(self, windows: str, most: float) -> Target:
        """3840x2160 with two refined scales."""
        width, height = self.side(3840), self.side(2160)
        row = self._second(lambda: self.bench.refinement(height, width, self.precision, windows))
        kind = "whole" if windows == "off" else "one window"
        return Target(f"{width}x{height}, {kind}", most, row.seconds, "s", row.note)

    def otter(self, detail: Detail, most: float) -> Target:
        """The photograph of the examples, 3840x2160, from a picture in memory to one."""
        size = self.side(3840), self.side(2160)
        photo, mask = (
            Image.open(_EXAMPLES / name).convert(mode).resize(size, how)
            for name, mode, how in (
                ("otter.jpg", "RGB", Image.Resampling.LANCZOS),
                ("otter_mask.png", "L", Image.Resampling.NEAREST),
            )
        )
        settings = Settings(detail=detail, start="exemplar" if detail == "exemplar" else "model")

        def once() -> float:
            start = time.perf_counter()
            inpaint(photo, mask, self._photo_model, settings=settings, device=str(self.bench.device))
            synchronize(self.bench.device)
            return time.perf_counter() - start

        once()
        how = "features" if detail == "features" else "copies"
        return Target(f"otter, {size[0]}x{size[1]}, by {how}", most, once(), "s", self.model)

    def overhead(self) -> list[Target]:
        """What a call takes beside its predictions."""
        side = self.side(1024)
        row = self.bench.overhead(side, side, "auto")
        found: Overhead | None = row.overhead
        assert found is not None  # noqa: S101  that case gives one
        second = 0.05 if self.bench.device.type == "cuda" else 0.3
        return [
            Target("operations an update", 2500, found.operations, ""),
            Target("waits an update", 0, found.waits, ""),
            Target("first plan with a model", 0.5, found.first_plan, "s", "of a processor"),
            Target("later plans", 0.05, found.later_plan, "s", "of a processor"),
            Target("second call, to the first prediction", second, found.before, "s", f"{side}x{side}"),
        ]

    @cached_property
    def _photo_model(self) -> Inpainter:
        return load_model(self.model)

    @staticmethod
    def _second(measure: Callable[[], Row]) -> Row:
        measure()
        return measure()


def table(targets: list[Target]) -> str:
    """All targets in Markdown."""
    head = ["what", "target, at most", "measured", "", "note"]
    lines = [head, ["---"] * len(head), *(target.cells() for target in targets)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


@click.command()
@click.option("--device", default="auto", show_default=True)
@click.option("--share", default=1.0, show_default=True, help="Of the sides that targets are for.")
@click.option("--steps", default=15, show_default=True, help="Predictions at each refined scale.")
@click.option("--hole", default=0.02, show_default=True, help="Share of the picture's area.")
@click.option("--model", type=click.Path(path_type=Path), help="A LaMa checkpoint in place of random weights.")
@click.option("--photo-model", default="lama-small", show_default=True, help="Fills the photograph.")
@click.option("--reference", type=click.Path(path_type=Path, exists=True), help="A clone of advimman/lama.")
@click.option("--only", help="Groups of targets, separated by commas (default: all).")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write the results here.")
def main(
    device: str,
    share: float,
    steps: int,
    hole: float,
    model: Path | None,
    photo_model: str,
    reference: Path | None,
    only: str | None,
    json_path: Path | None,
) -> None:
    """Measure what a GPU is to reach."""
    torch.manual_seed(0)
    manage_allocator()
    give_back_freed_memory()
    where = pick_device(device)
    generator = Generator(GeneratorConfig()).eval().requires_grad_(False) if model is None else load_generator(model)[0]
    bench = Bench(generator, where, 1, steps, hole, min_side=max(round(512 * share), 32))
    trial = Trial(bench, share, photo_model, reference)
    wanted = None if only is None else only.split(",")
    found: list[Target] = []
    for name, measure in trial.targets():
        if wanted is not None and name not in wanted:
            continue
        try:
            found += measure()
        except (ModuleNotFoundError, torch.OutOfMemoryError) as reason:
            found.append(Target(name, float("nan"), None, "", str(reason)))
        click.echo(f"{name}: {found[-1].verdict}", err=True)
    if share != 1:
        click.echo("At a smaller size than targets are for, so what they say here means nothing.", err=True)
    click.echo(table(found))
    if json_path is not None:
        rows = [{**asdict(target), "verdict": target.verdict} for target in found]
        content = {"machine": machine(where), "share": share, "targets": rows}
        json_path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
