"""What is free, what work took, and how a lack of it is told."""

from __future__ import annotations

import gc
import json
import subprocess
import sys

import numpy as np
import pytest
import torch

from refiner.memory import Peak, collector_at_rest, free_bytes, is_out_of_memory


@pytest.mark.parametrize(
    "words",
    [
        "CUDA out of memory. Tried to allocate 2.00 GiB",
        "MPS backend out of memory (MPS allocated: 9 GB)",
        "DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes",
        "DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes",
        "GET was unable to find an engine to execute this computation",
        "Unable to find an engine to execute this computation",
        "cuFFT error: CUFFT_INTERNAL_ERROR",
        "cuFFT error: CUFFT_ALLOC_FAILED",
        "CUDA error: CUBLAS_STATUS_NOT_INITIALIZED when calling `cublasCreate(handle)`",
        "CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`",
        "cuDNN error: CUDNN_STATUS_NOT_INITIALIZED",
        "cuDNN error: CUDNN_STATUS_ALLOC_FAILED",
        "cuDNN error: CUDNN_STATUS_INTERNAL_ERROR",
        "cuDNN Frontend error: [cudnn_frontend] Error: No valid execution plans built.",
    ],
)
def test_words_for_a_lack_of_memory(words) -> None:
    assert is_out_of_memory(RuntimeError(words))
    assert not is_out_of_memory(ValueError(words))


def test_a_lack_of_memory_by_its_kind() -> None:
    assert is_out_of_memory(torch.OutOfMemoryError())
    assert is_out_of_memory(MemoryError())
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_the_peak_is_what_was_in_use_above_the_start() -> None:
    with Peak(torch.device("cpu")) as peak:
        block = np.ones(100_000_000, dtype=np.uint8)
        torch.mm(torch.rand(600, 600), torch.rand(600, 600))
        for _ in range(20):
            block.sum()
        del block
    assert 1e8 <= peak.bytes < 2e8


def test_cuda_is_started_before_its_statistics_are_reset(monkeypatch) -> None:
    """As in a worker that has done nothing yet."""
    calls = []
    monkeypatch.setattr(torch.cuda, "init", lambda: calls.append("init"))
    for name in ("empty_cache", "reset_peak_memory_stats", "memory_reserved", "max_memory_reserved"):

        def call(*_: object, name=name) -> int:
            assert calls[:1] == ["init"], "CUDA has not been started"
            calls.append(name)
            return 300 if name.startswith("max") else 100

        monkeypatch.setattr(torch.cuda, name, call)
    with Peak(torch.device("cuda:0")) as peak:
        assert "reset_peak_memory_stats" in calls
    assert peak.bytes == 200


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_the_peak_on_cuda_counts_what_the_allocator_holds() -> None:
    device = torch.device("cuda")
    with Peak(device) as peak:
        for size in (30_000_000, 70_000_000):  # the first is freed, and kept for reuse where nothing is that small
            torch.empty(size, dtype=torch.uint8, device=device)
    assert 1e8 <= peak.bytes < 1.2e8


def test_what_the_allocator_holds_unused_counts_as_free(monkeypatch) -> None:
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda _: (1000, 5000))
    monkeypatch.setattr(torch.cuda, "memory_reserved", lambda _: 700)
    monkeypatch.setattr(torch.cuda, "memory_allocated", lambda _: 300)
    assert free_bytes(torch.device("cuda")) == 1400
    assert free_bytes(torch.device("cpu")) > 0


KEPT = """
import json, resource, psutil
from refiner.memory import freed_memory_kept, make_room, manage_allocator

manage_allocator()

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def resident():
    return psutil.Process().memory_info().rss

def fill_ten_times():
    before = faults()
    for _ in range(10):
        b"x" * 80_000_000  # which glibc asks the system for each time
    return faults() - before

found = {"before": fill_ten_times()}
start = resident()
with freed_memory_kept(200_000_000):
    found["kept"] = fill_ten_times()
    found["idle"] = resident() - start
    with freed_memory_kept(0):
        make_room(100_000_000)
    found["fits"] = resident() - start
    make_room(150_000_000)
    found["made room"] = resident() - start
    fill_ten_times()
found["after"] = resident() - start
make_room(1 << 60)  # nobody keeps anything
found["again"] = fill_ten_times()
print(json.dumps(found))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts Linux's page faults")
def test_freed_memory_is_kept_up_to_a_limit_and_given_back_at_the_end() -> None:
    """In a process of its own, whose allocator it changes."""
    done = subprocess.run([sys.executable, "-c", KEPT], check=True, capture_output=True, text=True)
    found = json.loads(done.stdout)
    if not found["idle"] > 70e6:
        pytest.skip("the C library is not glibc")
    assert found["before"] > 5 * found["kept"]
    assert found["fits"] > 70e6
    assert found["made room"] < 20e6
    assert found["after"] < 20e6
    assert found["again"] > 5 * found["kept"], "as it was before"


def test_the_collector_rests_and_looks_again() -> None:
    with collector_at_rest():
        assert not gc.isenabled()
        with collector_at_rest():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off() -> None:
    gc.disable()
    try:
        with collector_at_rest():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
