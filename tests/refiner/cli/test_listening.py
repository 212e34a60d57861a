"""A command whose lines nobody reads any more ends, whatever it is at."""

from __future__ import annotations

import io
import subprocess
import sys
import time

import pytest

from refiner.cli.listening import while_someone_reads

CODE = """
import signal, sys, time
signal.signal(signal.SIGINT, signal.{handler})
from refiner.cli.listening import while_someone_reads
with while_someone_reads():
    print("begun", file=sys.stderr, flush=True)
    time.sleep(60)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell that a pipe is closed")
@pytest.mark.parametrize("handler", ["default_int_handler", "SIG_IGN"])
def test_the_work_ends_soon_after_its_reader(handler) -> None:
    with subprocess.Popen([sys.executable, "-c", CODE.format(handler=handler)], stderr=subprocess.PIPE) as work:
        assert work.stderr is not None
        assert work.stderr.readline() == b"begun\n"
        time.sleep(1)
        assert work.poll() is None  # while somebody reads, it goes on
        work.stderr.close()
        assert work.wait(20) != 0


def test_a_file_is_always_read(tmp_path, monkeypatch) -> None:
    with (tmp_path / "lines").open("w") as lines:
        monkeypatch.setattr(sys, "stderr", lines)
        with while_someone_reads():
            time.sleep(1)


@pytest.mark.parametrize("stderr", [None, io.StringIO()])
def test_without_a_file_nothing_is_watched(monkeypatch, stderr) -> None:
    monkeypatch.setattr(sys, "stderr", stderr)
    with while_someone_reads():
        pass
