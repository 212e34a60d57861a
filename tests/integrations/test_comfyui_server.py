"""The nodes in a real ComfyUI, a headless server on the CPU. Runs where COMFYUI_DIR points to a clone.

    COMFYUI_DIR=~/ComfyUI COMFYUI_PYTHON=~/ComfyUI/venv/bin/python pytest -n 0 tests/integrations/test_comfyui_server.py

COMFYUI_PYTHON is the Python that ComfyUI and refiner are installed for; this one unless given.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import torch
from comfyui_workflows import to_prompt
from PIL import Image, ImageCms, ImageDraw

from lama.generator import Generator, GeneratorConfig
from refiner.images.picture import Picture
from refiner.images.reading import read_picture
from refiner.images.writing import save

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "integrations" / "comfyui"
CLONE = os.environ.get("COMFYUI_DIR")
PYTHON = os.environ.get("COMFYUI_PYTHON", sys.executable)
pytestmark = pytest.mark.skipif(not CLONE, reason="COMFYUI_DIR does not point to a clone of ComfyUI")

SIZE = (360, 480)
HOLE = (slice(120, 220), slice(180, 300))
FEW = {"steps": 3, "settings": "min_side: 96\nprecision: float32"}
WORKERS = ("RefinerRefineInpaint", "RefinerStitchRefined")
# Loads a LaMa as nodes for inpainting models do, with spandrel, and keeps what it loaded.
HOSTS = """
import json, pathlib, spandrel, torch
from safetensors.torch import load_file
FOLDER = pathlib.Path(__file__).parent
class LoadInpaintModel:
    RETURN_TYPES, FUNCTION, CATEGORY = ("INPAINT_MODEL",), "load", "test"
    @classmethod
    def INPUT_TYPES(cls):
        return {{"required": {{"name": ("STRING", {{"default": "lama.pt"}})}}}}
    def load(self, name):
        return (spandrel.ModelLoader().load_from_state_dict(torch.load(FOLDER / name)),)
class SameWeights:
    RETURN_TYPES, FUNCTION, CATEGORY, OUTPUT_NODE = ("BOOLEAN",), "told", "test", True
    @classmethod
    def INPUT_TYPES(cls):
        return {{"required": {{"model": ("INPAINT_MODEL",), "inpainter": ("REFINER_INPAINTER",)}}}}
    def told(self, model, inpainter):
        own = {{part.data_ptr() for part in model.model.parameters()}}
        same = own == {{part.data_ptr() for part in inpainter.parameters()}}
        return {{"ui": {{"text": [str(same)]}}, "result": (same,)}}
NODE_CLASS_MAPPINGS = {{"TestLoadInpaintModel": LoadInpaintModel, "TestSameWeights": SameWeights}}
"""
# Registers the same nodes in the classic schema, under other names.
CLASSIC = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location("refiner_nodes", {init!r})
package = importlib.util.module_from_spec(spec)
sys.modules["refiner_nodes"] = package
spec.loader.exec_module(package)
from refiner_nodes.classic import class_of
NODE_CLASS_MAPPINGS = {{"Classic" + node.id: class_of(node) for node in package.NODES}}
"""


