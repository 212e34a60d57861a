"""Seconds and peak memory of refinement, beside ordinary autograd, checkpointing and the authors' code.

python -m benchmarks.speed --sizes 1024x1024 --reference ~/lama --json result.json
"""

from __future__ import annotations

import importlib
import json
import time
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import torch
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from benchmarks.measure import Meter, machine, seconds, synchronize
from benchmarks.reference import Reference
from lama import Generator, GeneratorConfig, LamaInpainter, load_generator
from refiner import Settings, Target, paper_objective, refine
from refiner.devices import pick_device
from refiner.engine.capture import no_recording
from refiner.engine.optimize import optimize_features
from refiner.engine.pyramid import build_pyramid, halve_image
from refiner.frozen import FrozenGradients, saved_bytes, strip_height
from refiner.memory import Peak, give_back_freed_memory, manage_allocator
from refiner.models.inpainter import run_front, run_rear
from refiner.torch_state import own_state

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

_METHODS = ("frozen", "frozen in strips", "autograd", "checkpoint", "memsave_torch")
_STRIP_HEIGHT = 256
# Random weights give noise; to match its colors to the photo would lead away from the coarser scale.
_UNFINISHED: dict[str, Any] = {"match_color": "off", "blend_rim": False, "grain": False}


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


@dataclass
class Bench:
    """The measurements, and what they share."""

    generator: Generator
    device: torch.device
    repeats: int
    steps: int
    hole: float
    memory: str | None = None
    results: dict[tuple[int, int], Tensor] = field(default_factory=dict)  # ours, by size, to compare with the authors'
    # By size, the smallest scale's result and the number of scales.
    smallest: dict[tuple[int, int], tuple[Tensor, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.model = LamaInpainter(self.generator).to(self.device)

    def picture(self, height: int, width: int) -> tuple[Tensor, Tensor]:
        """Noise (1,3,H,W) and a mask (1,1,H,W) with a square hole in its middle."""
        image = torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(0))
        side = int((self.hole * height * width) ** 0.5) // 2
        mask = torch.zeros(1, 1, height, width)
        mask[..., height // 2 - side : height // 2 + side, width // 2 - side : width // 2 + side] = 1
        return image.to(self.device), mask.to(self.device)

    def update(self, method: str, height: int, width: int, precision: str) -> Row:
        """One prediction and the gradient towards its features."""
        rows = _STRIP_HEIGHT if method == "frozen in strips" else None
        with strip_height(rows):
            return self._update(method, height, width, precision)

    def _update(self, method: str, height: int, width: int, precision: str) -> Row:
        image, mask = self.picture(height, width)
        mode = FrozenGradients(torch.bfloat16 if precision == "bfloat16" else None)
        with torch.no_grad(), mode:
            features = [leaf.float().clone().requires_grad_() for leaf in self.model.front(image, mask)]
        rear = self._rear(method)

        def loss() -> Tensor:
            if method.startswith("frozen"):
                with mode:
                    prediction = rear((features[0], features[1])).float()
            else:
                prediction = rear((features[0], features[1]))
            return functional.l1_loss(prediction, image)

        def run() -> None:
            torch.autograd.grad(loss(), features)

        kept = saved_bytes(loss)
        median, spread = seconds(run, repeats=self.repeats, device=self.device)
        with Peak(self.device) as peak:
            run()
        return Row("update", method, width, height, precision, median, spread, peak.bytes, kept)

    def descent(self, method: str, height: int, width: int, precision: str) -> Row:
        """All predictions and updates of the whole picture as one window, from a CUDA graph or one by one."""
        image, mask = self.picture(height, width)
        conv_dtype = torch.bfloat16 if precision == "bfloat16" else None
        hole = mask > 0
        coarse = functional.interpolate(image, scale_factor=0.5, mode="bilinear")
        with own_state(self.device), torch.no_grad():
            with FrozenGradients(conv_dtype):
                features = run_front(self.model, image, hole)
            objective = paper_objective(Target(image, hole, coarse, (height, width)))

            def run() -> None:
                optimize_features(
                    lambda features: run_rear(self.model, features, image), lambda: features, objective,
                    steps=self.steps, lr=0.002, keep="best", conv_dtype=conv_dtype,
                )  # fmt: skip

            with nullcontext() if method == "recorded" else no_recording():
                median, spread = seconds(run, repeats=self.repeats, device=self.device)
                with Peak(self.device) as peak:
                    run()
        note = f"{self.steps} predictions"
        return Row("descent", method, width, height, precision, median, spread, peak.bytes, note=note)

    def refinement(self, height: int, width: int, precision: str, windows: str) -> Row:
        """A whole refinement by features, with `steps` predictions at each refined scale."""
        settings = Settings(
            detail="features",
            start="model",
            min_side=512,
            steps=self.steps,
            back_projection=0,
            keep="last",
            windows=windows,  # type: ignore[arg-type]
            precision=precision,  # type: ignore[arg-type]
            memory=self.memory,
            **_UNFINISHED,
        )
        return self._refined("refinement", "refiner, whole" if windows == "off" else "refiner, windows", height, width,
                             settings)  # fmt: skip

    def default(self, height: int, width: int, precision: str) -> Row:
        """A whole refinement by features with the default settings, without those of `_UNFINISHED`."""
        settings = Settings(
            detail="features", start="model", min_side=512, precision=precision, memory=self.memory,  # type: ignore[arg-type]
            **_UNFINISHED,
        )  # fmt: skip
        return self._refined("default", "refiner, default preset", height, width, settings)

    def _refined(self, what: str, method: str, height: int, width: int, settings: Settings) -> Row:
        image, mask = self.picture(height, width)
        with Peak(self.device) as peak:
            meter = Meter()
            result = refine(self.model, image, mask, settings)
            synchronize(self.device)
            usage = meter.read()
        if (settings.precision, settings.windows) == ("float32", "off"):
            self.results[height, width] = result.image
        self.smallest.setdefault((height, width), (result.scales[0].composite, len(result.scales)))
        note = f"{len(result.scales) - 1} refined scales, {settings.steps} predictions each; {result.plan}"
        return Row(
            what, method, width, height, settings.precision, usage.seconds, None, peak.bytes, note=note,
            kernel_share=usage.kernel_share, cores=usage.cores, faults=usage.faults,
            objective=self.objective(result.image),
        )  # fmt: skip

    def objective(self, picture: Tensor) -> float | None:
        """The paper's objective of a result that is halved down to the first refined scale.

        The coarser scale is the network's own fill of the smallest scale, the same for every method. None where nothing
        of this size was refined before.
        """
        height, width = picture.shape[-2], picture.shape[-1]
        if (height, width) not in self.smallest or self.smallest[height, width][1] == 1:
            return None
        coarse, scales = self.smallest[height, width]
        image, mask = self.picture(height, width)
        levels = build_pyramid(image, mask > 0, scales)
        for _ in range(scales - 2):
            picture = halve_image(picture)
        level, hole = levels[1]
        target = Target(level, hole, coarse, (level.shape[-2], level.shape[-1]))
        return float(paper_objective(target)(picture.to(level)))

    def plain(self, height: int, width: int, precision: str) -> Row:
        """One pass of the network, without refinement."""
        image, mask = self.picture(height, width)
        settings = Settings(refine=False, precision=precision)  # type: ignore[arg-type]
        with Peak(self.device) as peak:
            start = time.perf_counter()
            refine(self.model, image, mask, settings)
            synchronize(self.device)
            taken = time.perf_counter() - start
        return Row("plain", "refiner", width, height, precision, taken, None, peak.bytes)

    def authors(self, reference: Reference, height: int, width: int) -> Row:
        """The authors' refinement of the same picture; the note says how far our result is from theirs."""
        image, mask = self.picture(height, width)
        with Peak(self.device) as peak:
            meter = Meter()
            theirs = reference.refine(image, mask, steps=self.steps, lr=0.002, min_side=512)
            synchronize(self.device)
            usage = meter.read()
        note = f"{self.steps} predictions"
        if (height, width) in self.results:
            difference = (self.results[height, width] - theirs.to(image.device)).abs()
            note += (
                f"; ours differs by {difference.max().item():.1e} at most, {difference.mean().item():.1e} on average"
            )
        return Row(
            "refinement", "advimman/lama", width, height, "float32", usage.seconds, None, peak.bytes, note=note,
            kernel_share=usage.kernel_share, cores=usage.cores, faults=usage.faults, objective=self.objective(theirs),
        )  # fmt: skip

    def _rear(self, method: str) -> Callable[[tuple[Tensor, Tensor]], Tensor]:
        if method.startswith("frozen"):
            return self.model.rear
        generator = self.generator.to(self.device)
        if method == "autograd":
            return generator.rear
        if method == "checkpoint":

            def in_blocks(features: Any) -> Any:
                layers = list(generator.model)[generator.split :]
                for layer in layers[: generator.config.n_blocks]:
                    features = checkpoint(layer, features, use_reentrant=False)
                for layer in layers[generator.config.n_blocks :]:
                    features = layer(features)
                return features

            return in_blocks
        package = importlib.import_module("memsave_torch.nn")
        converted: Generator = package.convert_to_memory_saving(generator)
        return converted.rear


@dataclass(frozen=True)
class Choice:
    """What the user asked to measure."""

    sizes: list[str]
    cases: list[str]
    methods: list[str]
    precisions: list[str]
    windows: list[str]
    reference: Path | None

    def measurements(self, bench: Bench) -> Iterator[tuple[str, Callable[[], Row]]]:
        """Each measurement's name, and the function that takes it."""
        folder = self.reference
        reference = None if folder is None else Reference(folder, bench.generator, bench.device)
        for size in self.sizes:
            width, height = (int(side) for side in size.split("x"))
            for case, precision in product(self.cases, self.precisions):
                for measure in self._of(case, bench, height, width, precision):
                    yield f"{case} {size}", measure
            if reference is not None:
                yield f"reference {size}", partial(bench.authors, reference, height, width)

    def _of(self, case: str, bench: Bench, height: int, width: int, precision: str) -> Iterator[Callable[[], Row]]:
        """The functions that take the measurements of one case."""
        if case == "update":
            for method in self.methods:
                if method.startswith("frozen") or precision == "float32":
                    yield partial(bench.update, method, height, width, precision)
        elif case == "descent":
            for method in ("recorded", "as they are") if bench.device.type == "cuda" else ("as they are",):
                yield partial(bench.descent, method, height, width, precision)
        elif case == "default":
            yield partial(bench.default, height, width, precision)
        elif case == "plain":
            yield partial(bench.plain, height, width, precision)
        else:
            for windows in self.windows:
                yield partial(bench.refinement, height, width, precision, windows)


def _table(rows: list[Row]) -> str:
    lines = [_HEAD, ["---"] * len(_HEAD), *(row.cells() for row in rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


@click.command()
@click.option("--sizes", default="1024x1024", show_default=True, help="WIDTHxHEIGHT, separated by commas.")
@click.option("--cases", default="update,descent,plain,refinement,default", show_default=True, help="What to measure.")
@click.option("--methods", default=",".join(_METHODS), show_default=True, help="Ways to compute an update.")
@click.option("--precisions", default="float32,bfloat16", show_default=True)
@click.option("--windows", default="off,auto", show_default=True, help="Refine whole pictures, windows, or both.")
@click.option("--hole", default=0.02, show_default=True, help="Share of the picture's area.")
@click.option("--steps", default=15, show_default=True, help="Predictions at each refined scale.")
@click.option("--repeats", default=3, show_default=True, help="Timed runs of each update.")
@click.option("--memory", help="Budget of a refinement, such as 8GB (default: most of what is free).")
@click.option("--model", type=click.Path(path_type=Path), help="A LaMa checkpoint in place of random weights.")
@click.option("--device", default="auto", show_default=True)
@click.option("--reference", type=click.Path(path_type=Path, exists=True), help="A clone of advimman/lama.")
@click.option("--keep-freed", is_flag=True, help="Leave the C library's allocator as it is.")
@click.option("--json", "json_path", type=click.Path(path_type=Path), help="Also write the results here.")
def main(
    sizes: str,
    cases: str,
    methods: str,
    precisions: str,
    windows: str,
    hole: float,
    steps: int,
    repeats: int,
    memory: str | None,
    model: Path | None,
    device: str,
    reference: Path | None,
    keep_freed: bool,
    json_path: Path | None,
) -> None:
    """Measure seconds and peak memory of LaMa and its refinement."""
    torch.manual_seed(0)
    manage_allocator()
    if not keep_freed:
        give_back_freed_memory()
    where = pick_device(device)
    generator = Generator(GeneratorConfig()).eval().requires_grad_(False) if model is None else load_generator(model)[0]
    bench = Bench(generator, where, repeats, steps, hole, memory)
    lists = [text.split(",") for text in (sizes, cases, methods, precisions, windows)]
    plan = Choice(lists[0], lists[1], lists[2], lists[3], lists[4], reference)
    rows: list[Row] = []
    for name, measure in plan.measurements(bench):
        try:
            rows.append(measure())
        except (ModuleNotFoundError, torch.OutOfMemoryError) as reason:  # noqa: PERF203  each case may fail
            click.echo(f"{name}: left out ({reason})", err=True)
        else:
            click.echo(" ".join(rows[-1].cells()), err=True)
    click.echo(_table(rows))
    if json_path is not None:
        content = {"machine": machine(where), "hole": hole, "rows": [asdict(row) for row in rows]}
        json_path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
