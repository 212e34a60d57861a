from __future__ import annotations

import hashlib
import multiprocessing
import os
import threading
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import torch
from conftest import GOLDEN

from lama import weights
from lama.weights import BIG_LAMA, LAMA_SMALL
from refiner import ModelError, load_model, model_names

PUBLISHED = (GOLDEN / "models" / "best.ckpt").read_bytes()


class Server:
    """Serves one file, counts how often, and can break off in the middle or refuse."""

    def __init__(self) -> None:
        self.requests = 0
        self.broken_off = False
        self.status = 200
        self.together = threading.Barrier(1)  # as many are served at once
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.requests += 1
                outer.together.wait(60)
                self.send_response(outer.status)
                self.send_header("Content-Length", str(len(PUBLISHED)))
                self.end_headers()
                if outer.status == 200:
                    self.wfile.write(PUBLISHED[: 1000 if outer.broken_off else None])

            def log_message(self, *_: object) -> None:
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.http.server_port}/big-lama.pt"
        threading.Thread(target=self.http.serve_forever, daemon=True).start()


@pytest.fixture
def server():
    serving = Server()
    yield serving
    serving.http.shutdown()
    serving.http.server_close()


@pytest.fixture
def cache(tmp_path, monkeypatch):
    folder = tmp_path / "cache"
    monkeypatch.setenv("REFINER_CACHE", str(folder))
    return folder


@pytest.fixture
def big(server):
    return replace(BIG_LAMA, url=server.url, md5=hashlib.md5(PUBLISHED).hexdigest())  # noqa: S324  as published


def names(folder) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_downloaded_once_and_converted(big, server, cache, tiny) -> None:
    assert "downloaded on first use" in big.describe()
    for _ in range(2):
        loaded = big()
        assert loaded.spec.train_size == 512
        first = next(loaded.parameters())
        assert torch.equal(first, next(tiny.parameters()))
    assert server.requests == 1
    assert names(cache) == ["big-lama.safetensors"]
    assert str(cache) in big.describe()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no forks here")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # Python's own, as the server is a thread
def test_processes_that_download_at_once_do_not_get_in_each_others_way(big, server, cache) -> None:
    """As Ray's workers do. None is served before all have asked."""
    count = 3
    server.together = threading.Barrier(count)
    context = multiprocessing.get_context("fork")
    processes = [context.Process(target=big) for _ in range(count)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0] * count
    assert server.requests == count
    assert names(cache) == ["big-lama.safetensors"]
    assert big().spec.train_size == 512
    assert server.requests == count


@pytest.mark.parametrize("trouble", ["broken off", "refused", "other file"])
def test_a_bad_download_leaves_nothing_and_can_be_tried_again(big, server, cache, trouble) -> None:
    server.broken_off = trouble == "broken off"
    server.status = 404 if trouble == "refused" else 200
    asked = replace(big, md5="0" * 32) if trouble == "other file" else big
    with pytest.raises(ModelError) as caught:
        asked()
    message = str(caught.value)
    assert "\n" not in message
    for part in (server.url, str(cache / "big-lama.pt"), "lama-small"):
        assert part in message
    assert names(cache) == []
    server.broken_off, server.status = False, 200
    assert big().spec.train_size == 512


def test_no_network(big, server, cache) -> None:
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(ModelError, match=r"big-lama: http.* could not be downloaded .* by hand, or use lama-small"):
        big()
    cache.joinpath("big-lama.pt").write_bytes(PUBLISHED)  # by hand
    assert big().spec.train_size == 512
    assert names(cache) == ["big-lama.pt", "big-lama.safetensors"]


def test_a_damaged_file_put_there_by_hand_is_not_removed(big, cache) -> None:
    cache.mkdir()
    cache.joinpath("big-lama.pt").write_bytes(PUBLISHED[:-1])
    with pytest.raises(ModelError, match=r"big-lama.pt is damaged"):
        big()
    assert names(cache) == ["big-lama.pt"]


def test_a_cache_that_cannot_be_written(big, tmp_path, monkeypatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("REFINER_CACHE", str(tmp_path / "file" / "cache"))
    with pytest.raises(ModelError, match="could not be downloaded"):
        big()


def test_a_file_in_place_of_the_named_one(cache) -> None:
    model = load_model("big-lama", weights=GOLDEN)
    assert model.spec.train_size == 512
    assert model.generator.config.ngf == 8
    assert load_model("lama-small", weights=GOLDEN).spec.train_size == 256
    assert not cache.exists()


def test_the_default_needs_no_cache(cache) -> None:
    assert LAMA_SMALL().generator.config.ngf == 32
    assert "works offline" in LAMA_SMALL.describe()
    assert not cache.exists()


def test_names_and_paths() -> None:
    assert {"lama-small", "big-lama"} <= set(model_names())
    assert load_model(str(GOLDEN)).spec.train_size == 512
    with pytest.raises(ModelError, match="unknown model 'lamma': expected one of big-lama, lama-small, the path"):
        load_model("lamma")
    with pytest.raises(ModelError, match="is a path itself"):
        load_model(str(GOLDEN), weights=GOLDEN)


def test_the_cache_folder(monkeypatch) -> None:
    monkeypatch.delenv("REFINER_CACHE", raising=False)
    assert weights.cache_folder().name == "refiner"
