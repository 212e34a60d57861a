"""The option that chooses a page, which several commands share."""

from __future__ import annotations

import click

page_option = click.option(
    "--page", type=click.IntRange(1), metavar="N", help="Of files with several pages or frames, which one."
)
