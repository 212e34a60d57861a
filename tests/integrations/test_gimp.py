"""The plug-in in a real GIMP 3, in batch mode. Runs where GIMP_CONSOLE is the command that starts GIMP's console.

    GIMP_CONSOLE=gimp-console-3.0 pytest -n 0 tests/integrations/test_gimp.py

The command may have several words, such as `chroot FOLDER gimp-console-3.0`; pytest's `--basetemp`, this repository and
this Python then have to be in there by the same paths.
"""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageCms

from refiner.images.picture import Picture
from refiner.images.writing import save

ROOT = Path(__file__).parents[2]
PLUG_IN = ROOT / "integrations" / "gimp" / "refiner-remove-selection"
CONSOLE = os.environ.get("GIMP_CONSOLE")
pytestmark = pytest.mark.skipif(not CONSOLE, reason="GIMP_CONSOLE is not the command of a GIMP 3")

SIZE = (300, 400)
PRECISIONS = {
    "eight": "u8-non-linear",
    "soft": "u8-non-linear",
    "deep": "u16-non-linear",
    "float": "float-linear",
    "linear": "u8-linear",
    "gray": "u8-non-linear",
    "profile": "u8-non-linear",
}


def photos(folder: Path) -> None:
    """Pictures of 8 and 16 bits, gray, and with another profile than GIMP's own."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (30, 40, 3), dtype=np.uint8)
    values = np.asarray(Image.fromarray(coarse).resize(SIZE[::-1], Image.Resampling.BICUBIC))
    save(Picture(values), folder / "eight.png")
    save(Picture(values[..., :1].copy()), folder / "gray.png")
    fine = rng.integers(0, 256, values.shape).astype(np.uint16)
    save(Picture(values.astype(np.uint16) * 256 + fine), folder / "deep.png")
    save(Picture(values, metadata={"icc_profile": other_profile()}), folder / "profile.png")


def other_profile() -> bytes:
    """A color profile that is not GIMP's own: sRGB with its red and blue primaries exchanged."""
    profile = bytearray(ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes())
    tags = {}
    for number in range(int.from_bytes(profile[128:132], "big")):
        entry = profile[132 + 12 * number : 144 + 12 * number]
        tags[bytes(entry[:4])] = slice(
            int.from_bytes(entry[4:8], "big"), sum(int.from_bytes(entry[i : i + 4], "big") for i in (4, 8))
        )
    red, blue = tags[b"rXYZ"], tags[b"bXYZ"]
    profile[red], profile[blue] = profile[blue], profile[red]
    return bytes(profile)


@pytest.fixture(scope="module")
def gimp(tmp_path_factory):
    """What GIMP told, and the folder with the pixels it wrote."""
    folder = tmp_path_factory.mktemp("gimp")
    photos(folder)
    shutil.copytree(PLUG_IN, folder / "profile" / "plug-ins" / PLUG_IN.name)
    program = folder / "refiner"
    program.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {sys.executable} -m refiner "$@"\n')
    program.chmod(0o755)
    script = Path(__file__).with_name("gimp_batch.py")
    batch = f"exec(compile(open({str(script)!r}).read(), 'batch', 'exec'), {{}})"
    console, *arguments = shlex.split(CONSOLE)
    command = [
        shutil.which(console) or console,
        *arguments,
        "-i",
        "--quit",
        "--batch-interpreter",
        "python-fu-eval",
        "-b",
        batch,
    ]
    env = {
        **os.environ,
        "PATH": "/usr/local/bin:/usr/bin:/bin",  # GIMP's plug-ins run in the system's Python, not in ours
        "GIMP3_DIRECTORY": str(folder / "profile"),
        "REFINER_TEST_FOLDER": str(folder),
        "REFINER_TEST_PROGRAM": str(program),
    }
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False, timeout=1800)
    told = folder / "told.json"
    assert told.exists(), done.stdout + done.stderr
    return json.loads(told.read_text()), folder


def pixels(folder: Path, name: str) -> np.ndarray:
    values = np.frombuffer((folder / f"{name}.raw").read_bytes(), np.float32)
    return values.reshape(*SIZE, -1)


@pytest.mark.parametrize("case", PRECISIONS)
def test_only_the_selection_changes_and_only_on_a_layer_of_its_own(gimp, case) -> None:
    told, folder = gimp
    assert told[case]["status"] == "success", told[case]["error"]
    assert told[case]["layers"][0] == "Removed"
    assert len(told[case]["layers"]) == 2
    assert told[case]["precision"] == PRECISIONS[case]
    assert told[case]["left"] == 0  # copies of the picture, which the plug-in makes
    assert np.array_equal(pixels(folder, f"{case}_original_after"), pixels(folder, f"{case}_original_before"))
    assert np.array_equal(pixels(folder, f"{case}_selection_after"), pixels(folder, f"{case}_selection"))
    before, after = pixels(folder, f"{case}_before"), pixels(folder, f"{case}_after")
    shown = pixels(folder, f"{case}_mask")[..., 0]
    assert np.array_equal(after[shown == 0], before[shown == 0])
    assert (after[shown == 1] != before[shown == 1]).any(axis=-1).mean() > 0.9


