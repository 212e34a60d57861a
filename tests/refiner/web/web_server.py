"""A server with the tiny golden network, as tests in this process and as a program of its own."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from conftest import GOLDEN
from PIL import Image

pytest.importorskip("starlette", reason="the extra `web` is not installed")
pytest.importorskip("httpx2", reason="Starlette's test client needs it")

from starlette.testclient import TestClient

from refiner.web.app import make_app
from refiner.web.guard import Access
from refiner.web.limits import Limits
from refiner.web.offer import Defaults
from refiner.web.service import Config

HERE = "http://127.0.0.1:8430"
QUICK = {"min_side": 32, "steps": 2, "precision": "float32"}
STROKE = {"kind": "stroke", "points": [50, 50, 80, 60], "size": 20}
FLAGS = ("--model", str(GOLDEN), "--min-side", "32", "--steps", "2", "--device", "cpu")


def picture(size: tuple[int, int] = (150, 110), seed: int = 0) -> Image.Image:
    values = np.random.default_rng(seed).integers(0, 256, (11, 15, 3), dtype=np.uint8)
    return Image.fromarray(values).resize(size, Image.Resampling.BICUBIC)


def file_of(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def opened(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image)


class Servers:
    """Servers in this process; a call starts one and gives a client for it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._running: list[TestClient] = []

    def __call__(self, *, limits: Limits | None = None, access: Access | None = None, **config: object) -> TestClient:
        defaults = config.pop("defaults", None) or Defaults(model=str(GOLDEN), given=QUICK, device="cpu")
        root = config.pop("root", self._folder / f"root{len(self._running)}")
        made = Config(defaults, limits or Limits(), access or Access(), root=root, **config)
        client = TestClient(make_app(made, warm_up=False), base_url=HERE)
        client.__enter__()
        self._running.append(client)
        return client

    def close(self) -> None:
        for client in self._running:
            client.__exit__(None, None, None)


def uploaded(client: TestClient, name: str = "photo.png", data: bytes | None = None) -> dict:
    """A photo that was taken in."""
    answer = client.post(f"/api/photos?name={name}", content=data or file_of(picture()))
    assert answer.status_code == 201, answer.text
    return answer.json()


def finished(client: TestClient, job: dict, seconds: float = 60) -> dict:
    """A job's last snapshot."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        job = client.get(f"/api/jobs/{job['id']}").json()
        if job["state"] in ("done", "failed", "canceled"):
            return job
        time.sleep(0.02)
    raise AssertionError(job)


def remove(client: TestClient, photo: dict, **asked: object) -> dict:
    """Remove something, and wait; gives the last snapshot."""
    answer = client.post(f"/api/photos/{photo['id']}/jobs", json={"marks": [STROKE], **asked})
    assert answer.status_code == 202, answer.text
    return finished(client, answer.json())


@contextmanager
def program(root: Path, *arguments: object, port: int = 0, stop: int = signal.SIGINT):
    """The server as a program of its own; gives its process and the address it printed."""
    environment = {**os.environ, "REFINER_CACHE": str(root), "PYTHONUNBUFFERED": "1"}
    command = [
        sys.executable,
        "-m",
        "refiner",
        "web",
        "--no-browser",
        "--port",
        str(port),
        *FLAGS,
        *map(str, arguments),
    ]
    process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    try:
        address = process.stdout.readline().strip()
        assert address, process.stderr.read()
        answers(address)
        yield process, address
    finally:
        if process.poll() is None:
            process.send_signal(stop)
        process.communicate(timeout=30)


def answers(address: str, seconds: float = 30) -> None:
    """Wait until the server does."""
    health = address.partition("?")[0].rstrip("/") + "/healthz"
    end = time.monotonic() + seconds
    while not _healthy(health):
        assert time.monotonic() < end, f"{health} does not answer"
        time.sleep(0.05)


def _healthy(address: str) -> bool:
    try:
        with urllib.request.urlopen(address, timeout=5) as answer:  # noqa: S310  our own server
            return answer.status == 200
    except OSError:
        return False


def chromium() -> str | None:
    """Where Debian's browser is."""
    return os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
