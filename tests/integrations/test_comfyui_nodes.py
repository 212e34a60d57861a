"""The ComfyUI nodes, without a ComfyUI: what they compute, keep, refuse and tell."""

from __future__ import annotations

import importlib.util
import json
import shutil
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from comfyui_stand_in import Comfy, Interrupted
from comfyui_workflows import to_prompt
from PIL import Image

import refiner
from refiner.images.picture import Picture
from refiner.images.reading import read_picture
from refiner.images.writing import save

PACKAGE = Path(__file__).parents[2] / "integrations" / "comfyui"
FEW = {"preset": "default", "steps": 3, "grow": 0, "feather": 0, "memory": "", "settings": "min_side: 32"}
REPORT = r"Refined \d of \d scales"


@pytest.fixture
def comfy(tmp_path, monkeypatch) -> Comfy:
    """A ComfyUI without the current schema."""
    stand_in = Comfy(tmp_path)
    for name, module in stand_in.modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.setitem(sys.modules, "comfy_api", None)
    return stand_in


@pytest.fixture
def load_nodes(comfy, monkeypatch):
    """Loads the package as ComfyUI does, from its folder."""

    def load() -> ModuleType:
        for name in [name for name in sys.modules if name.startswith("refiner_comfyui")]:
            monkeypatch.delitem(sys.modules, name)
        spec = importlib.util.spec_from_file_location("refiner_comfyui", PACKAGE / "__init__.py")
        package = importlib.util.module_from_spec(spec)
        monkeypatch.setitem(sys.modules, "refiner_comfyui", package)
        spec.loader.exec_module(package)
        return package

    yield load
    for name in [name for name in sys.modules if name.startswith("refiner_comfyui")]:
        del sys.modules[name]


@pytest.fixture
def nodes(load_nodes):
    """What runs each node, by the last word of its id."""
    package = load_nodes()
    return SimpleNamespace(**{node.id.removeprefix("Refiner"): node.run for node in package.NODES})


@pytest.fixture
def picture(scene):
    """IMAGE (1,67,90,3), and MASK (1,67,90)."""
    image, mask = scene
    return image.movedim(1, -1).contiguous(), mask[0]


def refine(nodes, image, mask, model, **changes):
    with torch.inference_mode():  # as ComfyUI runs nodes
        given = {**FEW, **changes}
        if "detail:" not in given["settings"]:
            given["settings"] = f"detail: features\n{given['settings']}"
        return nodes.RefineInpaint(image, mask, model, **given).values


def test_it_gives_what_the_engine_gives(nodes, picture, scene, toy) -> None:
    image, fill, report = refine(nodes, *picture, toy)
    expected = refiner.refine(toy, *scene, refiner.Settings(detail="features", steps=3, min_side=32))
    assert torch.equal(image.movedim(-1, 1), expected.image)
    assert torch.equal(fill, picture[1])
    assert "Refined" in report


def test_where_copies_filled_everything_the_report_says_so(nodes, picture, toy) -> None:
    _, _, report = refine(nodes, *picture, toy, settings="min_side: 32\ndetail: exemplar")
    assert report == "Filled at 90x67 from the photo's own pixels."


def test_one_scale_is_told_with_what_more_would_take(nodes, picture, toy) -> None:
    _, _, report = refine(nodes, *picture, toy, settings="min_side: 64")
    assert "67 px is too small for more than one scale (about 91 px are needed)" in report


def test_known_pixels_and_alpha_stay_whatever_they_are(nodes, picture, toy) -> None:
    image, mask = picture
    wide = torch.cat([image * 1.5 - 0.2, torch.rand(1, 67, 90, 1)], dim=3)  # beyond [0,1], as some nodes leave it
    before = wide.clone()
    result, _, _ = refine(nodes, wide, mask, toy)
    assert torch.equal(result[..., 3], wide[..., 3])
    assert torch.equal(result[:, mask[0] == 0], wide[:, mask[0] == 0])
    assert not torch.equal(result, wide)
    assert torch.equal(wide, before)  # ComfyUI keeps it for other nodes