@pytest.mark.parametrize("case", PRECISIONS)
def test_colors_come_back_as_they_went_out(gimp, case) -> None:
    _, folder = gimp
    before, fill, mask = (pixels(folder, f"{case}_{name}") for name in ("before", "fill", "mask"))
    known = mask[..., 0] == 0  # where the program leaves the photo as it is
    error = np.abs(fill - before)[known].max()
    # Floats go out in 16 bits, and 8 linear bits in 8 that are not.
    assert error <= {"float": 1 / 65535, "linear": 0.01}.get(case, 0)


@pytest.mark.parametrize("case", [case for case in PRECISIONS if case != "soft"])
def test_the_layers_mask_is_the_selection(gimp, case) -> None:
    _, folder = gimp
    assert np.array_equal(pixels(folder, f"{case}_mask"), pixels(folder, f"{case}_selection"))


def test_a_soft_selection_makes_a_soft_mask_and_grows(gimp) -> None:
    _, folder = gimp
    selection, mask = pixels(folder, "soft_selection"), pixels(folder, "soft_mask")
    assert ((mask > 0) & (mask < 1)).sum() > 1000
    assert (mask >= selection).all()
    assert (mask > 0).sum() > (selection > 0).sum()


@pytest.mark.parametrize(
    ("case", "message"),
    [
        ("nothing", "Nothing is selected"),
        ("missing", "/nowhere/refiner: no such program. Install refiner"),
        ("failing", "unknown model 'no-such-model'"),
        ("shrunk", "the picture 400x300: the preset shrinks large photos"),
        ("misspelt", "Further options: No closing quotation"),
        ("output", "Further options: -o is for the command line alone"),
        ("all", "All of the picture is selected"),
        ("grown", "All of the picture is selected, or becomes so as the selection grows"),
        ("indexed", "The picture is indexed; convert it first"),
        ("empty", "The picture has no layer"),
        ("elsewhere", "The guide is a layer of another picture"),
        ("avoid elsewhere", "refiner failed: what to avoid"),
        ("silent", "/bin/false: ended with code 1 and said nothing"),
    ],
)
def test_what_fails_says_why_and_leaves_the_picture_alone(gimp, case, message) -> None:
    told, _ = gimp
    assert told[case]["status"] == "execution-error"
    assert message in told[case]["error"]
    assert told[case]["layers"] == (0 if case == "empty" else 1)


def test_an_empty_model_is_the_programs_own(gimp) -> None:
    told, _ = gimp
    assert told["no model"]["status"] == "success"
    assert told["no model"]["layers"] == 2


def test_variants_are_layers_of_which_the_first_is_seen(gimp) -> None:
    told, folder = gimp
    assert told["variants"]["layers"][:-1] == [
        ["Removed, seed 3", True], ["Removed, seed 4", False], ["Removed, seed 5", False]
    ]  # fmt: skip
    assert told["variants"]["chosen"] == ["Removed, seed 3"]
    fills = [pixels(folder, f"variants_{number}") for number in range(3)]
    assert not np.array_equal(fills[0], fills[1])
    assert not np.array_equal(fills[1], fills[2])


def test_what_is_canceled_leaves_nothing_behind(gimp) -> None:
    told, _ = gimp
    assert told["canceled"]["status"] != "success"
    assert told["canceled"]["layers"] == 1
    assert told["canceled"]["left"] == 0  # GIMP would offer a copy of the picture where layers are chosen


def test_the_guide_is_followed_and_not_in_the_picture(gimp) -> None:
    told, folder = gimp
    assert told["guided"]["status"] == "success", told["guided"]
    assert told["guided"]["layers"][:2] == ["Removed", "group"]
    assert told["guided"]["guide"]  # as visible as it was
    fill, before = pixels(folder, "guided_fill"), pixels(folder, "eight_before")
    middle = fill[120:140, 180:200, :3].mean(axis=(0, 1))
    assert middle[0] > 0.6
    assert middle[1:].max() < 0.25
    assert np.array_equal(fill[:60], before[:60])  # the photo, not the red layer


def test_what_a_channel_marks_is_not_copied(gimp) -> None:
    told, folder = gimp
    shares = {}
    for case in ("avoided", "copied"):
        assert told[case]["status"] == "success", told[case]
        hole = pixels(folder, f"{case}_fill")[110:170, 150:250]
        shares[case] = ((hole[..., 0] > 0.9) & (hole[..., 1:3] < 0.1).all(axis=-1)).mean()
    assert shares["avoided"] < 0.05  # the picture itself has some red elsewhere
    assert shares["copied"] > 0.3


def test_who_paints_next_paints_on_the_fill_and_not_on_its_mask(gimp) -> None:
    told, _ = gimp
    assert not told["avoided"]["edits_mask"]
