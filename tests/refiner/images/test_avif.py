"""AVIF of more than 8 bits a channel, of which Pillow reads 8: files of 8 x 8 pixels that avifenc wrote."""

from __future__ import annotations

import base64

import numpy as np
import pytest
from picture_files import noise
from PIL import Image

import refiner
from refiner.images.codecs.avif import depth
from refiner.images.picture import Picture
from refiner.images.reading import read_picture
from refiner.images.writing import encode, losses_in

FILES = {
    10: (
        "AAAAIGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZk1BMUEAAADybWV0YQAAAAAAAAAoaGRscgAAAAAAAAAAcGljdAAAAAAAAAAAAAAA"
        "AGxpYmF2aWYAAAAADnBpdG0AAAAAAAEAAAAeaWxvYwAAAABEAAABAAEAAAABAAABGgAAAB8AAAAoaWluZgAAAAAAAQAAABppbmZl"
        "AgAAAAABAABhdjAxQ29sb3IAAAAAamlwcnAAAABLaXBjbwAAABRpc3BlAAAAAAAAAAgAAAAIAAAAEHBpeGkAAAAAAwoKCgAAAAxh"
        "djFDgSBAAAAAABNjb2xybmNseAABAA0ABoAAAAAXaXBtYQAAAAAAAAABAAEEAQKDBAAAACdtZGF0EgAKCDgIv2MBDQaQMhEWQAkk"
        "kkQARmnquzwq/0ks4A=="
    ),
    12: (
        "AAAAHGZ0eXBhdmlmAAAAAGF2aWZtaWYxbWlhZgAAAPJtZXRhAAAAAAAAAChoZGxyAAAAAAAAAABwaWN0AAAAAAAAAAAAAAAAbGli"
        "YXZpZgAAAAAOcGl0bQAAAAAAAQAAAB5pbG9jAAAAAEQAAAEAAQAAAAEAAAEWAAAAHwAAAChpaW5mAAAAAAABAAAAGmluZmUCAAAA"
        "AAEAAGF2MDFDb2xvcgAAAABqaXBycAAAAEtpcGNvAAAAFGlzcGUAAAAAAAAACAAAAAgAAAAQcGl4aQAAAAADDAwMAAAADGF2MUOB"
        "QGAAAAAAE2NvbHJuY2x4AAEADQAGgAAAABdpcG1hAAAAAAAAAAEAAQQBAoMEAAAAJ21kYXQSAAoIWAi/Y0BDQaIyERZACSSSRABG"
        "aeq7PCr/SSzg"
    ),
}


@pytest.fixture(params=[10, 12])
def deep(request, tmp_path):
    path = tmp_path / "deep.avif"
    path.write_bytes(base64.b64decode(FILES[request.param]))
    return request.param, path


def test_bits_that_are_not_read_are_told(deep, tmp_path) -> None:
    bits, path = deep
    picture = read_picture(path)
    assert (picture.depth, picture.stored_depth) == (8, bits)
    assert np.abs(picture.color.astype(int) - (200, 90, 40)).max() <= 2
    assert f"holds {bits} bits a channel, of which 8 were read" in losses_in(picture, tmp_path / "out.png")[0]
    mask = np.zeros((8, 8), np.uint8)
    mask[3, 3] = 255
    with pytest.warns(UserWarning, match=f"holds {bits} bits a channel, of which 8 were read"):
        refiner.inpaint(path, mask, settings=refiner.Settings(refine=False))


def test_8_bits_are_8_bits(tmp_path) -> None:
    path = tmp_path / "plain.avif"
    path.write_bytes(encode(Picture(noise(16, 16, 3)), path))
    assert read_picture(path).stored_depth is None
    with Image.open(path) as image:
        assert depth(image) == 8


def test_where_there_is_no_configuration_to_read(tmp_path) -> None:
    path = tmp_path / "other.png"
    Image.new("RGB", (4, 4)).save(path)
    with Image.open(path) as image:
        assert depth(image) == 8
    assert depth(Image.new("RGB", (4, 4))) == 8
