from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from dataclasses import replace

import numpy as np
import pytest
import torch
from conftest import Toy
from torch import nn

from refiner import BudgetError, HoleBoxes, ModelError, ModelSpec, Plan, Settings, load_model, make_plan, refine
from refiner.byte_sizes import format_bytes, parse_bytes
from refiner.engine import plan as planning
from refiner.engine.precision import conv_dtype, uses_tf32
from refiner.engine.windows import scale_windows
from refiner.frozen import current_strip_height


@pytest.mark.parametrize(
    ("text", "expected"),
    [("6GB", 6e9), ("500 MB", 5e8), ("1.5gib", 1.5 * 2**30), ("123456", 123456), ("8 kB", 8000)],
)
def test_sizes(text, expected) -> None:
    assert parse_bytes(text) == expected


@pytest.mark.parametrize("text", ["", "6TB", "GB", "-1GB", "0", "1,5GB"])
def test_what_is_no_size(text) -> None:
    with pytest.raises(ValueError, match="expected a size such as 6GB"):
        parse_bytes(text)


def test_gigabytes() -> None:
    assert format_bytes(1_260_000_000) == "1.3 GB"
    assert format_bytes(42_955_140) == "43 MB"


@pytest.fixture(scope="module")
def small():
    return load_model("lama-small")


@pytest.fixture(scope="module")
def scene():
    image, mask = torch.rand(1, 3, 640, 960), torch.zeros(1, 1, 640, 960)
    mask[..., 250:330, 400:500] = 1
    return image, mask


