"""The server by its API: photos, masks, rounds and jobs."""

from __future__ import annotations

import json
import re
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms
from web_server import STROKE, file_of, finished, opened, picture, remove, uploaded

from refiner.engine import pyramid
from refiner.images.drawing import Stroke, drawn
from refiner.images.masks import MaskOptions, read_mask
from refiner.web.openapi import description
from refiner.web.store import Store


def result(client, photo, number, suffix="") -> bytes:
    answer = client.get(f"/api/photos/{photo['id']}/rounds/{number}/file{suffix}")
    assert answer.status_code == 200
    return answer.content


def hole_of(size: tuple[int, int], grow: int = 0) -> np.ndarray:
    """What the stroke marks, grown as the server grows it."""
    points = tuple(zip(STROKE["points"][::2], STROKE["points"][1::2], strict=True))
    mask = drawn([Stroke(points, STROKE["size"])], size)
    from refiner.images.picture import Picture

    return read_mask(mask, Picture(np.zeros((*size, 3), np.uint8)), MaskOptions(dilate=grow)).mask


def test_a_removal_changes_the_hole_alone(client) -> None:
    photo = uploaded(client)
    assert (photo["width"], photo["height"], photo["mode"], photo["depth"]) == (150, 110, "RGB", 8)
    job = remove(client, photo, grow=3)
    assert (job["state"], job["round"], job["error"]) == ("done", 1, None)
    before, after = np.asarray(picture()), opened(result(client, photo, 1))
    hole = hole_of((110, 150), grow=3)
    changed = (before != after).any(axis=2)
    assert not changed[~hole].any()
    assert changed[hole].mean() > 0.9
    made = client.get(f"/api/photos/{photo['id']}").json()["rounds"][1]
    assert (made["parent"], made["grow"]) == (0, 3)
    left, top, right, bottom = made["box"]
    assert hole[top:bottom, left:right].sum() == hole.sum()


def test_round_zero_is_the_very_file(client) -> None:
    data = file_of(picture(), "JPEG", quality=83)
    photo = uploaded(client, "photo.jpg", data)
    assert result(client, photo, 0) == data
    assert opened(result(client, photo, 0, "?suffix=.png")).shape == (110, 150, 3)


def test_sixteen_bits_stay_sixteen(client, tmp_path) -> None:
    import cv2

    values = np.random.default_rng(1).integers(0, 2**16, (110, 150, 3), dtype=np.uint16)
    cv2.imwrite(str(tmp_path / "deep.tif"), values)
    photo = uploaded(client, "deep.tif", (tmp_path / "deep.tif").read_bytes())
    assert photo["depth"] == 16
    assert remove(client, photo)["state"] == "done"
    (tmp_path / "out.tif").write_bytes(result(client, photo, 1))
    after = cv2.imread(str(tmp_path / "out.tif"), cv2.IMREAD_UNCHANGED)
    hole = hole_of((110, 150))
    assert after.dtype == np.uint16
    assert np.array_equal(after[~hole], values[~hole])
    assert not np.array_equal(after[hole], values[hole])


def test_metadata_goes_with_every_round(client) -> None:
    exif = Image.Exif()
    exif[0x010F] = "Camera"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    data = file_of(picture(), "JPEG", exif=exif.tobytes(), icc_profile=profile, dpi=(300, 300), quality=90)
    photo = uploaded(client, "photo.jpg", data)
    remove(client, photo)
    remove(client, photo, marks=[{"kind": "area", "points": [5, 5, 30, 5, 30, 20]}])
    import io

    with Image.open(io.BytesIO(result(client, photo, 2))) as image, Image.open(io.BytesIO(data)) as source:
        assert image.format == "JPEG"
        assert image.getexif()[0x010F] == "Camera"
        assert image.info["icc_profile"] == profile
        assert image.info["dpi"] == (300, 300)
        assert image.quantization == source.quantization


def test_removals_build_on_one_another_and_nothing_is_lost(client) -> None:
    photo = uploaded(client)
    area = {"kind": "area", "points": [100, 10, 130, 10, 130, 30, 100, 30]}
    first, second = remove(client, photo), remove(client, photo, marks=[area])
    aside = remove(client, photo, marks=[area], round=0)  # back to the start, another way on
    assert [job["round"] for job in (first, second, aside)] == [1, 2, 3]
    files = [opened(result(client, photo, number)) for number in range(4)]
    hole = hole_of((110, 150))
    assert np.array_equal(files[2][hole], files[1][hole])
    assert np.array_equal(files[3][hole], files[0][hole])
    assert not np.array_equal(files[2], files[1])
    parents = [made["parent"] for made in client.get(f"/api/photos/{photo['id']}").json()["rounds"]]
    assert parents == [None, 0, 1, 0]


