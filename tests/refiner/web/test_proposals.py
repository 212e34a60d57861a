"""What the server proposes to be painted: the object that was clicked on, and the shadow of what is painted."""

from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from test_snap import overlap, scene
from web_server import file_of, opened, uploaded

from refiner import InputError
from refiner.web.clicked import Click, clicked
from refiner.web.service import EXAMPLES, example_files
from refiner.web.shadow import with_shadow
from refiner.web.superpixels import lab_of, superpixels


def shaded(shadow: bool = True) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """A ball on rough ground, its mask, and the mask of the soft shadow beside it."""
    size = (900, 600)
    rough = np.random.default_rng(0).integers(0, 256, (100, 150, 3), dtype=np.uint8)
    rough = np.asarray(Image.fromarray(rough).resize(size, Image.Resampling.BICUBIC)).astype(float) - 128
    dark, ball = Image.new("L", size), Image.new("L", size)
    if shadow:
        ImageDraw.Draw(dark).ellipse((390, 336, 690, 420), fill=255)
    ImageDraw.Draw(ball).ellipse((300, 180, 480, 384), fill=255)
    share, inside = np.asarray(dark.filter(ImageFilter.GaussianBlur(7))) / 255, np.asarray(ball) > 0
    pixels = (np.array([150, 140, 110]) + 0.12 * rough) * (1 - 0.45 * share[..., None])
    pixels[inside] = (np.array([60, 90, 200]) + 0.1 * rough)[inside]
    return np.clip(pixels, 0, 255).astype(np.uint8), inside, (share > 0.5) & ~inside


def test_one_click_selects_an_object() -> None:
    image, ball = scene()
    top, left = (int(each.mean()) for each in np.nonzero(ball))
    for dx, dy in ((0, 0), (30, -20), (-40, 10)):
        assert overlap(clicked(np.asarray(image), [Click(left + dx, top + dy)]), ball) > 0.75


@pytest.mark.parametrize("place", [(0.5, 0.5), (0.42, 0.42), (0.7, 0.6)])
def test_one_click_selects_the_otter(place) -> None:
    photo, mask = example_files(EXAMPLES[0])
    with Image.open(photo) as image, Image.open(mask) as hole:
        pixels = np.asarray(image.convert("RGB").resize((1920, 1080)))
        around = np.asarray(hole.convert("L").resize((1920, 1080))) > 127  # drawn generously
    found = clicked(pixels, [Click(1920 * place[0], 1080 * place[1])])
    assert (found & ~around).sum() < 0.1 * found.sum()
    assert found.sum() > 0.55 * around.sum()


def test_further_clicks_mend_it() -> None:
    """Two balls that touch: plus takes in the other one, minus leaves it out again."""
    image = Image.new("RGB", (600, 400), (120, 130, 110))
    draw = ImageDraw.Draw(image)
    draw.ellipse((120, 120, 300, 300), fill=(200, 60, 50))
    draw.ellipse((290, 120, 470, 300), fill=(50, 70, 190))
    pixels = np.asarray(image.filter(ImageFilter.GaussianBlur(1)))
    one, other = pixels[..., 0] > 160, pixels[..., 2] > 150
    first, second = Click(210, 210), Click(380, 210)
    assert overlap(clicked(pixels, [first, second]), one | other) > 0.85
    without = clicked(pixels, [first, Click(380, 210, plus=False)])
    assert not without[210, 380]
    assert overlap(without, one) > 0.85


def test_clicks_anywhere_give_something() -> None:
    rng = np.random.default_rng(1)
    for size in ((3, 5), (40, 900), (300, 200)):
        pixels = rng.integers(0, 256, (*size, 3), dtype=np.uint8)
        for _ in range(4):
            x, y = rng.random() * size[1], rng.random() * size[0]
            assert clicked(pixels, [Click(x, y), Click(size[1] - x, y, plus=False)]).shape == size
    flat = np.full((100, 100, 3), 90, np.uint8)
    assert clicked(flat, [Click(50, 50)])[50, 50]
    with pytest.raises(InputError, match="click on the object"):
        clicked(flat, [Click(5, 5, plus=False)])


