"""A library call leaves its host's process alone: warning filters, umask, allocator, default dtype."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import pytest
import torch

import refiner
from refiner import Settings, memory


@pytest.fixture
def watched(monkeypatch):
    """What of ours changes something of the process; other libraries may."""
    calls = []

    def watch(owner, name: str) -> None:
        real = getattr(owner, name)

        def called(*args, **options):
            if sys._getframe(1).f_globals.get("__name__", "").split(".")[0] in ("refiner", "lama"):
                calls.append(name)
            return real(*args, **options)

        monkeypatch.setattr(owner, name, called)

    monkeypatch.setattr(memory._allocator, "ours", False)  # another test may have been the command line
    watch(warnings.catch_warnings, "__enter__")
    watch(ctypes.CDLL, "__init__")
    for owner, name in ((warnings, "simplefilter"), (os, "umask"), (torch, "set_default_dtype")):
        watch(owner, name)
    return calls


@pytest.mark.parametrize("detail", ["exemplar", "features"])
def test_nothing_of_the_process_is_changed(photo_files, tmp_path, watched, detail) -> None:
    settings = Settings(detail=detail, min_side=48, steps=2)
    refiner.inpaint(*photo_files, "lama-small", settings=settings, device="cpu")  # libraries may, where first imported
    filters = list(warnings.filters)
    result = refiner.inpaint(*photo_files, "lama-small", settings=settings, device="cpu")
    result.save(tmp_path / "result.png")
    assert (tmp_path / "result.png").is_file()
    assert watched == []
    assert warnings.filters == filters


def test_other_threads_see_no_change(photo_files, tmp_path) -> None:
    filters, seen, done = list(warnings.filters), [], threading.Event()

    def watch() -> None:
        while not done.is_set():
            if warnings.filters != filters:
                seen.append(list(warnings.filters))
            time.sleep(2e-4)  # or the work gets no turn

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        for number in range(3):
            settings = Settings(detail="exemplar", max_scales=1)
            refiner.inpaint(*photo_files, "lama-small", settings=settings).save(tmp_path / f"{number}.png")
    finally:
        done.set()
        thread.join()
    assert not seen


def test_a_refinement_imports_no_symbolic_algebra() -> None:
    """Half a second at each start, for gradients handed to PyTorch and for shapes that its references tell."""
    script = """
import sys
import torch
from conftest import GOLDEN
from refiner import Settings, load_model, refine
model = load_model(str(GOLDEN))
hole = torch.zeros(1, 1, 160, 160)
hole[..., 40:90, 50:100] = 1
refine(model, torch.rand(1, 3, 160, 160), hole, Settings(start="model", detail="features", min_side=40, steps=3))
assert "sympy" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).parent)


def test_the_allocator_is_told_nothing_unless_the_process_is_ours() -> None:
    script = """
import ctypes
from refiner import memory
calls = []
real = ctypes.CDLL
ctypes.CDLL = lambda *a, **k: calls.append(a) or real(*a, **k)
with memory.freed_memory_kept(1000):
    memory.make_room(1 << 40)
memory.trim()
assert memory.give_back_freed_memory() is False
assert not calls, calls
memory.manage_allocator()
memory.trim()
assert calls
"""
    subprocess.run([sys.executable, "-c", script], check=True)
