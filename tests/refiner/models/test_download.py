"""Files from the network: whole, under a name of their own, and quietly where asked."""

from __future__ import annotations

import hashlib
import io
import sys

import pytest
import torch

from refiner.models.download import downloaded, md5_of, quiet_downloads


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def shown(monkeypatch) -> list[bool]:
    """Whether each download showed a bar; nothing is asked of any network."""
    bars = []

    def fetch(_: str, target: str, *, progress: bool) -> None:
        bars.append(progress)
        with open(target, "wb") as file:  # noqa: PTH123  as PyTorch does
            file.write(b"weights")

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    return bars


def test_a_bar_on_a_terminal_alone_and_none_where_it_is_to_be_quiet(shown, tmp_path, monkeypatch) -> None:
    for terminal in (sys.stderr, Terminal()):
        monkeypatch.setattr(sys, "stderr", terminal)
        with downloaded("http://localhost/file.pt", tmp_path):
            pass
    with quiet_downloads(), downloaded("http://localhost/file.pt", tmp_path):
        pass
    with quiet_downloads(quiet=False), downloaded("http://localhost/file.pt", tmp_path):
        pass
    assert shown == [False, True, False, True]


def test_two_at_once_do_not_see_each_others(shown, tmp_path) -> None:
    folder = tmp_path / "new" / "folder"
    with downloaded("http://localhost/file.pt", folder) as one, downloaded("http://localhost/file.pt", folder) as other:
        assert one != other
        assert one.name == other.name == "file.pt"
        assert one.read_bytes() == other.read_bytes() == b"weights"
        assert list(folder.glob("*.pt")) == []
    assert list(folder.iterdir()) == []


def test_an_error_leaves_nothing(tmp_path) -> None:
    with pytest.raises(OSError), downloaded("http://127.0.0.1:9/file.pt", tmp_path):  # noqa: PT011  any reason
        pass
    assert list(tmp_path.iterdir()) == []


def test_checksums(tmp_path) -> None:
    path = tmp_path / "file"
    data = b"refiner" * 500_000
    path.write_bytes(data)
    assert md5_of(path) == hashlib.md5(data, usedforsecurity=False).hexdigest()
