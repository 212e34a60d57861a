"""What a hostile page, a careless visitor or a broken line can do: each ends in a clear answer, nothing is lost."""

from __future__ import annotations

import os
import signal
import socket
import sys
import threading
import time
import zlib
from dataclasses import replace

import pytest
from starlette.testclient import TestClient
from web_server import FLAGS, HERE, STROKE, answers, file_of, finished, opened, picture, program, remove, uploaded

from refiner.web.guard import Access
from refiner.web.limits import Limits
from refiner.web.records import safe_name, safe_suffix


def other_than(client: TestClient) -> TestClient:
    """Somebody else at the same server."""
    return TestClient(client.app, base_url=HERE)


def files_of(client: TestClient) -> list[str]:
    folder = client.app.state.workspace.folder
    return sorted(path.name for path in folder.iterdir() if path.name not in ("server.lock", "machine"))


def test_visitors_do_not_see_each_other(client) -> None:
    photo = uploaded(client)
    job = client.post(f"/api/photos/{photo['id']}/jobs", json={"marks": [STROKE]}).json()
    finished(client, job)
    stranger = other_than(client)
    assert stranger.get("/api/photos").json() == []
    base = f"/api/photos/{photo['id']}"
    for path in (base, f"{base}/rounds/0/file", f"{base}/rounds/1/preview", f"{base}/rounds/0/tiles/0/0"):
        assert stranger.get(path).status_code == 404
    for path in (f"{base}/jobs", f"{base}/plan", f"{base}/snap", f"{base}/masks"):
        assert stranger.post(path, json={"marks": [STROKE]}).status_code == 404
    for path in ("", "/events", "/pictures/37"):
        assert stranger.get(f"/api/jobs/{job['id']}{path}").status_code == 404
    assert stranger.post(f"/api/jobs/{job['id']}/cancel").status_code == 404
    assert stranger.delete(base).status_code == 404
    assert client.get(base).status_code == 200


def test_ids_and_cookies_cannot_be_guessed(client) -> None:
    ids = {uploaded(client)["id"] for _ in range(3)}
    assert all(len(name) >= 22 for name in ids)  # 128 bits
    cookies = [other_than(client).get("/").headers["set-cookie"] for _ in range(2)]
    assert cookies[0] != cookies[1]
    assert "HttpOnly" in cookies[0]
    assert "SameSite=Strict" in cookies[0]
    kept = (client.app.state.workspace.folder / next(iter(ids)) / "photo.json").read_text(encoding="utf-8")
    assert client.cookies["refiner_8430"] not in kept


@pytest.mark.parametrize("host", ["evil.example", "evil.example:8430", "127.0.0.1.evil.example", "", "[", "192.0.2.7"])
def test_a_forged_host_gets_nothing(client, host) -> None:
    for path in ("/", "/healthz", "/api/photos", "/page/app.js"):
        assert client.get(path, headers={"host": host}).status_code == 421
    assert client.get("/healthz", headers={"host": "localhost:9"}).status_code == 200
    assert client.get("/healthz", headers={"host": "[::1]:9"}).status_code == 200


@pytest.mark.parametrize("cookie", ["a:b=1; [x]=2", "refiner_8430=short", ";;=;", "refiner_8430=" + "x" * 9000])
def test_odd_cookies_are_no_visitors(client, cookie) -> None:
    answer = client.get("/api/photos", headers={"cookie": cookie})
    assert (answer.status_code, answer.json()) == (200, [])
    assert "refiner_8430=" in answer.headers["set-cookie"]


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:9999"},
        {"origin": "null"},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
def test_another_sites_page_can_send_nothing(client, headers) -> None:
    photo = uploaded(client)
    for path in ("/api/photos", f"/api/photos/{photo['id']}/jobs", "/api/v1/inpaint"):
        assert client.post(path, content=b"x", headers=headers).status_code == 403
    assert client.delete(f"/api/photos/{photo['id']}", headers=headers).status_code == 403
    same = {"origin": HERE, "sec-fetch-site": "same-origin"}
    assert client.delete(f"/api/photos/{photo['id']}", headers=same).status_code == 204
    answer = client.options("/api/photos", headers={"origin": "https://evil.example"})
    assert not [name for name in answer.headers if name.startswith("access-control")]


