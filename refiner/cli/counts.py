"""Whole numbers on the command line: one for all scales, or several by scale."""

from __future__ import annotations

from typing import Any

import click


class Counts(click.ParamType):  # type: ignore[type-arg]  # before Click 8.4 it takes no type
    """One whole number from 1, or several separated by commas, which make a tuple."""

    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int | tuple[int, ...]:
        """Convert text, see `click.ParamType`; a default value stays as it is."""
        if not isinstance(value, str):
            return value  # type: ignore[no-any-return]
        parts = [part.strip() for part in value.split(",")]
        if not all(part.isascii() and part.isdigit() and int(part) > 0 for part in parts):
            self.fail(f"expected a whole number from 1, or several such as 12,8,4, got {value!r}.", param, ctx)
        counts = tuple(map(int, parts))
        return counts[0] if len(counts) == 1 else counts
