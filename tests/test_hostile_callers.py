"""Whatever state a caller has PyTorch in, and however many callers there are: the results are the same."""

from __future__ import annotations

import multiprocessing
import os
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import GOLDEN, Toy
from torch import Tensor, nn

from refiner import HoleBoxes, ModelError, ModelSpec, Settings, StopRefinement, inpaint, load_model, make_plan, refine
from refiner.errors import RefinerError, RefinerWarning
from refiner.testing import check
from refiner.torch_state import default_dtype, own_state

QUICK = Settings(detail="features", min_side=32, steps=3, lr=0.01, windows="off", precision="float32")


class Normed(Toy):
    """With a BatchNorm, whose statistics change in train mode."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(6)

    def rear(self, features):
        return super().rear({**features, "skips": [self.norm(features["skips"][0])]})


class Plain:
    """No module itself, as the plug-in guide allows, but one inside."""

    spec = ModelSpec(multiple=4, train_size=32)

    def __init__(self, network: nn.Module) -> None:
        self.parts = {"network": [network]}

    def front(self, image, mask):
        return self.parts["network"][0].front(image, mask)

    def rear(self, features):
        return self.parts["network"][0].rear(features)


class Uncopyable(Plain):
    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.lock = threading.Lock()


def photos(count: int) -> list[tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(0)
    found = []
    for number in range(count):
        image = torch.rand(1, 3, 64 + 3 * number, 72, generator=generator)
        mask = torch.zeros(1, 1, *image.shape[2:])
        mask[..., 20 + number : 44, 24:50] = 1
        found.append((image, mask))
    return found


def at_once(model, scenes) -> list[Tensor]:
    """Refined by a thread each, all of which start together."""
    start = threading.Barrier(len(scenes))

    def work(scene) -> Tensor:
        start.wait()
        return refine(model, *scene, QUICK).image

    with ThreadPoolExecutor(len(scenes)) as threads:
        return list(threads.map(work, scenes))


@pytest.mark.parametrize("kind", ["a module in train mode", "a plain object", "one that cannot be copied"])
def test_eight_threads_with_one_model_give_what_they_give_one_by_one(kind) -> None:
    network = Normed().train()
    model = {
        "a module in train mode": network,
        "a plain object": Plain(network),
        "one that cannot be copied": Uncopyable(network),
    }[kind]
    before = {name: value.clone() for name, value in network.state_dict().items()}
    scenes = photos(8)
    expected = [refine(model, *scene, QUICK).image for scene in scenes]
    for ours, alone in zip(at_once(model, scenes), expected, strict=True):
        assert torch.equal(ours, alone)
    assert network.training
    assert network.dropout.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert all(torch.equal(value, before[name]) for name, value in network.state_dict().items()), "statistics too"


def test_threads_in_different_strips_do_not_change_each_others(tiny) -> None:
    model, settings = tiny, QUICK
    scenes = [(image.repeat(1, 1, 3, 1), mask.repeat(1, 1, 3, 1)) for image, mask in photos(3)[1:]]
    holes = [HoleBoxes.of((mask > 0)[0, 0].numpy()) for _, mask in scenes]
    budgets = (replace(settings, memory=str(memory)) for memory in range(20_000_000, 1_000_000, -50_000))
    tight = next(each for each in budgets if all(make_plan(hole, model, each).strip_height for hole in holes))
    jobs = [(scene, s) for scene in scenes for s in (settings, tight)]
    expected = [refine(model, *scene, s) for scene, s in jobs]
    assert [result.plan.strip_height for result in expected] == [None, 128] * 2
    with ThreadPoolExecutor(len(jobs)) as threads:
        found = list(threads.map(lambda job: refine(model, *job[0], job[1]).image, jobs))
    assert all(torch.equal(ours, alone.image) for ours, alone in zip(found, expected, strict=True))


@contextmanager
def default_device(name: str):
    before = torch.get_default_device()
    torch.set_default_device(name)
    try:
        yield
    finally:
        torch.set_default_device(None if before.type == "cpu" else before)


CALLERS = {
    "inference mode": torch.inference_mode,
    "gradients on": torch.enable_grad,
    "autocast": lambda: torch.autocast("cpu", dtype=torch.bfloat16),
    "another default device": lambda: default_device("meta"),
    "float64 by default": lambda: default_dtype(torch.float64),
    "float16 by default": lambda: default_dtype(torch.float16),
}


@pytest.mark.parametrize("caller", CALLERS)
def test_the_callers_state_does_not_matter(caller) -> None:
    ((image, mask),) = photos(1)
    expected = refine(Toy(), image, mask, QUICK)
    model = Toy()
    with CALLERS[caller]():
        found = refine(model, image, mask, QUICK)
    assert torch.equal(found.image, expected.image)
    assert found.scales[-1].losses == expected.scales[-1].losses
    assert not found.image.is_inference(), "autograd can go on from it"


@pytest.mark.parametrize("caller", CALLERS)
def test_a_photo_can_be_inpainted_in_any_state(caller, photo_files) -> None:
    expected = np.asarray(inpaint(*photo_files, model=str(GOLDEN), settings=QUICK, device="cpu"))
    with CALLERS[caller]():
        found = np.asarray(inpaint(*photo_files, model=str(GOLDEN), settings=QUICK, device="cpu"))
    assert np.array_equal(found, expected)


@pytest.mark.parametrize("caller", CALLERS)
def test_a_model_can_be_loaded_and_checked_in_any_state(caller) -> None:
    ((image, mask),) = photos(1)
    expected, toy = load_model(str(GOLDEN)), Toy()
    toy.spec = replace(toy.spec, learning_rate=0.02)
    with CALLERS[caller]():
        model = load_model(str(GOLDEN))
        report = check(toy)
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert {p.device.type for p in model.parameters()} == {"cpu"}
    assert report.passed, str(report)
    assert torch.equal(refine(model, image, mask, QUICK).image, refine(expected, image, mask, QUICK).image)


def test_a_model_and_a_photo_made_in_inference_mode() -> None:
    ((image, mask),) = photos(1)
    expected = refine(Toy(), image, mask, QUICK).image
    with torch.inference_mode():
        model, theirs = Toy(), image.clone()
        inside = refine(model, theirs, mask, QUICK).image
    assert model.out.weight.is_inference()
    assert torch.equal(inside, expected)
    assert torch.equal(refine(model, theirs, mask, QUICK).image, expected)
    assert model.out.weight.is_inference(), "left as it was"


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_16_bits_are_computed_in_float32(dtype) -> None:
    ((image, mask),) = photos(1)
    image, model = image.to(dtype), Toy().to(dtype)
    with pytest.warns(RefinerWarning, match="is computed in float32, and rounded at the end") as caught:
        result = refine(model, image, mask, QUICK)
    assert len(caught) == 1
    expected = refine(Toy().to(dtype).float(), image.float(), mask, QUICK)
    assert result.image.dtype == dtype
    assert torch.equal(result.image, expected.image.to(dtype))
    assert result.scales[-1].losses == expected.scales[-1].losses
    assert torch.equal(result.image[..., :10, :], image[..., :10, :])
    assert {p.dtype for p in model.parameters()} == {dtype}, "left as it was"


class NanOnce(Toy):
    """Gives NaN where it is first computed in bfloat16, in the half and at the call asked for."""

    def __init__(self, half: str, call: int) -> None:
        super().__init__()
        self.half, self.left = half, [call]  # a list, which its copies share

    def front(self, image, mask):
        return self._spoiled("front", super().front(image, mask))

    def rear(self, features):
        return self._spoiled("rear", super().rear(features))

    def __deepcopy__(self, memo):
        raise TypeError("counts its calls")

    def _spoiled(self, half, value):
        if half == self.half:
            self.left[0] -= 1
            if self.left[0] == 0:
                return torch.utils._pytree.tree_map(lambda x: x * float("nan"), value)
        return value


@pytest.mark.parametrize(("half", "call"), [("front", 1), ("front", 2), ("rear", 1), ("rear", 2), ("rear", 4)])
def test_nan_in_low_precision_is_told_and_made_good_in_float32(half, call) -> None:
    ((image, mask),) = photos(1)
    settings = replace(QUICK, precision="bfloat16")
    with pytest.warns(RefinerWarning, match="precision: bfloat16 gave NaN or infinity at .*; going on") as caught:
        result = refine(NanOnce(half, call), image, mask, settings)
    assert len(caught) == 1
    assert "\n" not in str(caught[0].message)
    assert result.image.isfinite().all()
    assert result.plan.conv_dtype is None
    assert all(torch.tensor(scale.losses).isfinite().all() for scale in result.scales)
    if (half, call) in (("front", 1), ("rear", 1)):  # from the smallest scale on
        assert torch.equal(result.image, refine(Toy(), image, mask, QUICK).image)


@pytest.mark.parametrize(("half", "call"), [("front", 1), ("rear", 2)])
def test_nan_in_float32_is_an_error_and_no_black_hole(half, call) -> None:
    ((image, mask),) = photos(1)
    with pytest.raises(ModelError, match=r"its prediction at \d+x\d+ has NaN or infinity; `refiner check`"):
        refine(NanOnce(half, call), image, mask, QUICK)


class Unbounded(Toy):
    def rear(self, features):
        return 5 * super().rear(features) - 2


def test_results_stay_in_their_range() -> None:
    ((image, mask),) = photos(1)
    result = refine(Unbounded(), image, mask, QUICK)
    for picture in (result.image, *(scale.composite for scale in result.scales)):
        assert 0 <= picture.min() <= picture.max() <= 1


@pytest.mark.parametrize("model", [Toy, lambda: Uncopyable(Toy())])
@pytest.mark.parametrize("which", ["progress", "on_plan", "on_scale"])
def test_what_a_callback_raises_reaches_the_caller_and_nothing_stays_changed(model, which) -> None:
    ((image, mask),) = photos(1)
    model = model()
    network = model if isinstance(model, nn.Module) else model.parts["network"][0]
    network.train()

    class TheirsError(Exception):
        pass

    def callback(_: object) -> None:
        raise TheirsError

    before = torch.get_float32_matmul_precision(), torch.is_grad_enabled(), torch.get_default_dtype()
    with pytest.raises(TheirsError):
        refine(model, image, mask, QUICK, **{which: callback})
    assert network.training
    assert all(parameter.requires_grad for parameter in network.parameters())
    assert (torch.get_float32_matmul_precision(), torch.is_grad_enabled(), torch.get_default_dtype()) == before
    found = at_once(model, [(image, mask)] * 2)  # no lock is still held
    assert torch.equal(found[0], found[1])


def test_a_callback_may_refine_too() -> None:
    ((image, mask),) = photos(1)
    model, inner = Toy(), []
    expected = refine(model, image, mask, QUICK).image

    def callback(progress) -> None:
        if progress.scale == 2:
            inner.append(refine(model, image, mask, QUICK).image)
            raise StopRefinement

    assert refine(model, image, mask, QUICK, callback).stopped
    assert torch.equal(inner[0], expected)


def test_gradients_that_pytorch_refuses_in_a_fork_are_one_line(monkeypatch) -> None:
    """As it says it where there is a GPU."""

    def refuse(*_: object, **__: object) -> None:
        raise RuntimeError("Unable to handle autograd's threading in combination with fork-based multiprocessing. See")

    monkeypatch.setattr(torch.autograd, "grad", refuse)
    ((image, mask),) = photos(1)
    with pytest.raises(ModelError, match=r"was forked .*; start workers with multiprocessing.*spawn") as caught:
        refine(Toy(), image, mask, replace(QUICK, memory="1GB"))
    assert "\n" not in str(caught.value)


def in_a_fork(connection, model, scene) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        try:
            connection.send(refine(model, *scene, QUICK).image.numpy())
        except RefinerError as error:
            connection.send(str(error))
            return
        with own_state(tf32=True):  # waits for nobody
            connection.send(torch.get_float32_matmul_precision())
        connection.send(torch.get_float32_matmul_precision())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python's own, as this process has threads
@pytest.mark.parametrize("busy", [False, True])
def test_forked_workers(busy) -> None:
    """Also where another thread is at work at the moment of the fork, and holds what it holds.

    Where there is a GPU, PyTorch computes gradients in threads of its own, on the CPU too, and refuses to in a fork of
    a process that has them. The child says so then, at once.
    """
    (scene,) = photos(1)
    model = Uncopyable(Toy())
    expected = refine(model, *scene, QUICK).image
    before = torch.get_float32_matmul_precision()
    context = multiprocessing.get_context("fork")
    inside, done = threading.Event(), threading.Event()

    def hold(_: object) -> None:
        inside.set()
        done.wait(60)

    with ThreadPoolExecutor(1) as threads:
        other = threads.submit(refine, model, *scene, QUICK, hold) if busy else None
        assert not busy or inside.wait(60)
        ours, theirs = context.Pipe()
        child = context.Process(target=in_a_fork, args=(theirs, model, scene))
        child.start()
        theirs.close()  # a child that dies then ends the wait
        try:
            assert ours.poll(60), "the child hangs"
            found = ours.recv()
            if torch.accelerator.is_available():
                assert 'start workers with multiprocessing.get_context("spawn")' in found
                return
            assert torch.equal(torch.from_numpy(found), expected)
            assert ours.poll(60), "the child hangs"
            assert ours.recv() == "high"
            assert ours.recv() == before
        finally:
            done.set()
            child.kill()
            child.join()
        assert other is None or torch.equal(other.result().image, expected)
