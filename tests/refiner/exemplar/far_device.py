"""A stand-in for a device with memory of its own: tensors on `meta` that have values, kept apart from the host's."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

FAR = torch.device("meta")
aten = torch.ops.aten
_MOVES = {aten._to_copy, aten.copy_}
_READS = {aten._local_scalar_dense}


class MixedError(AssertionError):
    """Tensors of the device and of the host came together."""


class Far(Tensor):
    """A tensor on the device; `near` has its values."""

    @staticmethod
    def __new__(cls, near: Tensor) -> Far:  # noqa: PYI034
        """On `FAR`, laid out as `near` is."""
        return Tensor._make_wrapper_subclass(
            cls, near.shape, near.stride(), near.storage_offset(), dtype=near.dtype, device=FAR
        )

    def __init__(self, near: Tensor) -> None:
        self.near = near

    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def __torch_dispatch__(cls, func, types, args=(), kwargs=None):
        with FarDevice():
            return func(*args, **(kwargs or {}))


def _has_far(given) -> bool:
    return isinstance(given, Far) or (isinstance(given, list | tuple) and any(isinstance(x, Far) for x in given))


class FarDevice(TorchDispatchMode):
    """Makes tensors on `FAR` where that device is asked for, and refuses to compute with both kinds.

    Attributes:
        operations: how many were on the device.
    """

    def __init__(self) -> None:
        super().__init__()
        self.operations = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        if kwargs.get("device") is None and not any(map(_has_far, args)):  # as most do, and fast
            return func(*args, **kwargs)
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        far = any(isinstance(x, Far) for x in given)
        if far and func.overloadpacket not in _MOVES and any(not isinstance(x, Far) and x.ndim > 0 for x in given):
            raise MixedError(str(func))
        self.operations += far
        if kwargs.get("device") is not None:
            far = torch.device(kwargs["device"]) == FAR
            kwargs["device"] = torch.device("cpu")
        near = tree_map(lambda x: x.near if isinstance(x, Far) else x, (args, kwargs))
        out = func(*near[0], **near[1])
        if func.overloadpacket in _READS or not far:
            return out
        same = {id(x.near): x for x in given if isinstance(x, Far)}
        return tree_map(lambda x: same[id(x)] if id(x) in same else Far(x) if isinstance(x, Tensor) else x, out)
