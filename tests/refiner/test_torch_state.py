"""Our own state of PyTorch, and the caller's restored."""

from __future__ import annotations

import threading
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from conftest import Toy

from refiner import Settings, SettingsError, refine, torch_state
from refiner.engine import network, precision
from refiner.testing import check
from refiner.torch_state import algorithms_tried, default_dtype, has_tf32, own_state

QUICK = Settings(detail="features", min_side=32, steps=2, windows="off", precision="float32")


def switches() -> tuple[str, bool]:
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32


@pytest.fixture(autouse=True)
def _as_before():
    before = switches()
    yield
    torch.set_float32_matmul_precision(before[0])
    torch.backends.cudnn.allow_tf32 = before[1]


@pytest.mark.parametrize("theirs", [("highest", False), ("high", True), ("medium", True), ("highest", True)])
def test_float32_is_float32_while_we_work_and_the_callers_afterwards(theirs) -> None:
    torch.set_float32_matmul_precision(theirs[0])
    torch.backends.cudnn.allow_tf32 = theirs[1]
    with own_state():
        assert switches() == ("highest", False)
        with own_state(tf32=True):
            assert switches() == ("highest", False), "one within another leaves them as they are"
    with own_state(tf32=True):
        assert switches() == ("high", True)
    assert switches() == theirs
    with pytest.raises(RuntimeError), own_state():
        raise RuntimeError
    assert switches() == theirs


def test_switches_of_single_operations_are_restored_too() -> None:
    backends = torch.backends
    if not hasattr(backends.cuda.matmul, "fp32_precision"):
        pytest.skip("this PyTorch has no switches of single operations")
    single = [backends.cuda.matmul, backends.cudnn.conv, backends.cudnn.rnn]
    before = [switch.fp32_precision for switch in single]
    try:
        for switch, value in zip(single, ("tf32", "ieee", "tf32"), strict=True):
            switch.fp32_precision = value
        with own_state():
            assert switches() == ("highest", False)
        assert [switch.fp32_precision for switch in single] == ["tf32", "ieee", "tf32"]
    finally:
        for switch, value in zip(single, before, strict=True):
            switch.fp32_precision = value


def test_threads_that_want_another_float32_wait_for_each_other() -> None:
    inside, leave, seen = threading.Event(), threading.Event(), []

    def first() -> None:
        with own_state():
            inside.set()
            leave.wait(60)
            seen.append(("first", switches()))

    def second() -> None:
        with own_state(tf32=True):
            seen.append(("second", switches()))

    def third() -> None:  # wants what the first has, and need not wait
        with own_state():
            seen.append(("third", switches()))

    before = switches()
    threads = [threading.Thread(target=work) for work in (first, second, third)]
    threads[0].start()
    inside.wait(60)
    threads[1].start()
    threads[2].start()
    threads[2].join(60)
    assert [name for name, _ in seen] == ["third"]
    leave.set()
    for thread in threads:
        thread.join(60)
    assert dict(seen) == {"first": ("highest", False), "second": ("high", True), "third": ("highest", False)}
    assert switches() == before


class Witness(Toy):
    """Notes what float32 means while it works."""

    def __init__(self, seen: set) -> None:
        super().__init__()
        self.spec = replace(self.spec, learning_rate=0.02)
        self.note = seen.add

    def rear(self, features):
        self.note(switches())
        return super().rear(features)


@pytest.fixture
def witness():
    seen: set[tuple[str, bool]] = set()
    return Witness(seen), seen


def test_checks_mean_float32_too_on_hardware_with_tf32(witness) -> None:
    """Where their small differences would be those of the hardware's rounding."""
    model, seen = witness
    torch.set_float32_matmul_precision("medium")
    torch.backends.cudnn.allow_tf32 = True
    assert check(model).passed
    assert seen == {("highest", False)}


