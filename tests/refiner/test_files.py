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


@pytest.mark.parametrize("mask", [0o022, 0o027, 0o077, 0])
def test_permissions_follow_the_process_which_is_left_alone(tmp_path, monkeypatch, mask) -> None:
    """To ask for the file mode creation mask is to change it for a moment, in which other threads make files too."""

    def refuse(_: int) -> None:
        raise AssertionError

    before = os.umask(mask)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", refuse)
            write_atomic({tmp_path / "out.png": b"new"})
        (tmp_path / "plain").write_bytes(b"")
    finally:
        os.umask(before)
    found, expected = (stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("out.png", "plain"))
    assert found == expected


def test_names_as_long_as_the_system_takes(tmp_path) -> None:
    for letter in ("n", "\u5199"):  # of one byte and of three
        path = tmp_path / (letter * (250 // len(letter.encode())) + ".png")
        write_atomic({path: b"new"})
        assert path.read_bytes() == b"new"


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
