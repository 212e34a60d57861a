"""bfloat16 on CPUs that PyTorch has no convolutions in it for: computed in float32 and rounded, as others do.

PyTorch's own convolutions in bfloat16 take hundreds of times as long there (on x86 without AVX512), and lay
out each pixel's neighbors.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator

_on_meta: ContextVar[bool] = ContextVar("emulated_on_meta", default=False)


def is_emulated(dtype: torch.dtype | None, device: torch.device) -> bool:
    """Whether convolutions in a dtype are computed in float32 on a device, and rounded."""
    if dtype != torch.bfloat16:
        return False
    return _on_meta.get() if device.type == "meta" else device.type == "cpu" and not _convolves_bfloat16()


@contextmanager
def emulated_on_meta(yes: bool) -> Iterator[None]:
    """Have the `meta` device stand for one where bfloat16 is emulated, or for one where it is not."""
    token = _on_meta.set(yes)
    try:
        yield
    finally:
        _on_meta.reset(token)


@cache
def _convolves_bfloat16() -> bool:
    try:  # builds without oneDNN lack it
        return bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001
    except AttributeError:
        return False
