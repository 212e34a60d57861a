"""How a function becomes an operator of PyTorch, `torch.ops.refiner.*`: for every device, for shapes, for a GPU.

As operators they are one operation each to graphs, rehearsals and whoever counts, and a GPU can have a kernel for them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from refiner.frozen.gpu.proof import with_kernel

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor

_library: Any = torch.library.Library("refiner", "DEF")  # type: ignore[no-untyped-call]
_on_shapes: dict[Any, Callable[..., Tensor]] = {}
_references: dict[Any, Callable[..., Tensor]] = {}


def on_shapes(operator: object) -> Callable[..., Tensor] | None:
    """What makes the tensors of an operator on the `meta` device; None where it is not one of ours."""
    return _on_shapes.get(operator)


def reference_of(operator: object) -> Callable[..., Tensor] | None:
    """An operator in PyTorch's own operations; None where it is not one of ours."""
    return _references.get(operator)


def operator(schema: str, *, kernel: bool = False) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Register a function as the operator of this schema, on every device that has no kernel of its own for it.

    Args:
        schema: in PyTorch's language; its name is the function's.
        kernel: whether `refiner.frozen.gpu` has a kernel for it.
    """
    name = schema.partition("(")[0]
    _library.define(schema)

    def register(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        _library.impl(name, function, "CompositeExplicitAutograd")
        if kernel:
            _library.impl(name, with_kernel(name, function), "CUDA")
        made = getattr(torch.ops.refiner, name).default
        _references[made] = function
        return made  # type: ignore[no-any-return]

    return register


def on_meta(name: str) -> Callable[[Callable[..., Tensor]], Callable[..., Tensor]]:
    """Register what makes the tensors that an operator has at its peak, and nothing else."""

    def register(function: Callable[..., Tensor]) -> Callable[..., Tensor]:
        _library.impl(name, function, "Meta")
        _on_shapes[getattr(torch.ops.refiner, name).default] = function
        return function

    return register