def test_every_answer_is_strict(client) -> None:
    for path in ("/", "/page/app.js", "/api/config", "/nothing", "/api/photos/x"):
        headers = client.get(path).headers
        policy = headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert "frame-ancestors 'none'" in policy
        assert headers["x-content-type-options"] == "nosniff"
    assert client.get("/").headers["cache-control"] == "no-store"
    assert client.get("/page/../app.py").status_code == 404
    assert client.get("/page/%2e%2e/app.py").status_code == 404


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("../../etc/passwd", "passwd"),
        ("..\\..\\boot.ini", "boot.ini"),
        ("/abs/olute.jpg", "olute.jpg"),
        ("..", "photo"),
        ("", "photo"),
        ("a\x00b\n.png", "a_b_.png"),
        ("Urlaub am Meer.JPG", "Urlaub am Meer.JPG"),
        ("x" * 300 + ".jpg", "x" * 120 + ".jpg"),
        ("<script>.png", "_script_.png"),
        ("照片.webp", "照片.webp"),
    ],
)
def test_names_are_names_and_never_paths(given, kept) -> None:
    assert safe_name(given) == kept
    assert "/" not in safe_suffix(safe_name(given))


def test_a_name_with_folders_writes_nowhere_else(client, tmp_path) -> None:
    for name in ("..%2F..%2Fevil.png", "%2Ftmp%2Fevil.png", "..%5Cevil.png"):
        photo = uploaded(client, name)
        assert photo["name"] == "evil.png"
        remove(client, photo)
        answer = client.get(f"/api/photos/{photo['id']}/rounds/1/file")
        assert answer.headers["content-disposition"].endswith("evil_refined.png")
    assert not list(tmp_path.rglob("evil*"))


