"""Odd requests: each ends in one clear line, soon, and takes no more memory than it should."""

from __future__ import annotations

import base64
import socket
import threading
import time

import psutil
import pytest
from web_server import STROKE, answers, file_of, opened, picture, program, remove, uploaded

from refiner.web import patience
from refiner.web.patience import Patience

HUGE = 10**400
ODD = [
    None,
    True,
    5,
    -5,
    0.5,
    HUGE,
    -HUGE,
    float("nan"),
    float("inf"),
    "",
    "x\r\ny",
    "\u0000",
    [],
    [None],
    [[]],
    {},
    {"a": 1},
]


def sent(client, path: str, asked: object) -> int:
    """The status that a request gets; a failure of the server is raised by the client."""
    import json

    answer = client.post(path, content=json.dumps(asked), headers={"content-type": "application/json"})
    if answer.status_code >= 400:
        assert "\n" not in (answer.json().get("error") or "")
    return answer.status_code


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: repr(odd)[:12])
def test_no_odd_value_makes_the_server_fail(client, odd) -> None:
    photo = uploaded(client)
    base = f"/api/photos/{photo['id']}"
    asked = [
        *({"marks": [STROKE], name: odd} for name in ("round", "grow", "feather", "model", "preset", "device")),
        *({"marks": [STROKE], "settings": odd} for _ in range(1)),
        *({"marks": [STROKE], "settings": {name: odd}} for name in ("steps", "lr", "seed", "min_side", "precision")),
        *({"marks": [{**STROKE, name: odd}]} for name in ("kind", "points", "size", "erase")),
        {"marks": odd},
        {"marks": [odd]},
        {"marks": [{**STROKE, "points": [odd, 4]}]},
        {"marks": [{"kind": "area", "points": odd}]},
        {"marks": [{"kind": "mask", "id": odd}]},
        odd,
    ]
    for one in asked:
        for path in ("plan", "masks"):
            assert sent(client, f"{base}/{path}", one) < 500, (path, one)
    image = base64.b64encode(file_of(picture())).decode()
    for name in ("image", "mask", "sd_seed"):
        assert sent(client, "/api/v1/inpaint", {"image": image, "mask": image, name: odd}) < 500


def test_odd_addresses_are_not_found(client) -> None:
    photo = uploaded(client)
    base = f"/api/photos/{photo['id']}"
    for path in (f"rounds/{'9' * 5000}/preview", f"rounds/0/tiles/0/{'1' * 5000}", "rounds/-1/file", "rounds/1e3/file"):
        assert client.get(f"{base}/{path}").status_code == 404
    assert client.get(f"{base}/rounds/0/file?suffix=.%0d%0ax").status_code == 422


def test_a_seed_cannot_add_to_the_answers_head(client) -> None:
    image = base64.b64encode(file_of(picture())).decode()
    black = base64.b64encode(file_of(picture().point(lambda _: 0).convert("L"))).decode()
    for seed in ("1\r\nset-cookie: x=1", "½", 2.5):
        answer = client.post("/api/v1/inpaint", json={"image": image, "mask": black, "sd_seed": seed})
        assert (answer.status_code, "sd_seed: expected" in answer.text) == (422, True)
    answer = client.post("/api/v1/inpaint", json={"image": image, "mask": black, "sd_seed": 7})
    assert (answer.status_code, answer.headers["x-seed"]) == (200, "7")


def test_base64_may_have_line_breaks(client) -> None:
    image = base64.encodebytes(file_of(picture())).decode()
    assert "\n" in image
    black = base64.encodebytes(file_of(picture().point(lambda _: 0).convert("L"))).decode()
    answer = client.post("/api/v1/inpaint", json={"image": image, "mask": black})
    assert answer.status_code == 200
    assert (opened(answer.content) == opened(file_of(picture()))).all()


def test_many_masks_in_one_request_take_the_memory_of_one(client) -> None:
    photo = uploaded(client, data=file_of(picture((4000, 3000))))
    base = f"/api/photos/{photo['id']}"
    name = client.post(f"{base}/masks", json={"marks": [{**STROKE, "size": 900}]}).json()["id"]
    stamp = {"kind": "mask", "id": name}
    refused = client.post(f"{base}/plan", json={"marks": [stamp] * 150})
    assert (refused.status_code, "more than 50 masks" in refused.json()["error"]) == (413, True)
    client.post(f"{base}/plan", json={"marks": [stamp]})  # loads the model
    process, peak, over = psutil.Process(), [0], threading.Event()

    def watch() -> None:
        while not over.wait(0.005):
            peak[0] = max(peak[0], process.memory_info().rss)

    watcher = threading.Thread(target=watch)
    before = process.memory_info().rss
    watcher.start()
    try:
        assert client.post(f"{base}/plan", json={"marks": [stamp] * 50}).status_code == 200
    finally:
        over.set()
        watcher.join()
    assert peak[0] - before < 250e6  # fifty of 12 MB each would be 600


def test_too_much_paint_is_refused_before_it_is_drawn(client) -> None:
    photo = uploaded(client, data=file_of(picture((4000, 3000))))
    asked = {"marks": [{"kind": "stroke", "points": [5, 5] * 50_000, "size": 4000}]}
    started = time.monotonic()
    refused = client.post(f"/api/photos/{photo['id']}/plan", json=asked)
    assert (refused.status_code, "too much paint" in refused.json()["error"]) == (413, True)
    assert time.monotonic() - started < 2