def test_rounds_survive_the_pictures_in_memory(serve) -> None:
    from refiner.web.limits import Limits

    client = serve(limits=Limits(picture_bytes=1))
    photo = uploaded(client)
    remove(client, photo)
    remove(client, photo, marks=[{"kind": "area", "points": [100, 10, 130, 10, 130, 30]}])
    last = result(client, photo, 2)
    uploaded(client)  # pushes the others out
    assert result(client, photo, 2) == last
    assert len(client.app.state.service.store._decoded) == 1


def test_masks_are_kept_loaded_and_used_again(client) -> None:
    photo = uploaded(client)
    base = f"/api/photos/{photo['id']}"
    made = client.post(f"{base}/masks", json={"marks": [STROKE]}).json()
    saved = client.get(f"{base}/masks/{made['id']}")
    assert np.array_equal(opened(saved.content) > 0, hole_of((110, 150)))
    twice = Image.fromarray(opened(saved.content)).resize((300, 220))  # of another size but the same shape
    loaded = client.post(f"{base}/masks", content=file_of(twice)).json()
    mask = opened(client.get(f"{base}/masks/{loaded['id']}").content) > 0
    assert (mask != hole_of((110, 150))).mean() < 0.005
    overlay = opened(client.get(f"{base}/masks/{made['id']}?overlay").content)
    assert np.array_equal(overlay[..., 1] > 127, hole_of((110, 150)))
    job = remove(client, photo, marks=[{"kind": "mask", "id": made["id"]}])
    again = client.get(base).json()["rounds"][1]["mask"]
    assert job["state"] == "done"
    assert opened(client.get(f"{base}/masks/{again}").content).any()


def test_erasing_takes_away(client) -> None:
    photo = uploaded(client)
    rubbed = {**STROKE, "size": 40, "erase": True}
    answer = client.post(f"/api/photos/{photo['id']}/jobs", json={"marks": [STROKE, rubbed]})
    assert answer.status_code == 422
    assert "Nothing is marked" in answer.json()["error"]


def test_the_plan_of_a_large_photo_touches_none_of_its_pixels(serve, monkeypatch) -> None:
    """It took 2.5 s and 1.0 GB for 24 MP, to say how the work would be cut."""
    client = serve()
    photo = uploaded(client, data=file_of(picture((6000, 4000))))
    marks = {"marks": [{"kind": "stroke", "points": [500, 500, 800, 600], "size": 90}]}
    client.post(f"/api/photos/{photo['id']}/plan", json=marks)  # loads and learns the model

    def touched(*_):
        raise AssertionError("a pyramid was built")

    monkeypatch.setattr(pyramid, "build_pyramid", touched)
    monkeypatch.setattr(Store, "picture", touched)
    started = time.process_time()
    plan = client.post(f"/api/photos/{photo['id']}/plan", json=marks).json()
    assert time.process_time() - started < 2
    assert plan["bytes"] > 0


def test_the_plan_comes_before_the_work(client) -> None:
    photo = uploaded(client)
    plan = client.post(f"/api/photos/{photo['id']}/plan", json={"marks": [STROKE]}).json()
    assert (plan["whole"], plan["largest"], plan["seconds"]) == (True, [150, 110], None)
    assert plan["bytes"] > 0
    remove(client, photo)
    plan = client.post(f"/api/photos/{photo['id']}/plan", json={"marks": [STROKE]}).json()
    assert 0 <= plan["seconds"] < 60  # known now
    nothing = client.post(f"/api/photos/{photo['id']}/plan", json={"marks": []})
    assert (nothing.status_code, "Nothing is marked" in nothing.json()["error"]) == (422, True)
    full = {"kind": "area", "points": [-9, -9, 999, -9, 999, 999, -9, 999]}
    refused = client.post(f"/api/photos/{photo['id']}/plan", json={"marks": [full]})
    assert refused.status_code == 422
    assert "leaves nothing" in refused.json()["error"]


def events(client, job) -> list[dict]:
    with client.stream("GET", f"/api/jobs/{job['id']}/events") as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        return [json.loads(line[6:]) for line in answer.iter_lines() if line.startswith("data: ")]