def test_half_precision_comes_back_as_half_precision(nodes, picture, toy) -> None:
    image, mask = picture
    half = image.half()
    result, _, _ = refine(nodes, half, mask, toy)
    assert result.dtype == torch.float16
    assert torch.equal(result[:, mask[0] == 0], half[:, mask[0] == 0])


def test_one_mask_serves_a_batch_and_each_picture_stands_alone(nodes, picture, toy) -> None:
    image, mask = picture
    batch = torch.cat([image, image.flip(2)])
    result, fill, report = refine(nodes, batch, mask, toy)
    assert torch.equal(result[:1], refine(nodes, image, mask, toy)[0])
    assert torch.equal(fill, mask.expand(2, -1, -1))
    assert report.count("Refined") == 2


def test_grown_and_feathered_holes_are_in_the_mask_it_gives(nodes, picture, toy) -> None:
    image, mask = picture
    result, fill, _ = refine(nodes, image, mask, toy, grow=3, feather=4)
    changed = (result != image).any(dim=3)[0]
    assert changed[17:53, 22:63].any()
    assert fill[0, 17, 30] > 0  # grown by three
    assert fill[0, 16, 30] == 0
    assert not changed[fill[0] == 0].any()
    assert torch.equal(fill[0, 25:45, 30:55], torch.ones(20, 25))
    assert 0 < fill[0, 18, 40] < 1


@pytest.mark.parametrize("shape", [(1, 64, 64), (64, 64), (1, 67, 90)])
def test_an_empty_mask_removes_nothing_and_says_so(nodes, comfy, picture, toy, shape) -> None:
    image, _ = picture
    result, fill, report = refine(nodes, image, torch.zeros(shape), toy)
    assert torch.equal(result, image)
    assert fill.shape == (1, 67, 90)
    assert not fill.any()
    assert report == "Nothing was removed: the mask is empty."
    assert comfy.said == [(report, "7")]  # on the node


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"mask": torch.ones(1, 60, 80)}, r"mask: is 80x60, the image 90x67"),
        ({"mask": torch.ones(1, 64, 64)}, r"mask: is 64x64, the image 90x67"),
        ({"mask": torch.ones(3, 67, 90)}, r"there are 3 for 1 images; .*MaskComposite"),
        ({"image": torch.zeros(1, 3, 67, 90)}, r"expected \(B,H,W,3\)"),
        ({"mask": torch.ones(1, 67, 90)}, "leaves nothing"),
        ({"memory": "much"}, "memory: expected a size"),
        ({"settings": "stepps: 3"}, r"^settings: unknown key stepps; expected"),
        ({"preset": "reference", "settings": "pixel_budget: 1000"}, "is 90x67, which .* pixel_budget of 1000"),
    ],
)
def test_what_cannot_be_used_is_refused_in_a_line(nodes, picture, toy, changes, message) -> None:
    inputs = {"image": picture[0], "mask": picture[1], **changes}
    with pytest.raises(refiner.RefinerError, match=message) as refused:
        refine(nodes, inputs.pop("image"), inputs.pop("mask"), toy, **inputs)
    assert "\n" not in str(refused.value)


def test_settings_go_over_the_preset(nodes, picture, scene, toy) -> None:
    lines = "min_side: 32\nlr: 1e-2\nwindows: off\nprecision: float32"
    image, _, _ = refine(nodes, *picture, toy, settings=lines, memory="2GB")
    settings = refiner.Settings(
        detail="features", steps=3, min_side=32, lr=0.01, windows="off", precision="float32", memory="2GB"
    )
    assert torch.equal(image.movedim(-1, 1), refiner.refine(toy, *scene, settings).image)


def test_progress_rises_to_the_end_with_a_preview_of_each_scale(nodes, comfy, picture, toy) -> None:
    refine(nodes, torch.cat([picture[0]] * 2), picture[1], toy)
    (bar,) = comfy.bars
    assert bar.values == sorted(bar.values)
    assert bar.values[-1] == bar.total
    assert len(set(bar.values)) > 4
    sizes = [(kind, preview.size) for kind, preview, _ in bar.previews]
    assert sizes == [("JPEG", (45, 33)), ("JPEG", (90, 67))] * 2


