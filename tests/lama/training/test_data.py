import warnings

import numpy as np
import pytest
import torch
from PIL import ExifTags, Image, ImageOps

from lama.training.config import DataConfig
from lama.training.data import Crops, batches, held_out_crops, hold_out, keep_photos
from refiner.errors import InputError
from refiner.evaluation.random_masks import load_mask_kind
from refiner.images import formats
from refiner.images.picture import Picture
from refiner.images.writing import save


@pytest.fixture
def config():
    return DataConfig(masks=load_mask_kind("medium"), crop=32, batch=3, working_side=48, workers=0)


@pytest.fixture
def folder(tmp_path):
    rng = np.random.default_rng(0)
    photos = tmp_path / "photos"
    (photos / "below").mkdir(parents=True)
    for name, size in (("a.png", (60, 40)), ("b.jpg", (200, 100)), ("below/c c.png", (48, 90))):
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(photos / name)
    return photos


def keep(folder, tmp_path, skipped=None):
    reasons = [] if skipped is None else skipped
    return keep_photos(
        folder, tmp_path / "cache", side=48, min_side=32, on_skip=lambda p, r: reasons.append((p.name, r))
    )


def test_photos_are_scaled_down_never_up_and_read_back(folder, tmp_path):
    photos = keep(folder, tmp_path)
    assert photos.names == ("a.png", "b.jpg", "below/c c.png")
    assert photos.sizes == ((40, 60), (48, 96), (90, 48))
    assert np.array_equal(photos.photo(0), np.asarray(Image.open(folder / "a.png")))
    assert np.array_equal(photos.photo(2), np.asarray(Image.open(folder / "below" / "c c.png")))


def test_bad_files_are_reported_and_do_not_stop_the_rest(folder, tmp_path):
    (folder / "broken.jpg").write_bytes((folder / "b.jpg").read_bytes()[:300])
    (folder / "empty.png").write_bytes(b"")
    Image.new("RGB", (500, 10)).save(folder / "flat.png")
    Image.new("L", (64, 64), 255).save(folder / "a_mask.png")
    Image.new("L", (64, 64), 255).save(folder / "a_mask000.png")
    skipped = []
    assert len(keep(folder, tmp_path, skipped)) == 3
    assert [name for name, _ in skipped] == ["broken.jpg", "empty.png", "flat.png"]
    assert "expected a short side of at least 32" in skipped[2][1]


def test_decoding_happens_once_and_again_when_a_file_changes(folder, tmp_path):
    first = keep(folder, tmp_path).file
    changed = first.stat().st_mtime_ns
    assert keep(folder, tmp_path).file.stat().st_mtime_ns == changed
    Image.new("RGB", (64, 64), (1, 2, 3)).save(folder / "a.png")
    again = keep(folder, tmp_path)
    assert again.file != first
    assert again.photo(0)[0, 0].tolist() == [1, 2, 3]


@pytest.mark.parametrize("make", [lambda _: None, lambda p: p.mkdir(), lambda p: p.write_text("x")])
def test_no_photos_is_one_clear_line(tmp_path, make):
    make(tmp_path / "none")
    with pytest.raises(InputError, match="none"):
        keep(tmp_path / "none", tmp_path)


def test_16_bit_photos_keep_their_tones(tmp_path):
    (tmp_path / "photos").mkdir()
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "photos" / "deep.png")
    values = keep(tmp_path / "photos", tmp_path).photo(0)
    assert values.mean() == pytest.approx(127.5, abs=2)


def test_16_bits_are_rounded_to_8_in_every_mode(tmp_path):
    """Pillow has 16-bit gray as I;16 or, from a PGM, as I; 16-bit color it cuts to 8 bits."""
    folder = tmp_path / "photos"
    folder.mkdir()
    values = np.random.default_rng(0).integers(0, 65536, (48, 48, 3), dtype=np.uint16)
    gray = values[..., 0]
    Image.fromarray(gray).save(folder / "a.png")
    (folder / "b.pgm").write_bytes(b"P5\n48 48\n65535\n" + gray.astype(">u2").tobytes())
    save(Picture(values), folder / "c.png")
    save(Picture(values), folder / "d.tif")
    photos = keep(folder, tmp_path)
    assert photos.names == ("a.png", "b.pgm", "c.png", "d.tif")
    for index in range(4):
        expected = values if index > 1 else gray[..., None]
        assert np.array_equal(photos.photo(index), np.broadcast_to(np.rint(expected / 257), (48, 48, 3)))


