"""How much memory a window will take: its refinement, run on shapes alone.

PyTorch's `meta` device knows shapes and computes nothing. The very code that refines is run there, on a copy of the
network without data, and the bytes of all tensors alive are counted. So the estimate holds for any network that runs
there, and cannot drift from the work.
"""

from __future__ import annotations

import copy
import weakref
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from refiner.engine.objective import Target, paper_objective
from refiner.engine.optimize import descend
from refiner.engine.windows import Window, whole
from refiner.errors import ModelError
from refiner.frozen import FrozenGradients, strip_height
from refiner.models.inpainter import Inpainter, encode, predict
from refiner.settings import Settings

if TYPE_CHECKING:
    from refiner.engine.objective import ObjectiveFactory

_STEPS = 3  # after the second update Adam's averages are there, and the third prediction is made beside them


def estimate_peak(
    meta_model: Inpainter,
    window: Window,
    *,
    batch: int,
    dtype: torch.dtype,
    conv_dtype: torch.dtype | None,
    strip_rows: int | None,
    settings: Settings | None,
    objective: ObjectiveFactory = paper_objective,
) -> int | None:
    """Bytes of all tensors at the peak of one window's work; None where the network does not run without data.

    Args:
        meta_model: what `meta_copy` gave.
        window: its size counts.
        batch: images side by side.
        dtype: of the image.
        conv_dtype: precision of convolutions; None for the image's.
        strip_rows: rows that the network's ends compute at once; None for all.
        settings: of the refinement; None for one pass without it.
        objective: what refinement minimizes.
    """
    height, width = window.size
    padded = meta_model.spec.padded_size(height, width)
    with torch.device("meta"):
        image = torch.empty(batch, 3, *padded, dtype=dtype)
        hole = torch.empty(batch, 1, *padded, dtype=torch.bool)
        guide = torch.empty(batch, 3, height // 2, width // 2, dtype=dtype)
    alive = _Alive()
    try:
        with strip_height(strip_rows), alive, torch.no_grad():
            with FrozenGradients(conv_dtype):
                features = encode(meta_model, image, hole)
                if settings is None:
                    predict(meta_model, features, image)
                    return alive.peak
            descend(
                lambda features: predict(meta_model, features, image),
                features,
                objective(Target(image, hole, guide, (height, width)), settings),
                steps=_STEPS,
                lr=1.0,
                keep=settings.keep,
                conv_dtype=conv_dtype,
            )
    except ModelError:  # any network may need data, and fail in any way without
        return None
    return alive.peak


def can_estimate(model: Inpainter) -> bool:
    """Whether a model's need of memory can be predicted."""
    empty = meta_copy(model)
    if empty is None:
        return False
    side = model.spec.train_size
    window = whole(torch.empty(1, 1, *model.spec.padded_size(side, side), device="meta"))
    peak = estimate_peak(
        empty, window, batch=1, dtype=torch.float32, conv_dtype=None, strip_rows=None, settings=Settings()
    )
    return peak is not None


def meta_copy(model: Inpainter) -> Inpainter | None:
    """The network without its weights' data, on the `meta` device; None where it is no module or cannot be copied."""
    if not isinstance(model, nn.Module):
        return None
    # What a module holds without registering it is left out too: LaMa keeps the network it was made from that way.
    values = [value for module in model.modules() for value in vars(module).values()]
    parts = [model, *(value for value in values if isinstance(value, nn.Module))]
    empty: dict[int, Tensor] = {id(t): torch.empty_like(t, device="meta") for t in values if isinstance(t, Tensor)}
    for part in parts:
        for parameter in part.parameters():
            empty[id(parameter)] = nn.Parameter(torch.empty_like(parameter, device="meta"), requires_grad=False)
        for buffer in part.buffers():
            empty[id(buffer)] = torch.empty_like(buffer, device="meta")
    try:
        copied: Any = copy.deepcopy(model, empty)
    except (TypeError, RuntimeError, NotImplementedError, AttributeError, copy.Error):  # it holds what has no copy
        return None
    return copied if isinstance(copied, Inpainter) else None


class _Alive(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Counts the bytes of all storages that operations create, while they live."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.peak: int = 0
        self._now = 0
        self._known: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor) and tensor.device.type == "meta":
                storage = tensor.untyped_storage()
                if storage._cdata not in self._known:  # noqa: SLF001  its identity
                    self._known.add(storage._cdata)  # noqa: SLF001
                    self._now += storage.nbytes()
                    self.peak = max(self.peak, self._now)
                    weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())  # noqa: SLF001
        return out

    def _freed(self, identity: int, count: int) -> None:
        self._known.discard(identity)
        self._now -= count
