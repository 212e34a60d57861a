"""Copies of networks that share or replace their tensors."""

from __future__ import annotations

import copy
from collections import OrderedDict
from collections.abc import Mapping
from functools import cache
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from refiner.memory import collector_at_rest
from refiner.models.inpainter import Inpainter

if TYPE_CHECKING:
    from collections.abc import Callable

ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, torch.Size})


def copy_with(model: Inpainter, replace: Callable[[Tensor], Tensor]) -> Inpainter | None:
    """A copy of a network in which each tensor is what `replace` makes of it; None where it cannot be copied."""
    try:
        with collector_at_rest():
            memo: dict[int, Any] = {
                id(part): nn.Parameter(replace(part), requires_grad=False)
                if isinstance(part, nn.Parameter)
                else replace(part)
                for part in parts_of(model)
                if isinstance(part, Tensor)
            }
            copied: Any = _copied(model, memo)
    except Exception:  # noqa: BLE001  anybody's code, which may hold what has no copy, such as a lock or a generator
        return None
    return copied if isinstance(copied, Inpainter) else None


def shared(tensor: Tensor) -> Tensor:
    """A tensor over the same memory that autograd can use, whatever mode it was made in."""
    if not tensor.is_inference():
        return tensor.detach()
    ours = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return ours.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())


def parts_of(model: object) -> list[nn.Module | Tensor]:
    """All modules and tensors that an object holds, registered or not, however deep."""
    found: dict[int, nn.Module | Tensor] = {}
    seen: set[int] = set()
    waiting: list[Any] = [model]
    while waiting:
        here = waiting.pop()
        kind = type(here)
        if kind in ATOMS or id(here) in seen:
            continue
        seen.add(id(here))
        if kind in (dict, OrderedDict):
            waiting += here.values()
            continue
        if isinstance(here, (type, ModuleType)):
            continue
        if isinstance(here, (nn.Module, Tensor)):
            found[id(here)] = here
        if isinstance(here, Mapping):
            waiting += here.values()
        elif isinstance(here, (list, tuple, set, frozenset)):
            waiting += here
        elif isinstance(here, MethodType):
            waiting.append(here.__self__)
        elif not isinstance(here, (Tensor, FunctionType)):
            waiting += [each for each in getattr(here, "__dict__", {}).values() if type(each) not in ATOMS]
    return list(found.values())


def modules_of(model: object) -> list[nn.Module]:
    """All modules that an object holds, itself among them."""
    return [part for part in parts_of(model) if isinstance(part, nn.Module)]


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """What `copy.deepcopy` gives, in a third of its time for modules that leave their copying to Python."""
    kind: Any = type(value)
    made: Any
    if kind in ATOMS:
        return value
    if id(value) in memo:
        return memo[id(value)]
    if kind in (dict, OrderedDict) and not getattr(value, "__dict__", None):
        memo[id(value)] = made = kind()
        for key, each in value.items():
            made[_copied(key, memo)] = _copied(each, memo)
    elif kind is tuple and all(type(each) in ATOMS for each in value):
        made = value
    elif kind is list:
        memo[id(value)] = made = []
        made += [_copied(each, memo) for each in value]
    elif isinstance(value, nn.Module) and _copies_as_python_does(kind):
        memo[id(value)] = made = kind.__new__(kind)
        state = value.__getstate__() if hasattr(nn.Module, "__getstate__") else vars(value)  # type: ignore[no-untyped-call]
        made.__setstate__({name: _copied(each, memo) for name, each in state.items()})
    else:
        made = copy.deepcopy(value, memo)
    return made


@cache
def _copies_as_python_does(kind: type[nn.Module]) -> bool:
    """Whether a class of modules has no way of its own to be copied: its instances are what they have as attributes."""
    if hasattr(kind, "__deepcopy__") or kind.__new__ is not object.__new__:
        return False
    names = ("__reduce_ex__", "__reduce__", "__getstate__", "__getnewargs__", "__getnewargs_ex__", "__slots__")
    return all(getattr(kind, name, None) is getattr(nn.Module, name, None) for name in names)
