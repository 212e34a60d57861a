"""How a command ends: exit code 0 done, 1 partly failed, 2 bad input (one line says which), 130 interrupted.

The trainer and the benchmarks end the same way.
"""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING, Any

import click

from refiner.cli.collector import rest_at_exit
from refiner.cli.spelling import in_words
from refiner.errors import RefinerError, RefinerWarning

if TYPE_CHECKING:
    from collections.abc import Callable

FAILED = 1
BAD_INPUT = 2
INTERRUPTED = 130


class OneLineErrors(click.Command):
    """A command whose errors are one line on stderr and an exit code."""

    def main(self, *args: Any, standalone_mode: bool = True, **kwargs: Any) -> Any:
        """Run the command; exits unless `standalone_mode` is off."""
        run: Callable[..., Any] = super().main
        if not standalone_mode:
            return run(*args, standalone_mode=False, **kwargs)
        code = _ended(lambda: run(*args, standalone_mode=False, **kwargs))
        rest_at_exit()
        sys.exit(code)


class Command(OneLineErrors):
    """A single command with one-line errors."""


class Group(OneLineErrors, click.Group):
    """A group of commands with one-line errors."""


def _ended(run: Callable[[], Any]) -> int:
    """Run a command, print its error in one line, and give the exit code."""
    warnings.showwarning = _show_warning
    try:
        return run() or 0
    except (click.Abort, KeyboardInterrupt):
        click.echo("Interrupted.", err=True)
        sys.stderr.flush()
        # Where the signal came during an import's exec(), sys.exit would let Python die by the signal instead.
        os._exit(INTERRUPTED)
    except click.exceptions.NoArgsIsHelpError as asked:
        click.echo(asked.format_message())
    except click.ClickException as error:
        click.echo(f"Error: {error.format_message()}", err=True)
    except RefinerError as error:
        click.echo(f"Error: {in_words(error)}", err=True)
    except OSError as error:  # of the system, not of a file's content: a name too long, a disk gone
        click.echo(f"Error: {error.filename or 'system'}: {error.strerror or error}.", err=True)
    return BAD_INPUT


def _show_warning(message: Warning | str, category: type[Warning], *_: object, **__: object) -> None:
    """Print a warning meant for users in one line; Python would add the place in the code."""
    if issubclass(category, (FutureWarning, RefinerWarning)):
        click.echo(f"Warning: {message}", err=True)
