"""A corpus of trouble: every file ends in a right result or in one clear line."""

from __future__ import annotations

import io
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from refiner import InputError, ModelSpec, Settings
from refiner.images.masks import read_mask
from refiner.images.reading import read_picture
from refiner.images.writing import encode
from refiner.photo import inpaint

FORMATS = {
    "png": {}, "jpg": {}, "webp": {"lossless": True}, "tif": {"compression": "tiff_lzw"}, "bmp": {}, "gif": {},
    "ppm": {}, "tga": {}, "jp2": {}, "avif": {}, "ico": {}, "heic": {},
}  # fmt: skip
MODES = ["1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBa", "La", "CMYK", "YCbCr", "LAB", "HSV", "I", "I;16", "F"]

# Pillow's warnings, which callers get; were they errors, reading would end with them.
OF_ODD_METADATA = pytest.mark.filterwarnings("ignore::UserWarning:PIL")


def picture(size=(64, 48), mode="RGB", seed=0) -> Image.Image:
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    values = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    if mode in ("La", "RGBa", "PA"):
        return values.convert({"La": "LA", "RGBa": "RGBA", "PA": "RGBA"}[mode])
    if mode in ("I", "I;16", "F"):
        gray = np.asarray(values.convert("L"))
        return Image.fromarray(gray.astype({"I": np.int32, "I;16": np.uint16, "F": np.float32}[mode]))
    if mode == "LAB":
        return Image.frombytes("LAB", values.size, values.tobytes())
    return values.convert(mode)


def read_or_one_line(path: Path) -> bool:
    """Whether the file was read; where not, the error is one line that names it."""
    try:
        found = read_picture(path)
    except InputError as error:
        line = str(error)
    else:
        assert found.color.size
        assert found.color.dtype in (np.uint8, np.uint16)
        encode(found, path.with_name("again.png"))
        return True
    assert str(path) in line
    assert "\n" not in line
    assert len(line) < 400
    return False


@pytest.mark.filterwarnings("ignore:Image.Image.getdata:DeprecationWarning")  # of what pillow-heif calls to write
@pytest.mark.parametrize("suffix", FORMATS)
@pytest.mark.parametrize("mode", MODES)
def test_every_format_and_mode(tmp_path, suffix, mode) -> None:
    path = tmp_path / f"photo.{suffix}"
    try:
        picture(mode=mode).save(path, **FORMATS[suffix])
    except (OSError, ValueError, KeyError):
        pytest.skip(f"Pillow writes no {mode} as {suffix}")
    readable = read_or_one_line(path)
    assert readable or mode in ("F", "I", "LAB")


@OF_ODD_METADATA
@pytest.mark.parametrize("suffix", FORMATS)
def test_files_cut_short_anywhere(tmp_path, suffix) -> None:
    whole = tmp_path / f"photo.{suffix}"
    picture().save(whole, **FORMATS[suffix])
    data = whole.read_bytes()
    intact = read_picture(whole)
    for share in (0.0, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95):
        whole.write_bytes(data[: int(len(data) * share)])
        if read_or_one_line(whole):  # what was cut off did not matter
            again = read_picture(whole)
            assert again.size == intact.size
            assert suffix in ("ico", "tga", "jp2", "avif", "heic", "gif"), share


@OF_ODD_METADATA
@pytest.mark.parametrize("suffix", FORMATS)
def test_files_with_damage_inside(tmp_path, suffix) -> None:
    path = tmp_path / f"photo.{suffix}"
    picture().save(path, **FORMATS[suffix])
    data, rng = bytearray(path.read_bytes()), np.random.default_rng(0)
    for _ in range(40):
        spoiled = bytearray(data)
        for place in rng.integers(0, len(data), 6):
            spoiled[place] = rng.integers(0, 256)
        path.write_bytes(bytes(spoiled))
        read_or_one_line(path)


@pytest.mark.parametrize(("name", "real"), [("a.png", "jpg"), ("a.jpg", "png"), ("a.tif", "webp"), ("a.txt", "png")])
def test_the_content_counts_not_the_name(tmp_path, name, real) -> None:
    data = io.BytesIO()
    picture().save(data, {"jpg": "JPEG"}.get(real, real.upper()))
    (tmp_path / name).write_bytes(data.getvalue())
    assert read_or_one_line(tmp_path / name)


@pytest.mark.parametrize(
    "content", [b"", b"\0" * 1000, b"GIF89a", b"\x89PNG\r\n\x1a\n", b"II*\0", b"RIFF\0\0\0\0WEBP", b"%PDF-1.7"]
)
@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_files_of_nothing(tmp_path, content, suffix) -> None:
    path = tmp_path / f"nothing.{suffix}"
    path.write_bytes(content)
    assert not read_or_one_line(path)


def huge_png(width: int, height: int) -> bytes:
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    "size", [(2**31 - 1, 2**31 - 1), (1_000_000, 1_000_000), (100_000, 20_000), (13_000, 10_000), (0, 5)]
)
def test_headers_that_claim_absurd_sizes(tmp_path, size) -> None:
    path = tmp_path / "bomb.png"
    path.write_bytes(huge_png(*size))
    assert not read_or_one_line(path)


