"""Seconds, bytes and the machine they were measured on."""

from __future__ import annotations

import platform
import statistics
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil
import torch

try:
    import resource
except ImportError:  # not on Windows
    resource = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass(frozen=True)
class Usage:
    """How a piece of work used the processor.

    Attributes:
        seconds: on the clock.
        user: seconds of all cores in the program.
        kernel: seconds of all cores in the kernel.
        faults: pages that the kernel mapped without reading a disk; None where the system does not tell.
    """

    seconds: float
    user: float
    kernel: float
    faults: int | None

    @property
    def kernel_share(self) -> float:
        """The kernel's share of the time that cores were busy."""
        return self.kernel / max(self.user + self.kernel, 1e-9)

    @property
    def cores(self) -> float:
        """Cores busy on average."""
        return (self.user + self.kernel) / max(self.seconds, 1e-9)


class Meter:
    """Measures how the process uses the processor, from the meter's making on."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._faults, self._times, self._start = _faults(), self._process.cpu_times(), time.perf_counter()

    def read(self) -> Usage:
        """The use so far."""
        taken, times, faults = time.perf_counter() - self._start, self._process.cpu_times(), _faults()
        return Usage(
            taken,
            times.user - self._times.user,
            times.system - self._times.system,
            None if faults is None or self._faults is None else faults - self._faults,
        )


def _faults() -> int | None:
    return None if resource is None else resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def seconds(run: Callable[[], object], *, repeats: int, device: torch.device) -> tuple[float, float]:
    """Median and spread (largest less smallest) of the seconds of `repeats` runs, after one that warms up."""
    run()
    times = []
    for _ in range(repeats):
        synchronize(device)
        start = time.perf_counter()
        run()
        synchronize(device)
        times.append(time.perf_counter() - start)
    return statistics.median(times), max(times) - min(times)


def machine(device: torch.device) -> dict[str, Any]:
    """The machine, and the versions that numbers are measured with."""
    capability = torch.backends.cpu.get_cpu_capability()
    flags = _cpu_info("flags").split()
    return {
        "cpu": _cpu_info("model name") or platform.processor(),
        "cores": psutil.cpu_count(logical=False),
        "threads": torch.get_num_threads(),
        "vector": " ".join([capability, *(flag for flag in flags if flag.startswith(("amx", "avx512_bf16")))]),
        "memory_gb": round(psutil.virtual_memory().total / 1e9, 1),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "os": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "commit": _commit(),
    }


def _cpu_info(key: str) -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return ""
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith(key)), "")


def _commit() -> str:
    try:
        done = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"],  # noqa: S607  whichever git the user has
            capture_output=True,
            text=True,
            check=True,
            cwd=Path(__file__).parent,
        )
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return done.stdout.strip()


def synchronize(device: torch.device) -> None:
    """Wait until the device has done its work; otherwise a timer times the launch, not the work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
