"""The most memory that something takes."""

from __future__ import annotations

import ctypes
import gc
import threading
from typing import TYPE_CHECKING

import psutil
import torch

if TYPE_CHECKING:
    from typing_extensions import Self


class Peak:
    """Context that measures the most memory taken above what was in use at its start; `bytes` tells it afterwards."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._process = psutil.Process()
        self.bytes = 0

    def __enter__(self) -> Self:
        _release()
        if self._device.type == "cuda":
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
