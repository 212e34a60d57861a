"""One network on several devices: the front on the first, the rear's stages one part after the other on each."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor, nn
from torch.utils._pytree import tree_map

from refiner.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    import torch

    from refiner.models.inpainter import Inpainter

_HANDLES, _DEVICES = "_spread_handles", "_spread_devices"  # what a spread module is marked with


def spread(model: Inpainter, devices: Sequence[torch.device]) -> None:
    """Move a network to several devices; tensors follow from stage to stage.

    Stages are the modules that the model's attribute `stages` lists, in the order they run; a stage that is an
    `nn.ModuleList` stays together. They are dealt out evenly; all else goes to the first device. The prediction is
    brought back there by the engine.

    Args:
        model: a module with `stages`, or any module where there is one device. It stays usable on fewer devices: call
            this again.
        devices: where to; the first is where pictures are.

    Raises:
        InputError: there are several devices and the model has no stages, or fewer than devices.
    """
    if not isinstance(model, nn.Module) or placed_on(model) == tuple(devices):
        return
    for handle in vars(model).pop(_HANDLES, []):
        handle.remove()
    vars(model).pop(_DEVICES, None)
    model.to(devices[0])
    if len(devices) == 1:
        return
    stages: list[nn.Module] = list(getattr(model, "stages", ()))
    if len(stages) < len(devices):
        raise InputError(
            f"device: {len(devices)} devices given, but this model has {len(stages)} stages to deal out; give one."
        )
    handles = []
    for number, stage in enumerate(stages):
        device = devices[number * len(devices) // len(stages)]
        stage.to(device)
        parts = stage if isinstance(stage, nn.ModuleList) else [stage]
        handles += [part.register_forward_pre_hook(_carry_to(device), with_kwargs=True) for part in parts]
    vars(model).update({_HANDLES: handles, _DEVICES: tuple(devices)})


def placed_on(model: Inpainter) -> tuple[torch.device, ...]:
    """The devices a network was spread over; none where it was not."""
    devices: tuple[torch.device, ...] = getattr(model, _DEVICES, ())
    return devices


def _carry_to(device: torch.device) -> Any:
    def carry(_: nn.Module, args: Any, kwargs: Any) -> Any:
        # A rehearsal runs without data, and needs none moved.
        travels = tree_map(lambda x: isinstance(x, Tensor) and x.device.type != "meta", (args, kwargs))
        return tree_map(lambda x, does: x.to(device) if does else x, (args, kwargs), travels)

    return carry
