from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from refiner.cli.app import app
from refiner.errors import InputError
from refiner.evaluation.evaluation_set import draw_set
from refiner.images.pairs import find_pairs


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name, size in (("wide.png", (300, 200)), ("tall.jpg", (150, 260)), ("tiny.png", (40, 40))):
        Image.fromarray(rng.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(folder / name)
    (folder / "broken.png").write_bytes(b"x")
    Image.new("L", (300, 200)).save(folder / "wide_mask.png")
    return folder


def content(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_pairs_are_written_by_lamas_names(photos, tmp_path) -> None:
    made, left_out = draw_set(photos, tmp_path / "out", kind="thick", size=128, crops=2)
    assert made == 6
    assert [path.name for path, _ in left_out] == ["broken.png"]
    pairs = find_pairs(tmp_path / "out").pairs
    assert [pair.output for pair in pairs][:2] == ["tall_crop000_mask000", "tall_crop001_mask000"]
    for pair in pairs:
        with Image.open(pair.image) as image, Image.open(pair.mask) as mask:
            assert image.size == mask.size == (128, 128)
            assert 0 < (np.asarray(mask) > 0).mean() <= 0.5


def test_a_seed_gives_the_same_files_whatever_lies_beside(photos, tmp_path) -> None:
    draw_set(photos, tmp_path / "a", kind="medium", size=96, seed=3)
    draw_set(photos, tmp_path / "b", kind="medium", size=96, seed=3)
    assert content(tmp_path / "a") == content(tmp_path / "b")
    (photos / "tall.jpg").unlink()
    draw_set(photos, tmp_path / "c", kind="medium", size=96, seed=3)
    assert content(tmp_path / "c").items() <= content(tmp_path / "a").items()
    draw_set(photos, tmp_path / "d", kind="medium", size=96, seed=4)
    assert content(tmp_path / "d") != content(tmp_path / "c")


def test_holes_over_edges_lie_where_the_edges_are(tmp_path) -> None:
    """A photo that is flat but for stripes at its right end: the holes kept are those across the stripes."""
    photo = np.full((64, 256, 3), 128, np.uint8)
    photo[:, 192:] = np.where(np.arange(64)[:, None, None] % 8 < 4, 60, 200)
    (tmp_path / "photos").mkdir()
    Image.fromarray(photo).save(tmp_path / "photos" / "stripes.png")
    striped = {}
    for over_edges in (False, True):
        out = tmp_path / str(over_edges)
        draw_set(tmp_path / "photos", out, kind="thick", size=64, crops=6, over_edges=over_edges)
        crops = [np.asarray(Image.open(path)) for path in sorted(out.glob("*_crop00?.png"))]
        striped[over_edges] = np.mean([(crop != 128).any() for crop in crops])
    assert striped[False] < 0.7
    assert striped[True] == 1


def test_only_masks_by_lamas_names_are_taken_for_masks(photos, tmp_path) -> None:
    (photos / "wide.png").rename(photos / "wide_masked.png")
    made, _ = draw_set(photos, tmp_path / "out", kind="thin", size=64)
    assert made == 3
    assert (tmp_path / "out" / "wide_masked_crop000.png").is_file()


def test_doubles_and_closed_folders_are_reported(photos, tmp_path) -> None:
    (photos / "tall.png").write_bytes((photos / "wide.png").read_bytes())
    made, left_out = draw_set(photos, tmp_path / "out", kind="thin", size=64)
    assert made == 3
    assert dict(left_out)[photos / "tall.png"] == "has the name of tall.jpg"
    (tmp_path / "file").write_text("x")
    with pytest.raises(InputError, match="cannot be made"):
        draw_set(photos, tmp_path / "file", kind="thin", size=64)


def test_command_line(photos, tmp_path) -> None:
    run = CliRunner()
    arguments = ["masks", str(photos), str(tmp_path / "out"), "--kind", "thin,thick", "--size", "64"]
    result = run.invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "6 pictures" in result.output
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == ["thick", "thin"]
    again = run.invoke(app, arguments)
    assert again.exit_code == 2
    assert "--overwrite" in again.output
    assert run.invoke(app, [*arguments, "--overwrite"]).exit_code == 0
    unreadable = tmp_path / "unreadable"
    unreadable.mkdir()
    (unreadable / "a.png").write_bytes(b"x")
    same = tmp_path / "thin.yaml"
    same.write_text("size: 512\nstrokes: {min_times: 1, max_times: 2, max_width: 9, max_length: 50}")
    for source, kind, words in (
        (photos, "thin,fat", "fat"),
        (photos, f"thin,{same}", "names that differ"),
        (photos, ",", "names that differ"),
        (tmp_path / "no", "thin", "expected a folder"),
        (unreadable, "thin", "none of its files"),
    ):
        failed = run.invoke(app, ["masks", str(source), str(tmp_path / "x"), "--kind", kind])
        assert failed.exit_code == 2
        assert words in failed.output
        assert not list(tmp_path.glob("x/**/*.png"))


def test_pictures_of_another_draw_are_not_mixed_in(photos, tmp_path) -> None:
    draw_set(photos, tmp_path / "out", kind="thin", size=64, crops=2)
    with pytest.raises(InputError, match=r"tall_crop001.*of another draw"):
        draw_set(photos, tmp_path / "out", kind="thin", size=96, crops=1, overwrite=True)
