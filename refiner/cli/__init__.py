"""The command line: one module per command."""

from refiner.cli.app import main

__all__ = ["main"]
