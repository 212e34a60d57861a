"""The plug-in road, for real: the example packages are installed and their models refined by name."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[1] / "examples" / "inpainters"
NAMES = {"unet": "example-unet", "gated": "example-gated"}


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """Environment variables with which Python finds the packages, installed by pip into a folder of their own."""
    pytest.importorskip("hatchling")
    folder = tmp_path_factory.mktemp("site")
    sources = [str(EXAMPLES / name) for name in NAMES]
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", str(folder), *sources], check=True)
    return {**os.environ, "PYTHONPATH": str(folder)}


def refiner(installed, *arguments):
    command = [sys.executable, "-m", "refiner", *(str(argument) for argument in arguments)]
    return subprocess.run(command, env=installed, capture_output=True, text=True, check=False, timeout=600)


def test_their_names_are_known(installed) -> None:
    listed = refiner(installed, "weights", "list").stdout
    assert all(name in listed for name in NAMES.values())


def test_a_broken_package_hides_no_other(installed, tmp_path) -> None:
    broken = tmp_path / "site"
    info = broken / "broken-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: broken\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[refiner.inpainters]\nbroken = broken:Model\nodd = odd:Model\n")
    (broken / "broken.py").write_text("raise ValueError('two\\nlines')\n")
    (broken / "odd.py").write_text("class Model:\n    'An odd one.'\n    def describe(self): return 'x'\n")
    env = {**installed, "PYTHONPATH": os.pathsep.join([str(broken), installed["PYTHONPATH"]])}
    listed = refiner(env, "weights", "list")
    assert listed.returncode == 0, listed.stderr
    lines = dict(line.split(maxsplit=1) for line in listed.stdout.splitlines())
    assert lines["broken"].endswith("cannot be loaded from broken:Model (ValueError: two).")
    assert lines["odd"] == "An odd one."
    assert "lama-small" in lines


@pytest.mark.parametrize("name", NAMES.values())
def test_they_pass_the_check(installed, name) -> None:
    done = refiner(installed, "check", name, "--device", "cpu")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "rear(front(x)) is the whole network" in done.stdout


@pytest.mark.parametrize("name", NAMES.values())
def test_photos_are_refined_by_name(installed, name, photo_files, tmp_path) -> None:
    report = tmp_path / "report.json"
    done = refiner(
        installed,
        "inpaint",
        *photo_files,
        "--model",
        name,
        "--detail",
        "features",
        "--min-side",
        "48",
        "--steps",
        "15",
        "--device",
        "cpu",
        "--report",
        report,
    )
    assert done.returncode == 0, done.stderr
    scale = json.loads(report.read_text())["scales"][-1]
    assert scale["refined"]
    assert min(scale["losses"]) < scale["losses"][0]


JOINT = """
import sys, torch
from dataclasses import replace
import refiner
from refiner.images.reading import read_picture
from refiner.images.masks import read_mask
picture = read_picture(sys.argv[1])
hole = torch.from_numpy(read_mask(sys.argv[2], picture).mask)[None, None]
model = refiner.load_model("example-unet")
for rates in ({}, {"skips": 0}):
    model.spec = replace(model.spec, lr_scale=rates)
    settings = refiner.Settings(detail="features", min_side=48, precision="float32")
    print(refiner.refine(model, picture.rgb(), hole, settings).scales[-1].loss_after)
"""


def test_skips_optimized_with_the_bottleneck_lower_the_loss_further(installed, photo_files) -> None:
    command = [sys.executable, "-c", JOINT, *(str(path) for path in photo_files)]
    done = subprocess.run(command, env=installed, capture_output=True, text=True, check=True)
    joint, bottleneck = (float(line) for line in done.stdout.split())
    assert joint < bottleneck