@pytest.mark.parametrize("checks", [0, 1, 2, 3])
def test_interrupt_reaches_comfyui_and_gives_the_memory_back(nodes, comfy, picture, toy, checks) -> None:
    comfy.interrupt_after = checks
    with pytest.raises(Interrupted):
        refine(nodes, *picture, toy)
    assert comfy.emptied == 1
    comfy.interrupt_after = None
    assert refine(nodes, *picture, toy)[0].shape == picture[0].shape


def test_room_is_made_for_the_network_and_for_the_work(nodes, comfy, picture, scene, toy) -> None:
    plans = []
    refiner.refine(toy, *scene, refiner.Settings(detail="features", steps=3, min_side=32), on_plan=plans.append)
    refine(nodes, *picture, toy)
    weights = sum(part.numel() * part.element_size() for part in toy.parameters())
    assert comfy.asked == [weights, pytest.approx(1.3 * plans[0].bytes, abs=1)]  # it plans with 80 % of what is free
    assert comfy.emptied == 1


@pytest.fixture
def deep_photo(comfy):
    """A 16-bit photo with metadata in the input folder."""
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    values = np.random.default_rng(0).integers(0, 65536, (67, 90, 3), dtype=np.uint16)
    save(Picture(values, metadata={"exif": exif.tobytes(), "dpi": (300.0, 300.0)}), comfy.input / "deep.png")
    return read_picture(comfy.input / "deep.png")


def test_a_photo_goes_through_and_keeps_depth_metadata_and_known_pixels(nodes, comfy, deep_photo, picture, toy) -> None:
    photo, image, mask = nodes.LoadPhoto("deep.png").values
    assert image.shape == (1, 67, 90, 3)
    assert mask.shape == (1, 64, 64)
    assert not mask.any()
    result, fill, _ = refine(nodes, image, picture[1], toy)
    done = nodes.SavePhoto(photo, result, "photo", "as the photo", 0, fill)
    (path,) = comfy.output.iterdir()
    assert done.values == (path.name,)
    assert done.ui["saved"] == done.ui["images"] == [{"filename": path.name, "subfolder": "", "type": "output"}]
    written = read_picture(path)
    hole = picture[1][0].numpy() > 0
    assert written.depth == 16
    assert written.metadata == deep_photo.metadata
    assert np.array_equal(written.color[~hole], deep_photo.color[~hole])
    assert np.array_equal(written.color[hole], np.rint(result[0].numpy() * 65535).astype(np.uint16)[hole])


def test_without_a_mask_all_of_the_image_is_written_and_deep_values_survive(nodes, comfy, deep_photo) -> None:
    photo, image, _ = nodes.LoadPhoto("deep.png").values
    nodes.SavePhoto(photo, image, "photo", ".tif", 0)
    (path,) = comfy.output.iterdir()
    assert np.array_equal(read_picture(path).color, deep_photo.color)


def test_what_browsers_cannot_show_has_a_preview(nodes, comfy, deep_photo) -> None:
    photo, image, mask = nodes.LoadPhoto("deep.png").values
    done = nodes.SavePhoto(photo, image, "photo", ".tif", 0, mask)
    (shown,) = done.ui["images"]
    assert shown["type"] == "temp"
    with Image.open(comfy.temp / shown["filename"]) as preview:
        assert preview.size == (90, 67)
    assert done.ui["saved"][0]["filename"].endswith(".tif")


def test_what_the_format_loses_is_said(nodes, comfy, deep_photo) -> None:
    photo, image, _ = nodes.LoadPhoto("deep.png").values
    nodes.SavePhoto(photo, image, "photo", ".jpg", 90)
    assert "JPEG holds 8 bits a channel, the photo has 16" in comfy.said[-1][0]


def test_a_hole_that_was_drawn_into_the_alpha_is_opaque_afterwards(nodes, comfy, picture, toy) -> None:
    values = np.random.default_rng(0).integers(0, 256, (67, 90, 4), dtype=np.uint8)
    values[..., 3] = np.where(picture[1][0].numpy() > 0, 0, 255)
    Image.fromarray(values).save(comfy.input / "drawn.png")
    photo, image, mask = nodes.LoadPhoto("drawn.png").values
    assert torch.equal(mask, picture[1])
    result, fill, _ = refine(nodes, image, mask, toy)
    nodes.SavePhoto(photo, result, "photo", "as the photo", 0, fill)
    (path,) = comfy.output.iterdir()
    assert read_picture(path).mode == "RGB"


