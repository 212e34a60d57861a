"""Devices to compute on, by name."""

from __future__ import annotations

import torch

from refiner.errors import InputError


def pick_device(name: str) -> torch.device:
    """The device of this name; `auto` takes CUDA, else an Apple GPU, else the CPU.

    Raises:
        InputError: this machine or this build of PyTorch does not have the device.
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
    """The devices of these names, separated by commas; `refiner.models.placement` spreads a network over several.

    Raises:
        InputError: this machine or this build of PyTorch does not have one of the devices.
    """
    return tuple(pick_device(name.strip()) for name in names.split(","))