def test_events_tell_of_scales_and_the_end(client) -> None:
    photo = uploaded(client, data=file_of(picture((300, 220))))
    job = client.post(f"/api/photos/{photo['id']}/jobs", json={"marks": [STROKE]}).json()
    seen = events(client, job)
    assert seen[-1]["state"] == "done"
    assert seen[-1]["shown"][0] == 0  # the first look
    assert len(seen[-1]["shown"]) > 2
    assert seen[-1]["progress"]["done"] == 1
    number = seen[-1]["latest"]["number"]
    shown = client.get(f"/api/jobs/{job['id']}/pictures/{number}")
    pixels = opened(shown.content)
    assert pixels.shape[2] == 4
    assert pixels[..., 3].max() == 255
    assert pixels[..., 3].min() == 0
    left, top, right, bottom = seen[-1]["latest"]["box"]
    assert left <= 40
    assert right >= 90
    assert (top, bottom) < (50, 70) < (60, 300)
    assert events(client, job)[-1]["state"] == "done"  # for who comes late


def test_a_first_look_ends_when_its_time_is_over(client, monkeypatch) -> None:
    import torch

    from refiner.web import removal

    monkeypatch.setattr(removal, "_LOOKED", 0)
    looks, threads = [], torch.get_num_threads()
    inpaint = removal.Photo.inpaint

    def watched(*arguments: object, **options: object) -> object:
        result = inpaint(*arguments, **options)
        looks.append((result.picture.size, result.refinement.stopped))
        return result

    monkeypatch.setattr(removal.Photo, "inpaint", watched)
    photo = uploaded(client, data=file_of(picture((800, 600))))
    settings = {"start": "exemplar", "detail": "exemplar"}
    asked = {"marks": [STROKE], "settings": settings}
    job = client.post(f"/api/photos/{photo['id']}/jobs", json=asked).json()
    assert events(client, job)[-1]["shown"][0] == 0
    assert looks == [((80, 106), True), ((600, 800), False)]
    assert torch.get_num_threads() == threads


def slow(client, photo, steps=200) -> dict:
    asked = {"marks": [STROKE], "settings": {"steps": steps}}
    return client.post(f"/api/photos/{photo['id']}/jobs", json=asked).json()


def until(client, job, what) -> dict:
    for _ in range(2000):
        now = client.get(f"/api/jobs/{job['id']}").json()
        if what(now):
            return now
        time.sleep(0.005)
    raise AssertionError(now)


def test_stop_keeps_the_best_so_far(client) -> None:
    photo = uploaded(client)
    job = slow(client, photo)
    until(client, job, lambda now: now.get("progress", {}).get("scale", 0) > 1)
    client.post(f"/api/jobs/{job['id']}/stop")
    ended = finished(client, job)
    assert ended["state"] == "done"
    assert ended["progress"]["step"] < 200
    made = client.get(f"/api/photos/{photo['id']}").json()["rounds"][1]
    assert made["stopped"]


def test_cancel_ends_within_one_prediction(client) -> None:
    photo = uploaded(client)
    job = slow(client, photo)
    until(client, job, lambda now: now.get("progress", {}).get("scale", 0) > 1)
    client.post(f"/api/jobs/{job['id']}/cancel")
    asked = time.monotonic()
    assert finished(client, job)["state"] == "canceled"
    assert time.monotonic() - asked < 2
    assert len(client.get(f"/api/photos/{photo['id']}").json()["rounds"]) == 1


def test_jobs_wait_their_turn(client) -> None:
    photo = uploaded(client)
    jobs = [slow(client, photo) for _ in range(3)]
    until(client, jobs[0], lambda now: now["state"] == "working")
    assert [client.get(f"/api/jobs/{job['id']}").json()["position"] for job in jobs] == [0, 1, 2]
    assert [job["id"] for job in client.get(f"/api/photos/{photo['id']}").json()["jobs"]] == [job["id"] for job in jobs]
    client.post(f"/api/jobs/{jobs[1]['id']}/cancel")
    assert client.get(f"/api/jobs/{jobs[2]['id']}").json()["position"] == 1
    client.post(f"/api/jobs/{jobs[0]['id']}/cancel")
    until(client, jobs[2], lambda now: now["state"] == "working")
    client.post(f"/api/jobs/{jobs[2]['id']}/cancel")
    assert [finished(client, job)["state"] for job in jobs] == ["canceled"] * 3


def test_results_are_also_written_where_asked(serve, tmp_path) -> None:
    folder = tmp_path / "results"
    client = serve(output=folder)
    photo = uploaded(client, "Holiday%201.png")
    remove(client, photo)
    remove(client, photo)
    uploaded(client, "Holiday%201.png")
    assert sorted(path.name for path in folder.iterdir()) == ["Holiday 1_round1.png", "Holiday 1_round2.png"]
    assert opened((folder / "Holiday 1_round2.png").read_bytes()).shape == (110, 150, 3)
    again = uploaded(client, "Holiday%201.png")
    remove(client, again)  # never over what is there
    assert client.get(f"/api/photos/{again['id']}").json()["rounds"][1]["saved"] == "Holiday 1_round1_2.png"