@pytest.mark.parametrize("transparency", [lambda alpha: alpha, np.zeros_like, lambda alpha: alpha | 255])
def test_transparency_elsewhere_stays(nodes, comfy, picture, toy, transparency) -> None:
    values = np.random.default_rng(0).integers(0, 256, (67, 90, 4), dtype=np.uint8)
    values[..., 3] = transparency(values[..., 3])
    Image.fromarray(values).save(comfy.input / "cut.png")
    photo, image, _ = nodes.LoadPhoto("cut.png").values
    result, fill, _ = refine(nodes, image, picture[1], toy)
    nodes.SavePhoto(photo, result, "photo", "as the photo", 0, fill)
    (path,) = comfy.output.iterdir()
    assert np.array_equal(read_picture(path).alpha, values[..., 3])


def test_an_image_of_another_size_is_not_written(nodes, comfy, deep_photo) -> None:
    photo, _, _ = nodes.LoadPhoto("deep.png").values
    with pytest.raises(refiner.InputError, match="image: is 45x33, the photo 90x67"):
        nodes.SavePhoto(photo, torch.zeros(1, 33, 45, 3), "photo", "as the photo", 0)
    assert not list(comfy.output.iterdir())


def test_models_are_those_of_refiner_and_files_of_comfyui(load_nodes, comfy) -> None:
    golden = Path(__file__).parents[1] / "golden" / "lama-tiny"
    from lama.weights import CHECKPOINTS

    CHECKPOINTS.convert(
        golden, comfy.models / "inpaint" / "mine.safetensors", half=False, train_size=None, learning_rate=None
    )
    (comfy.models / "inpaint" / "notes.txt").write_text("not weights")
    package = load_nodes()
    load = next(node for node in package.NODES if node.id == "RefinerLoadInpainter")
    assert load.inputs[0].choices() == [*refiner.model_names(), "mine.safetensors"]
    for name in ("lama-small", "mine.safetensors"):
        assert isinstance(load.run(name).values[0], refiner.Inpainter)


def test_photos_come_from_comfyuis_folders_alone(nodes, load_nodes, comfy, deep_photo) -> None:
    shutil.copy(comfy.input / "deep.png", comfy.input.parent / "private.png")
    with pytest.raises(refiner.InputError, match=r"\.\./private\.png: is not in ComfyUI's folders"):
        nodes.LoadPhoto("../private.png")
    load = load_nodes().NODE_CLASS_MAPPINGS["RefinerLoadPhoto"]
    assert "is not in ComfyUI's folders" in load.VALIDATE_INPUTS(image="../private.png")


def test_the_classic_schema(load_nodes, comfy, deep_photo) -> None:
    package = load_nodes()
    assert not hasattr(package, "comfy_entrypoint")
    load = package.NODE_CLASS_MAPPINGS["RefinerLoadPhoto"]
    choices, options = load.INPUT_TYPES()["required"]["image"]
    assert choices == ["deep.png"]
    assert options["image_upload"]
    assert load.RETURN_TYPES == ("REFINER_PHOTO", "IMAGE", "MASK")
    assert load.VALIDATE_INPUTS(image="deep.png") is True
    assert "gone.png: no such file" in load.VALIDATE_INPUTS(image="gone.png")
    before = load.IS_CHANGED(image="deep.png")
    assert load.IS_CHANGED(image="deep.png") == before
    shutil.copy(comfy.input / "deep.png", comfy.input / "other.png")
    with (comfy.input / "deep.png").open("ab") as file:
        file.write(b"\0")
    assert load.IS_CHANGED(image="deep.png") != before
    photo, image, _ = getattr(load(), load.FUNCTION)(image="other.png")
    write = package.NODE_CLASS_MAPPINGS["RefinerSavePhoto"]
    assert write.OUTPUT_NODE
    assert list(write.INPUT_TYPES()["optional"]) == ["mask"]
    inputs = {"photo": photo, "image": image, "filename_prefix": "a", "format": "as the photo", "quality": 0}
    done = getattr(write(), write.FUNCTION)(**inputs)
    assert done["result"] == (done["ui"]["saved"][0]["filename"],)


