"""One update of features recorded as a CUDA graph and replayed, where launching its operations takes longer than they.

At small windows a GPU waits for Python: an update is a thousand operations and more. The first update runs as it is,
which also sets up what libraries set up once. The second is recorded, and its first replay is held against the update
as it is; from then on an update is two launches, the prediction and the step. Where anything of this fails, updates go
on as they were.

It is recorded where four predictions or more are to come, in one window or several of the same shape. Recording takes
the time of about one and a half updates, which launch nothing useful, and every replay saves most of one: two replays
are needed to gain, and the first of four predictions is made before there is anything to replay.

A recording reads and writes the very tensors it was made with. A later window of the same shape is copied into them.
"""

from __future__ import annotations

import threading
import warnings
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

import torch

from refiner.errors import ModelError, RefinerWarning, first_line

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor

_T = TypeVar("_T")
_MIN_PREDICTIONS = 4  # with fewer, recording costs more than it saves
_SAME = 1e-3  # largest relative difference between the losses of a replay and of the update as it is


class Recorder(Protocol):
    """Records work on a device.

    Attributes:
        adam: arguments by which PyTorch's Adam can be recorded.
    """

    adam: dict[str, Any]

    def record(self, work: Callable[[], _T]) -> tuple[Callable[[], object], _T]:
        """Note the work's operations without running them.

        Returns:
            What runs them, and what `work` gave: tensors that each run fills anew.

        Raises:
            RuntimeError: it cannot be recorded, as when it reads a value from the device.
        """
        ...


_allowed = ContextVar("allowed", default=True)


@contextmanager
def no_recording() -> Iterator[None]:
    """Run every update as it is in this context, to compare with."""
    token = _allowed.set(False)
    try:
        yield
    finally:
        _allowed.reset(token)


def recorder_for(device: torch.device, predictions: int) -> Recorder | None:
    """What records updates on a device; None where it cannot or is not to, or where too few predictions are to come."""
    pays = predictions >= _MIN_PREDICTIONS and _allowed.get()
    return CudaRecorder(device) if device.type == "cuda" and pays else None


class CudaRecorder:
    """Records CUDA graphs that follow each other and share their memory.

    Args:
        device: that all of the work is done on; what runs on another would be left out.
    """

    def __init__(self, device: torch.device) -> None:
        self.adam = {"fused": True, "capturable": True}
        self._device = device
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool: Any = None

    def record(self, work: Callable[[], _T]) -> tuple[Callable[[], object], _T]:
        """See `Recorder`."""
        graph = torch.cuda.CUDAGraph()
        # Other threads may work on the device meanwhile, but only one may record.
        capture = partial(torch.cuda.graph, stream=self._stream, capture_error_mode="thread_local")
        with _one_at_a_time, torch.cuda.device(self._device), capture(graph, pool=self._pool):
            made = work()
        self._pool = graph.pool()
        return graph.replay, made


_one_at_a_time = threading.Lock()


@dataclass(frozen=True)
class _Recording:
    """Both halves of an update, and what the first fills: the prediction, and the loss of each image."""

    forward: Callable[[], object]
    backward: Callable[[], object]
    made: tuple[Tensor, Tensor]


class Update:
    """An update that can be repeated: a prediction with its loss, then a step of the features.

    Args:
        forward: gives the prediction (N,3,H,W) and the loss of each image, (N,), with or without gradient as is set.
        backward: changes the features, given that loss.
        recorder: of the device; None to run each update as it is.
    """

    def __init__(
        self,
        forward: Callable[[], tuple[Tensor, Tensor]],
        backward: Callable[[Tensor], None],
        recorder: Recorder | None,
    ) -> None:
        self._forward, self._backward, self._recorder = forward, backward, recorder
        self._recording: _Recording | None = None
        self._loss: Tensor | None = None
        self._stepped = False
        self._reuse = _Reuse.NONE

    @property
    def recorded(self) -> bool:
        """Whether predictions are replayed."""
        return self._recording is not None

    def begin_again(self) -> None:
        """Other values were put into the tensors that the update reads."""
        if self._reuse is _Reuse.NONE:
            self._reuse = _Reuse.DOUBTED

    def predict(self) -> tuple[Tensor, Tensor]:
        """The prediction and the loss of each image, without gradient; the next call may write over them."""
        if self._recording is None and self._recorder is not None and self._stepped:
            self._recording = self._recorded(self._recorder)
            self._recorder = None  # one attempt
        if self._recording is not None and self._reuse is _Reuse.DOUBTED:
            self._reuse = _Reuse.PROVEN
            self._check(self._recording)
        if self._recording is not None:
            self._recording.forward()
            return self._recording.made
        with torch.enable_grad():
            prediction, self._loss = self._forward()
        return prediction.detach(), self._loss.detach()

    def step(self) -> None:
        """Change the features by what `predict` gave."""
        if self._recording is not None:
            self._recording.backward()
            return
        loss, self._loss = self._loss, None  # with which the graph is freed
        assert loss is not None  # noqa: S101  follows a prediction
        self._backward(loss)
        self._stepped = True

    def _recorded(self, recorder: Recorder) -> _Recording | None:
        """The update recorded; None where that fails or gives something else."""

        def with_gradient() -> tuple[Tensor, Tensor]:
            with torch.enable_grad():
                return self._forward()

        expected = with_gradient()[1].detach().clone()
        try:
            forward, (prediction, loss) = recorder.record(with_gradient)
            backward, _ = recorder.record(lambda: self._backward(loss))
            made = prediction.detach(), loss.detach()
            forward()
        except (RuntimeError, ModelError) as error:  # the second where a model's half is what cannot be recorded
            _tell(first_line(error))
            return None
        if not torch.allclose(made[1], expected, rtol=_SAME, atol=0):
            _tell("its replay gives another loss")
            return None
        return _Recording(forward, backward, made)

    def _check(self, recording: _Recording) -> None:
        """Go on without the recording where it does not see what was put into the tensors, as of a model with a memory.

        Once: what saw one other window sees them all. Without gradient, so that little memory is needed beside it.
        """
        with torch.no_grad():
            expected = self._forward()[1]
        recording.forward()
        if not torch.allclose(recording.made[1], expected, rtol=_SAME, atol=0):
            _tell("its replay gives another loss for another window")
            self._recording = None


class _Reuse(Enum):
    """What is known of a recording that is used for another window than its own."""

    NONE = "not used yet"
    DOUBTED = "to be compared"
    PROVEN = "compared"


class Recordings(Generic[_T]):
    """What was recorded for a window, kept for later ones of its kind; for one rear half of a network, in one thread.

    One at most: the memory that it works in, all that an update takes, is its own while it lives.
    """

    def __init__(self) -> None:
        self._kind: object = None
        self._held: _T | None = None

    def take(self, kind: object) -> _T | None:
        """What was kept for this kind; None where it was another. Nothing is kept from then on."""
        held = self._held if kind is not None and kind == self._kind else None
        self.release()
        return held

    def keep(self, kind: object, held: _T) -> None:
        """Keep what was recorded for a kind; None is no kind."""
        if kind is not None:
            self._kind, self._held = kind, held

    def release(self) -> None:
        """Free the memory of what is kept."""
        self._kind = self._held = None


def _tell(reason: str) -> None:
    """Say once for each reason that updates are launched one by one; the result is the same."""
    if reason not in _told:
        _told.add(reason)
        line = f"CUDA graph: updates are not recorded ({reason}); they run as they are, which is slower."
        warnings.warn(line, RefinerWarning, stacklevel=2)


_told: set[str] = set()
