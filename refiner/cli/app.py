"""The command `refiner`, and how it ends: 0 done, 2 bad input in one line, 130 interrupted."""

from __future__ import annotations

import os
import sys

import click

from refiner import __version__
from refiner.cli.batch import batch
from refiner.cli.check import check
from refiner.cli.inpaint import inpaint
from refiner.cli.masks import masks
from refiner.cli.weights import weights
from refiner.errors import RefinerError

BAD_INPUT = 2
INTERRUPTED = 130


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="refiner", message="%(prog)s %(version)s")
def app() -> None:
    """Remove an object from a 2K-4K photo and get a result that holds together at full size."""


app.add_command(inpaint)
app.add_command(batch)
app.add_command(check)
app.add_command(masks)
app.add_command(weights)


def main() -> None:
    """Run the command line and exit."""
    try:
        code = app.main(standalone_mode=False) or 0
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.stderr.flush()
        # sys.exit would let Python die by the signal instead, where it struck inside an import's exec().
        os._exit(INTERRUPTED)
    except click.exceptions.NoArgsIsHelpError as asked:
        click.echo(asked.format_message())
        code = BAD_INPUT
    except click.ClickException as error:
        click.echo(f"Error: {error.format_message()}", err=True)
        code = BAD_INPUT
    except RefinerError as error:
        click.echo(f"Error: {error}", err=True)
        code = BAD_INPUT
    except OSError as error:  # of the system rather than of one file's content: a name too long, a disk gone
        click.echo(f"Error: {error.filename or 'system'}: {error.strerror or error}.", err=True)
        code = BAD_INPUT
    sys.exit(code)