def test_a_click_on_what_is_selected_narrows_it() -> None:
    """Five posts that stand close, as those of a gate: the first click takes them all."""
    pixels = np.full((300, 400, 3), (40, 90, 60), np.uint8)
    for left in range(60, 340, 56):
        pixels[40:260, left : left + 54] = (200, 50, 30)
        pixels[40:260, left + 54 : left + 56] = (170, 40, 25)
    pixels = np.clip(pixels + np.random.default_rng(0).normal(0, 3, pixels.shape), 0, 255).astype(np.uint8)
    first = clicked(pixels, [Click(87, 150)])
    assert first[50:250, 70:330].mean() > 0.95
    second = clicked(pixels, [Click(87, 150), Click(199, 150, plus=False)])
    assert second[150, 87]
    assert not second[150, 199]
    assert not second[50:250, 200:].any()  # all beyond it is gone too
    third = clicked(pixels, [Click(87, 150), Click(199, 150, plus=False), Click(311, 150)])
    assert third[150, 87]
    assert third[150, 311]
    assert not third[150, 199]


def test_nothing_flat_is_one_patch() -> None:
    pixels = np.zeros((120, 200, 3), np.uint8)
    pixels[60:] = np.random.default_rng(3).integers(0, 256, (60, 200, 3))
    cut = superpixels(pixels, 7)
    assert cut.areas.max() <= (4 * 7) ** 2


def test_superpixels_are_a_cut_of_the_picture() -> None:
    pixels = np.random.default_rng(2).integers(0, 256, (57, 91, 3), dtype=np.uint8)
    cut = superpixels(pixels, 7)
    assert cut.areas.sum() == cut.labels.size
    assert (cut.areas > 0).all()
    across = (cut.labels[:, 1:] != cut.labels[:, :-1]).sum() + (cut.labels[1:] != cut.labels[:-1]).sum()
    assert cut.lengths.sum() == across
    cv2 = pytest.importorskip("cv2", reason="the oracle of CIELAB is OpenCV")
    assert np.abs(lab_of(pixels) - cv2.cvtColor(pixels.astype(np.float32) / 255, cv2.COLOR_RGB2LAB)).max() < 0.5


def test_a_mask_grows_to_the_shadow_and_no_further() -> None:
    pixels, ball, shadow = shaded()
    added = with_shadow(pixels, ball) & ~ball
    assert (added & shadow).sum() > 0.85 * shadow.sum()
    assert (added & ~shadow).sum() < 0.35 * shadow.sum()  # of its soft rim
    plain, ball, _ = shaded(shadow=False)
    with pytest.raises(InputError, match="no darker area"):
        with_shadow(plain, ball)
    with pytest.raises(InputError, match="Nothing is marked"):
        with_shadow(pixels, np.zeros_like(ball))


def test_dark_water_behind_an_object_is_no_shadow() -> None:
    photo, mask = example_files(EXAMPLES[0])
    with Image.open(photo) as image, Image.open(mask) as hole:
        pixels = np.asarray(image.convert("RGB").resize((1920, 1080)))
        otter = np.asarray(hole.convert("L").resize((1920, 1080))) > 127
    grown = with_shadow(pixels, otter)
    assert grown[otter].all()
    assert grown.sum() < 1.3 * otter.sum()


def test_both_by_the_api_within_half_a_second_at_4k(client) -> None:
    pixels, ball, _ = shaded()
    large = Image.fromarray(pixels).resize((3840, 2560))
    photo = uploaded(client, "a.jpg", file_of(large, "JPEG", quality=95))
    base = f"/api/photos/{photo['id']}"
    client.get(f"{base}/rounds/0/preview")  # as the page does when it opens a photo
    clicks = {"clicks": [{"x": 1660, "y": 1200}]}
    client.post(f"{base}/select", json=clicks)
    started = time.process_time()
    made = client.post(f"{base}/select", json=clicks).json()
    assert time.process_time() - started < 1  # of all threads; 0.5 s by the clock
    mask = opened(client.get(f"{base}/masks/{made['id']}").content) > 0
    assert mask.shape == (2560, 3840)
    assert overlap(mask[::4, ::4], np.asarray(Image.fromarray(ball).resize((960, 640)))) > 0.85
    stamp = {"kind": "mask", "id": made["id"]}
    grown = client.post(f"{base}/shadow", json={"marks": [stamp]}).json()
    assert grown["share"] > made["share"] * 1.2
    for asked in (
        {},
        {"clicks": []},
        {"clicks": [{"x": 1}]},
        {"clicks": [5]},
        {"clicks": [{"x": 1, "y": 1, "plus": 2}]},
    ):
        assert client.post(f"{base}/select", json=asked).status_code == 422
    refused = client.post(f"{base}/select", json={"clicks": [{"x": 1, "y": 1, "plus": False}]})
    assert (refused.status_code, "click on the object" in refused.json()["error"]) == (422, True)
