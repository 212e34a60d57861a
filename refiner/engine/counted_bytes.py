"""Counts the bytes of all tensors alive while a network runs on shapes alone.

PyTorch finds the shapes of many operations out in Python, in ten times as long as it takes to launch one, and imports
its compiler to do so, which takes more than a second. So the few kinds that networks are full of are told here.
"""

from __future__ import annotations

import weakref
from collections import Counter
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from refiner.frozen.operators import on_shapes
from refiner.models.placement import carried_parts

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch.utils.hooks import RemovableHandle

    from refiner.models.inpainter import Inpainter

_BATCHED = 4  # N, C, H, W


class CountedBytes(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that operations create, while they live, on each device apart.

    `meta` is one device, so where a network was spread, its parts say as they run which device they stand for.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._here: torch.device | None = None  # None for the first, where all else is
        self._now: Counter[torch.device | None] = Counter()
        self._peaks: Counter[torch.device | None] = Counter()
        self._known: dict[int, weakref.ref[Any]] = {}  # by the identity of a storage
        self._made: dict[Any, tuple[int, Any]] = {}  # what an operation takes at most, and what it gives

    @property
    def peak(self) -> int:
        """Of the device that has most."""
        return max(self._peaks.values(), default=0)

    def ran(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:  # noqa: ARG002  PyTorch's signature
        """Run an operation, and count what it makes."""
        key = _key(func, args, kwargs or {})
        if key in self._made:  # a network has the same few many times over
            most, (shape, stride, dtype) = self._made[key]
            self._reach(self._now[self._here] + most)
            out = torch.empty_strided(shape, stride, dtype=dtype, device="meta")
            self._count(out.untyped_storage())
            return out
        here, before = self._here, self._now[self._here]
        peak, self._peaks[here] = self._peaks[here], before
        out = self._run(func, args, kwargs or {})
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.is_meta:
                self._count(tensor.untyped_storage())
        if key is not None and isinstance(out, Tensor) and out.is_meta:
            self._made[key] = self._peaks[here] - before, (out.shape, out.stride(), out.dtype)
        self._reach(peak)
        return out

    def _run(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        shapes = on_shapes(func)
        if shapes is not None:  # an operator of ours: what it makes beside its output counts too
            with self:
                return shapes(*args, **kwargs)
        out = _told(func, args, kwargs)
        return func(*args, **kwargs) if out is None else out

    def _reach(self, size: int) -> None:
        self._peaks[self._here] = max(self._peaks[self._here], size)

    def _count(self, storage: torch.UntypedStorage) -> None:
        identity, size, here = storage._cdata, storage.nbytes(), self._here  # noqa: SLF001
        if identity in self._known:
            return

        def freed(_: object) -> None:
            del self._known[identity]
            self._now[here] -= size

        self._known[identity] = weakref.ref(storage, freed)
        self._now[here] += size
        self._reach(self._now[here])

    @contextmanager
    def following(self, model: Inpainter) -> Iterator[None]:
        """Count what the parts of a network that was spread create, forward and backward, for their devices."""
        parts = carried_parts(model) if isinstance(model, nn.Module) else []
        first = parts[0][1] if parts else None
        hooks: list[RemovableHandle] = []
        for part, device in parts:
            label = None if device == first else device
            hooks.append(part.register_forward_pre_hook(lambda *_, at=label: self._go(at)))
            hooks.append(part.register_forward_hook(lambda *called, at=label: self._come_back_by(called[-1], at)))
        try:
            yield
        finally:
            for hook in hooks:
                hook.remove()

    def at_home(self, run: Callable[[Any], Tensor]) -> Callable[[Any], Tensor]:
        """A function that starts on the first device."""

        def from_home(argument: Any) -> Tensor:
            self._go(None)
            return run(argument)

        return from_home

    def _go(self, device: torch.device | None) -> None:
        self._here = device

    def _come_back_by(self, output: Any, device: torch.device | None) -> None:
        """The way back through a part starts at its output."""
        for tensor in tree_leaves(output):
            if isinstance(tensor, Tensor) and tensor.grad_fn is not None:
                tensor.grad_fn.register_prehook(lambda _: self._go(device))


# Set here and not in the class, where PyTorch would wrap it in a function that imports its compiler.
CountedBytes.__torch_dispatch__ = CountedBytes.ran  # type: ignore[method-assign, assignment]


@cache
def _gives_what_is_new(func: Any) -> bool:
    """Whether what an operation gives is always memory of its own."""
    schema = func._schema  # noqa: SLF001
    return on_shapes(func) is not None or not (schema.is_mutable or any(made.alias_info for made in schema.returns))


def _key(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """All that decides what an operation makes; None where there is more to it."""
    if not _gives_what_is_new(func):
        return None
    kinds = [_kind(part) for part in (*args, *kwargs.values())]
    return None if _OTHER in kinds else (func, *kinds, *kwargs)


def _kind(part: Any) -> Any:
    if isinstance(part, Tensor):
        return (part.shape, part.stride(), part.dtype) if part.is_meta else _OTHER
    if isinstance(part, (list, tuple)):
        kinds = tuple(_kind(each) for each in part)
        return _OTHER if _OTHER in kinds else kinds
    return type(part), part


_OTHER = "other"  # a tensor with data, whose values may count


def _told(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """What an operation of the kinds told here makes; None where that is left to PyTorch."""
    if _writes_elementwise(func):
        written: Tensor = args[0]
        return written if all(part.is_meta for part in args if isinstance(part, Tensor)) else None
    if func in _LIKE:
        return _like(*args, **kwargs)
    if kwargs:
        return None
    told = _TOLD.get(func)
    if told is not None:
        return told(*args)
    return _element_by_element(func, args) if _is_elementwise(func) else None


@cache
def _is_elementwise(func: Any) -> bool:
    """Whether an operation makes each element from one element of each of its arguments, and writes to none of them."""
    return torch.Tag.pointwise in func.tags and not func._schema.is_mutable  # noqa: SLF001


@cache
def _writes_elementwise(func: Any) -> bool:
    """Whether an operation changes each element of its first argument in place, and gives that."""
    return torch.Tag.pointwise in func.tags and func.__name__.partition(".")[0].endswith("_")


def _element_by_element(func: Any, args: tuple[Any, ...]) -> Tensor | None:
    tensors = [part for part in args if isinstance(part, Tensor)]
    if not tensors or any(not tensor.is_meta and tensor.ndim for tensor in tensors):
        return None
    shape = tensors[0].shape
    if any(tensor.shape != shape for tensor in tensors):
        shape = torch.Size(np.broadcast_shapes(*(tensor.shape for tensor in tensors)))
    alike = next((tensor for tensor in tensors if tensor.is_meta and tensor.shape == shape), None)
    # The operation itself says which dtype it gives, of pictures without a pixel.
    small = (
        torch.ones((0,) * min(x.ndim, 1), dtype=x.dtype, device="cpu") if isinstance(x, Tensor) else x for x in args
    )
    dtype = func(*small).dtype
    return torch.empty(shape, dtype=dtype, device="meta") if alike is None else _like(alike, dtype=dtype)


def _like(
    x: Tensor, *, dtype: torch.dtype | None = None, memory_format: torch.memory_format | None = None, **other: Any
) -> Tensor | None:
    other.pop("pin_memory", None)
    if any(value is not None for value in other.values()) or not x.is_meta:
        return None
    if memory_format not in (None, torch.preserve_format):
        return torch.empty(x.shape, dtype=dtype or x.dtype, device="meta", memory_format=memory_format)
    # Without gaps, and with the axes in the order in which x lies in memory.
    strides, count = [0] * x.ndim, 1
    for axis in sorted(range(x.ndim), key=lambda axis: (x.stride(axis), -axis)):
        strides[axis], count = count, count * max(x.shape[axis], 1)
    return torch.empty_strided(x.shape, strides, dtype=dtype or x.dtype, device="meta")


def _lies_by_pixel(x: Tensor) -> bool:
    """Whether a picture, or a part of one, has its channels side by side in memory."""
    if x.ndim != _BATCHED or x.is_contiguous():
        return False
    pictures, channels, rows, columns = x.stride()
    return channels <= columns <= rows <= pictures and channels < rows


def _joined(tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    first = tensors[0]
    if any((part.ndim, part.dtype, part.is_meta) != (first.ndim, first.dtype, True) for part in tensors):
        return None
    shape = list(first.shape)
    shape[dim] = sum(part.shape[dim] for part in tensors)
    layout = torch.channels_last if all(map(_lies_by_pixel, tensors)) else torch.contiguous_format
    return torch.empty(shape, dtype=first.dtype, device="meta", memory_format=layout)


def _stacked(tensors: Sequence[Tensor], dim: int = 0) -> Tensor | None:
    return _joined([part.unsqueeze(dim) for part in tensors], dim)


def _resized(x: Tensor, size: Sequence[int] | None, *_: object) -> Tensor | None:
    if size is None or not x.is_meta:
        return None
    layout = torch.channels_last if _lies_by_pixel(x) else torch.contiguous_format
    return torch.empty((*x.shape[:2], *size), dtype=x.dtype, device="meta", memory_format=layout)


def _padded(x: Tensor, widths: Sequence[int]) -> Tensor | None:
    left, right, top, bottom = widths
    if x.ndim != _BATCHED or max(widths) >= min(x.shape[-2:]):  # which may be an error
        return None
    return _resized(x, (x.shape[-2] + top + bottom, x.shape[-1] + left + right))


def _any(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor | None:
    shape = list(x.shape) if dim is not None else []
    if dim is not None:
        shape[dim : dim % x.ndim + 1] = [1] if keepdim else []
    dtype = torch.uint8 if x.dtype == torch.uint8 else torch.bool
    return torch.empty(shape, dtype=dtype, device="meta") if x.is_meta and x.ndim else None


def _sum(x: Tensor, dims: Sequence[int] | None, keepdim: bool = False) -> Tensor | None:
    if not x.is_meta:
        return None
    dtype = x.dtype if x.is_floating_point() or x.is_complex() else torch.int64
    gone = {axis % x.ndim for axis in dims or range(x.ndim)}
    shape = [1 if axis in gone else side for axis, side in enumerate(x.shape) if keepdim or axis not in gone]
    return torch.empty(shape, dtype=dtype, device="meta")


def _convolved(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, transposed: bool,
    output_padding: Any, groups: int,
) -> Tensor | None:  # fmt: skip
    if x.ndim != _BATCHED or x.dtype != weight.dtype or not (x.is_meta and weight.is_meta):
        return None
    shapes = on_shapes(torch.ops.refiner.convolve.default)
    assert shapes is not None  # noqa: S101  one of ours
    return shapes(x, weight, bias, stride, padding, dilation, groups, transposed, output_padding, None)


def _pooled(
    x: Tensor, kernel: Sequence[int], stride: Sequence[int] = (), padding: Sequence[int] = (0, 0),
    dilation: Sequence[int] = (1, 1), ceil_mode: bool = False,
) -> tuple[Tensor, Tensor] | None:  # fmt: skip
    if x.ndim != _BATCHED or ceil_mode or not x.is_meta:
        return None
    sides = (
        (side + 2 * pad - step * (size - 1) - 1) // by + 1
        for side, size, by, pad, step in zip(
            x.shape[2:], _two(kernel), _two(stride or kernel), _two(padding), _two(dilation), strict=True
        )
    )
    made = _resized(x, tuple(sides))
    return (
        None
        if made is None
        else (made, torch.empty_strided(made.shape, made.stride(), dtype=torch.int64, device="meta"))
    )


def _two(values: Sequence[int]) -> Sequence[int]:
    return (values[0], values[0]) if len(values) == 1 else values


def _unsliced(grad: Tensor, shape: Sequence[int], *_: int) -> Tensor | None:
    return torch.empty(tuple(shape), dtype=grad.dtype, device="meta") if grad.is_meta else None


def _mean(x: Tensor) -> Tensor | None:
    return torch.empty((), dtype=x.dtype, device="meta") if x.is_meta else None


_LIKE = {
    torch.ops.aten.empty_like.default,
    torch.ops.aten.zeros_like.default,
    torch.ops.aten.ones_like.default,
    torch.ops.aten.clone.default,
}
_TOLD: dict[Any, Callable[..., Any]] = {
    torch.ops.aten.cat.default: _joined,
    torch.ops.aten.stack.default: _stacked,
    torch.ops.aten.upsample_bilinear2d.default: _resized,
    torch.ops.aten.reflection_pad2d.default: _padded,
    torch.ops.aten.replication_pad2d.default: _padded,
    torch.ops.aten.any.default: _any,
    torch.ops.aten.any.dim: _any,
    torch.ops.aten.mean.default: _mean,
    torch.ops.aten.sum.dim_IntList: _sum,
    torch.ops.aten.convolution.default: _convolved,
    torch.ops.aten.slice_backward.default: _unsliced,
    torch.ops.aten.max_pool2d_with_indices.default: _pooled,
}
