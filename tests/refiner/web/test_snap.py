"""Snap to object: a rough scribble becomes the object's outline."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter
from web_server import file_of, opened, uploaded

from refiner.errors import InputError
from refiner.images.drawing import Stroke, drawn
from refiner.images.picture import Picture
from refiner.web.snap import snapped

SIZE = (900, 600)


def scene() -> tuple[Image.Image, np.ndarray]:
    """A striped ball before leaves, and where the ball is."""
    noise = np.random.default_rng(0).integers(0, 90, (60, 90), dtype=np.uint8)
    leaves = Image.fromarray(noise).resize(SIZE, Image.Resampling.BICUBIC)
    image = Image.merge("RGB", (leaves, leaves.point(lambda v: v + 90), leaves)).filter(ImageFilter.GaussianBlur(2))
    ball = Image.new("L", SIZE)
    ImageDraw.Draw(ball).ellipse((330, 180, 610, 430), fill=255)
    stripes = Image.new("RGB", SIZE, (220, 120, 60))
    for x in range(0, SIZE[0], 40):
        ImageDraw.Draw(stripes).rectangle((x, 0, x + 19, SIZE[1]), fill=(240, 190, 120))
    image.paste(stripes, (0, 0), ball)
    return image, np.asarray(ball) > 0


def overlap(a: np.ndarray, b: np.ndarray) -> float:
    return (a & b).sum() / (a | b).sum()


@pytest.mark.parametrize(
    "points",
    [
        ((380, 300), (560, 310)),
        ((400, 240), (540, 250), (420, 320), (560, 340), (450, 390)),
        ((420, 305), (620, 330)),  # beyond the object
    ],
)
def test_a_scribble_finds_the_object(points) -> None:
    image, ball = scene()
    scribble = drawn([Stroke(points, 60)], (SIZE[1], SIZE[0]))
    found = snapped(Picture(np.asarray(image)), scribble)
    assert overlap(scribble, ball) < 0.7
    assert overlap(found, ball) > 0.93
    assert np.array_equal(found, snapped(Picture(np.asarray(image)), scribble))


def test_the_server_gives_it_as_a_mask(client) -> None:
    image, ball = scene()
    photo = uploaded(client, data=file_of(image))
    base = f"/api/photos/{photo['id']}"
    marks = [{"kind": "stroke", "points": [380, 300, 560, 310], "size": 60}]
    made = client.post(f"{base}/snap", json={"marks": marks}).json()
    assert overlap(opened(client.get(f"{base}/masks/{made['id']}").content) > 0, ball) > 0.93
    nothing = client.post(f"{base}/snap", json={"marks": []})
    assert (nothing.status_code, "Nothing is marked" in nothing.json()["error"]) == (422, True)


def test_nothing_drawn_finds_nothing() -> None:
    with pytest.raises(InputError, match="Nothing is marked"):
        snapped(Picture(np.zeros((40, 40, 3), np.uint8)), np.zeros((40, 40), dtype=bool))


@pytest.mark.parametrize("points", [((0, 0),), ((899, 599),), ((5, 5), (895, 595))])
def test_scribbles_at_the_edge_give_something(points) -> None:
    image, _ = scene()
    found = snapped(Picture(np.asarray(image)), drawn([Stroke(points, 8)], (SIZE[1], SIZE[0])))
    assert found.shape == (600, 900)
