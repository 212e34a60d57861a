"""IOPaint's call, as its clients make it: its published request, answered as its own server would."""

from __future__ import annotations

import base64
import io

import numpy as np
import pytest
from PIL import Image
from web_server import file_of, opened, picture

# What the page of IOPaint 1.6 sends, beside image and mask.
SENT = {
    "ldm_steps": 30,
    "ldm_sampler": "ddim",
    "zits_wireframe": True,
    "cv2_flag": "INPAINT_NS",
    "cv2_radius": 5,
    "hd_strategy": "Crop",
    "hd_strategy_crop_triger_size": 640,
    "hd_strategy_crop_margin": 128,
    "hd_trategy_resize_imit": 2048,
    "prompt": "",
    "negative_prompt": "",
    "use_croper": False,
    "croper_x": 0,
    "use_extender": False,
    "sd_mask_blur": 12,
    "sd_strength": 1.0,
    "sd_steps": 50,
    "sd_guidance_scale": 7.5,
    "sd_sampler": "DPM++ 2M",
    "sd_seed": -1,
    "sd_match_histograms": False,
    "sd_lcm_lora": False,
    "paint_by_example_example_image": None,
    "enable_controlnet": False,
    "controlnet_method": "",
    "enable_brushnet": False,
    "enable_powerpaint_v2": False,
    "powerpaint_task": "text-guided",
}


def mask(size=(150, 110), value=255) -> Image.Image:
    image = Image.new("L", size)
    image.paste(value, (40, 30, 90, 70))
    return image


def encoded(data: bytes, head: str = "") -> str:
    return head + base64.b64encode(data).decode()


def asked(image: bytes, hole: bytes, head: str = "") -> dict:
    return {"image": encoded(image, head), "mask": encoded(hole, head), **SENT}


@pytest.mark.parametrize(("kind", "head"), [("PNG", "data:image/png;base64,"), ("PNG", ""), ("JPEG", "")])
def test_the_image_comes_back_filled_in_its_format(client, kind, head) -> None:
    source = file_of(picture(), kind)
    answer = client.post("/api/v1/inpaint", json=asked(source, file_of(mask()), head))
    assert answer.status_code == 200
    assert answer.headers["content-type"] == f"image/{kind.lower()}"
    assert answer.headers["x-seed"].isdecimal()
    before, after = opened(source), opened(answer.content)
    hole = np.asarray(mask()) > 127
    assert after.shape == before.shape
    if kind == "PNG":
        assert np.array_equal(after[~hole], before[~hole])
    assert not np.array_equal(after[hole], before[hole])


def test_alpha_comes_back_and_half_gray_is_no_hole(client) -> None:
    source = picture().convert("RGBA")
    source.putalpha(Image.linear_gradient("L").resize(source.size))
    answer = client.post("/api/v1/inpaint", json=asked(file_of(source), file_of(mask(value=127))))
    assert np.array_equal(opened(answer.content), np.asarray(source))


@pytest.mark.parametrize(
    ("image", "hole", "status", "words"),
    [
        (file_of(picture()), file_of(mask((75, 55))), 400, "Image size((110, 150)) and mask size((55, 75)) not match."),
        (b"no image", file_of(mask()), 422, "is not an image"),
        (file_of(picture()), b"no mask", 422, "mask: is not an image"),
    ],
)
def test_errors_have_its_keys(client, image, hole, status, words) -> None:
    answer = client.post("/api/v1/inpaint", json=asked(image, hole))
    assert answer.status_code == status
    assert set(answer.json()) == {"error", "detail", "body", "errors"}
    assert words in answer.json()["errors"]


def test_what_is_no_request_is_refused(client) -> None:
    assert client.post("/api/v1/inpaint", json={}).status_code == 422
    assert client.post("/api/v1/inpaint", content=b"{").status_code == 400
    answer = client.post("/api/v1/inpaint", json={"image": "$$$", "mask": "$$$"})
    assert (answer.status_code, answer.json()["errors"]) == (422, "image: is not base64.")


def test_its_own_client_code_is_content(client) -> None:
    """Where IOPaint is installed: its request's schema makes the call, its decoder reads the answer."""
    schema = pytest.importorskip("iopaint.schema", reason="IOPaint is not installed")
    image, hole = file_of(picture()), file_of(mask())
    request = schema.InpaintRequest(image=encoded(image), mask=encoded(hole))
    answer = client.post("/api/v1/inpaint", content=request.model_dump_json())
    assert answer.status_code == 200
    with Image.open(io.BytesIO(answer.content)) as result:
        assert result.size == (150, 110)