@pytest.mark.parametrize("suffix", [kind.suffix for kind in formats.writable()])
def test_photos_of_every_format_are_taken_upright(tmp_path, suffix):
    (tmp_path / "photos").mkdir()
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = 6
    smooth = Image.linear_gradient("L").resize((60, 40)).convert("RGB")
    path = tmp_path / "photos" / f"photo{suffix}"
    save(Picture(np.asarray(smooth)), path)
    if suffix in (".jpg", ".png", ".webp", ".tif"):
        smooth.save(path, exif=exif)
        smooth = ImageOps.exif_transpose(Image.open(path)).convert("RGB")
    values = keep(tmp_path / "photos", tmp_path).photo(0)
    assert values.shape == (smooth.height, smooth.width, 3)
    assert np.abs(values.astype(int) - np.asarray(smooth)).mean() < 3


def test_warnings_are_heard_as_before_once_photos_are_decoded(folder, tmp_path):
    filters = list(warnings.filters)
    keep(folder, tmp_path)
    assert warnings.filters == filters


def test_the_trainings_own_pictures_are_not_photos(folder, tmp_path):
    sheets = folder / "run" / "sheets"
    sheets.mkdir(parents=True)
    Image.new("RGB", (64, 64)).save(sheets / "0000000.png")
    found = keep_photos(folder, folder / "run" / "cache", side=48, min_side=32, on_skip=print)
    assert len(found) == 3


def test_held_out_photos_among_the_others_are_not_trained_on(folder, tmp_path):
    found = keep_photos(folder, tmp_path / "cache", side=48, min_side=32, on_skip=print, exclude=folder / "below")
    assert found.names == ("a.png", "b.jpg")


def test_only_bad_photos_is_one_clear_line(tmp_path):
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "x.jpg").write_bytes(b"x")
    with pytest.raises(InputError, match="none of its 1 photos"):
        keep(tmp_path / "bad", tmp_path)


def test_held_out_photos_do_not_depend_on_the_others(folder, tmp_path):
    train, held = hold_out(keep(folder, tmp_path), 0.3)
    assert set(train.names) | set(held.names) == {"a.png", "b.jpg", "below/c c.png"}
    assert len(held) == 1
    assert not set(train.names) & set(held.names)
    with pytest.raises(InputError, match="too few"):
        hold_out(train.only([0]), 0.5)


def test_a_crop_is_a_function_of_seed_and_number(folder, tmp_path, config):
    photos = keep(folder, tmp_path)
    picture, hole = Crops(photos, config, seed=1)[7]
    assert picture.shape == (3, 32, 32)
    assert hole.shape == (1, 32, 32)
    assert 0 <= picture.min() < picture.max() <= 1
    assert set(hole.unique().tolist()) == {0, 1}
    again = Crops(photos, config, seed=1)[7]
    assert torch.equal(picture, again[0])
    assert torch.equal(hole, again[1])
    assert not torch.equal(picture, Crops(photos, config, seed=2)[7][0])
    assert not torch.equal(picture, Crops(photos, config, seed=1)[8][0])


def test_crops_are_pieces_of_the_photos(tmp_path, config):
    # Each pixel's color tells its place: red across, green down.
    y, x = np.mgrid[0:64, 0:96]
    photo = np.stack([x * 2, y * 2, np.zeros_like(x)], axis=-1).astype(np.uint8)
    (tmp_path / "photos").mkdir()
    Image.fromarray(photo).save(tmp_path / "photos" / "ramp.png")
    photos = keep_photos(tmp_path / "photos", tmp_path / "cache", side=64, min_side=32, on_skip=print)
    spans, flipped = [], 0
    for number in range(40):
        picture, _ = Crops(photos, config, seed=0)[number]
        across = (picture[0, 16, 28] - picture[0, 16, 4]).item() * 255 / 2
        down = (picture[1, 28, 16] - picture[1, 4, 16]).item() * 255 / 2
        flipped += across < 0
        assert abs(across) == pytest.approx(down, abs=1)  # not distorted
        spans.append(down / 24 * 32)
    assert 8 < flipped < 32
    assert 31 <= min(spans) < 40  # from 1 ...
    assert 55 < max(spans) <= 65  # ... to 2 times the crop


@pytest.mark.parametrize("workers", [0, 2])
def test_batches_go_on_where_they_stopped_whatever_prepares_them(folder, tmp_path, config, workers):
    crops = Crops(keep(folder, tmp_path), config, seed=0)
    stream = batches(crops, start=0, workers=0)
    wanted = [next(stream) for _ in range(3)][2]
    resumed = next(batches(crops, start=2, workers=workers))
    assert resumed[0].shape == (3, 3, 32, 32)
    assert torch.equal(resumed[0], wanted[0])
    assert torch.equal(resumed[1], wanted[1])


def test_held_out_crops_take_photos_in_turn(folder, tmp_path, config):
    pictures, holes = held_out_crops(keep(folder, tmp_path), config, 7)
    assert pictures.shape == (7, 3, 32, 32)
    assert (holes.flatten(1).sum(1) > 0).all()