def test_a_photo_from_the_command_line_is_saved_beside(serve, tmp_path) -> None:
    path = tmp_path / "from camera.png"
    path.write_bytes(file_of(picture()))
    client = serve(photo=path, save_beside=True, open_key="k" * 22)
    assert client.get("/?open=wrong", follow_redirects=False).headers["location"] == "./"
    assert client.get("/api/photos").json() == []
    answer = client.get("/?open=" + "k" * 22, follow_redirects=False)
    photo = client.get(f"/api/photos/{answer.headers['location'].partition('#')[2]}").json()
    remove(client, photo)
    assert (tmp_path / "from camera_refined.png").is_file()
    assert path.read_bytes() == file_of(picture())


def test_previews_and_tiles(client) -> None:
    photo = uploaded(client, data=file_of(picture((2600, 700))))
    base = f"/api/photos/{photo['id']}/rounds/0"
    assert opened(client.get(f"{base}/preview").content).shape == (551, 2048, 3)
    assert max(opened(client.get(f"{base}/thumbnail").content).shape) == 192
    tile = opened(client.get(f"{base}/tiles/5/1").content).astype(int)
    expected = np.asarray(picture((2600, 700)))[512:700, 2560:2600].astype(int)
    assert tile.shape == expected.shape
    assert abs(tile - expected).mean() < 3
    assert client.get(f"{base}/tiles/6/0").status_code == 404
    assert client.get(f"/api/photos/{photo['id']}/rounds/7/preview").status_code == 404


def test_the_server_warms_up(tmp_path) -> None:
    """It knows how long work takes before anybody has waited for any."""
    from starlette.testclient import TestClient
    from web_server import GOLDEN, HERE, QUICK

    from refiner.web.app import make_app
    from refiner.web.offer import Defaults
    from refiner.web.service import Config

    defaults = Defaults(model=str(GOLDEN), given=QUICK, device="cpu")
    with TestClient(make_app(Config(defaults, root=tmp_path)), base_url=HERE) as client:
        photo = uploaded(client)
        remover = client.app.state.service.remover
        for _ in range(1000):
            if remover._pace._known:
                break
            time.sleep(0.02)
        plan = client.post(f"/api/photos/{photo['id']}/plan", json={"marks": [STROKE]}).json()
        assert 0 <= plan["seconds"] < 60


def test_settings_come_from_the_engine_and_within_bounds(client) -> None:
    photo = uploaded(client)
    config = client.get("/api/config").json()
    names = {setting["name"] for setting in config["settings"]}
    assert {"refine", "steps", "lr", "precision"} <= names
    assert "memory" not in names  # whoever runs the server shares it out
    job = remove(client, photo, settings={"refine": False})
    assert job["progress"]["scales"] == 1
    job = remove(client, photo, settings={"steps": [3, 1], "detail": "features"})
    assert (job["progress"]["scales"], job["progress"]["steps"]) == (3, 1)
    assert next(row for row in config["settings"] if row["name"] == "steps")["kind"] == "counts"
    for asked, words in (
        ({"settings": {"steps": 10**6}}, "steps: expected up to 200"),
        ({"settings": {"steps": 0}}, "steps: expected a whole number from 1"),
        ({"settings": {"steps": [2, 10**6]}}, "steps: expected up to 200"),
        ({"settings": {"steps": [2, "x"]}}, "steps: expected a whole number from 1"),
        ({"settings": {"memory": "1TB"}}, "settings: memory"),
        ({"model": "os:system"}, "model 'os:system': expected one of"),
        ({"preset": "/etc/passwd"}, "preset '/etc/passwd': expected one of"),
        ({"device": "cuda:7"}, "device 'cuda:7': expected one of"),
        ({"grow": -1}, "grow: expected a whole number from 0"),
        ({"round": 9}, "no round 9"),
        ({"marks": "all"}, "marks: expected a list"),
        ({"marks": [{"kind": "stroke", "points": [1, 2, 3], "size": 5}]}, "points: expected numbers"),
        ({"marks": [{"kind": "stroke", "points": [1, None], "size": 5}]}, "points: expected numbers"),
        ({"marks": [{"kind": "stroke", "points": [1, 2], "size": 1e9}]}, "size: expected up to"),
        ({"marks": [{"kind": "mask", "id": "../../photo"}]}, "no such mask"),
        ({"marks": [{"kind": "spray"}]}, "kind 'spray': expected stroke"),
    ):
        answer = client.post(f"/api/photos/{photo['id']}/jobs", json={"marks": [STROKE], **asked})
        assert answer.status_code in (404, 422), asked
        assert words in answer.json()["error"]