def planned(model, scene, **settings) -> Plan:
    """The plan for a picture of three scales, without carrying it out."""
    hole = HoleBoxes.of((scene[1] > 0)[0, 0].numpy())
    given = {"detail": "features", "precision": "float32", "min_side": min(hole.size) // 4, "max_scales": 3, **settings}
    return make_plan(hole, model, Settings(**given))


def test_plans_shrink_with_the_budget(small, scene) -> None:
    roomy = planned(small, scene, windows="off")
    assert roomy.strip_height == 256, "a CPU's memory is spared where that costs little time"
    assert roomy.windows[0].size == (640, 960)
    needs = [roomy.bytes]
    tight = planned(small, scene, windows="off", memory=str(roomy.bytes - 1))
    assert tight.strip_height == 128
    assert tight.bytes < roomy.bytes
    needs.append(tight.bytes)
    assert needs == sorted(needs, reverse=True)
    windowed = planned(small, scene)
    assert windowed.bytes < min(needs)
    small_window = planned(small, scene, memory=str(windowed.bytes - 1))
    assert small_window.bytes < windowed.bytes


def test_a_gpu_computes_whole_windows_where_they_fit() -> None:
    heights = [*planning._strip_heights(640, torch.device("cuda"))]
    assert heights == [None, 512, 256, 128]
    assert planning._strip_heights(640, torch.device("cpu")) == [256, 128]
    assert planning._strip_heights(200, torch.device("cpu")) == [None, 128], "not taller than a strip"


def test_windows_that_grow_together_at_a_smaller_scale_are_planned_for(small) -> None:
    image, mask = torch.rand(1, 3, 1200, 1600), torch.zeros(1, 1, 1200, 1600)
    mask[..., 100:1100:200, 100:1500:200] = 1  # single pixels, apart at full size and one window at half
    apart = planned(small, (image, mask))
    assert len(apart.windows) > 1
    (joined,) = scale_windows(HoleBoxes.of((mask > 0)[0, 0].numpy()).halved(), small.spec)
    assert joined.area > 4 * max(window.area for window in apart.windows)
    alone = planned(small, (image[..., :300, :300], mask[..., :300, :300]))
    assert apart.bytes > 4 * (alone.bytes - 80 * 300 * 300)


def test_the_memory_of_several_devices_is_that_of_the_fullest_on_each(monkeypatch) -> None:
    """Most of the work may lie on any one of them."""
    free = {"cuda:0": 10_000, "cuda:1": 4_000}
    monkeypatch.setattr(planning, "free_bytes", lambda device: free[str(device)])
    devices = [torch.device(name) for name in free]
    assert planning.memory_for(devices) == 3_200
    assert planning.memory_for(devices[:1]) == 8_000
    assert planning.memory_for(devices, share=0.5) == 1_600


def test_nothing_fits(small, scene) -> None:
    image, mask = scene
    with pytest.raises(BudgetError, match=r"the least that would is about \d+ MB. Give more") as caught:
        refine(small, image, mask, Settings(detail="features", memory="1MB"))
    assert "\n" not in str(caught.value)


def test_the_plan_is_told_and_reported(small, scene) -> None:
    image, mask = (part[..., :320, :480].contiguous() for part in (scene[0], scene[1].roll((-150, -200), (2, 3))))
    told = []
    result = refine(
        small, image, mask, Settings(detail="features", steps=1, min_side=160, precision="float32"), on_plan=told.append
    )
    assert told == [result.plan]
    assert str(result.plan).startswith("one window of 232x216; about ")
    assert current_strip_height() is None


def test_strips_change_nothing_but_memory(small, scene) -> None:
    image, mask = (part[..., 200:392, 352:544].contiguous() for part in scene)
    settings = Settings(detail="features", steps=3, min_side=96, windows="off", precision="float32")
    expected = refine(small, image, mask, settings)
    hole = HoleBoxes.of((mask > 0)[0, 0].numpy())
    budgets = (replace(settings, memory=str(memory)) for memory in range(expected.plan.bytes, 1_000_000, -50_000))
    tight = next(each for each in budgets if make_plan(hole, small, each).strip_height is not None)
    stripped = refine(small, image, mask, tight)
    assert stripped.plan.strip_height == 128
    torch.testing.assert_close(stripped.image, expected.image, rtol=0, atol=1e-3)


def test_running_out_of_memory_falls_back_to_the_next_plan(small, scene, monkeypatch) -> None:
    image, mask = (part[..., 200:392, 352:544].contiguous() for part in scene)
    told = []
    front = type(small.fused).front

    def scarce(self, x):
        if current_strip_height() is None and x.device.type != "meta":
            raise torch.OutOfMemoryError("CUDA out of memory")
        return front(self, x)

    monkeypatch.setattr(type(small.fused), "front", scarce)
    result = refine(small, image, mask, Settings(detail="features", steps=2, min_side=96), on_plan=told.append)
    assert [plan.strip_height for plan in told] == [None, 128]
    assert result.plan == told[-1]
    assert result.image.shape == image.shape


def test_other_failures_are_not_taken_for_a_lack_of_memory(toy, scene, monkeypatch) -> None:
    monkeypatch.setattr(toy, "rear", lambda _: torch.zeros(1) @ torch.zeros(2))
    with pytest.raises(ModelError, match="inconsistent tensor size"):
        refine(toy, *scene)


def test_a_network_that_cannot_be_rehearsed_is_refined_all_the_same(toy, scene) -> None:
    image, mask = (part[..., 200:392, 352:544].contiguous() for part in scene)

    class Stubborn(nn.Module):
        spec = ModelSpec(multiple=4)

        def front(self, image, mask):
            assert float(image.sum()) >= 0  # needs data
            return toy.front(image, mask)

        def rear(self, features):
            return toy.rear(features)

    plan = refine(Stubborn(), image, mask, Settings(detail="features", steps=1, memory="1MB")).plan
    assert plan.bytes is None
    assert str(plan).endswith("memory need unknown")

    class Locked(Stubborn):
        def __init__(self) -> None:
            super().__init__()
            self.lock = threading.Lock()  # cannot be copied

    assert refine(Locked(), image, mask, Settings(detail="features", steps=1)).plan.bytes is None

    class Plain:
        spec, front, rear = ModelSpec(multiple=4), staticmethod(toy.front), staticmethod(toy.rear)

    assert refine(Plain(), image, mask, Settings(detail="features", steps=1)).plan.bytes is None


def test_precision_follows_the_hardware(monkeypatch) -> None:
    cpu = torch.device("cpu")
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: False, raising=False)
    for there in (True, False):
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda there=there: there, raising=False)
        assert conv_dtype("auto", cpu, torch.float32) == (torch.bfloat16 if there else None)
        assert conv_dtype("auto", cpu, torch.float64) is None
        assert conv_dtype("float32", cpu, torch.float32) is None
        assert conv_dtype("bfloat16", cpu, torch.float32) == torch.bfloat16
    assert conv_dtype("auto", torch.device("mps"), torch.float32) is None
    for capability, expected in (((9, 0), True), ((7, 5), False)):
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda _, c=capability: c)
        assert conv_dtype("auto", torch.device("cuda"), torch.float32) is None
        assert uses_tf32("auto", torch.device("cuda")) == expected
        assert not uses_tf32("float32", torch.device("cuda"))


