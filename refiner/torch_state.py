"""PyTorch's settings that a caller may have changed, and that our work must not depend on."""

from __future__ import annotations

import os
import threading
from contextlib import ExitStack, contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


@contextmanager
def own_state(device: torch.device | None = None, *, tf32: bool = False) -> Iterator[None]:
    """Work as if nobody had set anything: no inference mode, autocast or gradients, float32 that is float32.

    New tensors are on the CPU where no device is named.

    Args:
        device: where the work is done, beside the CPU.
        tf32: let NVIDIA GPUs multiply float32 with 10 bits of mantissa.
    """
    kinds = {"cpu"} if device is None or device.type == "meta" else {"cpu", device.type}
    with ExitStack() as stack:
        stack.enter_context(torch.inference_mode(mode=False))
        stack.enter_context(torch.no_grad())
        for kind in kinds:
            stack.enter_context(torch.autocast(kind, enabled=False))
        if torch.get_default_device().type != "cpu":
            stack.enter_context(torch.device("cpu"))
        stack.enter_context(_float32.held(tf32=tf32))
        yield


@contextmanager
def default_dtype(dtype: torch.dtype) -> Iterator[None]:
    """Have new tensors of floating point in `dtype`.

    PyTorch's switch is one for all threads, so it is left alone where it is right already.
    """
    before = torch.get_default_dtype()
    if before == dtype:
        yield
        return
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def has_tf32(device: torch.device) -> bool:
    """Whether a device multiplies in TensorFloat-32."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


class _Float32:
    """What float32 means to convolutions and matrix products. PyTorch's switches are one for the whole process.

    Threads that want the same share them; one that wants another waits.
    """

    def __init__(self) -> None:
        self._held = ContextVar("held", default=False)  # by this thread
        self._restore: Callable[[], None] | None = None
        self._start()

    def _start(self) -> None:
        self._changed = threading.Condition()
        self._users = 0
        self._tf32 = False

    def forked(self) -> None:
        """Forget the parent's other threads, which the child of a fork has not."""
        if self._held.get():  # it was the thread at work that forked
            self._changed, self._users = threading.Condition(), 1
            return
        if self._users and self._restore is not None:
            self._restore()
        self._start()

    @contextmanager
    def held(self, *, tf32: bool) -> Iterator[None]:
        """Keep the switches so for a context; one within another leaves them as the outer one has them."""
        if self._held.get():
            yield
            return
        with self._changed:
            self._changed.wait_for(lambda: not self._users or self._tf32 == tf32)
            if not self._users:
                self._restore = _remembered()
                torch.set_float32_matmul_precision("high" if tf32 else "highest")
                torch.backends.cudnn.allow_tf32 = tf32
                self._tf32 = tf32
            self._users += 1
        token = self._held.set(True)
        try:
            yield
        finally:
            self._held.reset(token)
            with self._changed:
                self._users -= 1
                if not self._users and self._restore is not None:
                    self._restore()
                self._changed.notify_all()


def _remembered() -> Callable[[], None]:
    """What brings the switches back to where they are now."""
    try:
        matmul, cudnn = torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32
    except RuntimeError:  # set by the switches of single operations, which these two do not read
        backends: Any = torch.backends
        switches: list[Any] = [backends.cuda.matmul, backends.mkldnn.matmul, backends.cudnn.conv, backends.cudnn.rnn]
        before = [switch.fp32_precision for switch in switches]

        def restore_each() -> None:
            for switch, value in zip(switches, before, strict=True):
                switch.fp32_precision = value

        return restore_each

    def restore() -> None:
        torch.set_float32_matmul_precision(matmul)
        torch.backends.cudnn.allow_tf32 = cudnn

    return restore


@contextmanager
def algorithms_tried(device: torch.device) -> Iterator[None]:
    """Have cuDNN time its algorithms at the first convolution of each shape in this context, and take the fastest.

    That is one switch for the whole process: meanwhile other threads' convolutions are timed too, which costs them a
    little time. The last to leave brings it back to where it was. Nothing is changed for devices other than CUDA.
    """
    if device.type != "cuda":
        yield
        return
    with _trials.held():
        yield


class _Trials:
    """Who wants cuDNN to time its algorithms; `torch.backends.cudnn.benchmark` is on while anybody does."""

    def __init__(self) -> None:
        self._inside = ContextVar("inside", default=0)  # contexts of this thread, one in another
        self._lock = threading.Lock()
        self._users = 0
        self._before = False

    def forked(self) -> None:
        """Forget the parent's other threads, which the child of a fork has not."""
        self._lock = threading.Lock()
        others, self._users = self._users - self._inside.get(), self._inside.get()
        if others and not self._users:
            torch.backends.cudnn.benchmark = self._before

    @contextmanager
    def held(self) -> Iterator[None]:
        with self._lock:
            if not self._users:
                self._before = torch.backends.cudnn.benchmark
                torch.backends.cudnn.benchmark = True
            self._users += 1
        token = self._inside.set(self._inside.get() + 1)
        try:
            yield
        finally:
            self._inside.reset(token)
            with self._lock:
                self._users -= 1
                if not self._users:
                    torch.backends.cudnn.benchmark = self._before


_float32, _trials = _Float32(), _Trials()
if hasattr(os, "register_at_fork"):  # not on Windows, which has no forks
    os.register_at_fork(after_in_child=_float32.forked)
    os.register_at_fork(after_in_child=_trials.forked)
