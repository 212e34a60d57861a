"""Memory: what is free, what a piece of work takes, and giving it back."""

from __future__ import annotations

import ctypes
import gc
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typing_extensions import Self

# Parameters of glibc's mallopt(3).
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_SMALL = 1 << 20  # bytes of a block that is given back at once where a program asked for that
_ADAPTED = 32 << 20  # where glibc's own threshold ends in a program that frees large blocks
_EVERYTHING = (1 << 31) - 1

# Where memory runs out inside a library of NVIDIA's, it says only that it could not start, plan or allocate.
_OUT_OF_MEMORY = (
    "out of memory",
    "can't allocate memory",
    "not enough memory",
    "alloc_failed",
    "unable to find an engine",
    "no valid execution plans",
    "cufft_internal_error",
    "cublas_status_not_initialized",
    "cudnn_status_not_initialized",
    "cudnn_status_internal_error",
)


def free_bytes(device: torch.device) -> int:
    """Memory that can still be allocated on a device, what PyTorch holds but does not use counted in."""
    if device.type == "cuda":
        cached = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(torch.cuda.mem_get_info(device)[0]) + cached
    free = int(psutil.virtual_memory().available)
    group = Path("/sys/fs/cgroup")  # a container's limit, which the machine's own numbers do not show
    try:
        limit, used = ((group / name).read_text().strip() for name in ("memory.max", "memory.current"))
        lines = (group / "memory.stat").read_text().splitlines()
        reclaimable = next((int(line.split()[1]) for line in lines if line.startswith("inactive_file ")), 0)
        free = min(free, int(limit) - int(used) + reclaimable)
    except (OSError, ValueError):  # no such limit
        pass
    if device.type == "mps":
        free = min(free, torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory())
    return max(free, 0)


def manage_allocator() -> None:
    """Say that this process is ours, so that the C library may be told what freed memory to keep.

    A program calls this once, at its start. Without it nothing here changes the allocator, which belongs to the host
    that uses this package as a library.
    """
    _allocator.ours = True


def give_back_freed_memory() -> bool:
    """Have the C library give freed tensors back to the system at once, for the rest of this process.

    glibc keeps freed blocks of up to 32 MB for reuse, and between them about as much again as is in use. A program
    that must keep to a memory budget calls this, after `manage_allocator`.

    Returns:
        Whether the C library has this switch.
    """
    return _allocator.give_back()


@contextmanager
def freed_memory_kept(most: int) -> Iterator[None]:
    """Have the C library keep freed tensors for the next ones in this context, and give them back at its end.

    glibc asks the system for every block above 32 MB anew; clearing and mapping their pages can take a quarter of a
    refinement's time. With all of them kept, as much again lies idle between those in use. So operations call
    `make_room` before they allocate, which gives back what is idle where the process would grow by more than `most`.

    Nothing is changed where the process is not ours, see `manage_allocator`. Contexts of several threads add up.
    Afterwards the thresholds are those that glibc arrives at by itself in a program with large blocks, or that of
    `give_back_freed_memory`. Without glibc nothing changes.

    Args:
        most: bytes that the process may grow by, before what is idle is given back.
    """
    if not _allocator.ours:
        yield
        return
    _allocator.enter(most)
    try:
        yield
    finally:
        _allocator.leave(most)


