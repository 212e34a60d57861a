"""Recorded updates against updates as they are: a stand-in for a GPU records operations and replays them on the CPU."""

from __future__ import annotations

import copy
import weakref
from contextlib import nullcontext
from dataclasses import dataclass, replace

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from refiner import HoleBoxes, Settings, StopRefinement, make_plan, refine
from refiner.engine import capture, tuning
from refiner.engine.capture import CudaRecorder, Recordings, Update, no_recording, recorder_for
from refiner.engine.optimize import optimize_features
from refiner.errors import RefinerWarning
from refiner.models.placement import Carry

pytestmark = pytest.mark.filterwarnings("ignore:CUDA graph")
QUICK = Settings(detail="features", min_side=32, steps=6, lr=0.02, windows="off", precision="float32")


def place_of(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


class Tape(TorchDispatchMode):
    """Notes operations; what they changed of tensors that were there before is undone, as nothing runs in a capture."""

    def __init__(self) -> None:
        super().__init__()
        self.operations = []
        self._made, self._host, self._before = set(), set(), {}

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        given = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        # Of Python numbers, and made from those alone: on a GPU's host, where values may be read.
        host = func is torch.ops.aten.lift_fresh.default or (given and all(place_of(x) in self._host for x in given))
        if func is torch.ops.aten._local_scalar_dense.default and not host:
            raise RuntimeError("CUDA error: operation not permitted when stream is capturing")
        for tensor in given:
            if place_of(tensor) not in self._made and place_of(tensor) not in self._before:
                self._before[place_of(tensor)] = tensor.untyped_storage(), tensor.untyped_storage().clone()
        out = func(*args, **kwargs)
        new = {place_of(leaf) for leaf in tree_leaves(out) if isinstance(leaf, Tensor)}
        self._made |= new - set(self._before)
        self._host |= new if host else set()
        self.operations.append((func, args, kwargs, out))  # holds all, so that no storage's place is used again
        return out

    def undo(self) -> None:
        for storage, before in self._before.values():
            storage.copy_(before)

    def replay(self) -> None:
        with torch.no_grad():
            for func, args, kwargs, out in self.operations:
                for old, new in zip(tree_leaves(out), tree_leaves(func(*args, **kwargs)), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.detach().copy_(new)


class TapeRecorder:
    """Stands for `CudaRecorder`."""

    def __init__(self) -> None:
        self.adam = {"fused": True}
        self.tapes, self.replays = [], 0

    def record(self, work):
        tape = Tape()
        try:
            with tape:
                made = work()
        finally:
            tape.undo()
        self.tapes.append(tape)

        def replay() -> None:
            self.replays += 1
            tape.replay()

        return replay, made


class NoRecorder(TapeRecorder):
    """The same Adam, and nothing recorded."""

    def record(self, work):
        raise RuntimeError("no graphs here")


@pytest.fixture
def recorders(monkeypatch):
    """What recorded each window; use `recorders.kind` to choose."""

    class Made(list):
        kind, fewest = TapeRecorder, 4

    made = Made()

    def make(device: torch.device, predictions: int):
        if device.type == "meta" or predictions < made.fewest:
            return None
        made.append(made.kind())
        return made[-1]

    monkeypatch.setattr(tuning, "recorder_for", make)
    return made


@pytest.mark.parametrize("keep", ["best", "last"])
@pytest.mark.parametrize("network", ["toy", "tiny"])
def test_replayed_updates_give_the_results_of_updates_as_they_are(network, keep, toy, tiny, scene, recorders) -> None:
    model, settings = {"toy": toy, "tiny": tiny}[network], replace(QUICK, keep=keep)
    found = refine(model, *scene, settings)
    assert [recorder.replays for recorder in recorders] == [1 + 5 + 4], "one to compare, then predictions and steps"
    recorders.kind = NoRecorder
    expected = refine(model, *scene, settings)
    assert torch.equal(found.image, expected.image)
    assert found.scales[-1].losses == expected.scales[-1].losses
    assert found.scales[-1].windows == expected.scales[-1].windows
    assert found.scales[-1].losses[-1] < found.scales[-1].losses[0]


def test_back_projection_comes_after_what_is_recorded(toy, scene, recorders) -> None:
    settings = replace(QUICK, steps=8, lr=0.1, back_projection=1)
    found = refine(toy, *scene, settings)
    recorders.kind = NoRecorder
    expected = refine(toy, *scene, settings)
    assert torch.equal(found.image, expected.image)
    assert found.scales[-1].windows == expected.scales[-1].windows
    assert found.scales[-1].windows[0].corrected is not None


def test_in_strips_and_bfloat16_too(tiny, recorders) -> None:
    image, mask = torch.rand(1, 3, 400, 64), torch.zeros(1, 1, 400, 64)
    mask[..., 80:120, 20:40] = 1
    settings = replace(QUICK, steps=4, precision="bfloat16")
    hole = HoleBoxes.of((mask > 0)[0, 0].numpy())
    tight = (replace(settings, memory=str(memory)) for memory in range(10_000_000, 1_000_000, -50_000))
    settings = next(each for each in tight if make_plan(hole, tiny, each).strip_height is not None)
    found = refine(tiny, image, mask, settings)
    assert found.plan.strip_height is not None
    assert recorders[-1].replays > 1
    recorders.kind = NoRecorder
    assert torch.equal(found.image, refine(tiny, image, mask, settings).image)


def test_the_fused_adam_is_adam(toy, scene, recorders) -> None:
    found = refine(toy.double(), scene[0].double(), scene[1], QUICK)
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(tuning, "recorder_for", lambda *_: None)
        expected = refine(toy, scene[0].double(), scene[1], QUICK)
    torch.testing.assert_close(found.image, expected.image, rtol=0, atol=1e-9)


def test_a_callback_sees_every_loss_and_can_stop(toy, scene, recorders) -> None:
    seen = []

    def callback(progress) -> None:
        seen.append(progress.loss)
        if progress.step == 4:
            raise StopRefinement

    result = refine(toy, *scene, replace(QUICK, max_scales=2), callback)
    assert result.stopped
    assert tuple(seen[1:]) == result.scales[1].losses
    assert len(set(seen)) == len(seen) == 5


class Reads(torch.nn.Module):
    """Reads a value while it works, which no graph can hold."""

    def __init__(self, inner) -> None:
        super().__init__()
        self.inner, self.spec = inner, inner.spec

    def front(self, image, mask):
        return self.inner.front(image, mask)

    def rear(self, features):
        prediction = self.inner.rear(features)
        return prediction if prediction.is_meta or prediction.mean().item() > -1 else features


def test_what_cannot_be_recorded_runs_as_it_is(toy, scene, recorders) -> None:
    found = refine(Reads(toy), *scene, QUICK)
    assert [recorder.replays for recorder in recorders] == [0]
    recorders.kind = NoRecorder
    assert torch.equal(found.image, refine(toy, *scene, QUICK).image)


class WrongRecorder(TapeRecorder):
    """Replays something else."""

    def record(self, work):
        replay, made = super().record(work)

        def wrong() -> None:
            replay()
            for leaf in tree_leaves(made):
                leaf.detach().mul_(1.1)

        return wrong, made


def test_a_replay_that_gives_something_else_is_not_used(toy, scene, recorders) -> None:
    recorders.kind = WrongRecorder
    found = refine(toy, *scene, QUICK)
    assert [recorder.replays for recorder in recorders] == [1]
    recorders.kind = NoRecorder
    assert torch.equal(found.image, refine(toy, *scene, QUICK).image)


def row_of_holes(sides: tuple[int, ...]) -> tuple[Tensor, Tensor]:
    """A picture with a square hole every 160 pixels, and windows as many."""
    image = torch.rand(1, 3, 160, 160 * len(sides), generator=torch.Generator().manual_seed(0))
    mask = torch.zeros(1, 1, *image.shape[2:])
    for index, side in enumerate(sides):
        mask[..., 72 : 72 + side, 160 * index + 72 : 160 * index + 72 + side] = 1
    return image, mask


WINDOWS = replace(QUICK, min_side=80, windows="auto")


def test_windows_of_one_shape_share_a_recording(toy, recorders) -> None:
    image, mask = row_of_holes((16, 16, 16))
    before = image.clone()
    found = refine(toy, image, mask, WINDOWS)
    assert len({window.window.size for window in found.scales[-1].windows}) == 1
    assert len(found.scales[-1].windows) == 3
    # Each window has 6 predictions and 5 updates; the first of the first is not replayed.
    assert [recorder.replays for recorder in recorders] == [1 + 5 + 4 + (1 + 6 + 5) + (6 + 5)]
    assert len(recorders[0].tapes) == 2
    assert torch.equal(image, before)
    recorders.kind = NoRecorder
    expected = refine(toy, image, mask, WINDOWS)
    assert torch.equal(found.image, expected.image)
    assert found.scales[-1].windows == expected.scales[-1].windows


def test_too_few_predictions_for_one_window_can_be_enough_for_several(toy, recorders) -> None:
    settings = replace(WINDOWS, steps=2)
    found = refine(toy, *row_of_holes((16, 16, 16)), settings)
    assert [recorder.replays for recorder in recorders] == [1 + 1 + (1 + 2 + 1) + (2 + 1)]
    recorders.clear()
    refine(toy, *row_of_holes((16,)), settings)
    assert not recorders
    recorders.kind, recorders.fewest = NoRecorder, 0  # for the same Adam
    assert torch.equal(found.image, refine(toy, *row_of_holes((16, 16, 16)), settings).image)


def test_images_of_a_batch_share_a_recording(toy, scene, recorders) -> None:
    image, mask = scene
    images, masks = torch.cat([image, image.flip(-1)]), torch.cat([mask, mask.roll(2, dims=-1)])
    found = refine(toy, images, masks, QUICK)
    assert len(recorders) == 1
    recorders.kind = NoRecorder
    assert torch.equal(found.image, refine(toy, images, masks, QUICK).image)


def test_one_recording_is_kept_at_most_and_none_after_the_work(toy, recorders) -> None:
    alive, most = weakref.WeakSet(), []

    class Watched(TapeRecorder):
        def record(self, work):
            made = super().record(work)
            alive.update(self.tapes)
            most.append(len(alive))
            self.tapes = []  # held by what replays them alone
            return made

    recorders.kind = Watched
    found = refine(toy, *row_of_holes((16, 16, 40, 16)), WINDOWS)
    sizes = [window.window.size for window in found.scales[-1].windows]
    assert len(set(sizes)) == 2
    assert len(recorders) >= 2
    assert max(most) == 2, "the halves of one update"
    assert not alive


class Remembers(torch.nn.Module):
    """Its rear half looks at what its front half saw, which is copied nowhere."""

    def __init__(self, inner) -> None:
        super().__init__()
        self.inner, self.spec = inner, inner.spec

    def front(self, image, mask):
        self.seen = image.mean(dim=(1, 2, 3), keepdim=True)
        return self.inner.front(image, mask)

    def rear(self, features):
        return self.inner.rear(features) * self.seen


def test_a_model_with_a_memory_is_not_replayed_for_another_window(toy, recorders, monkeypatch) -> None:
    monkeypatch.setattr(capture, "_told", set())
    with pytest.warns(RefinerWarning, match="gives another loss for another window"):
        found = refine(Remembers(toy), *row_of_holes((16, 16, 16)), WINDOWS)
    recorders.kind = NoRecorder
    assert torch.equal(found.image, refine(Remembers(toy), *row_of_holes((16, 16, 16)), WINDOWS).image)


def test_a_loss_that_cannot_be_filled_anew_is_recorded_for_each_window(toy, recorders) -> None:
    def objective(target):
        return lambda prediction: (prediction - target.image).abs().mean(dim=(1, 2, 3))

    image, mask = row_of_holes((16, 16, 16))
    found = refine(toy, image, mask, WINDOWS, objective=objective)
    assert [recorder.replays for recorder in recorders] == [1 + 5 + 4] * 3
    recorders.kind = NoRecorder
    assert torch.equal(found.image, refine(toy, image, mask, WINDOWS, objective=objective).image)


@dataclass(frozen=True)
class Distance:
    goal: Tensor
    weight: float = 1.0

    def __call__(self, prediction: Tensor) -> Tensor:
        return self.weight * (prediction - self.goal).square().mean(dim=(1, 2, 3))


@pytest.mark.parametrize(
    ("change", "shared"),
    [
        ({}, True),
        ({"start": torch.zeros(1, 3, 4, 4)}, True),
        ({"objective": Distance(torch.zeros(1, 3, 4, 4))}, True),
        ({"steps": 2}, True),
        ({"keep": "last"}, True),
        ({"start": torch.rand(1, 3, 4, 5), "objective": Distance(torch.rand(1, 3, 4, 5))}, False),
        ({"start": torch.rand(1, 3, 4, 4).contiguous(memory_format=torch.channels_last)}, False),
        ({"start": torch.rand(1, 3, 4, 4).double()}, False),
        ({"objective": Distance(torch.rand(1, 3, 4, 4), 2.0)}, False),
        ({"lr": 0.2}, False),
        ({"lr_scale": {"features": 0.5}}, False),
        ({"conv_dtype": torch.bfloat16}, False),
    ],
)
def test_what_windows_must_have_in_common(change, shared, recorders) -> None:
    torch.manual_seed(0)
    goal = torch.rand(1, 3, 4, 4)
    case = {"start": torch.rand(1, 3, 4, 4), "objective": Distance(goal), "steps": 6, "lr": 0.1, "keep": "best"}
    recordings = Recordings()

    def outcome(recordings, **case):
        start, loss = case.pop("start"), case.pop("objective")
        return optimize_features(torch.sigmoid, start.clone, loss, recordings=recordings, **case)

    outcome(recordings, **case)
    found = outcome(recordings, **{**case, **change})
    assert len(recorders) == (1 if shared else 2)
    expected = outcome(None, **{**case, **change})
    assert torch.equal(found.losses, expected.losses)
    assert torch.equal(found.prediction, expected.prediction)
    assert torch.equal(case["objective"].goal, goal), "a window's own tensors are left alone"


def test_nothing_is_kept_of_an_update_that_was_made() -> None:
    """Its graph is freed with the step."""
    x, losses = torch.ones(1, 3, 2, 2, requires_grad=True), []

    def forward() -> tuple[Tensor, Tensor]:
        loss = (x * 2).sum(dim=(1, 2, 3))
        losses.append(weakref.ref(loss))
        return x * 2, loss

    update = Update(forward, lambda loss: loss.backward(), None)
    prediction, loss = update.predict()
    assert not prediction.requires_grad
    assert not loss.requires_grad
    update.step()
    assert torch.equal(x.grad, torch.full_like(x, 2))
    assert losses[0]() is None


def test_where_updates_are_recorded(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: f"stream of {device}")
    assert isinstance(recorder_for(torch.device("cuda"), 15), CudaRecorder)
    assert recorder_for(torch.device("cuda"), 3) is None
    with no_recording():
        assert recorder_for(torch.device("cuda"), 15) is None
    for name in ("cpu", "mps", "meta"):
        assert recorder_for(torch.device(name), 15) is None


def test_a_network_on_several_devices_is_not_recorded(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    with pytest.raises(RuntimeError, match="cannot be recorded"):
        Carry(torch.device("cuda:1"))(torch.nn.Identity(), (torch.zeros(1),), {})


class Graph:
    """Stands for a CUDA graph."""

    def replay(self) -> None: ...

    def pool(self):
        return "pool"


def test_the_halves_of_an_update_share_their_memory(monkeypatch) -> None:
    asked, entered = [], []

    class Capture:
        def __init__(self, graph, **options) -> None:
            asked.append(options)

        def __enter__(self) -> None: ...

        def __exit__(self, *_: object) -> None: ...

    monkeypatch.setattr(torch.cuda, "CUDAGraph", Graph)
    monkeypatch.setattr(torch.cuda, "graph", Capture)
    monkeypatch.setattr(torch.cuda, "Stream", lambda device: f"stream of {device}")
    monkeypatch.setattr(torch.cuda, "device", lambda device: nullcontext(entered.append(str(device))))
    recorder = recorder_for(torch.device("cuda:1"), 15)
    assert [recorder.record(lambda: 7)[1] for _ in range(2)] == [7, 7]
    assert [options["pool"] for options in asked] == [None, "pool"]
    assert {options["capture_error_mode"] for options in asked} == {"thread_local"}
    assert {options["stream"] for options in asked} == {"stream of cuda:1"}
    assert entered == ["cuda:1"] * 2


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_graphs_give_the_results_of_updates_as_they_are(tiny, scene, monkeypatch) -> None:
    model = copy.deepcopy(tiny).cuda()
    image, mask = (part.cuda() for part in scene)
    replays, replay = [], torch.cuda.CUDAGraph.replay
    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", lambda graph: replays.append(1) or replay(graph))
    found = refine(model, image, mask, QUICK)
    assert len(replays) == 10
    monkeypatch.setattr(CudaRecorder, "record", NoRecorder.record)
    torch.testing.assert_close(found.image, refine(model, image, mask, QUICK).image, rtol=0, atol=1e-3)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_windows_of_one_shape_share_cuda_graphs(tiny, monkeypatch) -> None:
    model = copy.deepcopy(tiny).cuda()
    image, mask = (part.cuda() for part in row_of_holes((16, 16, 16)))
    recorded, record = [], CudaRecorder.record
    monkeypatch.setattr(CudaRecorder, "record", lambda *args: recorded.append(1) or record(*args))
    settings = replace(WINDOWS, min_side=40)
    found = refine(model, image, mask, settings)
    sizes = {window.window.size for scale in found.scales[1:] for window in scale.windows}
    assert len(recorded) <= 2 * len(sizes) < 2 * sum(len(scale.windows) for scale in found.scales)
    monkeypatch.setattr(CudaRecorder, "record", NoRecorder.record)
    torch.testing.assert_close(found.image, refine(model, image, mask, settings).image, rtol=0, atol=1e-3)


def test_a_recording_that_fails_is_told_once_with_its_reason(toy, scene, recorders, monkeypatch) -> None:
    monkeypatch.setattr(capture, "_told", set())
    recorders.kind = NoRecorder
    with pytest.warns(RefinerWarning, match=r"CUDA graph: updates are not recorded \(no graphs here\)") as told:
        refine(toy, *scene, QUICK)
    assert len(told) == 1
