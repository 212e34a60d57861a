"""What decides whether a kernel is used; stand-ins for kernels, on the CPU."""

from __future__ import annotations

import subprocess
import sys
import types
import warnings
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from torch import Tensor

from refiner.errors import RefinerWarning
from refiner.frozen import fused
from refiner.frozen.gpu import proof
from refiner.frozen.gpu.proof import Kernels, no_kernels
from refiner.frozen.gpu.samples import sample
from refiner.frozen.operators import reference_of

INF = float("inf")
RELU = (None, 0.0, INF, 0.0)
reference = reference_of(fused.gate_)


class Launches(types.ModuleType):
    """Stands for `refiner.frozen.gpu.launch`."""

    def __init__(self) -> None:
        super().__init__("stand_in_launches")
        self.calls = []
        self.works = reference

    def gate_(self, *args) -> Tensor:
        self.calls.append(args[0].numel())
        return self.works(*args)


@pytest.fixture
def launches(monkeypatch) -> Launches:
    made = Launches()
    monkeypatch.setitem(sys.modules, made.__name__, made)
    return made


@pytest.fixture
def kernels(launches) -> Kernels:
    return Kernels(launches.__name__)


def call(kernels: Kernels, dtype: torch.dtype = torch.float32) -> None:
    """The right result, whoever gives it."""
    x = torch.linspace(-1, 1, 2 * 16 * 12 * 12).reshape(2, 16, 12, 12).to(dtype)
    expected = x.clone()
    bits = reference(expected, *RELU)
    assert torch.equal(kernels.run("gate_", reference, (x, *RELU)), bits)
    assert torch.equal(x, expected)


def test_a_kernel_is_compared_once_for_each_precision(kernels, launches) -> None:
    for _ in range(3):
        call(kernels)
    assert len(launches.calls) == 1 + 3
    assert launches.calls[0] < launches.calls[1]
    call(kernels, torch.float64)
    assert len(launches.calls) == 1 + 3 + 2


def wrong_bits(x, *args) -> Tensor:
    return reference(x, *args) ^ 1


def wrong_values(x, *args) -> Tensor:
    bits = reference(x, *args)
    x.mul_(1.001)
    return bits


def wrong_layout(x, *args) -> Tensor:
    return reference(x, *args)[None]


def not_a_number(x, *args) -> Tensor:
    bits = reference(x, *args)
    x.view(-1)[3] = float("nan")
    return bits


def fails(*_) -> Tensor:
    raise ValueError("PTX: no such instruction\nand more")


WRONG = {
    wrong_bits: "it gives other numbers",
    wrong_values: "it gives other numbers",
    wrong_layout: "it gives other numbers",
    not_a_number: "it gives other numbers",
    fails: "ValueError: PTX: no such instruction",
    lambda *_: NotImplemented: "RuntimeError: it does not take its own sample",
}


@pytest.mark.parametrize("works", WRONG)
def test_a_kernel_that_is_wrong_is_told_once_and_not_used(works, kernels, launches) -> None:
    launches.works = works
    with pytest.warns(RefinerWarning) as told:
        call(kernels)
    reason = f"GPU: the kernel gate_ cannot be used ({WRONG[works]}); PyTorch's operations are, which is slower."
    assert [str(each.message) for each in told] == [reason]
    call(kernels)
    assert len(launches.calls) == 1
    call(kernels, torch.float64)  # for the same reason, which was told
    assert len(launches.calls) == 2


def test_a_missing_compiler_is_told_once_for_all_kernels() -> None:
    kernels = Kernels("not_there_at_all")
    with pytest.warns(
        RefinerWarning, match="its kernels cannot be used \\(not_there_at_all is not installed\\)"
    ) as told:
        call(kernels)
    grad, bits = torch.ones(1, 1, 2, 4), torch.tensor([5], dtype=torch.uint8)
    expected = torch.tensor([1.0, 0, 1, 0, 0, 0, 0, 0]).reshape(1, 1, 2, 4)
    assert torch.equal(kernels.run("ungate", reference_of(fused.ungate), (grad, bits, 0.0)), expected)
    assert len(told) == 1


def test_a_kernel_that_fails_later_is_not_used_again(kernels, launches) -> None:
    call(kernels)
    launches.works = fails
    with pytest.warns(RefinerWarning, match="no such instruction"):
        call(kernels)
    call(kernels)
    assert len(launches.calls) == 3


def test_memory_that_runs_out_in_a_kernel_reaches_the_caller(kernels, launches) -> None:
    call(kernels)

    def full(*_) -> Tensor:
        raise torch.OutOfMemoryError("CUDA out of memory")

    launches.works = full
    with pytest.raises(torch.OutOfMemoryError):
        call(kernels)
    launches.works = reference
    call(kernels)
    assert len(launches.calls) == 4, "it is still used"


def test_what_a_kernel_is_not_made_for_goes_to_the_reference_and_the_kernel_stays(kernels, launches) -> None:
    call(kernels)
    launches.works = lambda *_: NotImplemented
    call(kernels)
    launches.works = reference
    call(kernels)
    assert len(launches.calls) == 4


def test_nothing_is_compared_while_a_graph_is_recorded(kernels, launches, monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    assert proof._is_recorded(torch.device("cuda"))
    assert not proof._is_recorded(torch.device("cpu"))
    with monkeypatch.context() as patched:
        patched.setattr(proof, "_is_recorded", lambda _: True)
        call(kernels)
    assert not launches.calls
    call(kernels)
    assert len(launches.calls) == 2, "it is decided later"
    monkeypatch.setattr(proof, "_is_recorded", lambda _: True)
    call(kernels)
    assert len(launches.calls) == 3, "and then used in graphs too"


def test_threads_compare_once(kernels, launches) -> None:
    with ThreadPoolExecutor(4) as threads:
        list(threads.map(lambda _: call(kernels), range(8)))
    assert len(launches.calls) == 1 + 8


def test_kernels_can_be_left_out_to_compare_with(launches, monkeypatch) -> None:
    kernels = Kernels(launches.__name__)
    monkeypatch.setattr("refiner.frozen.gpu.proof._kernels", kernels)
    with no_kernels():
        call(kernels)
    assert not launches.calls
    call(kernels)
    assert launches.calls


@pytest.mark.parametrize("shape", [(7,), (3, 20), (2, 3, 20)])
def test_pictures_need_not_be_what_a_gate_is_given(shape) -> None:
    x = torch.randn(shape)
    (small, *rest) = sample("gate_", (x, x.clone(), 0.0, INF, 0.0))
    assert small.shape == rest[0].shape
    assert reference(small, *rest).dtype == torch.uint8


def test_cpus_never_import_what_is_for_gpus() -> None:
    code = (
        "import sys, torch, refiner, lama\n"
        "x = torch.randn(1, 4, 8, 8)\n"
        "torch.ops.refiner.gate_(x, None, 0.0, float('inf'), 0.0), torch.ops.refiner.spectrum(x, False)\n"
        "print('triton' in sys.modules, 'refiner.frozen.gpu.launch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_kernels_are_used_on_a_gpu_without_a_warning() -> None:
    pytest.importorskip("triton", reason="Triton is not installed")
    from refiner.frozen.gpu import launch

    with warnings.catch_warnings(), pytest.MonkeyPatch.context() as patched:
        warnings.simplefilter("error")
        seen, gate = [], launch.gate_
        patched.setattr(launch, "gate_", lambda *args: seen.append(1) or gate(*args))
        x = torch.randn(1, 16, 9, 9, device="cuda")
        assert torch.equal(torch.ops.refiner.gate_(x.clone(), *RELU), reference(x, *RELU))
        assert seen
