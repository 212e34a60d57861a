"""Against a small local server, failures and all."""

from __future__ import annotations

import http.server
import io
import threading
from collections import Counter
from urllib.parse import parse_qs, urlparse

import pytest
from click.testing import CliRunner
from PIL import Image

from benchmarks.unsplash import Photo, download_all, main, read_list, sample
from refiner.errors import InputError


def jpeg(width: int, height: int) -> bytes:
    data = io.BytesIO()
    Image.linear_gradient("L").resize((width, height)).convert("RGB").save(data, "JPEG")
    return data.getvalue()


@pytest.fixture
def server():
    """Serves every photo at the size asked for; some fail now and then, or always."""
    asked: Counter[str] = Counter()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            url = urlparse(self.path)
            name, query = url.path.strip("/"), parse_qs(url.query)
            asked[name] += 1
            size = int(query.get("h", query.get("w"))[0])
            data = jpeg(size * 3 // 2, size) if "h" in query else jpeg(size, size * 3 // 2)
            status, length = 200, None
            if name == "gone":
                status = 404
            elif name == "moody" and asked[name] < 3:
                status = 503
            elif name == "torn" and asked[name] < 2:
                length, data = len(data), data[:200]
            elif name == "broken":
                data = b"not a picture"
            elif name == "small":
                data = jpeg(20, 20)
            self.send_response(status)
            self.send_header("Content-Length", str(length or len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *arguments):
            pass

    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", asked
    running.shutdown()
    running.server_close()


def photo(server, name, width=3000, height=2000):
    return Photo(name, f"{server[0]}/{name}", width, height)


def test_photos_come_whole_and_failures_are_told(server, tmp_path) -> None:
    names = ["wide", "moody", "torn", "gone", "broken", "small"]
    photos = [photo(server, name) for name in names] + [photo(server, "tall", 2000, 3000)]
    told = []
    failed = download_all(photos, tmp_path / "out", 64, lambda: told.append(1), pause=0.001)
    assert {p.key: reason for p, reason in failed}.keys() == {"gone", "broken", "small"}
    reasons = {p.key: reason for p, reason in failed}
    assert reasons["gone"] == "HTTP 404"
    assert "expected a short side of 64" in reasons["small"]
    assert len(told) == 7
    for name in ("wide", "moody", "torn", "tall"):
        with Image.open(tmp_path / "out" / f"{name}.png") as image:
            assert image.size == (64, 64)
    assert server[1]["gone"] == 1  # not tried again
    assert server[1]["moody"] == 3
    assert server[1]["torn"] == 2
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["moody.png", "tall.png", "torn.png", "wide.png"]


def test_what_is_there_is_not_brought_again(server, tmp_path) -> None:
    photos = [photo(server, "a"), photo(server, "b")]
    download_all(photos[:1], tmp_path, 32, lambda: None)
    download_all(photos, tmp_path, 32, lambda: None)
    assert server[1] == {"a": 1, "b": 1}
    download_all(photos, tmp_path, 48, lambda: None)  # at another size it is
    assert server[1] == {"a": 2, "b": 2}


def write_list(path, photos) -> None:
    lines = ["photo_id\tphoto_url\tphoto_image_url\tphoto_width\tphoto_height\tphoto_description"]
    lines += [f'{p.key}\thttps://x\t{p.url}\t{p.width}\t{p.height}\ta "quote' for p in photos]
    path.write_text("\n".join(lines) + "\n")


def test_the_choice_depends_on_ids_alone(tmp_path) -> None:
    photos = [Photo(f"id{i}", f"http://x/{i}", 3000, 2000) for i in range(50)]
    write_list(tmp_path / "photos.tsv000", photos)
    read = read_list(tmp_path / "photos.tsv000")
    assert read == photos
    first = sample(read, 10, 1024)
    assert [p.key for p in sample(read[::-1], 10, 1024)] == [p.key for p in first]
    fewer = [p for p in read if p.key != first[3].key]  # one gone: the others stay in their order
    assert [p.key for p in sample(fewer, 9, 1024)] == [p.key for p in first if p != first[3]]
    assert [p.key for p in first] != [p.key for p in read[:10]]
    assert sample([Photo("x", "u", 1000, 4000)], 10, 1024) == []


@pytest.mark.parametrize(
    "content",
    [None, "", "photo_id\n1\n", "words", "photo_id\tphoto_image_url\tphoto_width\tphoto_height\na\tb\tc\td\n"],
)
def test_lists_that_are_none(tmp_path, content) -> None:
    path = tmp_path / "photos.tsv000"
    if content is not None:
        path.write_text(content)
    with pytest.raises(InputError, match=r"photos\.tsv000"):
        read_list(path)


def test_command_line(server, tmp_path) -> None:
    write_list(tmp_path / "photos.tsv000", [photo(server, name) for name in ("a", "b", "gone")])
    result = CliRunner().invoke(main, [str(tmp_path / "photos.tsv000"), str(tmp_path / "out"), "--size", "48"])
    assert result.exit_code == 1
    assert "gone: HTTP 404" in result.output
    assert "2 of 3 photos" in result.output
    assert CliRunner().invoke(main, ["nothing", str(tmp_path / "out")]).exit_code == 2
