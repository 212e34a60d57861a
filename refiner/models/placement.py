"""One network on several devices: the front on the first, the rear's stages one part after the other on each."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map

from refiner.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from torch.utils.hooks import RemovableHandle

    from refiner.models.inpainter import Inpainter


def carried_parts(model: nn.Module) -> list[tuple[nn.Module, torch.device]]:
    """The parts of a network that was spread, or of a copy of it, and their devices."""
    hooks = ((module, hook) for module in model.modules() for hook in module._forward_pre_hooks.values())  # noqa: SLF001
    return [(module, hook.device) for module, hook in hooks if isinstance(hook, Carry)]


@dataclass(frozen=True)
class _Placement:
    """Where a network was spread to, and the hooks that carry its tensors."""

    devices: tuple[torch.device, ...]
    hooks: tuple[RemovableHandle, ...]


_placements: WeakKeyDictionary[nn.Module, _Placement] = WeakKeyDictionary()


def spread(model: Inpainter, devices: Sequence[torch.device]) -> None:
    """Move a network to several devices; tensors follow from stage to stage.

    Stages are the modules that the model's spec lists, in the order they run; a stage that is an `nn.ModuleList` stays
    together. They are dealt out evenly; all else goes to the first device. The engine brings the prediction back there.

    Args:
        model: a module whose spec has stages, or any module where there is one device. To use it on fewer devices,
            call this again.
        devices: where to; the first is where pictures are.

    Raises:
        InputError: there are several devices and the model has no stages, or fewer than devices.
    """
    if not isinstance(model, nn.Module) or placed_on(model) == tuple(devices):
        return
    before = _placements.pop(model, None)
    for hook in before.hooks if before is not None else ():
        hook.remove()
    model.to(devices[0])
    if len(devices) == 1:
        return
    stages = model.spec.stages
    if len(stages) < len(devices):
        raise InputError(
            f"device: {len(devices)} devices given, but this model has {len(stages)} stages to deal out; give one."
        )
    hooks: list[RemovableHandle] = []
    for number, stage in enumerate(stages):
        device = devices[number * len(devices) // len(stages)]
        stage.to(device)
        parts = stage if isinstance(stage, nn.ModuleList) else [stage]
        hooks += [part.register_forward_pre_hook(Carry(device), with_kwargs=True) for part in parts]
    _placements[model] = _Placement(tuple(devices), tuple(hooks))


def placed_on(model: Inpainter) -> tuple[torch.device, ...]:
    """The devices a network was spread over; none where it was not."""
    placement = _placements.get(model) if isinstance(model, nn.Module) else None
    return () if placement is None else placement.devices


@dataclass(frozen=True)
class Carry:
    """A hook that carries what a part of a network is given to the part's device.

    Attributes:
        device: of the part.
    """

    device: torch.device

    def __call__(self, _: nn.Module, args: Any, kwargs: Any) -> Any:
        """Arguments on the device."""
        if self.device.type == "cuda" and torch.cuda.is_current_stream_capturing():
            raise RuntimeError("work on several devices cannot be recorded as one graph")
        # The memory estimate runs without data, and needs none moved.
        travels = tree_map(lambda x: isinstance(x, Tensor) and x.device.type != "meta", (args, kwargs))
        return tree_map(lambda x, does: x.to(self.device) if does else x, (args, kwargs), travels)
