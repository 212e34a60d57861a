"""Weights from the network: whole, checked, and never in each other's way."""

from __future__ import annotations

import hashlib
import sys
import tempfile
import urllib.error
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

_quiet = ContextVar("quiet", default=False)


@contextmanager
def quiet_downloads(*, quiet: bool = True) -> Iterator[None]:
    """Show no bar for downloads in this context, also where there is a terminal."""
    token = _quiet.set(quiet)
    try:
        yield
    finally:
        _quiet.reset(token)


@contextmanager
def downloaded(url: str, folder: Path) -> Iterator[Path]:
    """A file from the network, for as long as the context lasts.

    It has a name of its own in the folder, so that processes which download the same do not see each other's; what is
    made of it is to be moved to its place whole.

    Args:
        url: where it is.
        folder: on the disk that it is meant for; made where it is not there.

    Raises:
        OSError: it cannot be had or written; the message says why.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder, prefix=".download-") as private:
        file = Path(private) / url.rsplit("/", 1)[-1]
        try:
            torch.hub.download_url_to_file(url, str(file), progress=sys.stderr.isatty() and not _quiet.get())
        except urllib.error.URLError as error:
            raise OSError(str(error.reason or error)) from error
        yield file


def md5_of(path: Path) -> str:
    """The MD5 checksum of a file, as publishers give it."""
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()