def boxes(height: int, width: int, *rectangles: tuple[int, int, int, int]) -> HoleBoxes:
    hole = np.zeros((height, width), bool)
    for top, left, bottom, right in rectangles:
        hole[top:bottom, left:right] = True
    return HoleBoxes.of(hole)


def test_a_plan_is_made_within_a_blink_and_is_that_of_the_work(small, scene) -> None:
    image, mask = (part[..., :320, :480].contiguous() for part in (scene[0], scene[1].roll((-150, -200), (2, 3))))
    settings = Settings(detail="features", steps=1, min_side=160, precision="float32", memory="2GB")
    plan = make_plan(HoleBoxes.of((mask > 0)[0, 0].numpy()), small, settings)
    assert refine(small, image, mask, settings).plan == plan
    large = boxes(6000, 8000, (1000, 1000, 2000, 2500), (4000, 6000, 4400, 7000))
    for detail in ("features", "exemplar", "both"):
        make_plan(large, small, Settings(detail=detail, memory="60GB"))  # a model is learned once
        started = time.perf_counter()
        plan = make_plan(large, small, Settings(detail=detail, memory="60GB"))
        assert time.perf_counter() - started < 0.05
        assert plan.image_size == (6000, 8000)


def test_scales_below_those_that_copies_are_chosen_at_are_for_networks(small) -> None:
    hole = boxes(1600, 2400, (800, 1000, 900, 1100))
    copies = make_plan(hole, small, Settings(start="exemplar", detail="exemplar"))
    assert (copies.sizes[0], copies.levels) == ((400, 600), 3)
    network = make_plan(hole, small, Settings(start="model", detail="features"))
    assert network.sizes[0] == (200, 300)
    both = make_plan(hole, small, Settings(start="model", detail="both"))
    assert (both.sizes, both.levels) == (network.sizes, 4)


def test_copies_keep_to_the_budget_and_are_cut_before_giving_up(scene) -> None:
    image, mask = scene
    far = torch.zeros_like(mask)
    far[..., 40:60, 60:90] = far[..., 560:590, 880:900] = 1
    roomy = refine(Toy(), image, far, Settings(detail="exemplar"))
    assert str(roomy.plan).startswith("copies within the photo, 960x640, without a network; about ")
    tight = Settings(detail="exemplar", memory=str(roomy.plan.bytes - 1))
    plans = []
    cut = refine(Toy(), image, far, tight, on_plan=plans.append)
    assert plans == [cut.plan]
    assert len(cut.plan.copy_windows) == 2
    assert cut.plan.bytes < roomy.plan.bytes
    assert "2 windows, the largest" in str(cut.plan)
    known = (far == 0).expand_as(image)
    assert torch.equal(cut.image[known], image[known])
    inside = far.expand_as(image) > 0
    assert cut.image[inside].std() > 0.1
    with pytest.raises(BudgetError, match=r"does not suffice; the least that would is about \d+ MB"):
        refine(Toy(), image, far, Settings(detail="exemplar", memory="1MB"))


