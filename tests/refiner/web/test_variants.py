"""Other fills of one hole, and the quick one without refinement."""

from __future__ import annotations

import numpy as np
from conftest import GOLDEN
from web_server import QUICK, STROKE, file_of, finished, opened, picture, remove, uploaded

from refiner.images.masks import Hole
from refiner.images.picture import Picture
from refiner.web.offer import Defaults
from refiner.web.parts import parts_around
from refiner.web.variants import another, faults_of


def more(client, photo, number=1):
    return client.post(f"/api/photos/{photo['id']}/rounds/{number}/another")


def test_up_to_four_fills_of_one_hole_are_kept(client) -> None:
    photo = uploaded(client, data=file_of(picture((300, 220))))
    base = f"/api/photos/{photo['id']}"
    remove(client, photo, grow=2)
    jobs = [more(client, photo).json() for _ in range(3)]
    assert [job["position"] for job in jobs] == sorted(job["position"] for job in jobs)
    full = more(client, photo)
    assert (full.status_code, "4 fills" in full.json()["error"]) == (429, True)
    assert [finished(client, job)["state"] for job in jobs] == ["done"] * 3
    rounds = client.get(base).json()["rounds"]
    assert [made["variant_of"] for made in rounds] == [None, None, 1, 1, 1]
    assert [made["parent"] for made in rounds[1:]] == [0] * 4
    assert len({made["mask"] for made in rounds[1:]}) == 1
    assert all(made["faults"] is not None for made in rounds[1:])
    fills = [opened(client.get(f"{base}/rounds/{number}/file").content) for number in range(5)]
    changed = (fills[1] != fills[0]).any(axis=2)
    for fill in fills[2:]:
        assert not np.array_equal(fill, fills[1])
        assert ((fill != fills[0]).any(axis=2) & ~changed).mean() < 0.01  # the same hole
    around = opened(client.get(f"{base}/rounds/2/around").content)
    assert max(around.shape) <= 320
    assert more(client, photo, 0).status_code == 409
    client.delete(f"{base}/rounds/3")
    assert finished(client, more(client, photo, 2).json())["round"] == 5  # of the same hole, by any of its fills


def test_a_removal_goes_on_from_the_fill_that_was_chosen(client) -> None:
    photo = uploaded(client)
    remove(client, photo)
    finished(client, more(client, photo).json())
    area = {"kind": "area", "points": [100, 10, 130, 10, 130, 30, 100, 30]}
    remove(client, photo, marks=[area], round=2)
    base = f"/api/photos/{photo['id']}/rounds"
    second, third = (opened(client.get(f"{base}/{number}/file").content) for number in (2, 3))
    assert np.array_equal(second[45:70, 45:90], third[45:70, 45:90])


def test_other_seeds_come_first_and_the_network_once() -> None:
    copies = [another(5, number, copies=True) for number in (1, 2, 3)]
    assert [each.get("seed") for each in copies] == [6, None, 7]
    assert copies[1]["detail"] == "features"
    network = [another(5, number, copies=False) for number in (1, 2, 3)]
    assert {each["detail"] for each in network} == {"exemplar"}
    assert len({each["seed"] for each in network}) == 3


def test_the_judge_likes_what_looks_as_its_surroundings() -> None:
    rng = np.random.default_rng(0)
    values = rng.integers(90, 160, (200, 200, 3), dtype=np.uint8)
    hole = np.zeros((200, 200), bool)
    hole[80:120, 80:120] = True
    flat = values.copy()
    flat[hole] = 120
    other = values.copy()
    other[hole] = rng.integers(90, 160, (hole.sum(), 3), dtype=np.uint8)
    assert faults_of(Picture(other), hole) < faults_of(Picture(flat), hole)


def test_without_refinement_the_network_sees_what_is_around_the_hole(serve, monkeypatch) -> None:
    """At 4K it took longer than with: the network saw all of the photo."""
    client = serve(defaults=Defaults(model=str(GOLDEN), given=QUICK, device="cpu", refine=False))
    photo = uploaded(client, data=file_of(picture((1600, 1200))))
    remover, seen = client.app.state.service.remover, []
    filled = remover._filled

    def noted(job, part, choice):
        seen.append(part.picture.size)
        return filled(job, part, choice)

    monkeypatch.setattr(remover, "_filled", noted)
    far = {"kind": "stroke", "points": [1500, 1100], "size": 30}
    plan = client.post(f"/api/photos/{photo['id']}/plan", json={"marks": [STROKE, far]}).json()
    assert (plan["windows"], plan["whole"]) == (2, False)
    assert remove(client, photo, marks=[STROKE, far])["state"] == "done"
    assert len(seen) == 2
    assert sum(height * width for height, width in seen) < 0.2 * 1600 * 1200
    before, after = (opened(client.get(f"/api/photos/{photo['id']}/rounds/{n}/file").content) for n in (0, 1))
    changed = (before != after).any(axis=2)
    assert changed[45:60, 50:70].mean() > 0.5
    assert changed[1095:1105, 1495:1505].mean() > 0.5
    assert not changed[200:900].any()


def test_parts_that_meet_are_one() -> None:
    mask = np.zeros((1000, 1000), bool)
    mask[100:120, 100:120] = mask[100:120, 200:220] = mask[900:910, 900:910] = True
    parts = parts_around(Hole(mask), 64)
    assert len(parts) == 2
    assert not parts[0].overlaps(parts[1])
    mask[:, 10:990:200] = True
    assert [part.size for part in parts_around(Hole(mask), 64)] == [(1000, 1000)]