def test_bad_files_get_the_engines_line_and_leave_nothing(client) -> None:
    whole = file_of(picture(), "JPEG")
    for name, data in (("a.jpg", b"<html>"), ("b.jpg", whole[: len(whole) // 2]), ("c.png", file_of(picture())[:80])):
        answer = client.post(f"/api/photos?name={name}", content=data)
        assert answer.status_code == 422
        line = answer.json()["error"]
        assert line.startswith(name)
        assert "\n" not in line
        assert "original" not in line
        assert str(client.app.state.workspace.folder) not in line
    assert client.post("/api/photos?name=d.jpg").status_code == 400
    assert files_of(client) == []


def test_uploads_are_limited_in_bytes(serve) -> None:
    client = serve(limits=Limits(upload_bytes=10_000))
    told = client.post("/api/photos", content=b"x" * 10_001)
    assert told.status_code == 413
    assert "more than 0 MB" in told.json()["error"]

    def endless():
        for _ in range(100):
            yield b"x" * 1000

    assert client.post("/api/photos", content=endless()).status_code == 413  # without a length
    photo = uploaded(serve(), data=file_of(picture()))
    assert client.post(f"/api/photos/{photo['id']}/jobs", content=b"[]").status_code == 404
    assert files_of(client) == []


def blank_png(width: int, height: int) -> bytes:
    """A picture of one bit a pixel, in few bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return len(data).to_bytes(4, "big") + kind + data + zlib.crc32(kind + data).to_bytes(4, "big")

    head = width.to_bytes(4, "big") + height.to_bytes(4, "big") + bytes([1, 0, 0, 0, 0])
    rows = zlib.compress(b"\0" * (width // 8 + 1) * height, 9)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("width", "status", "line"),
    [
        (16_000, 413, "huge.png: has 160 megapixels, this server takes up to 150."),
        (20_000, 422, "huge.png: claims more than 178 megapixels, which is more than can be opened."),
    ],
)
def test_uploads_are_limited_in_pixels(client, width, status, line) -> None:
    """The header is enough to refuse them; nothing is decoded."""
    answer = client.post("/api/photos?name=huge.png", content=blank_png(width, 10_000))
    assert (answer.status_code, answer.json()["error"]) == (status, line)
    assert files_of(client) == []


def test_photos_and_rounds_are_limited(serve) -> None:
    client = serve(limits=Limits(photos=2, rounds=1))
    photo = uploaded(client)
    remove(client, photo)
    full = client.post(f"/api/photos/{photo['id']}/jobs", json={"marks": [STROKE]})
    assert (full.status_code, "1 rounds" in full.json()["error"]) == (429, True)
    uploaded(client)
    third = client.post("/api/photos", content=file_of(picture()))
    assert (third.status_code, "2 photos" in third.json()["error"]) == (429, True)
    assert client.delete(f"/api/photos/{photo['id']}").status_code == 204
    uploaded(client)


def test_the_disk_is_limited_and_a_photo_that_is_removed_makes_room(serve) -> None:
    small, large = file_of(picture()), file_of(picture((400, 300)))
    # Room for the large photo beside a small one and what is noted of it, but not beside two.
    client = serve(limits=Limits(disk_bytes=len(large) + 2 * len(small)))
    photo, _ = uploaded(client, data=small), uploaded(client, data=small)
    before = files_of(client)
    stranger = other_than(client)
    refused = stranger.post("/api/photos", content=large)
    assert refused.status_code == 507
    assert refused.json()["error"] == "The server's share of the disk is used up; delete photos here, or try later."
    assert stranger.get("/api/photos").json() == []
    assert files_of(client) == before
    assert client.delete(f"/api/photos/{photo['id']}").status_code == 204
    assert stranger.post("/api/photos", content=large).status_code == 201


def test_photos_expire(client) -> None:
    service = client.app.state.service
    old, young = uploaded(client), uploaded(client)
    store = service.store
    store._limits = replace(store._limits, keep_seconds=100)
    store._records[old["id"]].used = time.time() - 101
    store.expire()
    assert [photo["id"] for photo in client.get("/api/photos").json()] == [young["id"]]
    assert files_of(client) == [young["id"]]


def test_fifty_jobs_at_once(client, monkeypatch) -> None:
    remover, asked_all = client.app.state.service.remover, threading.Event()
    fill = remover.fill

    def held(*arguments):
        assert asked_all.wait(60)
        return fill(*arguments)

    monkeypatch.setattr(remover, "fill", held)  # so that none ends before all are asked for
    photo = uploaded(client)
    asked = {"marks": [STROKE], "settings": {"steps": 100}}
    answers = [client.post(f"/api/photos/{photo['id']}/jobs", json=asked) for _ in range(50)]
    taken = [answer.json() for answer in answers if answer.status_code == 202]
    refused = [answer for answer in answers if answer.status_code != 202]
    assert len(taken) == 20
    assert {answer.status_code for answer in refused} == {429}
    assert all("20 jobs of yours are waiting" in answer.json()["error"] for answer in refused)
    for job in taken[1:]:
        client.post(f"/api/jobs/{job['id']}/cancel")
    while client.get(f"/api/jobs/{taken[0]['id']}").json()["state"] == "waiting":
        time.sleep(0.01)
    client.post(f"/api/jobs/{taken[0]['id']}/stop")
    asked_all.set()
    states = [finished(client, job)["state"] for job in taken]
    assert set(states) == {"canceled"}  # the first too: it was stopped before it had any result
    assert remove(client, photo)["state"] == "done"  # and it goes on


def test_a_photo_in_work_is_not_removed(client) -> None:
    photo = uploaded(client)
    asked = {"marks": [STROKE], "settings": {"steps": 200}}
    job = client.post(f"/api/photos/{photo['id']}/jobs", json=asked).json()
    while client.get(f"/api/jobs/{job['id']}").json()["state"] == "waiting":
        time.sleep(0.01)
    assert client.delete(f"/api/photos/{photo['id']}").status_code == 409
    client.post(f"/api/jobs/{job['id']}/cancel")
    finished(client, job)
    assert client.delete(f"/api/photos/{photo['id']}").status_code == 204
    wait_for(lambda: files_of(client) == [])  # once the work has noticed


def test_a_token_is_needed_where_others_can_reach_it(serve) -> None:
    client = serve(access=Access(frozenset({"studio.local"}), "t" * 24))
    assert client.get("/healthz").status_code == 200  # for whoever watches over servers
    for path in ("/", "/api/photos", "/page/app.js"):
        refused = client.get(path)
        assert refused.status_code == 401
        assert "t" * 24 not in refused.text
    assert client.post("/api/v1/inpaint", json={}, headers={"authorization": "Bearer wrong"}).status_code == 401
    assert client.get("/api/photos", headers={"authorization": "Bearer " + "t" * 24}).status_code == 200
    assert client.get("/?token=wrong").status_code == 401
    welcome = client.get("/?token=" + "t" * 24, follow_redirects=False)
    assert (welcome.status_code, welcome.headers["location"]) == (303, "./")
    assert client.get("/api/photos").status_code == 200  # by the cookie now
    assert client.get("/healthz", headers={"host": "studio.local:8430"}).status_code == 200
    assert client.get("/healthz", headers={"host": "192.0.2.7"}).status_code == 200
    assert client.get("/healthz", headers={"host": "evil.example"}).status_code == 421


def test_a_browser_that_is_killed_while_it_uploads(tmp_path) -> None:
    with program(tmp_path) as (_, address):
        host, port = address.removeprefix("http://").rstrip("/").split(":")
        with socket.create_connection((host, int(port))) as line:
            head = f"POST /api/photos?name=a.jpg HTTP/1.1\r\nHost: {host}:{port}\r\nContent-Length: 5000000\r\n\r\n"
            line.sendall(head.encode() + b"x" * 100_000)
            wait_for(lambda: list(tmp_path.rglob("*.part")))
        wait_for(lambda: not list(tmp_path.rglob("*.part")))
        answers(address)


def wait_for(what, seconds: float = 10) -> None:
    end = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.skipif(os.name != "posix", reason="kills by signal")
def test_a_server_that_is_killed_loses_nothing_and_one_that_ends_leaves_nothing(tmp_path) -> None:
    import httpx2

    with program(tmp_path, stop=signal.SIGKILL) as (process, address):
        port = int(address.rstrip("/").rsplit(":", 1)[1])
        with httpx2.Client(base_url=address) as client:
            photo = uploaded(client)
            remove(client, photo)
            kept = client.get(f"/api/photos/{photo['id']}/rounds/1/file").content
            asked = {"marks": [STROKE], "settings": {"steps": 200}}
            client.post(f"/api/photos/{photo['id']}/jobs", json=asked)
            cookies = dict(client.cookies)
        process.kill()
        process.wait()
    with program(tmp_path, port=port) as (_, address), httpx2.Client(base_url=address, cookies=cookies) as client:
        found = client.get(f"/api/photos/{photo['id']}").json()
        assert (len(found["rounds"]), found["jobs"]) == (2, [])
        again = client.get(f"/api/photos/{photo['id']}/rounds/1/file").content
        assert (opened(again) == opened(kept)).all()
    assert [path.name for path in (tmp_path / "web").iterdir()] == ["pace.json"]  # how long work takes


def test_a_token_holds_on_the_loopback_too_where_one_is_set(monkeypatch, tmp_path) -> None:
    """A proxy on the same machine lets others in."""
    import httpx2

    monkeypatch.setenv("REFINER_WEB_TOKEN", "a-long-word-of-my-own")
    (tmp_path / "a.png").write_bytes(file_of(picture()))
    with program(tmp_path / "cache", tmp_path / "a.png") as (_, address):
        start, _, query = address.partition("?")
        assert query.startswith("token=a-long-word-of-my-own&open=")
        assert httpx2.get(f"{start}api/photos").status_code == 401
        with httpx2.Client(base_url=start, follow_redirects=True) as client:
            assert client.get(f"/?{query}").status_code == 200
            assert [each["name"] for each in client.get("/api/photos").json()] == ["a.png"]  # opened as it was asked
            assert client.get("/?open=%C3%A9").status_code == 200


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["missing.jpg"], "missing.jpg: no such image file"),
        (["--save-beside"], "--save-beside: needs a PHOTO"),
        (["--segmenter", "encoder.onnx"], "--segmenter: "),
        (["--port", "PORT"], "choose with --host and --port"),
        (["--max-upload", "lots"], "--max-upload: expected a size such as 6GB"),
        (["--preset", "nonsense"], "preset 'nonsense'"),
        (["--host", "192.0.2.1"], "REFINER_WEB_TOKEN: expected 16 or more"),
        (["--name", "photos.example"], "REFINER_WEB_TOKEN: expected 16 or more"),
    ],
)
def test_the_command_line_refuses_what_cannot_be(monkeypatch, capsys, tmp_path, arguments, words) -> None:
    from refiner import cli

    monkeypatch.chdir(tmp_path)
    if "TOKEN" in words:
        monkeypatch.setenv("REFINER_WEB_TOKEN", "short")
    monkeypatch.setenv("REFINER_CACHE", str(tmp_path))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = str(taken.getsockname()[1])
        given = [port if argument == "PORT" else argument for argument in arguments]
        monkeypatch.setattr(sys, "argv", ["refiner", "web", "--no-browser", *FLAGS, *given])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    error = capsys.readouterr().err
    assert ended.value.code == 2
    assert words in error
    assert len(error.splitlines()) == 1
    assert not list(tmp_path.rglob("server.lock"))


def test_without_the_extra_one_line_says_so(monkeypatch, capsys) -> None:
    from refiner import cli

    monkeypatch.setitem(sys.modules, "starlette", None)
    for name in [name for name in sys.modules if name.startswith(("refiner.web", "starlette."))]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setattr(sys, "argv", ["refiner", "web"])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert ended.value.code == 2
    assert (
        capsys.readouterr().err
        == 'Error: The page needs Starlette and Uvicorn: pip install "refiner-inpainting[web]".\n'
    )
