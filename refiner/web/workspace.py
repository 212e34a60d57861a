"""The server's folder on disk. A new server takes over the photos of servers that ended without cleaning up."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
import shutil
import time
from pathlib import Path
from typing import Any

import platformdirs
import psutil

from refiner.files import make_folder

_OWNER = "owner.json"


def default_root() -> Path:
    """The folder that holds the folders of all servers of this user."""
    given = os.environ.get("REFINER_CACHE")
    return (Path(given) if given else Path(platformdirs.user_cache_dir("refiner"))) / "web"


class Workspace:
    """A folder of this server alone.

    Photos of servers that were killed are moved in, so that visitors find them again at the same address.

    Args:
        root: holds the folders of all servers.

    Raises:
        InputError: the folder cannot be made.
    """

    def __init__(self, root: Path) -> None:
        make_folder(root)
        root.chmod(0o700)  # other users must not read the photos
        self.folder = root / secrets.token_hex(8)
        make_folder(self.folder)
        me = psutil.Process()
        (self.folder / _OWNER).write_text(json.dumps({"pid": me.pid, "started": me.create_time()}), encoding="utf-8")
        for left in root.iterdir():
            if left != self.folder and left.is_dir() and not _is_alive(left):
                self._take_over(left)

    @property
    def photos(self) -> list[Path]:
        """The folders of all photos."""
        return sorted(path for path in self.folder.iterdir() if path.is_dir())

    def used_bytes(self) -> int:
        """Bytes of all files in the folder."""
        return sum(map(_size, self.folder.rglob("*")))

    def close(self) -> None:
        """Remove the folder with all that is in it."""
        shutil.rmtree(self.folder, ignore_errors=True)

    def _take_over(self, left: Path) -> None:
        for photo in [path for path in left.iterdir() if path.is_dir()]:
            with contextlib.suppress(OSError):  # another server took the photo
                photo.rename(self.folder / photo.name)
        shutil.rmtree(left, ignore_errors=True)


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:  # removed meanwhile
        return 0


def _is_alive(folder: Path) -> bool:
    """Whether the server that a folder belongs to still runs."""
    try:
        owner: dict[str, Any] = json.loads((folder / _OWNER).read_text(encoding="utf-8"))
        return bool(abs(psutil.Process(owner["pid"]).create_time() - owner["started"]) < 1)
    except (psutil.NoSuchProcess, psutil.AccessDenied):
        return False
    except (OSError, ValueError, KeyError):
        return time.time() - folder.stat().st_mtime < 60  # noqa: PLR2004  seconds: its server is just starting