class Server:
    """A ComfyUI that runs, and what a browser asks of it."""

    def __init__(self, base: Path, log: Path) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.url = f"http://127.0.0.1:{free.getsockname()[1]}"
        self.base = base
        command = [PYTHON, "main.py", "--cpu", "--disable-api-nodes", "--base-directory", str(base)]
        command += ["--port", self.url.rpartition(":")[2]]
        env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": ""}
        with log.open("wb") as out:
            self.process = subprocess.Popen(command, cwd=CLONE, env=env, stdout=out, stderr=subprocess.STDOUT)
        self.wait(lambda: self.answers(log), 180)
        self.nodes = self.get("/object_info")

    def answers(self, log: Path) -> bool:
        assert self.process.poll() is None, log.read_text()[-4000:]
        try:
            return bool(self.get("/system_stats"))
        except (urllib.error.URLError, ConnectionError):
            return False

    def wait(self, done, seconds: float):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            found = done()
            if found:
                return found
            time.sleep(0.05)
        raise AssertionError(f"not within {seconds} s")

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(self.url + path, timeout=30) as answer:  # noqa: S310  our own server
            return json.loads(answer.read())

    def post(self, path: str, body: dict[str, Any]) -> Any:
        data = json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data, {"Content-Type": "application/json"})  # noqa: S310
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310
            return json.loads(answer.read() or b"{}")

    def start(self, prompt: dict[str, Any]) -> str:
        answer = self.post("/prompt", {"prompt": prompt})
        assert not answer["node_errors"]
        return answer["prompt_id"]

    def end(self, identity: str, seconds: float = 300) -> dict[str, Any]:
        """The record of a prompt, once it is over."""
        return self.wait(lambda: self.get(f"/history/{identity}").get(identity), seconds)

    def run(self, prompt: dict[str, Any]) -> dict[str, Any]:
        record = self.end(self.start(prompt))
        assert record["status"]["status_str"] == "success", record["status"]
        return record["outputs"]

    def resident(self) -> int:
        """Bytes of memory."""
        return psutil.Process(self.process.pid).memory_info().rss

    def outputs(self) -> set[Path]:
        return {path for path in (self.base / "output").rglob("*") if path.is_file()}


