"""The networks under examples/inpainters that have public checkpoints, against outputs of their authors' code.

`golden/networks` holds, for each, names and shapes of its authors' parameters and what their network made, on a CPU,
of the picture and with the weights that are drawn here.
"""

from __future__ import annotations

import importlib
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional

import refiner
from refiner.testing import check

ROOT = Path(__file__).parents[1]
# By name: gain of the drawn weights, height and width of the picture, every how manyeth pixel of the output is kept,
# and what is computed in: AOT-GAN divides by deviations, and in float32 differs by 7e-5 from processor to processor.
CASES = {"migan": (0.8, (256, 256), 4, torch.float32), "aotgan": (1.3, (96, 128), 2, torch.float64)}
EXTRA_BLOCKS = {f"middle.{index}" for index in range(1, 8)}


def drawn(name: str) -> dict[str, torch.Tensor]:
    """Weights for the authors' parameters, by their names and shapes."""
    with np.load(ROOT / "tests" / "golden" / "networks" / f"{name}.npz") as stored:
        lines = [str(line).rpartition(" ") for line in stored["names"]]
    rng, gain = np.random.default_rng(0), CASES[name][0]
    made = {}
    for key, _, sides in sorted(lines):
        shape = tuple(int(side) for side in sides.split(",") if side)
        spread = gain / np.sqrt(np.prod(shape[1:]) if len(shape) > 1 else 16)
        if key.endswith("noise_const"):
            spread = 1.0
        elif key.endswith(("bias", "noise_strength")):
            spread = 0.1
        made[key] = torch.from_numpy(np.asarray(rng.standard_normal(shape) * spread, dtype=np.float32))
    return made


def scene(name: str) -> tuple[torch.Tensor, torch.Tensor]:
    height, width = CASES[name][1]
    image = torch.from_numpy(np.random.default_rng(1).random((1, 3, height, width), dtype=np.float32))
    mask = torch.zeros(1, 1, height, width)
    mask[..., height // 4 : height // 2, width // 4 : width // 2] = 1
    return image, mask


@pytest.fixture(params=CASES)
def name(request, monkeypatch) -> str:
    monkeypatch.syspath_prepend(ROOT / "examples" / "inpainters" / request.param)
    return request.param


@pytest.fixture
def file(name, tmp_path) -> Path:
    """A checkpoint in the public layout."""
    tensors = drawn(name)
    if name == "migan":  # which the public files have beside the weights
        tensors["synthesis.b8.upsample.filter_const"] = torch.zeros(1, 1, 8, 8)
    path = tmp_path / f"{name}.pt"
    torch.save(tensors, path)
    return path


@pytest.fixture
def model(name, file):
    return importlib.import_module(f"refiner_{name}").CHECKPOINTS.open(file)


def test_it_gives_what_the_authors_code_gives(name, model) -> None:
    with np.load(ROOT / "tests" / "golden" / "networks" / f"{name}.npz") as stored:
        expected = torch.from_numpy(stored["output"]) * 0.5 + 0.5
    _, _, step, dtype = CASES[name]
    model.to(dtype)
    image, mask = (part.to(dtype) for part in scene(name))
    with torch.no_grad():
        for made in (model.rear(model.front(image, mask)), model.whole(image, mask)):
            assert (made[0, :, ::step, ::step] - expected).abs().max() < 1e-6
    assert expected.std() > 0.05


def test_it_passes_the_check(name, file, monkeypatch) -> None:
    monkeypatch.setattr("refiner.testing.checks._STEPS", 4)  # the loss has to fall, which takes no more
    tensors = torch.load(file, weights_only=True)
    if name == "aotgan":  # with fewer blocks it has the same parts, in a fraction of the time
        torch.save({key: part for key, part in tensors.items() if key[:8] not in EXTRA_BLOCKS}, file)
    report = check(importlib.import_module(f"refiner_{name}").CHECKPOINTS.open(file))
    assert report.passed, str(report)


def test_it_is_refined(model) -> None:
    coarse = torch.from_numpy(np.random.default_rng(2).random((1, 3, 8, 8), dtype=np.float32))
    image, mask = functional.interpolate(coarse, size=(128, 128), mode="bilinear"), torch.zeros(1, 1, 128, 128)
    mask[..., 30:60, 50:90] = 1
    settings = refiner.Settings(detail="features", steps=4, min_side=64, lr=5e-4, precision="float32")
    result = refiner.refine(model, image, mask, settings)
    assert result.scales[-1].refined
    assert result.scales[-1].loss_after < result.scales[-1].loss_before
    assert torch.equal(result.image[..., mask[0, 0] == 0], image[..., mask[0, 0] == 0])


def test_weights_come_back_from_safetensors(name, model, file, tmp_path) -> None:
    formats = importlib.import_module(f"refiner_{name}").CHECKPOINTS
    formats.convert(file, tmp_path / "half.safetensors", half=True, train_size=None, learning_rate=None)
    assert all(part.dtype == torch.float16 for part in load_file(tmp_path / "half.safetensors").values())
    formats.convert(file, tmp_path / "full.safetensors", half=False, train_size=None, learning_rate=None)
    again = formats.open(tmp_path / "full.safetensors")
    image, mask = scene(name)
    assert torch.equal(again.whole(image, mask), model.whole(image, mask))
    with pytest.raises(refiner.ModelError, match="leave"):
        formats.convert(file, tmp_path / "x.safetensors", half=False, train_size=256, learning_rate=None)


def test_other_files_are_refused_in_a_line(name, file, tmp_path) -> None:
    formats = importlib.import_module(f"refiner_{name}").CHECKPOINTS
    tensors = torch.load(file, weights_only=True)
    ending = "conv1.weight" if name == "migan" else "gate.1.weight"
    lost = next(key for key in tensors if key.endswith(ending))
    wrong = {
        "other": {"weight": torch.zeros(3)},
        "less": {key: part for key, part in tensors.items() if key != lost},
        "shape": {**tensors, lost: torch.zeros(1)},
        "list": [1, 2],
    }
    for kind, content in wrong.items():
        path = tmp_path / f"{kind}.pt"
        torch.save(content, path)
        with pytest.raises(refiner.ModelError) as refused:
            formats.open(path)
        assert "\n" not in str(refused.value)
        assert str(path) in str(refused.value)
    (tmp_path / "noise.pt").write_bytes(b"noise")
    with pytest.raises(refiner.ModelError, match="cannot be read"):
        formats.open(tmp_path / "noise.pt")


def test_a_file_is_enough_for_the_command_line(name, file, photo_files, tmp_path) -> None:
    site = tmp_path / "site"
    options = ["--no-deps", "--no-build-isolation", "--no-index", "--quiet", "--disable-pip-version-check"]
    source = str(ROOT / "examples" / "inpainters" / name)
    subprocess.run([sys.executable, "-m", "pip", "install", *options, "--target", str(site), source], check=True)
    out = tmp_path / "out.png"
    arguments = [
        "inpaint",
        *photo_files,
        "-o",
        out,
        "--model",
        file,
        "--detail",
        "features",
        "--min-side",
        "48",
        "--steps",
        "2",
    ]
    command = [sys.executable, "-m", "refiner", *(str(word) for word in arguments)]
    done = subprocess.run(command, env={"PYTHONPATH": f"{site}:{ROOT}"}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "scales" in done.stderr
    assert out.is_file()
