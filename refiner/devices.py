"""Where to compute."""

from __future__ import annotations

import ctypes

import torch

from refiner.errors import InputError


def pick_device(name: str) -> torch.device:
    """The device named; `auto` takes CUDA, else an Apple GPU, else the CPU.

    Raises:
        InputError: this machine or this build of PyTorch does not have it.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        name = next(kind for kind, there in available.items() if there)
    kind, colon, index = name.partition(":")
    known = kind in available and (not colon or (kind == "cuda" and index.isdecimal()))
    if not known or not available[kind]:
        offered = ", ".join(["auto", *(kind for kind, there in available.items() if there)])
        raise InputError(f"device {name!r}: not available here; expected one of {offered}.")
    if kind == "cuda" and int(index or 0) >= torch.cuda.device_count():
        raise InputError(f"device {name!r}: there are {torch.cuda.device_count()} CUDA devices, counted from 0.")
    return torch.device(name)


def pick_devices(names: str) -> tuple[torch.device, ...]:
    """The devices named, separated by commas; a network of several is spread over them, see `refiner.placement`.

    Raises:
        InputError: this machine or this build of PyTorch does not have one of them.
    """
    return tuple(pick_device(name.strip()) for name in names.split(","))


def give_back_freed_memory() -> bool:
    """Have the C library give freed tensors back to the system at once, for the rest of this process.

    glibc keeps freed blocks of up to 32 MB for reuse, and between them about as much again as is in use. A program
    that must keep to a memory budget calls this once; a library leaves its host's allocator alone.

    Returns:
        Whether the C library is one that can be told.
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
    words = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
    return isinstance(error, RuntimeError) and any(word in str(error).lower() for word in words)
