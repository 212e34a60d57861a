"""The ComfyUI nodes, without a ComfyUI: what they compute, keep, refuse and tell."""

from __future__ import annotations

import gc
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from comfyui_stand_in import Comfy, Interrupted
from comfyui_workflows import to_prompt
from PIL import Image
from torch.nn import functional

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
    runs = {node.id.removeprefix("Refiner"): node.run for node in package.NODES}
    return SimpleNamespace(package=package, **runs)


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
        return nodes.RefineInpaint(image, mask, inpainter=model, **given).values


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


@pytest.mark.parametrize("checks", [1, 3])
def test_an_error_that_comfyui_keeps_holds_no_pictures(nodes, comfy, picture, toy, checks) -> None:
    def held() -> int:
        gc.collect()
        tensors = [thing for thing in gc.get_objects() if issubclass(type(thing), torch.Tensor)]
        own = {id(part) for part in toy.parameters()}
        tensors = [tensor for tensor in tensors if tensor.device.type == "cpu" and id(tensor) not in own]
        return sum(tensor.numel() * tensor.element_size() for tensor in tensors)

    before = held()
    comfy.interrupt_after = checks
    with pytest.raises(Interrupted) as kept:
        refine(nodes, *picture, toy)
    assert held() - before < 100  # bytes; a picture has 72,000
    assert kept.value is not None


def test_what_no_line_explains_is_logged_with_its_traceback(nodes, comfy, picture, toy, caplog) -> None:
    toy.rear = None
    with pytest.raises(refiner.ModelError):
        refine(nodes, *picture, toy)
    assert not caplog.records
    # As if ComfyUI's own part failed.
    sys.modules["comfy.model_management"].throw_exception_if_processing_interrupted = lambda: {}["gone"]
    with pytest.raises(KeyError):
        refine(nodes, *picture, toy)
    assert "on_plan" in caplog.text


