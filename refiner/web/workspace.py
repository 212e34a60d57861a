"""The server's folder on disk. A server takes over the photos of servers that ended without cleaning up."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import time
import uuid
from pathlib import Path

import platformdirs
import psutil

from refiner.errors import InputError
from refiner.files import make_folder
from refiner.web.locks import FileLock

_LOCK = "server.lock"
_MACHINE = "machine"  # the file that says on which machine a folder's server runs, and is touched while it does
_BOOT = Path("/proc/sys/kernel/random/boot_id")  # the same in all containers of a machine
_SILENT = 300  # seconds without a sign of life after which a server on another machine is taken to have ended


def default_root() -> Path:
    """The folder that holds the folders of all servers of this user."""
    given = os.environ.get("REFINER_CACHE")
    return (Path(given) if given else Path(platformdirs.user_cache_dir("refiner"))) / "web"


class Workspace:
    """A folder of this server alone.

    Photos of servers that were killed are moved in, so that visitors find them again at the same address. Whether a
    server runs is told by its lock; where it may run on another machine, whose locks cannot be relied on, by how long
    it gave no sign of life.

    Args:
        root: holds the folders of all servers.

    Raises:
        InputError: the folder cannot be made or written to.
    """

    def __init__(self, root: Path) -> None:
        make_folder(root)
        self.root = root
        self.folder = root / secrets.token_hex(8)
        try:
            root.chmod(0o700)  # other users must not read the photos
            self.folder.mkdir()
            self._lock = FileLock(self.folder / _LOCK)
            self._lock.take()
            (self.folder / _MACHINE).write_text(_machine(), encoding="utf-8")
        except OSError as error:
            raise InputError(f"{root}: cannot be written to ({error.strerror}).") from error
        self.take_over()

    @property
    def photos(self) -> list[Path]:
        """The folders of all photos."""
        return sorted(path for path in self.folder.iterdir() if path.is_dir())

    def used_bytes(self) -> int:
        """Bytes of all files in the folder."""
        return _size(self.folder)

    def give_sign(self) -> None:
        """Tell servers on other machines that this one runs."""
        os.utime(self.folder / _MACHINE)

    def take_over(self) -> list[Path]:
        """Move in the photos of servers that have ended; gives their new folders."""
        moved: list[Path] = []
        for left in self.root.iterdir():
            if left == self.folder or not left.is_dir() or _is_starting(left):
                continue
            lock = FileLock(left / _LOCK)
            with contextlib.suppress(OSError):  # another server is quicker
                if _may_be_alive(left) or not lock.take():
                    continue
                try:
                    moved += self._move_in(left)
                finally:
                    lock.release()
                shutil.rmtree(left, ignore_errors=True)
        return moved

    def close(self) -> None:
        """Remove the folder with all that is in it."""
        self._lock.release()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _move_in(self, left: Path) -> list[Path]:
        photos = [path for path in left.iterdir() if path.is_dir()]
        return [photo.rename(self.folder / photo.name) for photo in photos]


def _machine() -> str:
    """What tells a machine since its last start from every other."""
    try:
        return _BOOT.read_text(encoding="ascii").strip()
    except OSError:  # not Linux
        return f"{uuid.getnode()} {psutil.boot_time():.0f}"


def _may_be_alive(folder: Path) -> bool:
    """Whether the server of a folder may run on another machine, whatever its lock says."""
    try:
        machine, sign = (folder / _MACHINE).read_text(encoding="utf-8"), (folder / _MACHINE).stat().st_mtime
    except FileNotFoundError:  # it ended while it started
        return False
    return machine != _machine() and time.time() - sign < _SILENT


def _is_starting(folder: Path) -> bool:
    """Whether a folder's server may have made it just now, and not locked it yet."""
    try:
        return not (folder / _MACHINE).exists() and time.time() - folder.stat().st_mtime < 60  # noqa: PLR2004  seconds
    except OSError:  # removed meanwhile
        return True


def _size(folder: Path) -> int:
    total = 0
    with contextlib.suppress(OSError), os.scandir(folder) as entries:  # removed meanwhile
        for entry in entries:
            with contextlib.suppress(OSError):
                total += _size(Path(entry.path)) if entry.is_dir(follow_symlinks=False) else entry.stat().st_size
    return total
