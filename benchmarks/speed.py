"""Seconds and peak memory of refinement, beside ordinary autograd, checkpointing and the authors' code.

python -m benchmarks.speed --sizes 1024x1024 --reference ~/lama --json result.json
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING

import click
import torch

from benchmarks.cases import Bench
from benchmarks.measure import machine
from benchmarks.reference import Reference
from benchmarks.rows import Row, table
from lama import Generator, GeneratorConfig, load_generator
from refiner.devices import pick_device
from refiner.errors import SettingsError
from refiner.memory import give_back_freed_memory, manage_allocator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_METHODS = ("frozen", "frozen in strips", "autograd", "checkpoint", "memsave_torch")


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
                    yield f"{case} {size} {precision}", measure
            if reference is not None:
                for precision in self.precisions:
                    if precision != "bfloat16":  # which their code does not know
                        measure = partial(bench.authors, reference, height, width, precision)
                        yield f"reference {size} {precision}", measure

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
        elif case == "overhead":
            yield partial(bench.overhead, height, width, precision)
        elif case == "plain":
            yield partial(bench.plain, height, width, precision)
        else:
            for windows in self.windows:
                yield partial(bench.refinement, height, width, precision, windows)


@click.command()
@click.option("--sizes", default="1024x1024", show_default=True, help="WIDTHxHEIGHT, separated by commas.")
@click.option(
    "--cases", default="update,descent,plain,refinement,default,overhead", show_default=True, help="What to measure."
)
@click.option("--methods", default=",".join(_METHODS), show_default=True, help="Ways to compute an update.")
@click.option(
    "--precisions", default="float32,tf32,bfloat16", show_default=True, help="Those that a device lacks are left out."
)
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
        except (ModuleNotFoundError, SettingsError, torch.OutOfMemoryError) as reason:  # noqa: PERF203  each case may fail
            click.echo(f"{name}: left out ({reason})", err=True)
        else:
            click.echo(" ".join(rows[-1].cells()), err=True)
    click.echo(table(rows))
    if json_path is not None:
        content = {"machine": machine(where), "hole": hole, "rows": [asdict(row) for row in rows]}
        json_path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
