"""Selecting objects with a segmentation model of the user's own."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import numpy as np
import onnx_file
import pytest
from PIL import Image
from test_snap import overlap
from web_server import file_of, opened, uploaded

from refiner import InputError
from refiner.web import segmenter
from refiner.web.clicked import Click
from refiner.web.segmenter import Segmenter


@pytest.fixture
def files(tmp_path):
    for name in ("encoder", "decoder"):
        (tmp_path / f"made_{name}.onnx").write_bytes(getattr(onnx_file, name)())
    return tmp_path / "made_encoder.onnx"


def square(size: tuple[int, int] = (200, 200)) -> tuple[np.ndarray, np.ndarray]:
    pixels = np.full((*size, 3), 20, np.uint8)
    pixels[60:130, 40:120] = 240
    return pixels, pixels[..., 0] > 100


class Fake:
    """A session that notes what it is asked."""

    def __init__(self, *inputs: tuple[str, list[int | str]], gives) -> None:
        self._inputs, self._gives, self.asked = inputs, gives, []

    def get_inputs(self):
        return [SimpleNamespace(name=name, shape=shape) for name, shape in self._inputs]

    def run(self, _, given):
        self.asked.append(given)
        return self._gives


def faked(monkeypatch, files, shape, masks, scores):
    points = [("point_coords", [1, "n", 2]), ("point_labels", [1, "n"]), ("orig_im_size", [2])]
    sessions = {
        "made_encoder.onnx": Fake(("images", shape), gives=[np.zeros((1, 4))]),
        "made_decoder.onnx": Fake(("image_embeddings", []), *points, gives=[masks, scores]),
    }
    monkeypatch.setattr(segmenter, "_session", lambda path: sessions[path.name])
    return (Segmenter(files), *sessions.values())


def test_clicks_are_scaled_and_the_picture_is_encoded_once(monkeypatch, files) -> None:
    masks = np.zeros((1, 2, 100, 200))
    masks[0, 1, 10:20, 30:40] = 1
    model, encoder, decoder = faked(monkeypatch, files, [1, 3, 64, 64], masks, np.array([[0.2, 0.8]]))
    pixels = np.full((100, 200, 3), 255, np.uint8)
    found = model.clicked("a", pixels, [Click(99.5, 49.5), Click(0, 0, plus=False)])
    assert np.array_equal(found, masks[0, 1] > 0)  # the better one of the two
    model.clicked("a", pixels, [Click(5, 5)])
    assert len(encoder.asked) == 1
    given = encoder.asked[0]["images"]
    assert given.shape == (1, 3, 64, 64)
    assert given[0, :, 31, 63] == pytest.approx([2.2489, 2.4286, 2.64], abs=1e-3)  # white, normalized like ImageNet
    assert not given[0, :, 32:].any()  # padding
    assert decoder.asked[0]["point_coords"][0].tolist() == [
        [32, 16],
        [pytest.approx(0.16), pytest.approx(0.16)],
        [0, 0],
    ]
    assert decoder.asked[0]["point_labels"][0].tolist() == [1, 0, -1]
    assert decoder.asked[0]["orig_im_size"].tolist() == [100, 200]
    for key in "bcdef":
        model.clicked(key, pixels, [Click(5, 5)])
    assert len(model._encoded) == 4


def test_an_encoder_of_raw_pixels_gets_them(monkeypatch, files) -> None:
    model, encoder, _ = faked(monkeypatch, files, ["h", "w", 3], np.ones((1, 1, 50, 100)), np.array([1.0]))
    assert model.clicked("a", np.full((100, 200, 3), 7, np.uint8), [Click(1, 1)]).shape == (100, 200)
    assert encoder.asked[0]["images"].shape == (512, 1024, 3)
    assert (encoder.asked[0]["images"] == 7).all()


def test_what_is_no_model_is_refused_in_one_line(monkeypatch, files, tmp_path) -> None:
    other = tmp_path / "model.onnx"
    other.write_bytes(b"x")
    with pytest.raises(InputError, match="no such file"):
        Segmenter(tmp_path / "encoder.onnx")
    with pytest.raises(InputError, match="beside it the same name with `decoder`"):
        Segmenter(other)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"refiner-inpainting\[segmenter\]"):
        Segmenter(files)
    monkeypatch.setattr(segmenter, "_session", lambda _: Fake(("x", [1, 3, 64, 64]), gives=[]))
    with pytest.raises(InputError, match="is no decoder of the SAM family"):
        Segmenter(files)


def test_a_made_model_runs(files, tmp_path) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    pixels, object_ = square()
    model = Segmenter(files)
    assert overlap(model.clicked("a", pixels, [Click(80, 90)]), object_) > 0.8
    with pytest.raises(InputError, match="click on the object"):
        model.clicked("a", pixels, [Click(80, 90, plus=False)])
    files.write_bytes(b"nonsense")
    with pytest.raises(InputError, match="is no ONNX model that can be read") as refused:
        Segmenter(files)
    assert "\n" not in str(refused.value)


def test_the_server_uses_it(serve, files) -> None:
    pytest.importorskip("onnxruntime", reason="ONNX Runtime is not installed")
    client = serve(segmenter=files)
    pixels, object_ = square()
    photo = uploaded(client, data=file_of(Image.fromarray(pixels)))
    base = f"/api/photos/{photo['id']}"
    made = client.post(f"{base}/select", json={"clicks": [{"x": 3, "y": 3}]}).json()  # it knows better
    assert overlap(opened(client.get(f"{base}/masks/{made['id']}").content) > 0, object_) > 0.8