MEASURED = """
import sys
from pathlib import Path
import psutil, torch
from comfyui_stand_in import Comfy, Interrupted
comfy = Comfy(Path(sys.argv[1]))
sys.modules.update(comfy.modules())
sys.modules["comfy_api"] = None
import comfyui
import refiner
run = {node.id: node.run for node in comfyui.NODES}
image = torch.rand(1, 800, 1100, 3)
mask = torch.zeros(1, 800, 1100)
mask[:, 300:600, 400:800] = 1
model = refiner.load_model("lama-small")
def interrupted():
    comfy.interrupt_after = 4
    try:
        run["RefinerRefineInpaint"](image, mask, "default", 9, 0, 0, "", inpainter=model, settings="detail: features")
    except Interrupted as error:
        return error
interrupted()  # what libraries load once
before = psutil.Process().memory_info().rss
kept = interrupted()
print((psutil.Process().memory_info().rss - before) >> 20)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="what stays resident depends on the C library")
def test_an_interrupted_run_leaves_no_memory_behind(tmp_path) -> None:
    path = [PACKAGE.parent, Path(__file__).parent, Path(__file__).parents[2]]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(str(folder) for folder in path)}
    command = [sys.executable, "-c", MEASURED, str(tmp_path)]
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    assert int(done.stdout) < 60


def test_room_is_made_for_the_network_and_for_the_work(nodes, comfy, picture, scene, toy) -> None:
    plans = []
    refiner.refine(toy, *scene, refiner.Settings(detail="features", steps=3, min_side=32), on_plan=plans.append)
    refine(nodes, *picture, toy)
    weights = sum(part.numel() * part.element_size() for part in toy.parameters())
    assert comfy.asked == [weights, pytest.approx(1.3 * plans[0].bytes, abs=1)]  # it plans with 80 % of what is free
    assert comfy.emptied == 1


def small(image):
    """An IMAGE at about half its size, with something of its own in it."""
    return (functional.interpolate(image.movedim(-1, 1), (34, 45), mode="area").movedim(1, -1) * 0.5 + 0.2).contiguous()


@pytest.mark.parametrize("detail", ["features", "exemplar"])
def test_a_guide_is_one_wire(nodes, picture, scene, toy, detail) -> None:
    image, mask = picture
    guide = small(image)
    result, fill, _ = refine(nodes, image, mask, toy, guide=guide, settings=f"min_side: 32\ndetail: {detail}")
    settings = refiner.Settings(detail=detail, steps=3, min_side=32)
    assert torch.equal(result.movedim(-1, 1), refiner.refine(toy, *scene, settings, guide=guide.movedim(-1, 1)).image)
    assert torch.equal(fill, mask)


def test_guides_go_with_their_pictures(nodes, picture, toy) -> None:
    image, mask = picture
    guides = torch.cat([small(image), 1 - small(image)])
    result, _, _ = refine(nodes, torch.cat([image] * 2), mask, toy, guide=guides)
    for number in range(2):
        alone = refine(nodes, image, mask, toy, guide=guides[number : number + 1])[0]
        assert torch.equal(result[number : number + 1], alone)


def test_transparent_guides_and_values_beyond_white_are_taken(nodes, picture, toy) -> None:
    image, mask = picture
    guide = small(image)
    bright = torch.cat([guide + 2 * (guide > 0.69), torch.rand(1, 34, 45, 1)], dim=3)  # as samplers may give
    expected = refine(nodes, image, mask, toy, guide=guide.where(guide <= 0.69, torch.ones(())))[0]
    assert torch.equal(refine(nodes, image, mask, toy, guide=bright)[0], expected)


def test_the_widgets_reach_the_engine(nodes, picture, scene, toy) -> None:
    _, mask = picture
    avoid = torch.zeros_like(mask)
    avoid[:, 60:] = 1
    widgets = {"detail": "exemplar", "match_color": "off", "seed": 7, "settings": "min_side: 32", "avoid": avoid}
    with torch.inference_mode():
        result = nodes.RefineInpaint(*picture, inpainter=toy, **{**FEW, **widgets}).values[0]
    settings = refiner.Settings(detail="exemplar", match_color="off", seed=7, steps=3, min_side=32)
    assert torch.equal(result.movedim(-1, 1), refiner.refine(toy, *scene, settings, avoid=avoid[None]).image)
    for changed in ({"seed": 8}, {"avoid": None}):
        with torch.inference_mode():
            other = nodes.RefineInpaint(*picture, inpainter=toy, **{**FEW, **widgets, **changed}).values[0]
        assert not torch.equal(other, result)


def test_without_an_inpainter_the_best_one_is_taken(nodes, picture, scene) -> None:
    result, _, _ = refine(nodes, *picture, None)
    model = refiner.load_model("lama-small")
    expected = refiner.refine(model, *scene, refiner.Settings(detail="features", steps=3, min_side=32)).image
    assert torch.equal(result.movedim(-1, 1), expected)


def test_what_is_no_lama_of_the_host_is_refused_in_a_line(nodes, toy) -> None:
    assert nodes.InpainterFromModel(toy).values == (toy,)
    with pytest.raises(refiner.ModelError, match=r"^model: is Linear, which has no cut for refinement here"):
        nodes.InpainterFromModel(torch.nn.Linear(3, 3))


def test_as_many_masks_as_pictures(nodes, picture, toy) -> None:
    image, mask = picture
    masks = torch.cat([mask, mask.flip(2), torch.zeros_like(mask)])
    result, fill, report = refine(nodes, torch.cat([image] * 3), masks, toy)
    assert torch.equal(fill, masks)
    assert torch.equal(result[1:2], refine(nodes, image, masks[1:2], toy)[0])
    assert torch.equal(result[2:], image)
    assert report.splitlines()[2] == "Nothing was removed: the mask is empty."


def test_a_soft_mask_blends_where_asked_to(nodes, picture, toy) -> None:
    image, mask = picture
    soft = mask.clone()
    soft[:, 20:50, 25:30] = 0.25
    full, fill, _ = refine(nodes, image, soft, toy)
    assert torch.equal(fill, mask)
    blended, fill, _ = refine(nodes, image, soft, toy, blend_mask=True)
    assert torch.equal(fill, soft)
    assert torch.allclose(blended, image + soft[..., None] * (full - image), atol=1e-6)
    assert torch.equal(blended[:, mask[0] == 0], image[:, mask[0] == 0])


def adjusted(nodes, mask, **changes):
    given = {"threshold": 0.0, "invert": False, "grow": 0, "blur": 0, **changes}
    with torch.inference_mode():
        return nodes.AdjustMask(mask, **given).values[0]


def test_masks_are_adjusted(nodes, picture) -> None:
    _, mask = picture
    gray = mask * 0.5
    assert torch.equal(adjusted(nodes, gray), mask)
    assert torch.equal(adjusted(nodes, gray[0]), mask)
    assert not adjusted(nodes, gray, threshold=0.5).any()
    assert torch.equal(adjusted(nodes, gray, invert=True), 1 - mask)
    grown = adjusted(nodes, mask, grow=3)
    assert grown[0, 17, 40] == 1
    assert grown[0, 16, 40] == 0
    assert grown[0, 17, 22] == 0  # in a circle
    assert torch.equal(adjusted(nodes, grown, grow=-3)[0, 23:47, 28:57], torch.ones(24, 29))
    assert adjusted(nodes, mask, grow=-3).sum() == 24 * 29
    soft = adjusted(nodes, mask, blur=4)
    assert torch.equal(soft[mask > 0], mask[mask > 0])
    assert torch.allclose(soft[0, 15:20, 40], torch.tensor([0, 0.2, 0.4, 0.6, 0.8]))


def test_masks_are_scaled_to_a_picture(nodes, picture) -> None:
    image, _ = picture
    mask = torch.zeros(1, 134, 180)
    mask[:, 40:100, 50:120] = 1
    scaled = adjusted(nodes, mask, image=image)
    assert torch.equal(scaled, picture[1])
    assert adjusted(nodes, torch.zeros(1, 64, 64), image=image).shape == (1, 67, 90)
    with pytest.raises(refiner.InputError, match=r"mask: is 64x64, which is not the aspect of the image, 90x67"):
        adjusted(nodes, torch.ones(1, 64, 64), image=image)


def cut(nodes, image, mask, width=64, height=48, context=1.5):
    with torch.inference_mode():
        return nodes.CutAroundHole(image, mask, width, height, context).values


def stitched(nodes, where, made, model, **changes):
    given = {**FEW, "settings": "min_side: 32\ndetail: features", **changes}
    given.pop("grow")
    with torch.inference_mode():
        return nodes.StitchRefined(where, made, inpainter=model, **given).values


@pytest.fixture
def large():
    """IMAGE (1,240,360,3) and MASK with a hole of 50x40 at (200, 100)."""
    y, x = torch.meshgrid(torch.linspace(0, 1, 240), torch.linspace(0, 1, 360), indexing="ij")
    image = torch.stack([x, y, 0.5 + 0.4 * torch.sin(40 * x * y)], dim=-1)[None]
    mask = torch.zeros(1, 240, 360)
    mask[:, 100:140, 200:250] = 1
    return image, mask


def test_the_cut_holds_the_hole_and_its_surroundings(nodes, large) -> None:
    image, mask = large
    where, picture, hole = cut(nodes, image, mask, context=3.0)
    (window,) = where.windows
    assert (window.width, window.height) == (160, 120)
    assert (window.left, window.top) == (145, 60)  # in the middle
    assert picture.shape == (1, 48, 64, 3)
    assert hole.shape == (1, 48, 64)
    assert set(hole.unique().tolist()) == {0, 1}
    inner = hole[0, 16:32, 22:42]
    assert inner.all()
    assert hole.sum() <= 18 * 22
    assert (picture - image[:, 61:180:2, 145:305:2][:, ::1, ::1].mean()).abs().max() < 1


def test_a_small_hole_is_cut_as_it_is(nodes, large) -> None:
    image, mask = large
    where, picture, hole = cut(nodes, image, mask, width=104, height=96)
    (window,) = where.windows
    assert torch.equal(picture, window.of(image.movedim(-1, 1)).movedim(1, -1))
    assert torch.equal(hole, window.of(mask))


@pytest.mark.parametrize("corner", [(0, 0), (200, 320)])
def test_a_cut_stays_in_the_picture(nodes, large, corner) -> None:
    image, _ = large
    mask = torch.zeros(1, 240, 360)
    mask[:, corner[0] : corner[0] + 40, corner[1] : corner[1] + 40] = 1
    where, _, _ = cut(nodes, image, mask)
    (window,) = where.windows
    assert window.of(mask).sum() == mask.sum()
    assert window.left >= 0
    assert window.left + window.width <= 360
    assert window.top + window.height <= 240


def test_a_hole_that_no_such_cut_holds_is_refused(nodes, large) -> None:
    image, mask = large
    mask = mask.clone()
    mask[:, 120, 5:355] = 1
    with pytest.raises(refiner.InputError, match=r"hole is 350x40, and no 64x64 cut of the 360x240 picture holds it"):
        cut(nodes, image, mask, 64, 64)


def test_what_comes_back_fits_to_the_pixel(nodes, large, toy) -> None:
    image, mask = large
    for size in ((64, 48), (104, 96), (80, 48)):
        where, picture, _ = cut(nodes, image, mask, *size, context=2.2)
        errors = []
        for shift in (0, 1):  # in pixels of the cut; by one it would be seen
            made = picture.movedim(-1, 1).roll(shift, 3)
            guide = nodes.package.cutting.whole_guide(image.movedim(-1, 1), where.windows[0], made)
            scaled = (
                functional.interpolate(part, guide.shape[2:], mode="bilinear", antialias=True)
                for part in (image.movedim(-1, 1), mask[None])
            )
            aim, inside = next(scaled), next(scaled) > 0
            errors.append(((guide - aim).abs() * inside).max())
        assert errors[0] < 0.25 * errors[1]


def test_a_cut_is_stitched_with_known_pixels_exact(nodes, large, toy) -> None:
    image, mask = large
    where, picture, hole = cut(nodes, image, mask, context=3.0)
    made = torch.where(hole[..., None] > 0, torch.tensor([0.9, 0.1, 0.2]), picture)
    result, fill, _ = stitched(nodes, where, made, toy)
    assert torch.equal(result[:, mask[0] == 0], image[:, mask[0] == 0])
    assert torch.equal(fill, mask)
    assert result.shape == image.shape
    assert not torch.equal(result, refine(nodes, image, mask, toy)[0])
    # As if the model had worked on all of the picture.
    guide = nodes.package.cutting.whole_guide(image.movedim(-1, 1), where.windows[0], made.movedim(-1, 1)).movedim(
        1, -1
    )
    assert guide.shape == (1, 96, 144, 3)
    assert torch.equal(result, refine(nodes, image, mask, toy, guide=guide)[0])


def test_several_fills_of_a_cut_give_as_many_pictures(nodes, large, toy) -> None:
    image, mask = large
    where, picture, _ = cut(nodes, image, mask)
    made = torch.cat([picture, 1 - picture])
    result, fill, _ = stitched(nodes, where, made, toy)
    assert result.shape == (2, 240, 360, 3)
    assert torch.equal(fill, mask.expand(2, -1, -1))
    assert torch.equal(result[1:], stitched(nodes, where, made[1:], toy)[0])


def test_cuts_of_a_batch_go_back_to_their_pictures(nodes, large, toy) -> None:
    image, mask = large
    masks = torch.cat([mask, mask.roll(60, 1)])
    where, pictures, _ = cut(nodes, torch.cat([image, image.flip(2)]), masks)
    result, fill, _ = stitched(nodes, where, pictures, toy)
    assert torch.equal(fill, masks)
    assert torch.equal(result[1][masks[1] == 0], image.flip(2)[0][masks[1] == 0])
    with pytest.raises(refiner.InputError, match="image: there are 3 for 2 cuts"):
        stitched(nodes, where, torch.cat([pictures, pictures[:1]]), toy)


def test_a_fill_of_another_aspect_is_refused(nodes, large, toy) -> None:
    where, _, _ = cut(nodes, *large)
    with pytest.raises(refiner.InputError, match=r"image: is 60x60, which is not the aspect of the cut, \d+x\d+"):
        stitched(nodes, where, torch.rand(1, 60, 60, 3), toy)


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
    io.Int = kind("INT", "default", "min", "max", "step", "control_after_generate")
    io.Float = kind("FLOAT", "default", "min", "max", "step")
    io.Boolean = kind("BOOLEAN", "default")
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
    refine = next(schema for schema in schemas if schema.node_id == "RefinerRefineInpaint")
    assert [output.kind for output in refine.outputs] == ["IMAGE", "MASK", "STRING"]
    assert next(given for given in refine.inputs if given.id == "seed").control_after_generate
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
        "ImageScale": (
            {
                "image": ("IMAGE", {}),
                "upscale_method": (["area"], {}),
                "width": ("INT", {}),
                "height": ("INT", {}),
                "crop": (["disabled"], {}),
            },
            ("IMAGE",),
        ),
    }
    known = ours | {name: {"input": {"required": given}, "output": gives} for name, (given, gives) in own.items()}
    files = sorted((PACKAGE / "example_workflows").glob("*.json"))
    assert len(files) == 4
    for file in files:
        workflow = json.loads(file.read_text())
        prompt = to_prompt(workflow, known)
        frames = [(node["pos"], node["size"]) for node in workflow["nodes"]]
        for index, (at, size) in enumerate(frames):
            for other, other_size in frames[:index]:
                apart = [at[i] >= other[i] + other_size[i] or other[i] >= at[i] + size[i] for i in (0, 1)]
                assert any(apart), f"{file.name}: a node hides another"
        assert {"RefinerLoadPhoto", "RefinerRefineInpaint", "RefinerSavePhoto"} <= {
            node["class_type"] for node in prompt.values()
        }
        for _, source, output, _, _, kind in workflow["links"]:
            assert known[prompt[str(source)]["class_type"]]["output"][output] == kind
        thumbnail = file.with_suffix(".jpg")
        assert thumbnail.stat().st_size < 100_000
        with Image.open(thumbnail) as shown:
            assert min(shown.size) >= 200