def current_schema() -> dict[str, ModuleType]:
    """ComfyUI's current schema, as far as these nodes use it; it keeps what it is given."""

    def kind(name: str, *known: str) -> SimpleNamespace:
        def declare(id_: str, **options: object) -> SimpleNamespace:
            assert set(options) <= {"tooltip", "optional", *known}, name
            return SimpleNamespace(id=id_, kind=name, **options)

        return SimpleNamespace(Input=declare, Output=lambda **options: SimpleNamespace(kind=name, **options))

    io = ModuleType("comfy_api.latest.io")
    io.ComfyNode = type("ComfyNode", (), {})
    io.Schema = SimpleNamespace
    io.NodeOutput = lambda *values, ui: SimpleNamespace(values=values, ui=ui)
    io.UploadType = SimpleNamespace(image="image_upload")
    io.Custom = kind
    io.Image, io.Mask = kind("IMAGE"), kind("MASK")
    io.Int = kind("INT", "default", "min", "max")
    io.String = kind("STRING", "default", "multiline")
    io.Combo = kind("COMBO", "default", "options", "upload")
    latest = ModuleType("comfy_api.latest")
    latest.io, latest.ComfyExtension = io, type("ComfyExtension", (), {})
    return {"comfy_api": ModuleType("comfy_api"), "comfy_api.latest": latest}


def test_the_current_schema(load_nodes, comfy, deep_photo, monkeypatch) -> None:
    for name, module in current_schema().items():
        monkeypatch.setitem(sys.modules, name, module)
    package = load_nodes()
    assert not hasattr(package, "NODE_CLASS_MAPPINGS")

    def finished(coroutine):
        with pytest.raises(StopIteration) as end:
            coroutine.send(None)
        return end.value.value

    classes = finished(finished(package.comfy_entrypoint()).get_node_list())
    schemas = [made.define_schema() for made in classes]
    assert [schema.node_id for schema in schemas] == [node.id for node in package.NODES]
    assert schemas[0].inputs[0].upload == "image_upload"
    assert [output.kind for output in schemas[2].outputs] == ["IMAGE", "MASK", "STRING"]
    done = classes[0].execute(image="deep.png")
    assert done.values[1].shape == (1, 67, 90, 3)
    assert classes[0].validate_inputs(image="deep.png") is True
    assert not hasattr(classes[1], "validate_inputs")  # ComfyUI would take it for one


def test_the_examples_connect_what_there_is(load_nodes, comfy) -> None:
    package = load_nodes()
    ours = {
        name: {"input": made.INPUT_TYPES(), "output": made.RETURN_TYPES}
        for name, made in package.NODE_CLASS_MAPPINGS.items()
    }
    own = {  # of ComfyUI itself
        "LoadImage": ({"image": ([], {"image_upload": True})}, ("IMAGE", "MASK")),
        "LoadImageMask": ({"image": ([], {"image_upload": True}), "channel": (["red"], {})}, ("MASK",)),
        "ImageColorToMask": ({"image": ("IMAGE", {}), "color": ("INT", {})}, ("MASK",)),
        "PreviewAny": ({"source": ("*", {})}, ()),
    }
    known = ours | {name: {"input": {"required": given}, "output": gives} for name, (given, gives) in own.items()}
    files = sorted((PACKAGE / "example_workflows").glob("*.json"))
    assert len(files) == 2
    for file in files:
        workflow = json.loads(file.read_text())
        prompt = to_prompt(workflow, known)
        assert {"RefinerLoadPhoto", "RefinerRefineInpaint", "RefinerSavePhoto"} <= {
            node["class_type"] for node in prompt.values()
        }
        for _, source, output, _, _, kind in workflow["links"]:
            assert known[prompt[str(source)]["class_type"]]["output"][output] == kind
        thumbnail = file.with_suffix(".jpg")
        assert thumbnail.stat().st_size < 100_000
        with Image.open(thumbnail) as shown:
            assert min(shown.size) >= 200