def test_what_is_copied_within_a_window_is_what_a_photo_of_that_size_would_get() -> None:
    tile = torch.rand(1, 3, 24, 24, generator=torch.Generator().manual_seed(0))
    image, mask = tile.repeat(1, 1, 40, 40), torch.zeros(1, 1, 960, 960)
    mask[..., 500:540, 500:560] = 1
    small = Settings(detail="exemplar", memory="100MB")
    result = refine(Toy(), torch.where(mask > 0, 0.5, image), mask, small)
    assert result.plan.copy_windows[0].area < 0.5 * 960 * 960
    assert (result.image - image).abs().max() < 1e-3


def test_a_hole_that_leaves_next_to_nothing_to_copy_is_the_networks(small) -> None:
    """Unless copies were asked for in so many words."""
    nearly, most = boxes(540, 960, (0, 0, 540, 890)), boxes(540, 960, (0, 0, 540, 800))
    plan = make_plan(nearly, small, Settings(memory="4GB"))
    assert (plan.start, plan.detail) == ("model", "features")
    assert "by the network: the hole is too large to copy into" in str(plan)
    for hole, settings in ((most, Settings(memory="4GB")), (nearly, Settings(detail="exemplar", memory="4GB"))):
        plan = make_plan(hole, small, settings)
        assert (plan.start, plan.detail) == ("exemplar", "exemplar")
        assert "too large" not in str(plan)


def test_features_and_copies_of_one_photo_are_planned_together(small) -> None:
    hole = boxes(1200, 1600, (400, 500, 700, 900))
    plan = make_plan(hole, small, Settings(detail="both", start="model", memory="4GB"))
    assert plan.network
    assert plan.copy_windows
    alone = [make_plan(hole, small, Settings(detail=detail, memory="4GB")).bytes for detail in ("features", "exemplar")]
    assert plan.bytes >= alone[1]


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for the peak")
@pytest.mark.parametrize("detail", ["exemplar", "features"])
def test_long_pictures_are_predicted_too(detail) -> None:
    """Held against what the work takes, in a process of its own; a square of as many pixels beside them."""
    sizes = [[300, 3000], [3000, 300], [1000, 900]]
    done = subprocess.run(
        [sys.executable, "-c", LONG, json.dumps(sizes), detail], check=True, capture_output=True, text=True
    )
    *long, (_, _, square_seconds) = map(json.loads, done.stdout.splitlines())
    assert len(long) == 2
    for predicted, took, seconds in long:
        assert took < 1.25 * predicted
        assert seconds < 12 * square_seconds, "4.5 where nothing else runs"


LONG = """
import json, re, sys, time
from pathlib import Path
import torch
from refiner import Settings, load_model, refine
from refiner.memory import give_back_freed_memory, manage_allocator

def highest():
    return 1024 * int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

manage_allocator()
give_back_freed_memory()
model = load_model("lama-small")
sizes, detail = json.loads(sys.argv[1]), sys.argv[2]
for height, width in [(200, 300), *sizes]:
    image, mask = torch.rand(1, 3, height // 4, width // 4), torch.zeros(1, 1, height, width)
    image = torch.nn.functional.interpolate(image, size=(height, width), mode="bilinear")
    mask[..., height // 3 : height // 2, width // 3 : width // 3 + 150] = 1
    Path("/proc/self/clear_refs").write_text("5")  # the highest so far is forgotten
    before, started = highest(), time.perf_counter()
    plan = refine(model, image, mask, Settings(detail=detail, steps=2)).plan
    if (height, width) != (200, 300):
        print(json.dumps([plan.bytes, highest() - before, time.perf_counter() - started]), flush=True)
"""
