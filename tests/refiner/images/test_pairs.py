from __future__ import annotations

import pytest
from PIL import Image

from refiner.batch.work import Work, check_targets
from refiner.errors import InputError
from refiner.images.pairs import find_pairs


@pytest.fixture
def folder(tmp_path):
    """Images and masks of every convention, and what is neither."""
    source = tmp_path / "in"
    (source / "below").mkdir(parents=True)
    (source / "folder.png").mkdir()
    names = [
        "cat.jpg", "cat_mask.png", "dog.png", "dog_mask000.png", "dog_mask001.png", "alone.jpg", "nobody_mask.png",
        "höhe mit raum.png", "höhe mit raum_mask.png", "below/bird.webp", "below/bird_mask.png", ".hidden.png",
    ]  # fmt: skip
    for name in names:
        Image.new("L", (4, 4)).save(source / name)
    (source / "notes.txt").write_text("words")
    (source / "link.png").symlink_to(source / "cat.jpg")
    (source / "link_mask.png").symlink_to(source / "cat_mask.png")
    (source / "dead.png").symlink_to(source / "gone.png")
    return source


def found_in(pairing, source):
    pairs = [(p.image.name, p.mask and p.mask.relative_to(source).as_posix(), p.output) for p in pairing.pairs]
    return pairs, {p.relative_to(source).as_posix(): reason for p, reason in pairing.left_out}


def test_names_make_pairs(folder) -> None:
    pairs, left_out = found_in(find_pairs(folder), folder)
    assert pairs == [
        ("cat.jpg", "cat_mask.png", "cat"),
        ("dog.png", "dog_mask000.png", "dog_mask000"),
        ("dog.png", "dog_mask001.png", "dog_mask001"),
        ("höhe mit raum.png", "höhe mit raum_mask.png", "höhe mit raum"),
        ("link.png", "link_mask.png", "link"),
    ]
    assert left_out == {
        "alone.jpg": "has no mask",
        "dead.png": "is not a file",
        "folder.png": "is a folder",
        "nobody_mask.png": "is named as a mask, but there is no image of that name",
    }


def test_folders_below_are_searched_on_request(folder) -> None:
    pairs, _ = found_in(find_pairs(folder, recursive=True), folder)
    assert ("bird.webp", "below/bird_mask.png", "below/bird") in pairs
    assert len(pairs) == 6


def test_a_pattern_chooses_images_not_masks(folder) -> None:
    pairs, left_out = found_in(find_pairs(folder, glob="*.jpg"), folder)
    assert pairs == [("cat.jpg", "cat_mask.png", "cat")]
    assert left_out["dog.png"] == "does not fit *.jpg"


def test_masks_in_a_folder_of_their_own(tmp_path) -> None:
    source, masks = tmp_path / "in", tmp_path / "masks"
    source.mkdir()
    masks.mkdir()
    for name in ("a.jpg", "b.jpg", "c.jpg", "d_mask.jpg"):
        Image.new("L", (4, 4)).save(source / name)
    for name in ("a.png", "b_mask.png", "c_mask000.png", "c_mask001.png", "d_mask.png", "e.png"):
        Image.new("L", (4, 4)).save(masks / name)
    pairing = find_pairs(source, masks=masks)
    found = [(p.image.name, p.mask.name, p.output) for p in pairing.pairs]
    assert found == [
        ("a.jpg", "a.png", "a"),
        ("b.jpg", "b_mask.png", "b"),
        ("c.jpg", "c_mask000.png", "c_mask000"),
        ("c.jpg", "c_mask001.png", "c_mask001"),
    ]
    assert [p.name for p, _ in pairing.left_out] == ["d_mask.jpg"]  # whose mask would be d_mask_mask


def test_one_mask_for_all_and_masks_in_alpha(folder) -> None:
    mask = folder / "cat_mask.png"
    one = find_pairs(folder, mask=mask)
    assert {p.mask for p in one.pairs} == {mask}
    assert mask not in {p.image for p in one.pairs}
    assert all(p.mask is None for p in find_pairs(folder, from_alpha=True).pairs)


def test_nothing_to_do_is_one_line(tmp_path, folder) -> None:
    with pytest.raises(InputError, match="nowhere: expected a folder"):
        find_pairs(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="there are no images"):
        find_pairs(tmp_path / "empty")
    with pytest.raises(InputError, match="no such mask file"):
        find_pairs(folder, mask=tmp_path / "no.png")
    with pytest.raises(InputError, match=r"does not fit \*\.xyz"):
        find_pairs(folder, glob="*.xyz")


def test_results_of_one_name_are_made_once(tmp_path) -> None:
    for name in ("a.jpg", "a.png", "A_mask.png", "a_mask.png"):
        Image.new("L", (4, 4)).save(tmp_path / name)
    pairs = find_pairs(tmp_path).pairs
    assert len(pairs) == 2
    kept, _ = check_targets(Work(tmp_path / "out"), pairs)
    assert len(kept) == 2  # a.jpg and a.png
    kept, left_out = check_targets(Work(tmp_path / "out", suffix=".png"), pairs)
    assert len(kept) == 1
    assert left_out == [(tmp_path / "a.png", "its result would be a.png, as that of a.jpg")]


def test_photos_are_never_written_over(folder) -> None:
    with pytest.raises(InputError, match=r"cat\.jpg: would be written over"):
        check_targets(Work(folder), find_pairs(folder).pairs)