def a_photo(path: Path, size: tuple[int, int], dtype: type) -> Picture:
    """A photo with metadata, as a file."""
    rng = np.random.default_rng(0)
    coarse = rng.integers(0, 256, (size[0] // 10, size[1] // 10, 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize(size[::-1], Image.Resampling.BICUBIC)).astype(np.float64)
    top = np.iinfo(dtype).max
    values = np.clip(smooth / 255 * top + rng.integers(0, 3, smooth.shape), 0, top).astype(dtype)
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    metadata = {
        "exif": exif.tobytes(),
        "icc_profile": ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes(),
        "dpi": (300.0, 300.0),
    }
    save(Picture(values, metadata=metadata), path)
    return read_picture(path)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    base = tmp_path_factory.mktemp("comfyui")
    nodes, inputs = base / "custom_nodes", base / "input"
    shutil.copytree(PACKAGE, nodes / "comfyui-refiner", ignore=shutil.ignore_patterns("__pycache__"))
    (nodes / "classic").mkdir()
    (nodes / "classic" / "__init__.py").write_text(CLASSIC.format(init=str(PACKAGE / "__init__.py")))
    inputs.mkdir()
    (nodes / "hosts").mkdir()
    (nodes / "hosts" / "__init__.py").write_text(HOSTS.format())
    torch.manual_seed(0)
    # spandrel builds Big LaMa's size alone, whatever a file holds.
    network = Generator(GeneratorConfig())
    torch.save({f"model.{name}": part for name, part in network.state_dict().items()}, nodes / "hosts" / "lama.pt")
    values = np.asarray(
        Image.fromarray(a_photo(inputs / "deep.png", SIZE, np.uint16).color[..., 0] // 257).convert("RGB")
    )
    alpha = np.full(SIZE, 255, np.uint8)
    alpha[HOLE] = 0
    Image.fromarray(np.dstack([values, alpha])).save(inputs / "erased.png")
    a_photo(inputs / "deep.png", SIZE, np.uint16)
    a_photo(inputs / "large.png", (1400, 2000), np.uint8)
    for name, size, box in (("mask", SIZE, (180, 120, 299, 219)), ("large_mask", (1400, 2000), (700, 500, 1300, 900))):
        mask = Image.new("L", size[::-1])
        ImageDraw.Draw(mask).rectangle(box, fill=255)
        mask.convert("RGB").save(inputs / f"{name}.png")
    running = Server(base, base / "log.txt")
    yield running
    running.process.terminate()
    running.process.wait(30)


def example(server: Server, name: str, photo: str = "deep.png", mask: str = "mask.png") -> dict[str, Any]:
    """An example workflow on a photo and mask of ours, with few predictions."""
    workflow = json.loads((PACKAGE / "example_workflows" / f"{name}.json").read_text())
    prompt = to_prompt(workflow, server.nodes)
    files = {"otter.jpg": photo, "otter_mask.png": mask}
    for node in prompt.values():
        inputs = node["inputs"]
        if "image" in inputs and isinstance(inputs["image"], str):
            inputs["image"] = files[inputs["image"]]
        if node["class_type"] in WORKERS:
            inputs.update(FEW)
    return prompt


def saved(server: Server, outputs: dict[str, Any]) -> Picture:
    (file,) = next(node["saved"] for node in outputs.values() if "saved" in node)
    return read_picture(server.base / "output" / file["subfolder"] / file["filename"])


def inside(size: tuple[int, int] = SIZE) -> np.ndarray:
    hole = np.zeros(size, dtype=bool)
    hole[HOLE] = True
    return hole


def test_the_example_removes_an_object_and_keeps_all_else(server, tmp_path) -> None:
    photo = read_picture(server.base / "input" / "deep.png")
    outputs = server.run(example(server, "remove-an-object"))
    result = saved(server, outputs)
    assert result.depth == 16
    assert np.array_equal(result.color[~inside()], photo.color[~inside()])
    assert all(result.metadata[key] == photo.metadata[key] for key in ("exif", "icc_profile", "dpi"))
    # Inside the hole: what the command line makes of the same files.
    preset, target = tmp_path / "few.yaml", tmp_path / "cli.png"
    preset.write_text(f"steps: 3\n{FEW['settings']}\n")
    files = [str(server.base / "input" / name) for name in ("deep.png", "mask.png")]
    command = [PYTHON, "-m", "refiner", "inpaint", *files, "-o", str(target), "--preset", str(preset)]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": ""}
    subprocess.run([*command, "--device", "cpu"], env=env, check=True, capture_output=True)
    difference = np.abs(result.color.astype(int) - read_picture(target).color.astype(int))
    assert difference.max() <= 65535 / 255 / 4  # a quarter of an 8-bit step: threads add in another order
    assert np.any(result.color[inside()] != photo.color[inside()])


def test_the_example_with_segments_grows_the_hole(server) -> None:
    photo = read_picture(server.base / "input" / "deep.png")
    result = saved(server, server.run(example(server, "remove-a-segment-4k")))
    changed = (result.color != photo.color).any(axis=2)
    rows, columns = np.nonzero(changed)
    grown = 12  # the example's
    assert rows.min() == HOLE[0].start - grown
    assert columns.max() == HOLE[1].stop - 1 + grown


def test_the_classic_schema_gives_the_same(server) -> None:
    prompt = example(server, "remove-an-object")
    current = saved(server, server.run(prompt))
    for node in prompt.values():
        if node["class_type"].startswith("Refiner"):
            node["class_type"] = f"Classic{node['class_type']}"
    assert np.array_equal(saved(server, server.run(prompt)).color, current.color)


def of_class(prompt: dict[str, Any], name: str) -> dict[str, Any]:
    return next(node["inputs"] for node in prompt.values() if node["class_type"] == name)


@pytest.mark.parametrize("name", ["bring-a-fill-to-full-size", "cut-and-stitch"])
def test_the_fill_of_other_nodes_comes_to_full_size(server, name) -> None:
    prompt = example(server, name, "large.png", "large_mask.png")
    # In the model's place, a fill of one color, to see whose it is.
    made = {"width": 1000, "height": 700, "batch_size": 1, "color": 0xFF0000}
    prompt["98"] = {"class_type": "EmptyImage", "inputs": made}
    if name == "cut-and-stitch":
        full, socket = of_class(prompt, "RefinerStitchRefined"), "image"
        cut = of_class(prompt, "RefinerCutAroundHole")
        made.update(width=cut["width"], height=cut["height"])
    else:
        full, socket = next(node["inputs"] for node in prompt.values() if "guide" in node["inputs"]), "guide"
    full[socket] = ["98", 0]
    full.update(match_color="off", settings="detail: features\nblend_rim: false")
    photo, result = read_picture(server.base / "input" / "large.png"), saved(server, server.run(prompt))
    middle = result.color[600:800, 900:1100].reshape(-1, 3).mean(axis=0)
    assert middle[0] > 200
    assert middle[1:].max() < 90
    rows, columns = np.nonzero((result.color != photo.color).any(axis=2))
    grown = full.get("grow", 0)
    assert (rows.min(), rows.max()) == (500 - grown, 900 + grown)
    assert (columns.min(), columns.max()) == (700 - grown, 1300 + grown)


def test_a_seed_gives_another_fill_and_the_same_one_again(server) -> None:
    prompt = example(server, "remove-an-object")
    inputs = of_class(prompt, "RefinerRefineInpaint")
    inputs.update(detail="exemplar", settings="min_side: 96")
    results = []
    for seed in (1, 2, 1):
        inputs["seed"] = seed
        results.append(saved(server, server.run(prompt)).color)
    assert not np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])
    widget = server.nodes["RefinerRefineInpaint"]["input"]["optional"]["seed"][1]
    assert widget["control_after_generate"]


@pytest.mark.parametrize("masks", [1, 3])
def test_batches_with_one_mask_or_as_many(server, masks) -> None:
    prompt = example(server, "remove-an-object")
    inputs = of_class(prompt, "RefinerRefineInpaint")
    prompt["90"] = {"class_type": "RepeatImageBatch", "inputs": {"image": inputs["image"], "amount": 3}}
    inputs["image"] = ["90", 0]
    if masks > 1:
        prompt["91"] = {"class_type": "MaskToImage", "inputs": {"mask": inputs["mask"]}}
        prompt["92"] = {"class_type": "RepeatImageBatch", "inputs": {"image": ["91", 0], "amount": masks}}
        prompt["93"] = {"class_type": "ImageToMask", "inputs": {"image": ["92", 0], "channel": "red"}}
        inputs["mask"] = ["93", 0]
        of_class(prompt, "RefinerSavePhoto")["mask"] = ["93", 0]
    outputs = server.run(prompt)
    files = next(node["saved"] for node in outputs.values() if "saved" in node)
    colors = [read_picture(server.base / "output" / file["subfolder"] / file["filename"]).color for file in files]
    assert len(colors) == 3
    assert all(np.array_equal(color, colors[0]) for color in colors)
    photo = read_picture(server.base / "input" / "deep.png")
    assert np.array_equal(colors[0][~inside()], photo.color[~inside()])
    assert np.any(colors[0][inside()] != photo.color[inside()])


def test_the_alpha_of_load_image_is_a_mask(server) -> None:
    prompt = example(server, "remove-an-object", photo="erased.png")
    prompt["94"] = {"class_type": "LoadImage", "inputs": {"image": "erased.png"}}
    inputs = of_class(prompt, "RefinerRefineInpaint")
    inputs.update(image=["94", 0], mask=["94", 1])
    result, photo = saved(server, server.run(prompt)), read_picture(server.base / "input" / "erased.png")
    assert result.mode == "RGB"  # what was erased is filled
    assert np.array_equal(result.color[~inside()], photo.color[~inside()])


def test_a_mask_is_adjusted_in_the_host(server) -> None:
    prompt = example(server, "remove-an-object", mask="large_mask.png")
    inputs = of_class(prompt, "RefinerRefineInpaint")
    adjust = {"mask": inputs["mask"], "threshold": 0.5, "invert": False, "grow": 4, "blur": 6, "image": inputs["image"]}
    prompt["95"] = {"class_type": "RefinerAdjustMask", "inputs": adjust}
    inputs.update(mask=["95", 0], blend_mask=True)
    # A mask of 2000x1400 on a photo of 480x360: another aspect.
    record = server.end(server.start(prompt))
    (said,) = [m[1]["exception_message"] for m in record["status"]["messages"] if m[0] == "execution_error"]
    assert "is 2000x1400, which is not the aspect of the image, 480x360" in said
    load = next(node["inputs"] for node in prompt.values() if node["class_type"] == "LoadImageMask")
    load["image"] = "mask.png"
    photo, result = read_picture(server.base / "input" / "deep.png"), saved(server, server.run(prompt))
    rows, columns = np.nonzero((result.color != photo.color).any(axis=2))
    assert HOLE[0].start - 10 <= rows.min() < HOLE[0].start - 4
    assert HOLE[1].stop + 4 < columns.max() < HOLE[1].stop + 10


def test_a_model_of_the_host_is_refined_without_a_second_copy(server) -> None:
    prompt = example(server, "remove-an-object")
    prompt["96"] = {"class_type": "TestLoadInpaintModel", "inputs": {"name": "lama.pt"}}
    prompt["97"] = {"class_type": "RefinerInpainterFromModel", "inputs": {"model": ["96", 0]}}
    prompt["99"] = {"class_type": "TestSameWeights", "inputs": {"model": ["96", 0], "inpainter": ["97", 0]}}
    inputs = of_class(prompt, "RefinerRefineInpaint")
    inputs.update(inpainter=["97", 0], detail="features")
    outputs = server.run(prompt)
    assert outputs["99"]["text"] == ["True"]
    photo, result = read_picture(server.base / "input" / "deep.png"), saved(server, outputs)
    assert np.array_equal(result.color[~inside()], photo.color[~inside()])
    assert np.any(result.color[inside()] != photo.color[inside()])


def test_interrupt_ends_within_a_prediction_and_leaves_nothing(server) -> None:
    prompt = example(server, "remove-an-object", "large.png", "large_mask.png")
    refine = next(node for node in prompt.values() if node["class_type"] == "RefinerRefineInpaint")
    refine["inputs"].update({"steps": 1000, "settings": "detail: features"})
    before = server.outputs()
    resident = server.resident()
    identity = server.start(prompt)
    server.wait(lambda: server.get("/queue")["queue_running"], 60)
    time.sleep(20)  # into the refinement
    assert server.get("/queue")["queue_running"]
    pressed = time.monotonic()
    server.post("/interrupt", {})
    record = server.end(identity, 60)
    took = time.monotonic() - pressed
    assert "execution_interrupted" in [message[0] for message in record["status"]["messages"]]
    assert took < 10  # a prediction of this window takes about two seconds on two cores
    assert server.outputs() == before
    assert server.resident() - resident < 300 << 20  # the pictures that ComfyUI itself keeps are some of it
    # What was interrupted runs again, from the start.
    refine["inputs"].update({"steps": 1, "settings": "min_side: 512\nmax_scales: 1"})
    saved(server, server.run(prompt))


def test_no_mask_removes_nothing_and_says_so(server) -> None:
    prompt = example(server, "remove-an-object")
    prompt["99"] = {"class_type": "LoadImage", "inputs": {"image": "deep.png"}}
    refine = next(node for node in prompt.values() if node["class_type"] == "RefinerRefineInpaint")
    refine["inputs"]["mask"] = ["99", 1]
    outputs = server.run(prompt)
    photo = read_picture(server.base / "input" / "deep.png")
    assert np.array_equal(saved(server, outputs).color, photo.color)
    assert any("Nothing was removed" in str(node.get("text")) for node in outputs.values())


def test_a_mask_of_another_size_is_refused_with_both_sizes(server) -> None:
    record = server.end(server.start(example(server, "remove-an-object", mask="large_mask.png")))
    (said,) = [m[1]["exception_message"] for m in record["status"]["messages"] if m[0] == "execution_error"]
    assert "2000x1400" in said
    assert "480x360" in said


def test_a_file_that_is_not_there_is_refused_before_anything_runs(server) -> None:
    prompt = example(server, "remove-an-object")
    load = next(node for node in prompt.values() if node["class_type"] == "RefinerLoadPhoto")
    load["inputs"]["image"] = "gone.png"
    with pytest.raises(urllib.error.HTTPError) as refused:
        server.post("/prompt", {"prompt": prompt})
    assert "gone.png: no such file" in refused.value.read().decode()


def test_the_examples_are_offered_as_templates(server) -> None:
    assert set(server.get("/workflow_templates")["comfyui-refiner"]) == {
        path.stem for path in (PACKAGE / "example_workflows").glob("*.json")
    }