@contextmanager
def collector_at_rest() -> Iterator[None]:
    """Have Python not look for garbage in this context, which makes many objects that stay.

    It would go through all that PyTorch's import made, which takes several times as long. Threads that are in such
    contexts together have it back as soon as the first one leaves.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def make_room(upcoming: int) -> None:
    """Give back idle memory where `upcoming` bytes would not fit; does nothing outside `freed_memory_kept`."""
    if _allocator.ceiling is not None:
        _allocator.make_room(upcoming)


class _Allocator:
    """glibc's allocator, as far as it can be told what to keep.

    Attributes:
        ours: whether this process is ours, so that anything may be changed.
        ceiling: resident bytes above which nothing idle is kept; None where nobody asked to keep any.
    """

    def __init__(self) -> None:
        self.ours = False
        self.ceiling: int | None = None
        self._lock = threading.Lock()
        self._at_rest = _ADAPTED
        self._inside = 0
        self._process = psutil.Process()

    def give_back(self) -> bool:
        """Keep nothing large from now on."""
        if not self.ours:
            return False
        with self._lock:
            self._at_rest = _SMALL
            return self._set(_MMAP_THRESHOLD, _SMALL)

    def enter(self, most: int) -> None:
        """Begin to keep freed memory, or keep `most` more where another thread does already."""
        with self._lock:
            self._inside += 1
            if self._inside > 1:
                if self.ceiling is not None:
                    self.ceiling += most
                return
            # Releases before 2.35 refuse more than 32 MB, and keep blocks up to that.
            if not (self._set(_MMAP_THRESHOLD, _EVERYTHING) or self._set(_MMAP_THRESHOLD, _ADAPTED)):
                return
            self._set(_TRIM_THRESHOLD, _EVERYTHING)
            self._trim()
            self._process = psutil.Process()  # this one, which may be a copy that has another number
            self.ceiling = int(self._process.memory_info().rss) + most

    def leave(self, most: int) -> None:
        """Give freed memory back, and go on as glibc does by itself."""
        with self._lock:
            self._inside -= 1
            if self._inside:
                if self.ceiling is not None:
                    self.ceiling -= most
                return
            if self.ceiling is not None:
                self.ceiling = None
                self._set(_MMAP_THRESHOLD, self._at_rest)
                self._set(_TRIM_THRESHOLD, 2 * self._at_rest)
                self._trim()

    def make_room(self, upcoming: int) -> None:
        """See the function."""
        ceiling = self.ceiling
        if ceiling is not None and self._process.memory_info().rss + upcoming > ceiling:
            self._trim()

    @staticmethod
    def _set(parameter: int, value: int) -> bool:
        try:
            return bool(ctypes.CDLL("libc.so.6").mallopt(parameter, value))
        except (OSError, AttributeError):  # not glibc
            return False

    def trim(self, *, asked: bool) -> None:
        """See the function."""
        if self.ours or asked:
            self._trim()

    @staticmethod
    def _trim() -> None:
        try:
            ctypes.CDLL("libc.so.6").malloc_trim(0)
        except (OSError, AttributeError):  # not glibc
            return


def trim(*, asked: bool = False) -> None:
    """Give back to the system what the C library keeps of freed memory now.

    Args:
        asked: in another program's process too, which asks for it.
    """
    _allocator.trim(asked=asked)


_allocator = _Allocator()


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the machine had no memory left; platforms say it in different words."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _OUT_OF_MEMORY)


class Peak:
    """Context that measures the peak of memory above what was in use at its start; read `bytes` afterwards.

    On CUDA it is what PyTorch took from the device, its cache and the libraries' workspaces counted in: that is what
    other programs, and this one's next call, do not have.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process = psutil.Process()
        self.bytes = 0

    def __enter__(self) -> Self:
        _release()
        if self._device.type == "cuda":
            torch.cuda.init()  # type: ignore[no-untyped-call]  # nobody may have used it yet, and its statistics cannot be reset before
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats(self._device)
            self._before = torch.cuda.memory_reserved(self._device)
            return self
        self._before = self._process.memory_info().rss
        self._done = threading.Event()
        self._watch = threading.Thread(target=self._sample, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            self.bytes = torch.cuda.max_memory_reserved(self._device) - self._before
            return
        self._done.set()
        self._watch.join()

    def _sample(self) -> None:
        while not self._done.wait(0.01):
            self.bytes = max(self.bytes, self._process.memory_info().rss - self._before)


def _release() -> None:
    """Give freed memory back to the system, so that the next case starts from the same level."""
    gc.collect()
    trim()