@pytest.mark.parametrize("suffix", ["gif", "webp", "png", "tif"])
def test_moving_pictures_and_pages_are_refused_unless_one_is_chosen(tmp_path, suffix) -> None:
    path = tmp_path / f"moving.{suffix}"
    picture().save(path, save_all=True, append_images=[picture(seed=1), picture(seed=2)])
    with pytest.raises(InputError, match="holds 3 frames or pages, expected a single picture; save one"):
        read_picture(path)
    with pytest.raises(InputError, match="expected a single picture; choose one by `page=N`, from 1 to 3"):
        inpaint(path, np.eye(48, 64, dtype=np.uint8), Plain(), device="cpu")
    picked = inpaint(path, np.eye(48, 64, dtype=np.uint8), Plain(), settings=Settings(steps=2), device="cpu", page=3)
    known = read_picture(path, 3).color[np.eye(48, 64) == 0]
    assert np.array_equal(picked.picture.color[np.eye(48, 64) == 0], known)


class Plain(nn.Module):
    """Fills with the mean color, at any size."""

    spec = ModelSpec(train_size=16, learning_rate=0.01)

    def front(self, image, mask):
        known = 1 - mask
        mean = (image * known).sum(dim=(2, 3), keepdim=True) / known.sum(dim=(2, 3), keepdim=True)
        return image * known + mean * mask

    def rear(self, features):
        return features.clamp(0, 1)


@pytest.mark.parametrize(
    "size", [(1, 1), (1, 2), (1, 50), (50, 1), (2, 2), (7, 9), (9, 7), (20000, 3), (3, 20000), (33, 31)]
)
def test_sizes_of_all_kinds_are_filled(size) -> None:
    width, height = size
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[height // 2, width // 2] = 255
    if mask.all():
        with pytest.raises(InputError, match="white all over"):
            inpaint(values, mask, Plain(), device="cpu")
        return
    result = np.asarray(inpaint(values, mask, Plain(), settings=Settings(steps=2), device="cpu"))
    assert result.shape == values.shape
    assert np.array_equal(result[mask == 0], values[mask == 0])


@pytest.mark.parametrize("size", [(1, 2), (1, 50), (7, 9), (2000, 3)])
def test_lama_fills_the_smallest_pictures_too(size, tiny) -> None:
    width, height = size
    values = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[height // 2, width // 2] = 255
    result = np.asarray(inpaint(values, mask, tiny, settings=Settings(steps=2), device="cpu"))
    assert np.array_equal(result[mask == 0], values[mask == 0])


@pytest.mark.parametrize("value", [0, 1, 127, 255])
def test_constant_pictures_give_numbers(value, tiny) -> None:
    values = np.full((70, 90, 3), value, dtype=np.uint8)
    mask = np.zeros((70, 90), dtype=np.uint8)
    mask[20:50, 30:60] = 255
    seen = []
    settings = Settings(min_side=32, steps=4, match_color="on")
    result = inpaint(values, mask, tiny, settings=settings, device="cpu", progress=lambda p: seen.append(p.loss))
    assert all(loss is None or np.isfinite(loss) for loss in seen)
    assert torch.from_numpy(np.asarray(result).astype(np.float32)).isfinite().all()


@pytest.mark.parametrize(
    "name", ["Höhe mit Raum.png", "写真.png", "emoji 🦦.png", "dots.in.name.png", "-dash.png", "a'b\"c.png"]
)
def test_names_of_all_kinds(tmp_path, name) -> None:
    picture().save(tmp_path / name)
    assert read_picture(tmp_path / name).name.endswith(name)


@pytest.mark.skipif(os.name == "nt" or os.geteuid() == 0, reason="the administrator may read and write everything")
def test_folders_and_files_that_are_closed(tmp_path) -> None:
    path = tmp_path / "photo.png"
    picture().save(path)
    path.chmod(0)
    with pytest.raises(InputError, match="permissions forbid it"):
        read_picture(path)
    path.chmod(0o644)
    tmp_path.chmod(0o555)
    with pytest.raises(InputError, match="cannot be written"):
        inpaint(path, np.eye(48, 64, dtype=np.uint8), Plain(), device="cpu").save(tmp_path / "out.png")
    tmp_path.chmod(0o755)


def test_links_are_followed_and_folders_named_like_images_are_not(tmp_path) -> None:
    picture().save(tmp_path / "photo.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "photo.png")
    (tmp_path / "dead.png").symlink_to(tmp_path / "gone.png")
    (tmp_path / "round.png").symlink_to(tmp_path / "round.png")
    (tmp_path / "folder.png").mkdir()
    assert read_or_one_line(tmp_path / "link.png")
    for name in ("dead.png", "round.png", "folder.png"):
        assert not read_or_one_line(tmp_path / name)


@pytest.mark.parametrize("suffix", ["gif", "webp"])
def test_moving_masks_are_refused_too(tmp_path, suffix) -> None:
    path = tmp_path / f"mask.{suffix}"
    picture(mode="L").save(path, save_all=True, append_images=[picture(mode="L", seed=1)])
    with pytest.raises(InputError, match=r"mask\.\w+: holds 2 frames"):
        read_mask(path, read_picture(np.zeros((48, 64, 3), dtype=np.uint8)))
