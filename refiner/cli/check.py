"""`refiner check`: test whether an inpainter does what the engine relies on."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import click

from refiner.cli.exits import FAILED

if TYPE_CHECKING:
    from refiner.testing import Cut


@click.command(no_args_is_help=True)
@click.argument("model", metavar="NAME|PATH|MODULE:ATTRIBUTE")
@click.option("--scan", "scanning", is_flag=True, help="Also try every place to cut a sequence of layers.")
@click.option("--device", default="auto", show_default=True, metavar="auto|cpu|cuda|mps", help="Where to compute.")
def check(model: str, *, scanning: bool, device: str) -> None:
    """Test whether an inpainter does what the engine relies on.

    MODULE:ATTRIBUTE names an inpainter in Python code, or a function that makes one; modules are also looked for in the
    current folder. Exits with 1 where something failed.
    """
    from torch import nn  # noqa: PLC0415  so that help comes at once

    from refiner import testing  # noqa: PLC0415
    from refiner.devices import pick_device  # noqa: PLC0415
    from refiner.models.registry import load_model  # noqa: PLC0415

    inpainter = load_model(model)
    if isinstance(inpainter, nn.Module):
        inpainter.to(pick_device(device))
    report = testing.check(inpainter)
    click.echo(str(report))
    if scanning:
        click.echo()
        click.echo(_table(testing.scan(inpainter)))
    if not report.passed:
        failed = sum(finding.status == "failed" for finding in report.findings)
        click.echo(f"{model}: {failed} of {len(report.findings)} checks failed.", err=True)
        sys.exit(FAILED)


def _table(cuts: list[Cut]) -> str:
    """A table with a row for each cut. Losses compare, since all cuts have the same picture and coarser scale."""
    head = ("cut before", "depth", "features", "values/px", "saved B/px", "s/update", "loss", "loss after 15")
    rows = [
        (
            cut.at,
            str(cut.depth),
            " + ".join("x".join(map(str, shape)) for shape in cut.shape),
            f"{cut.values:.2f}",
            f"{cut.saved_bytes:.0f}",
            f"{cut.seconds:.3f}",
            f"{cut.loss_before:.4f}",
            f"{cut.loss_after:.4f}",
        )
        for cut in cuts
    ]
    widths = [max(len(row[i]) for row in (head, *rows)) for i in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in (head, *rows)
    )
