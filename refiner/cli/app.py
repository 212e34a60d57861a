"""The command `refiner`."""

from __future__ import annotations

import os

import click

from refiner import __version__
from refiner.cli.batch import batch
from refiner.cli.check import check
from refiner.cli.collector import rest_while_starting
from refiner.cli.exits import Group
from refiner.cli.inpaint import inpaint
from refiner.cli.masks import masks
from refiner.cli.web import web
from refiner.cli.weights import weights

_SPINS = "20000"  # a tenth of a millisecond or so


@click.group(cls=Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="refiner", message="%(prog)s %(version)s")
def app() -> None:
    """Remove an object from a 2K-4K photo and get a result that holds together at full size."""


app.add_command(inpaint)
app.add_command(batch)
app.add_command(web)
app.add_command(check)
app.add_command(masks)
app.add_command(weights)


def main() -> None:
    """Run the command line and exit."""
    rest_while_starting()
    # Pages of 2 MB, which Linux clears and maps several times faster. PyTorch reads this when it first allocates.
    os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
    # GNU's OpenMP, PyTorch's on Linux, has waiting threads ask again and again for milliseconds. Where another program
    # needs the core that one of them holds so, small pictures take several times as long.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", _SPINS)
    app.main()