def test_nobody_waits_while_a_round_is_written(client, monkeypatch) -> None:
    """The event loop asks for photos; it must not stand behind a slow disk."""
    from refiner.web import store

    photo, writing, go_on = uploaded(client), threading.Event(), threading.Event()
    real = store.patch_of

    def slowly(*arguments):
        writing.set()
        assert go_on.wait(20)
        return real(*arguments)

    monkeypatch.setattr(store, "patch_of", slowly)
    job = client.post(f"/api/photos/{photo['id']}/jobs", json={"marks": [STROKE]}).json()
    try:
        assert writing.wait(30)
        started = time.monotonic()
        for path in (f"/api/photos/{photo['id']}", "/api/photos", f"/api/jobs/{job['id']}"):
            assert client.get(path).status_code == 200
        assert time.monotonic() - started < 2
        uploaded(client)
    finally:
        go_on.set()


def test_half_sent_requests_are_ended(tmp_path) -> None:
    with program(tmp_path) as (_, address):
        host, port = address.removeprefix("http://").rstrip("/").split(":")
        head = f"POST /api/photos?name=a.jpg HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 5000000\r\n\r\n"
        halves = [("GET / HTT", b""), (head[:60], b""), (head + "x" * 1000, b"HTTP/1.1 408")]
        lines = [socket.create_connection((host, int(port)), timeout=25) for _ in halves]
        started = time.monotonic()
        for line, (half, _) in zip(lines, halves, strict=True):
            line.sendall(half.encode())
        for line, (_, ending) in zip(lines, halves, strict=True):
            with line:
                assert line.recv(1000).startswith(ending)
                while line.recv(1000):
                    pass
        assert time.monotonic() - started < 20
        assert not list(tmp_path.rglob("*.part"))
        answers(address)


def test_an_answer_does_not_wait_for_acknowledgments(tmp_path) -> None:
    """Where a connection holds small parts back, each answer is 40 ms late."""
    import http.client

    with program(tmp_path) as (_, address):
        connection = http.client.HTTPConnection(address.removeprefix("http://").rstrip("/"), timeout=10)
        taken = []
        for _ in range(20):
            started = time.perf_counter()
            connection.request("GET", "/healthz")
            connection.getresponse().read()
            taken.append(time.perf_counter() - started)
        connection.close()
    assert min(taken[1:]) < 0.03


def test_a_body_that_trickles_is_ended_and_a_slow_one_is_not(monkeypatch) -> None:
    import asyncio

    async def run(gap: float, size: int, parts: int) -> int:
        async def app(scope, receive, send):
            while (await receive())["more_body"]:
                pass
            await send({"type": "http.response.start", "status": 200, "headers": []})

        left = parts

        async def receive():
            nonlocal left
            await asyncio.sleep(gap)
            left -= 1
            return {"type": "http.request", "body": b"x" * size, "more_body": left > 0}

        statuses = []

        async def send(message):
            statuses.append(message.get("status"))

        await Patience(app)({"type": "http"}, receive, send)
        return statuses[0]

    monkeypatch.setattr(patience, "PAUSE", 0.3)
    assert asyncio.run(run(0.1, 1, 50)) == 408  # a byte now and then
    assert asyncio.run(run(0.1, 2000, 8)) == 200
    assert asyncio.run(run(0.5, 2000, 2)) == 408  # it stopped


def test_ended_jobs_hold_nothing(client) -> None:
    """The IOPaint route kept photo and answer of 200 jobs; a removal its mask, which is as large as the photo."""
    import gc
    import weakref

    from refiner.photo import Photo

    photos: list[weakref.ref] = []
    fill = client.app.state.service.remover.fill

    def noted(job, photo: Photo, choice):
        photos.append(weakref.ref(photo))
        return fill(job, photo, choice)

    client.app.state.service.remover.fill = noted
    image = base64.b64encode(file_of(picture())).decode()
    hole = base64.b64encode(file_of(picture().convert("L").point(lambda value: 255 * (value > 200)))).decode()
    for _ in range(3):
        assert client.post("/api/v1/inpaint", json={"image": image, "mask": hole}).status_code == 200
    photo = uploaded(client)
    for _ in range(8):
        remove(client, photo)
    end = time.monotonic() + 10
    while any(photo() is not None for photo in photos) and time.monotonic() < end:
        gc.collect()
        time.sleep(0.05)
    assert [photo() for photo in photos] == [None] * 11
    jobs = client.app.state.service.queue._jobs.values()
    assert all(job.work is None for job in jobs)
    assert sum(bool(job.shown) for job in jobs) <= 5
    assert not list(client.app.state.workspace.folder.glob("*.part"))


def test_waiting_jobs_hold_no_pixels(client) -> None:
    photo = uploaded(client)
    removal = client.app.state.service
    asked = {"marks": [STROKE], "settings": {"steps": 200}}
    jobs = [client.post(f"/api/photos/{photo['id']}/jobs", json=asked).json() for _ in range(3)]
    work = removal.queue._jobs[jobs[-1]["id"]].work
    held = [cell.cell_contents for cell in work.__closure__]
    assert [each.mask.size for each in held if hasattr(each, "mask")] == [0]
    for job in jobs:
        client.post(f"/api/jobs/{job['id']}/cancel")
