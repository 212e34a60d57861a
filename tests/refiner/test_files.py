from __future__ import annotations

import os
import stat
import tempfile

import pytest

from refiner import InputError
from refiner.files import check_target, write_atomic


def test_written_whole_with_the_usual_permissions(tmp_path) -> None:
    path = tmp_path / "out.png"
    write_atomic({path: b"first"})
    write_atomic({path: b"second"})
    assert path.read_bytes() == b"second"
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]
    plain = tmp_path / "plain"
    plain.write_bytes(b"")
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


@pytest.mark.parametrize("failure", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_nothing_is_left_when_writing_fails(tmp_path, monkeypatch, failure) -> None:
    path = tmp_path / "out.png"
    path.write_bytes(b"old")

    def fail(_: int) -> None:
        raise failure

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(InputError if isinstance(failure, OSError) else KeyboardInterrupt):
        write_atomic({path: b"new"})
    assert path.read_bytes() == b"old"
    assert [p.name for p in tmp_path.iterdir()] == ["out.png"]


def test_of_several_files_all_are_written_or_none(tmp_path) -> None:
    with pytest.raises(InputError, match="cannot be written"):
        write_atomic({tmp_path / "one": b"1", tmp_path / "no" / "deeper" / "two": b"2"})
    assert not list(tmp_path.iterdir())
    write_atomic({tmp_path / "one": b"1", tmp_path / "made" / "two": b"2"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made", "one"]


def test_a_folder_that_cannot_be_written_to(tmp_path, monkeypatch) -> None:
    def refuse(**_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(tempfile, "TemporaryFile", refuse)
    with pytest.raises(InputError, match=r"its folder cannot be written to \(Permission denied\)"):
        check_target(tmp_path / "new.png", overwrite=False)


def test_targets_are_checked_ahead(tmp_path) -> None:
    check_target(tmp_path / "new.png", overwrite=False)
    (tmp_path / "old.png").write_bytes(b"")
    check_target(tmp_path / "old.png", overwrite=True)
    with pytest.raises(InputError, match=r"old.png: exists already; .* add `overwrite`"):
        check_target(tmp_path / "old.png", overwrite=False)
    with pytest.raises(InputError, match="its folder does not exist"):
        check_target(tmp_path / "no" / "new.png", overwrite=False)
    with pytest.raises(InputError, match="is a folder"):
        check_target(tmp_path, overwrite=True)
    assert [p.name for p in tmp_path.iterdir()] == ["old.png"]
