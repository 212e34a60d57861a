"""A network's private copy to work on, whatever the caller does with its own meanwhile."""

from __future__ import annotations

import os
import threading
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from weakref import WeakKeyDictionary

import torch

from refiner.errors import ModelError
from refiner.models.copies import copy_with, modules_of, shared
from refiner.models.structure import Structure, structure_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

    from refiner.models.inpainter import Inpainter

_MOST_IDLE = 8  # copies of one network: as many as threads that worked with it at once


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


@dataclass(frozen=True)
class _Copy:
    """A copy that nobody works on, without weights: those stay the model's own, which may move or free them.

    Attributes:
        network: the copy.
        of: the model's structure when it was copied.
        own: the copy's.
    """

    network: Inpainter
    of: Structure
    own: Structure

    def attach(self, tensors: list[Tensor]) -> None:
        """Share a model's weights."""
        for ours, theirs in zip(self.own.tensors, tensors, strict=True):
            ours.data = shared(theirs)

    def is_as_made(self) -> bool:
        """Whether the work left no trace in the copy, such as a tensor that its code keeps."""
        now = structure_of(self.network)
        same = now is not None and now.is_that_of(self.own)
        return same and all(ours is made for ours, made in zip(now.tensors, self.own.tensors, strict=True))  # type: ignore[union-attr]

    def detach(self) -> None:
        """Let go of the weights."""
        blank = {
            (ours.dtype, ours.device): torch.empty(0, dtype=ours.dtype, device=ours.device) for ours in self.own.tensors
        }
        for ours in self.own.tensors:
            ours.data = blank[ours.dtype, ours.device]


class _Idle:
    """Copies that wait for the next call with their model."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Start anew; after a fork, for a thread that held the lock."""
        self._of_models: WeakKeyDictionary[Any, list[_Copy]] = WeakKeyDictionary()
        self._own = threading.Lock()

    def take(self, model: Inpainter, structure: Structure) -> _Copy | None:
        """One of the model as it is now, for this caller alone; None where there is none."""
        with self._own:
            try:
                copies = self._of_models.get(model, [])
            except TypeError:  # it has no hash, or cannot be held weakly
                return None
            copies[:] = [each for each in copies if each.of.is_that_of(structure)]
            return copies.pop() if copies else None

    def put(self, model: Inpainter, copy: _Copy) -> None:
        """Leave one for the next caller."""
        with self._own:
            try:
                copies = self._of_models.setdefault(model, [])
            except TypeError:
                return
            if len(copies) < _MOST_IDLE:
                copies.append(copy)


_locks, _idle = _Locks(), _Idle()
if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks
    os.register_at_fork(after_in_child=_locks.forget)
    os.register_at_fork(after_in_child=_idle.forget)


@contextmanager
def private(model: Inpainter) -> Iterator[Inpainter]:
    """The network held still: in eval mode, its parameters without gradients.

    It is a copy that shares the weights' memory, so that threads can work with one model, and the model itself stays
    as it is. Copies are used again as long as the model is what it was, its weights' values apart. One that cannot be
    copied is held itself, by one thread at a time, and restored afterwards.
    """
    structure = structure_of(model)
    copy = None if structure is None else _idle.take(model, structure)
    if structure is not None and copy is not None:
        copy.attach(structure.tensors)
    held = copy.network if copy is not None else _fresh(model)
    if held is not None:
        if copy is None and structure is not None:
            copy = _reusable(held, structure)
        del structure  # with it, the model's tensors
        try:
            yield held
        finally:
            if copy is not None and copy.is_as_made():
                copy.detach()
                _idle.put(model, copy)
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
    copied = copy_with(model, lambda tensor: tensor.float() if tensor.is_floating_point() else shared(tensor))
    if copied is None or _is_scripted(model):
        raise ModelError("model: has 16-bit weights and cannot be copied into float32; load it in float32.")
    return copied


def _fresh(model: Inpainter) -> Inpainter | None:
    """A copy that shares the weights, held still; None where the model cannot be copied."""
    held = None if _is_scripted(model) else copy_with(model, shared)
    if held is not None:
        _hold(held)
    return held


def _reusable(held: Inpainter, structure: Structure) -> _Copy | None:
    """A copy that can be kept for the next call; None where it is not made of the same tensors."""
    own = structure_of(held)
    alike = own is not None and [(x.shape, x.dtype) for x in own.tensors] == [
        (x.shape, x.dtype) for x in structure.tensors
    ]
    return _Copy(held, structure.without_tensors(), own) if alike else None  # type: ignore[arg-type]


def _hold(model: Inpainter) -> Callable[[], None]:
    """Put a network into eval mode, without gradients; gives what restores it."""
    modules = modules_of(model)
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
    return any(isinstance(module, torch.jit.ScriptModule) for module in modules_of(model))