def test_tf32_is_a_choice_of_its_own_where_the_hardware_has_it(witness, monkeypatch) -> None:
    model, seen = witness
    image, mask = torch.rand(1, 3, 64, 64), torch.zeros(1, 1, 64, 64)
    mask[..., 20:40, 20:40] = 1
    with pytest.raises(SettingsError, match="tf32 needs an NVIDIA GPU from Ampere on, and cpu is none; expected auto"):
        refine(model, image, mask, replace(QUICK, precision="tf32"))
    assert not seen
    monkeypatch.setattr(precision, "has_tf32", lambda device: True)
    refine(model, image, mask, replace(QUICK, precision="tf32"))
    assert seen == {("high", True)}
    seen.clear()
    refine(model, image, mask, QUICK)
    assert seen == {("highest", False)}


@pytest.mark.parametrize(("capability", "expected"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_which_hardware_has_tf32(monkeypatch, capability, expected) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _: capability)
    assert has_tf32(torch.device("cuda")) == expected
    assert not has_tf32(torch.device("cpu"))
    assert not has_tf32(torch.device("mps"))


def test_the_default_dtype_is_restored() -> None:
    before = torch.get_default_dtype()
    with default_dtype(torch.float64):
        assert torch.zeros(1).dtype == torch.float64
    with pytest.raises(RuntimeError), default_dtype(torch.float16):
        raise RuntimeError
    assert torch.get_default_dtype() == before


@pytest.fixture
def benchmark():
    """PyTorch's switch, as a caller may have set it."""
    before = torch.backends.cudnn.benchmark
    yield lambda: torch.backends.cudnn.benchmark
    torch.backends.cudnn.benchmark = before


@pytest.mark.parametrize("theirs", [False, True])
def test_cudnns_algorithms_are_tried_in_a_context_alone(theirs, benchmark) -> None:
    torch.backends.cudnn.benchmark = theirs
    for name in ("cpu", "meta", "mps"):
        with algorithms_tried(torch.device(name)):
            assert benchmark() is theirs
    with algorithms_tried(torch.device("cuda:1")):
        assert benchmark() is True
        with algorithms_tried(torch.device("cuda")):
            assert benchmark() is True
        assert benchmark() is True, "the outer one lasts"
    assert benchmark() is theirs
    with pytest.raises(RuntimeError), algorithms_tried(torch.device("cuda")):
        raise RuntimeError
    assert benchmark() is theirs


def test_the_last_thread_brings_cudnns_switch_back(benchmark) -> None:
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with algorithms_tried(torch.device("cuda")):
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=other)
    with algorithms_tried(torch.device("cuda")):
        thread.start()
        assert inside.wait(60)
    assert benchmark() is True
    leave.set()
    thread.join()
    assert benchmark() is False


@pytest.mark.parametrize("own", [False, True])
def test_a_fork_keeps_the_switch_for_its_own_thread_alone(own, benchmark) -> None:
    trials = torch_state._Trials()
    switches = []

    def forked() -> None:
        trials.forked()
        switches.append(benchmark())

    if own:
        with trials.held():
            forked()
        assert switches == [True]
        assert benchmark() is False
        return
    inside, leave = threading.Event(), threading.Event()

    def other() -> None:
        with trials.held():
            inside.set()
            leave.wait(60)

    thread = threading.Thread(target=other)
    thread.start()
    assert inside.wait(60)
    forked()  # as the child's only thread
    assert switches == [False]
    leave.set()
    thread.join()


@pytest.mark.parametrize(
    ("steps", "tf32", "tried"), [(8, False, True), (7, False, False), (63, True, False), (64, True, True)]
)
def test_algorithms_are_tried_where_that_pays(steps, tf32, tried) -> None:
    assert precision.trying_pays(steps, tf32=tf32) is tried


def test_refinement_tries_algorithms_while_it_optimizes_alone(toy, scene, monkeypatch) -> None:
    seen = []

    @contextmanager
    def watched(device):
        seen.append(f"into {device}")
        yield
        seen.append("out")

    monkeypatch.setattr(network, "algorithms_tried", watched)
    told = lambda progress: seen.append((progress.scale, progress.step))  # noqa: E731
    refine(toy, *scene, replace(QUICK, steps=8, max_scales=2), told)
    assert seen == [(1, 1), "into cpu", *[(2, step) for step in range(1, 9)], "out"]
    seen.clear()
    refine(toy, *scene, replace(QUICK, steps=7, max_scales=2))
    assert seen == []
