"""What is on disk: bounded, shared with other servers on the same folder, and never half written."""

from __future__ import annotations

import errno
import logging
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from web_server import STROKE, file_of, opened, picture, remove, uploaded

from refiner.images.picture import Picture
from refiner.web import photos, workspace
from refiner.web.app import sweep
from refiner.web.limits import Limits
from refiner.web.patches import patch_of, patched
from refiner.web.workspace import Workspace

SPECKS = [{"kind": "stroke", "points": [x, x // 2], "size": 6} for x in (10, 1490)]


def test_two_servers_on_one_folder_leave_each_other_alone(tmp_path, monkeypatch) -> None:
    """As in two containers, where both have process number 1."""
    first = Workspace(tmp_path)
    (first.folder / "photo").mkdir()
    monkeypatch.setattr(os, "getpid", lambda: 1)
    second = Workspace(tmp_path)
    assert first.photos == [first.folder / "photo"]
    assert second.photos == []
    first._lock.release()  # as the system does where a process ends, however it ends
    assert second.take_over() == [second.folder / "photo"]
    assert not first.folder.exists()


def test_a_server_on_another_machine_is_known_by_its_signs_of_life(tmp_path, monkeypatch) -> None:
    """Locks are not shared by all network drives."""
    first = Workspace(tmp_path)
    (first.folder / "photo").mkdir()
    first._lock.release()
    monkeypatch.setattr(workspace, "_machine", lambda: "another")
    second = Workspace(tmp_path)
    assert second.photos == []
    os.utime(first.folder / "machine", (0, time.time() - 1000))
    assert second.take_over() == [second.folder / "photo"]


def test_what_a_killed_server_left_is_taken_over_later_too(serve, tmp_path) -> None:
    root = tmp_path / "shared"
    old, new = serve(root=root), serve(root=root)
    photo = uploaded(old)
    store = new.app.state.service.store
    old.app.state.workspace._lock.release()
    new.cookies.update(old.cookies)
    assert new.get(f"/api/photos/{photo['id']}").status_code == 404
    sweep(store)
    assert new.get(f"/api/photos/{photo['id']}/rounds/0/file").status_code == 200


def test_a_sweep_that_fails_is_told_and_the_next_one_works(client, monkeypatch, caplog) -> None:
    store, photo = client.app.state.service.store, uploaded(client)
    calls = []

    def failing(*_):
        calls.append(1)
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch, caplog.at_level(logging.ERROR):
        patch.setattr(store, "expire", failing)
        patch.setattr(store, "take_over", failing)
        sweep(store)
    assert len(calls) == 2
    assert "sweeping" in caplog.text
    store._records[photo["id"]].used = 0
    sweep(store)
    assert client.get("/api/photos").json() == []


def test_one_photo_that_cannot_be_removed_does_not_keep_the_others(client, monkeypatch) -> None:
    store, names = client.app.state.service.store, [uploaded(client)["id"] for _ in range(3)]
    real = shutil.rmtree

    def rmtree(path, *arguments, **options):
        if Path(path).name == names[0]:
            raise OSError(errno.EBUSY, "busy", str(path))
        real(path, *arguments, **options)

    monkeypatch.setattr(photos.shutil, "rmtree", rmtree)
    for record in store._records.values():
        record.used = 0
    sweep(store)
    assert store._records == {}
    assert [path.name for path in client.app.state.workspace.photos] == names[:1]


def full_disk(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


@pytest.mark.parametrize("where", ["upload", "mask", "job", "iopaint"])
def test_a_full_disk_is_told_in_one_line_without_a_path(client, monkeypatch, caplog, where) -> None:
    import base64

    photo = uploaded(client)
    base, folder = f"/api/photos/{photo['id']}", client.app.state.workspace.folder
    before = sorted(path.name for path in folder.rglob("*"))
    real, whole = Path.open, Path.write_bytes

    def open_(path, mode="r", *arguments, **options):
        return full_disk() if folder in path.parents and "r" not in mode else real(path, mode, *arguments, **options)

    def write_bytes(path, data):
        return full_disk() if folder in path.parents else whole(path, data)

    monkeypatch.setattr(Path, "open", open_)
    monkeypatch.setattr(Path, "write_bytes", write_bytes)
    image = base64.b64encode(file_of(picture())).decode()
    path, asked = {
        "upload": ("/api/photos", {"content": file_of(picture())}),
        "mask": (f"{base}/masks", {"json": {"marks": [STROKE]}}),
        "job": (f"{base}/jobs", {"json": {"marks": [STROKE]}}),
        "iopaint": ("/api/v1/inpaint", {"json": {"image": image, "mask": image}}),
    }[where]
    answer = client.post(path, **asked)
    assert answer.status_code == 507
    assert "disk is full" in answer.text
    assert str(folder) not in answer.text
    assert "Traceback" not in caplog.text
    assert sorted(path.name for path in folder.rglob("*")) == before


def test_a_disk_that_is_full_at_the_end_of_the_work_keeps_the_photo_as_it_was(client, monkeypatch) -> None:
    photo = uploaded(client)
    monkeypatch.setattr("refiner.web.store.patch_of", full_disk)
    job = remove(client, photo)
    assert job["state"] == "failed"
    assert "disk is full" in job["error"]
    assert len(client.get(f"/api/photos/{photo['id']}").json()["rounds"]) == 1
    monkeypatch.undo()
    assert remove(client, photo)["round"] == 1


def test_masks_and_rounds_count_towards_the_disk(serve) -> None:
    client = serve(limits=Limits(disk_bytes=2_000_000))
    photo = uploaded(client, data=file_of(picture((1500, 1000))))
    whole = {"kind": "area", "points": [0, 0, 1400, 0, 1400, 1000, 0, 1000]}
    answer = remove(client, photo, marks=[whole], settings={"refine": False})
    assert (answer["state"], "share of the disk" in answer["error"]) == ("failed", True)
    store, used = client.app.state.service.store, client.app.state.workspace.used_bytes()
    assert used < 2_000_000
    assert store._reserved == 0
    store._limits = Limits(disk_bytes=used)
    full = client.post(f"/api/photos/{photo['id']}/masks", json={"marks": [STROKE]})
    assert full.status_code == 507


def test_a_small_mask_needs_no_more_room_than_it_has(serve) -> None:
    client = serve(limits=Limits(disk_bytes=3_000_000))
    photo = uploaded(client)
    mask = file_of(picture().convert("L").point(lambda value: 255 * (value > 200)))
    assert client.post(f"/api/photos/{photo['id']}/masks", content=mask).status_code == 201
    assert client.app.state.service.store._reserved == 0


def test_two_specks_far_apart_take_no_more_disk_than_two_specks(client) -> None:
    photo = uploaded(client, data=file_of(picture((1500, 1000))))
    remove(client, photo, marks=SPECKS, settings={"refine": False})
    kept = (client.app.state.workspace.folder / photo["id"] / "round1.npz").stat().st_size
    assert kept < 8_000  # the box around both has 3 MB


def test_a_patch_gives_the_picture_back(tmp_path) -> None:
    rng = np.random.default_rng(3)
    for depth, channels in ((np.uint8, 3), (np.uint16, 1)):
        first, second = (Picture(rng.integers(0, 255, (37, 53, channels)).astype(depth)) for _ in range(2))
        changed = rng.random((37, 53)) < 0.2
        after = Picture(np.where(changed[..., None], second.color, first.color))
        (tmp_path / "patch.npz").write_bytes(patch_of(after, changed))
        assert np.array_equal(patched(first, tmp_path / "patch.npz").color, after.color)


def test_a_deleted_round_lets_go_of_its_files_when_none_builds_on_it(client) -> None:
    photo = uploaded(client)
    area = {"kind": "area", "points": [100, 10, 130, 10, 130, 30, 100, 30]}
    base, folder = f"/api/photos/{photo['id']}", client.app.state.workspace.folder / photo["id"]
    remove(client, photo)
    remove(client, photo, marks=[area])
    last = client.get(f"{base}/rounds/2/file").content
    left = client.delete(f"{base}/rounds/1").json()
    assert [made["number"] for made in left["rounds"]] == [0, 2]
    assert client.get(f"{base}/rounds/1/preview").status_code == 404
    assert np.array_equal(opened(client.get(f"{base}/rounds/2/file").content), opened(last))
    assert sorted(path.name for path in folder.glob("*.npz")) == ["round1.npz", "round2.npz"]
    client.delete(f"{base}/rounds/2")
    assert not list(folder.glob("*.npz"))
    assert client.delete(f"{base}/rounds/0").status_code == 409
    assert remove(client, photo)["round"] == 3  # numbers are never given twice
