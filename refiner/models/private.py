"""A network's private copy to work on, whatever the caller does with its own meanwhile."""

from __future__ import annotations

import copy
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping
from contextlib import contextmanager
from functools import cache
from types import FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from refiner.errors import ModelError
from refiner.models.inpainter import Inpainter

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class _Locks:
    """A lock for each model that cannot be copied."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew: after a fork, locks that other threads held are never released."""
        self._of_models: WeakKeyDictionary[Any, threading.RLock] = WeakKeyDictionary()
        self._own = threading.Lock()
        self._of_all = threading.RLock()  # of models that cannot be keys

    def of(self, model: Inpainter) -> threading.RLock:
        """The model's."""
        with self._own:
            try:
                return self._of_models.setdefault(model, threading.RLock())
            except TypeError:  # it has no hash, or cannot be held weakly
                return self._of_all


_locks = _Locks()
if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks
    os.register_at_fork(after_in_child=_locks.forget)


@contextmanager
def private(model: Inpainter) -> Iterator[Inpainter]:
    """The network held still: in eval mode, its parameters without gradients.

    It is a copy that shares the weights' memory, so that threads can work with one model, and the model itself stays
    as it is. One that cannot be copied is held itself, by one thread at a time, and restored afterwards.
    """
    held = None if _is_scripted(model) else copy_with(model, _shared)
    if held is not None:
        _hold(held)
        yield held
        return
    with _locks.of(model):
        release = _hold(model)
        try:
            yield model
        finally:
            release()


def in_float32(model: Inpainter) -> Inpainter:
    """A copy of a network with all its numbers in float32.

    Raises:
        ModelError: it cannot be copied.
    """
    copied = copy_with(model, lambda tensor: tensor.float() if tensor.is_floating_point() else _shared(tensor))
    if copied is None or _is_scripted(model):
        raise ModelError("model: has 16-bit weights and cannot be copied into float32; load it in float32.")
    return copied


def copy_with(model: Inpainter, replace: Callable[[Tensor], Tensor]) -> Inpainter | None:
    """A copy of a network in which each tensor is what `replace` makes of it; None where it cannot be copied."""
    try:
        memo = {
            id(part): nn.Parameter(replace(part), requires_grad=False)
            if isinstance(part, nn.Parameter)
            else replace(part)
            for part in _parts_of(model)
            if isinstance(part, Tensor)
        }
        copied: Any = _copied(model, memo)
    except Exception:  # noqa: BLE001  anybody's code, which may hold what has no copy, such as a lock or a generator
        return None
    return copied if isinstance(copied, Inpainter) else None


def _copied(value: Any, memo: dict[int, Any]) -> Any:
    """What `copy.deepcopy` gives, in a fifth of its time for modules that leave their copying to Python."""
    if id(value) in memo:
        return memo[id(value)]
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind in (dict, OrderedDict) and not getattr(value, "__dict__", None):
        memo[id(value)] = made = kind()
        for key, each in value.items():
            made[_copied(key, memo)] = _copied(each, memo)
    elif kind is list:
        memo[id(value)] = made = []
        made += [_copied(each, memo) for each in value]
    elif isinstance(value, nn.Module) and _copies_as_python_does(kind):
        memo[id(value)] = made = kind.__new__(kind)
        made.__setstate__({name: _copied(each, memo) for name, each in vars(value).items()})
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


_ATOMS = frozenset({type(None), bool, int, float, complex, str, bytes, torch.dtype, torch.device, type, FunctionType})


def _parts_of(model: object) -> list[nn.Module | Tensor]:
    """All modules and tensors that an object holds, registered or not, however deep."""
    found: dict[int, nn.Module | Tensor] = {}
    seen: set[int] = set()
    waiting: list[Any] = [model]
    while waiting:
        here = waiting.pop()
        if id(here) in seen or isinstance(here, (type, ModuleType)):
            continue
        seen.add(id(here))
        if isinstance(here, (nn.Module, Tensor)):
            found[id(here)] = here
        if isinstance(here, Mapping):
            waiting += here.values()
        elif isinstance(here, (list, tuple, set, frozenset)):
            waiting += here
        elif isinstance(here, MethodType):
            waiting.append(here.__self__)
        elif not isinstance(here, (Tensor, FunctionType)):
            waiting += getattr(here, "__dict__", {}).values()
    return list(found.values())


def _modules_of(model: object) -> list[nn.Module]:
    return [part for part in _parts_of(model) if isinstance(part, nn.Module)]


def _shared(tensor: Tensor) -> Tensor:
    """A tensor over the same memory that autograd can use, whatever mode it was made in."""
    if not tensor.is_inference():
        return tensor.detach()
    ours = torch.empty(0, dtype=tensor.dtype, device=tensor.device)
    return ours.set_(tensor.untyped_storage(), tensor.storage_offset(), tensor.size(), tensor.stride())


def _hold(model: Inpainter) -> Callable[[], None]:
    """Put a network into eval mode, without gradients; gives what restores it."""
    modules = _modules_of(model)
    training = [module for module in modules if module.training]
    learning = [p for module in modules for p in module.parameters(recurse=False) if p.requires_grad]

    def restore() -> None:
        for module in training:
            module.training = True
        for parameter in learning:
            parameter.requires_grad_(True)

    for module in training:
        module.training = False
    for parameter in learning:
        parameter.requires_grad_(False)
    return restore


def _is_scripted(model: Inpainter) -> bool:
    """Whether part of it is TorchScript, whose copies have weights of their own."""
    return any(isinstance(module, torch.jit.ScriptModule) for module in _modules_of(model))
