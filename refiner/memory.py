"""Memory: what is free, what a piece of work takes, and giving it back."""

from __future__ import annotations

import ctypes
import gc
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import torch

if TYPE_CHECKING:
    from typing_extensions import Self

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


def give_back_freed_memory() -> bool:
    """Have the C library give freed tensors back to the system at once, for the rest of this process.

    glibc keeps freed blocks of up to 32 MB for reuse, and between them about as much again as is in use. A program
    that must keep to a memory budget calls this once; a library leaves its host's allocator alone.

    Returns:
        Whether the C library has this switch.
    """
    mmap_threshold, block = -3, 1 << 20  # M_MMAP_THRESHOLD of mallopt(3), in bytes
    try:
        return bool(ctypes.CDLL("libc.so.6").mallopt(mmap_threshold, block))
    except (OSError, AttributeError):  # not glibc
        return False


def is_out_of_memory(error: BaseException) -> bool:
    """Whether a device or the machine had no memory left; platforms say it in different words."""
    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error).lower() for words in _OUT_OF_MEMORY)


class Peak:
    """Context that measures the peak of memory above what was in use at its start; read `bytes` afterwards."""

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
            self._before = torch.cuda.memory_allocated(self._device)
            return self
        self._before = self._process.memory_info().rss
        self._done = threading.Event()
        self._watch = threading.Thread(target=self._sample, daemon=True)
        self._watch.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._device.type == "cuda":
            self.bytes = torch.cuda.max_memory_allocated(self._device) - self._before
            return
        self._done.set()
        self._watch.join()

    def _sample(self) -> None:
        while not self._done.wait(0.01):
            self.bytes = max(self.bytes, self._process.memory_info().rss - self._before)


def _release() -> None:
    """Give freed memory back to the system, so that the next case starts from the same level."""
    gc.collect()
    try:
        ctypes.CDLL("libc.so.6").malloc_trim(0)
    except (OSError, AttributeError):  # not glibc
        return
