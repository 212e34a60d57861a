"""How long work takes is learned, remembered from one start to the next, and never in the way."""

from __future__ import annotations

import errno

import psutil
import pytest
from web_server import STROKE, file_of, picture, remove, uploaded

from refiner import InputError
from refiner.settings import Settings
from refiner.web import pace
from refiner.web.offer import Choice
from refiner.web.pace import Pace

CHOICE = Choice("some model", None, "cpu", Settings())


def test_it_is_learned_and_remembered(tmp_path) -> None:
    file = tmp_path / "pace.json"
    known = Pace(file)
    assert known.seconds(CHOICE, 1000) is None
    known.learn(CHOICE, 1000, 10)
    assert known.seconds(CHOICE, 2000) == pytest.approx(20)
    known.learn(CHOICE, 1000, 20)
    assert Pace(file).seconds(CHOICE, 1000) == pytest.approx(15)
    other = Choice("another", None, "cpu", Settings())
    assert Pace(file).seconds(other, 1000) == pytest.approx(15)  # of the same kind, for want of better
    assert Pace(file).seconds(Choice("some model", None, "cuda:0", Settings()), 1000) is None


def test_a_damaged_or_full_memory_is_only_forgotten(tmp_path, monkeypatch, caplog) -> None:
    file = tmp_path / "pace.json"
    for text in ("", "{", "[1]", '{"a": "x"}', '{"a": -1}'):
        file.write_text(text)
        assert Pace(file).seconds(CHOICE, 1) is None

    def full(*_):
        raise InputError("full") from OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(pace, "write_atomic", full)
    known = Pace(file)
    known.learn(CHOICE, 1000, 10)
    assert known.seconds(CHOICE, 1000) == pytest.approx(10)
    assert "full" in caplog.text


def test_only_the_last_kinds_are_remembered(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(pace, "_MOST", 3)
    known = Pace(tmp_path / "pace.json")
    for name in "abcde":
        known.learn(Choice(name, None, "cpu", Settings()), 1000, 10)
    assert len(Pace(tmp_path / "pace.json")._known) == 3


def test_the_next_server_knows_from_the_start(serve, tmp_path) -> None:
    first = serve(root=tmp_path / "shared")
    remove(first, uploaded(first))
    second = serve(root=tmp_path / "shared")
    photo = uploaded(second)
    plan = second.post(f"/api/photos/{photo['id']}/plan", json={"marks": [STROKE]}).json()
    assert plan["seconds"] is not None


def test_many_removals_take_no_more_memory_than_a_few(client) -> None:
    """Twenty on a photo of 4K are measured in docs/web.md; here eight, of which the third to the last are compared."""
    photo = uploaded(client, data=file_of(picture((3000, 2000))))
    resident, process = [], psutil.Process()
    for number in range(8):
        stroke = {"kind": "stroke", "points": [200 + 300 * number, 500, 260 + 300 * number, 520], "size": 40}
        made = remove(client, photo, marks=[stroke], settings={"refine": False})["round"]
        client.get(f"/api/photos/{photo['id']}/rounds/{made}/preview")
        resident.append(process.memory_info().rss)
    assert resident[-1] - resident[2] < 100e6  # eight pictures have 144
    store = client.app.state.service.store
    assert len(store._decoded) <= 3
    assert store.drop_idle(0)
    assert len(store._decoded) == 0