def test_what_a_format_loses_is_said_before(client) -> None:
    photo = uploaded(client, "photo.png", file_of(picture().convert("RGBA")))
    formats = {kind["suffix"]: kind["loses"] for kind in client.get(f"/api/photos/{photo['id']}/formats").json()}
    assert formats[".png"] == []
    assert any("changes known pixels" in line for line in formats[".jpg"])
    refused = client.get(f"/api/photos/{photo['id']}/rounds/0/file?suffix=.jpg")
    assert refused.status_code == 422
    assert "cannot hold the photo's transparency" in refused.json()["error"]
    assert client.get(f"/api/photos/{photo['id']}/rounds/0/file?suffix=.exe").status_code == 422


def test_examples_open_with_their_mask(client) -> None:
    name = client.get("/api/config").json()["examples"][0]
    assert max(opened(client.get(f"/api/examples/{name}").content).shape) <= 384
    photo = client.post(f"/api/examples/{name}").json()
    assert photo["width"] == 3840
    assert 0.05 < photo["loaded"]["share"] < 0.5
    assert client.post("/api/examples/..%2Fpyproject.toml").status_code == 404


def test_every_route_is_described(client) -> None:
    described = {(method.upper(), path) for path, methods in description()["paths"].items() for method in methods}
    routes = {
        (method, re.sub(r":\w+}", "}", route.path))
        for route in client.app.routes
        if hasattr(route, "methods")
        for method in route.methods - {"HEAD"}
    }
    assert described == {(method, path) for method, path in routes if path not in ("/", "/api")}
    assert client.get("/api/openapi.json").json()["openapi"].startswith("3.1")
    assert "API" in client.get("/api").text


def test_the_page_names_no_other_host() -> None:
    page = Path(__file__).parents[3] / "refiner/web/page"
    for path in (path for path in page.rglob("*") if path.is_file()):
        text = path.read_text(encoding="utf-8").replace("http://www.w3.org/2000/svg", "")
        assert not re.search(r"(https?:)?//[a-z0-9-]+\.[a-z]", text), path.name


def test_every_language_has_every_string() -> None:
    folder = Path(__file__).parents[3] / "refiner/web/page/strings"
    texts = {path.stem: path.read_text(encoding="utf-8") for path in folder.glob("*.js")}
    assert sorted(texts) == ["de", "en", "es", "fr", "ja", "zh"]
    read, shorts = {}, {}
    for name, text in texts.items():
        found = re.findall(r'^  (\w+): "(.*)",$', text, re.MULTILINE)
        read[name] = {key: re.findall(r"\{\w+\}", value) for key, value in found}
        shorts[name] = re.findall(r"(\w+): ", re.search(r"^  short: \{(.*)\}", text, re.MULTILINE)[1])
    used = "".join(path.read_text(encoding="utf-8") for path in folder.parent.glob("*.*"))
    for name, strings in read.items():
        assert {key: sorted(blanks) for key, blanks in strings.items()} == {
            key: sorted(blanks) for key, blanks in read["en"].items()
        }, name
        assert shorts[name] == shorts["en"]
        assert texts[name].count("    [") == texts["en"].count("    [")
    assert not [key for key in read["en"] if f'"{key}"' not in used]


@pytest.mark.parametrize(
    ("kind", "mode"),
    [("PNG", "RGBA"), ("WEBP", "RGB"), ("TIFF", "CMYK"), ("JPEG", "CMYK"), ("JPEG", "L"), ("HEIF", "RGB")],
)
def test_all_usual_formats_come_back_as_they_are(client, kind, mode) -> None:
    from refiner.images.formats import load_plugins

    load_plugins()  # HEIF
    photo = uploaded(client, f"photo.{kind.lower()}", file_of(picture().convert(mode), kind))
    assert (photo["format"], photo["mode"]) == (kind, mode)
    assert opened(client.get(f"/api/photos/{photo['id']}/rounds/0/preview").content).shape == (110, 150, 3)
    remove(client, photo)
    import io

    with Image.open(io.BytesIO(result(client, photo, 1))) as image:
        assert (image.format, image.size) == (kind, (150, 110))
