"""Whether a kernel is used: only where it gave the reference's numbers on this very device.

The first call of a kind, such as one precision, runs the kernel and the reference on a small tensor. Where they differ
or the kernel fails, a warning says so and the reference does the work from then on. While a CUDA graph is recorded
nothing can be compared: a kind not met before is then the reference's, and is decided at a later call.
"""

from __future__ import annotations

import importlib
import threading
import warnings
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from refiner.errors import RefinerWarning, first_line
from refiner.frozen.gpu.samples import sample
from refiner.memory import is_out_of_memory

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_TOLERANCES = {torch.float16: 2e-3, torch.bfloat16: 2e-2, torch.float32: 1e-5, torch.float64: 1e-10}


class Kernels:
    """The kernels of this process, and what is known of them.

    Args:
        module: has a function of each operator's name; imported at the first call.
    """

    def __init__(self, module: str) -> None:
        self._module = module
        self._launches: Any = None
        self._verdicts: dict[object, bool] = {}
        self._told: set[str] = set()
        self._lock = threading.RLock()
        self.used = True

    def run(self, name: str, reference: Callable[..., Tensor], args: tuple[Any, ...]) -> Tensor:
        """What the operator gives, by its kernel where that is proven, else by the reference."""
        if self.used and self._proven(name, reference, args):
            try:
                with _on(args[0].device):
                    made = getattr(self._launches, name)(*args)
            except Exception as error:
                if is_out_of_memory(error):
                    raise
                self._refuse(name, _kind(name, args), _words(error))
            else:
                if made is not NotImplemented:
                    return made  # type: ignore[no-any-return]
        return reference(*args)

    def _proven(self, name: str, reference: Callable[..., Tensor], args: tuple[Any, ...]) -> bool:
        kind = _kind(name, args)
        known = self._verdicts.get(kind)
        if known is not None:
            return known
        if _is_recorded(args[0].device):
            return False
        with self._lock:
            if kind not in self._verdicts:
                with _on(args[0].device):
                    reason = self._fault(name, reference, args)
                if reason is None:
                    self._verdicts[kind] = True
                else:
                    self._refuse(name, kind, reason)
        return self._verdicts[kind]

    def _fault(self, name: str, reference: Callable[..., Tensor], args: tuple[Any, ...]) -> str | None:
        """What is wrong with a kernel; None where nothing is."""
        try:
            if self._launches is None:
                self._launches = importlib.import_module(self._module)
            small = sample(name, args)
            ours, theirs = _outputs(getattr(self._launches, name), small), _outputs(reference, small)
        except ModuleNotFoundError as error:
            return f"{error.name} is not installed"
        except Exception as error:  # noqa: BLE001  a compiler's and a driver's may be any; the reference does the work
            return _words(error)
        return None if _agree(ours, theirs) else "it gives other numbers"

    def _refuse(self, name: str, kind: object, reason: str) -> None:
        with self._lock:
            self._verdicts[kind] = False
            # What is missing is so for all of them, and said once.
            subject = "its kernels" if reason.endswith("is not installed") else f"the kernel {name}"
            line = f"GPU: {subject} cannot be used ({reason}); PyTorch's operations are, which is slower."
            if line in self._told:
                return
            self._told.add(line)
        warnings.warn(line, RefinerWarning, stacklevel=2)


_kernels = Kernels("refiner.frozen.gpu.launch")


def with_kernel(name: str, reference: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """An operator that is its kernel on a GPU, as far as that is proven there.

    Args:
        name: of the operator.
        reference: it in PyTorch's operations.
    """

    def run(*args: Any) -> Tensor:
        return _kernels.run(name, reference, args)

    return run


@contextmanager
def no_kernels() -> Iterator[None]:
    """Compute by PyTorch's operations in this context, in all threads, to compare with."""
    before, _kernels.used = _kernels.used, False
    try:
        yield
    finally:
        _kernels.used = before


def _kind(name: str, args: tuple[Any, ...]) -> object:
    """What a kernel is compiled for, and a device; sizes are left out."""
    parts: list[object] = [name, args[0].device]
    for arg in args:
        if isinstance(arg, Tensor):
            inner = arg.shape[1] if arg.ndim > 1 else 1
            parts.append((arg.dtype, arg.is_contiguous(), inner % 16 == 0))
        elif isinstance(arg, (bool, float, str)) or arg is None:
            parts.append(arg)
    return tuple(parts)


def _outputs(run: Callable[..., Any], args: tuple[Any, ...]) -> list[Tensor]:
    """What it gives, and its first argument after it, which it may change."""
    own = tuple(arg.clone() if isinstance(arg, Tensor) and index == 0 else arg for index, arg in enumerate(args))
    made = run(*own)
    if made is NotImplemented:
        raise RuntimeError("it does not take its own sample")
    return [made, own[0]]


def _agree(ours: list[Tensor], theirs: list[Tensor]) -> bool:
    return all(_same(one, other) for one, other in zip(ours, theirs, strict=True))


def _same(one: Tensor, other: Tensor) -> bool:
    if one.shape != other.shape or one.dtype != other.dtype or one.stride() != other.stride():
        return False
    if not one.is_floating_point():
        return torch.equal(one, other)
    largest = other.abs().max()
    return bool(((one - other).abs() <= _TOLERANCES[one.dtype] * largest).all())


def _is_recorded(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.is_current_stream_capturing()


def _on(device: torch.device) -> Any:
    """Triton launches on the current device, whatever its tensors lie on."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _words(error: BaseException) -> str:
    return f"{type(error).__name__}: {first_line(error)}"
