from __future__ import annotations

import importlib.machinery
import json
import re
import sys
import types
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from PIL import Image
from scipy import linalg

from benchmarks.quality import table
from benchmarks.quality.__main__ import main
from benchmarks.quality.cases import find_cases
from benchmarks.quality.fills import PatchMatch, Photo, Telea
from benchmarks.quality.methods import Method
from benchmarks.quality.run import Bench, measure_all
from benchmarks.quality.scores import Perceptual, frechet_distance, kernel_distance, score
from benchmarks.quality.statistics import difference_of, mean_of
from benchmarks.quality.table import as_markdown, compare, summarize
from refiner import Settings
from refiner.errors import InputError
from refiner.evaluation.evaluation_set import draw_set
from refiner.images.reading import read_picture

GOLDEN = str(Path(__file__).parents[1] / "golden" / "lama-tiny")
RNG = np.random.default_rng(0)


def test_frechet_distance_is_scipys() -> None:
    fake, real = RNG.normal(0.3, 1.2, (60, 8)) @ RNG.normal(size=(8, 8)), RNG.normal(size=(50, 8))
    c1, c2 = np.cov(fake, rowvar=False), np.cov(real, rowvar=False)
    expected = ((fake.mean(0) - real.mean(0)) ** 2).sum() + np.trace(c1 + c2 - 2 * linalg.sqrtm(c1 @ c2).real)
    assert frechet_distance(fake, real) == pytest.approx(expected, rel=1e-6)


def test_frechet_distance_of_a_shift_is_its_squared_norm() -> None:
    real, shift = RNG.normal(size=(40, 5)), np.array([1.0, 0, -2, 0, 0.5])
    assert frechet_distance(real + shift, real) == pytest.approx(5.25, abs=1e-6)
    assert frechet_distance(real, real) == pytest.approx(0, abs=1e-6)


def test_kernel_distance_is_the_cubic_kernels() -> None:
    fake, real = RNG.normal(0.5, 1, (30, 4)), RNG.normal(size=(30, 4))

    def kernel(a, b):
        return (a @ b.T / 4 + 1) ** 3

    n = 30  # all pictures are in each subset, so the subsets are the whole, in another order
    off = ~np.eye(n, dtype=bool)
    expected = kernel(fake, fake)[off].mean() + kernel(real, real)[off].mean() - 2 * kernel(fake, real).mean()
    assert kernel_distance(fake, real) == pytest.approx(expected, rel=1e-5)
    assert kernel_distance(fake + 1, real) > kernel_distance(fake, real)


def test_scores_are_best_for_equal_pictures_and_fall_with_noise() -> None:
    random = torch.Generator().manual_seed(0)
    target, noise = torch.rand(1, 3, 64, 64, generator=random), torch.randn(1, 3, 64, 64, generator=random)
    hole = torch.zeros(1, 1, 64, 64, dtype=torch.bool)
    hole[..., 16:48, 20:50] = True
    same, near, far = (score((target + strength * noise).clamp(0, 1), target, hole) for strength in (0, 0.05, 0.3))
    assert same["l1"] == same["texture 0"] == same["texture 2"] == 0
    assert same["psnr"] == np.inf
    assert same["ssim"] == pytest.approx(1, abs=1e-6)
    of_known = {"grid", "rim", "sharpness", "unlikeness"}  # these compare with what is known, not with the target
    for name in same.keys() - of_known:
        sign = -1 if name in ("psnr", "ssim") else 1
        assert sign * same[name] < sign * near[name] < sign * far[name], name


def test_lpips_is_torchmetrics_where_it_can_be_had() -> None:
    pytest.importorskip("torchvision")
    from torchmetrics.functional.image import learned_perceptual_image_patch_similarity as reference

    a, b = torch.rand(1, 3, 64, 64), torch.rand(1, 3, 64, 64)
    try:
        metric = Perceptual("alex", torch.device("cpu"))
    except InputError:
        pytest.skip("its weights cannot be downloaded here")
    assert metric(a, b) == pytest.approx(reference(a, b, net_type="alex", normalize=True).item(), rel=1e-4)
    assert metric(a, a) == pytest.approx(0, abs=1e-6)


def test_bootstrap_draws_photos_not_pictures() -> None:
    # Ten pictures of each of two photos: the mean moves between the photos' values.
    groups = [name for name in "abcdef" for _ in range(10)]
    estimate = mean_of([float(name in "ace") for name in groups], groups)
    assert estimate.value == 0.5
    single = mean_of([0.0, 1.0] * 30, [str(i) for i in range(60)])
    assert 0.3 < single.low < 0.5 < single.high < 0.7
    assert estimate.high - estimate.low > 2 * (single.high - single.low)


@pytest.mark.parametrize("photos", [5, 12, 40])
def test_interval_covers_as_often_as_it_says(photos) -> None:
    groups = [str(i // 2) for i in range(2 * photos)]  # two crops of each photo, which are alike
    covered = 0
    for seed in range(400):
        rng = np.random.default_rng(seed)
        values = np.repeat(rng.normal(size=photos), 2) + rng.normal(0, 0.1, 2 * photos)
        estimate = mean_of(values, groups)
        covered += estimate.low <= 0 <= estimate.high
    assert 366 <= covered <= 394  # 95 % of 400 is 380; three standard deviations


def test_few_photos_have_no_interval() -> None:
    for photos in (1, 4):
        estimate = mean_of([0.1, 0.2, 0.3, 0.4], [str(i % photos) for i in range(4)])
        assert estimate.value == pytest.approx(0.25)
        assert np.isnan([estimate.low, estimate.high]).all()
        assert not estimate.excludes_zero


def test_infinite_values_have_no_interval() -> None:
    groups = list("abcdef")
    estimate = mean_of([np.inf, 20, 21, 22, 23, 24], groups)
    assert estimate.value == np.inf
    assert np.isnan(estimate.low)
    assert difference_of([np.inf, 20, 21, 22, 23, 24], [np.inf, 20, 21, 22, 23, 24], groups).value == 0


def test_paired_differences_see_what_means_do_not() -> None:
    base = RNG.normal(0, 10, 30)
    groups = [str(i) for i in range(30)]
    difference = difference_of(base - 0.5 + RNG.normal(0, 0.1, 30), base, groups)
    assert difference.excludes_zero
    assert difference.value == pytest.approx(-0.5, abs=0.1)
    assert not mean_of(base, groups).excludes_zero


def record(name, method, l1, photo="p"):
    return {"kind": "thick", "name": name, "photo": photo, "method": method, "scores": {"l1": l1, "psnr": 20.0}}


def test_tables() -> None:
    records = [record(f"n{i}", m, v + i / 100, str(i)) for i in range(5) for m, v in (("plain", 0.3), ("refined", 0.2))]
    text = as_markdown(summarize(records), compare(records, "refined"), ["LPIPS: no weights."])
    assert "| thick | plain | 5 | 0.3200 (" in text
    assert "| thick | plain | **-0.1000 (-0.1000 to -0.1000)** | +0.00 (+0.00 to +0.00) |" in text
    assert "Not measured: LPIPS: no weights." in text


@pytest.fixture
def pairs(tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(2):
        values = np.random.default_rng(number).integers(0, 256, (8, 10, 3), dtype=np.uint8)
        Image.fromarray(values).resize((120, 96), Image.Resampling.BICUBIC).save(photos / f"{number}.png")
    for kind in ("thin", "thick"):
        draw_set(photos, tmp_path / "pairs" / kind, kind=kind, size=96)
    return tmp_path / "pairs"


PRESET = "min_side: 32\nsteps: 3\n"


def quality(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_command_writes_a_report_that_stands_alone(pairs, tmp_path) -> None:
    preset = tmp_path / "quick.yaml"
    preset.write_text(PRESET)
    model = GOLDEN
    out = tmp_path / "out"
    common = [pairs, "--out", out, "--model", model, "--preset", preset, "--device", "cpu"]
    result = quality(*common)
    assert result.exit_code == 0, result.output
    text, page = (out / "report.md").read_text(), (out / "report.html").read_text()
    for method in ("plain", "upsampled", "refined"):
        assert re.search(rf"\| thin \| {method} \| 2 \|", text)
    assert "| thick | upsampled |" in text.split("Differences")[1]
    assert page.count("data:image/jpeg") == 2 * 3 * 4 * 2  # kinds, picks, pictures, overview and crop
    assert page.count("data:image/png") == 4  # plots
    assert not re.search(r'(src|href)="(?!data:)', page)
    records = json.loads((out / "records.json").read_text())["records"]
    assert len(records) == 12
    assert len(records[2]["losses"]) == 3
    assert str(tmp_path) not in json.dumps(records)
    # Run again, nothing is computed anew.
    made = {path: path.stat().st_mtime_ns for path in (out / "cache").rglob("*.png")}
    assert len(made) == 12
    assert quality(*common).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in (out / "cache").rglob("*.png")} == made
    preset.write_text(PRESET.replace("steps: 3", "steps: 2"))  # other settings are measured anew, for refinement alone
    assert quality(*common).exit_code == 0
    assert len(list((out / "cache").rglob("*.png"))) == 16
    # Elsewhere, nothing is computed anew either.
    moved = tmp_path / "moved"
    out.rename(moved)
    common[2] = moved
    made = {path: path.stat().st_mtime_ns for path in (moved / "cache").rglob("*.png")}
    assert quality(*common).exit_code == 0
    assert {path: path.stat().st_mtime_ns for path in (moved / "cache").rglob("*.png")} == made


def test_settings_are_compared_side_by_side(pairs, tmp_path) -> None:
    out = tmp_path / "out"
    presets = [tmp_path / "one.yaml", tmp_path / "other.yaml"]
    presets[0].write_text(PRESET)
    presets[1].write_text(PRESET + "blend_rim: false\nmatch_color: on\n")
    methods = [f"{way}@{preset}" for way in ("refined", "plain") for preset in presets]
    common = [pairs, "--out", out, "--model", GOLDEN, "--device", "cpu", "--methods", ",".join(methods)]
    assert quality(*common, "--steps", "1,2").exit_code == 0
    told = json.loads((out / "records.json").read_text())
    assert [told["methods"][name]["settings"].get("blend_rim") for name in methods] == [True, False, None, None]
    assert [told["methods"][name]["settings"]["match_color"] for name in methods] == [True, True, False, True]
    assert told["methods"][methods[0]]["settings"]["lr"] == 0.002  # the model's own
    assert {len(record["losses"]) for record in told["records"][:2]} == {2}  # --steps goes over each preset's
    scores = {(r["name"], r["method"]): r["scores"]["l1"] for r in told["records"] if r["kind"] == "thick"}
    for name in {name for name, _ in scores}:
        assert len({scores[name, method] for method in methods}) == 4
    text = (out / "report.md").read_text()
    assert f"| thick | {methods[1]} | " in text.split("Differences")[1]
    assert "No intervals: they need 5 photos" in text


def test_equal_settings_by_two_names_are_filled_once_and_told_apart(pairs, tmp_path) -> None:
    preset = tmp_path / ("x" * 150) / ("y" * 120 + ".yaml")  # too long for a part of a file's name
    preset.parent.mkdir()
    preset.write_text(PRESET)
    methods = f"refined,refined@{preset}"
    common = [pairs, "--out", tmp_path / "out", "--model", GOLDEN, "--device", "cpu", "--preset", preset]
    assert quality(*common, "--methods", methods).exit_code == 0
    assert len(list((tmp_path / "out" / "cache").rglob("*.png"))) == 4
    records = json.loads((tmp_path / "out" / "records.json").read_text())["records"]
    assert {record["method"] for record in records} == set(methods.split(","))


def test_what_is_left_out_is_told(pairs, tmp_path) -> None:
    thin = pairs / "thin"
    for mask in thin.glob("*_mask*"):
        mask.rename(mask.with_name(mask.name.replace("_mask", "-hole")))
    (pairs / "thick" / "alone.png").write_bytes(next((pairs / "thick").glob("0_crop000.png")).read_bytes())
    preset = tmp_path / "large.yaml"
    preset.write_text("min_side: 512\n")
    common = ["--out", tmp_path / "out", "--model", GOLDEN, "--preset", preset, "--device", "cpu"]
    result = quality(pairs, *common)
    assert result.exit_code == 0
    assert f"left out: {thin}: nothing to do" in result.output
    assert "alone.png: has no mask" in result.output
    assert "Nothing was refined in 2 pictures" in (tmp_path / "out" / "report.md").read_text()


def test_photos_with_crop_in_their_names_are_photos_of_their_own(tmp_path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    for number in range(3):
        Image.new("RGB", (64, 64), (number, 0, 0)).save(photos / f"x_cropped_{number}.png")
    draw_set(photos, tmp_path / "pairs", kind="thick", size=64, crops=2)
    assert {case.photo for case in find_cases(tmp_path / "pairs")} == {f"x_cropped_{number}" for number in range(3)}


def test_results_change_nothing_but_the_hole(pairs) -> None:
    case = find_cases(pairs)[0]
    assert (case.kind, case.photo) == ("thick", "0")
    image = read_picture(case.pair.image).rgb()
    hole = torch.from_numpy(np.asarray(read_picture(case.pair.mask)) > 0)[None, None]
    models = {}
    settings = Settings(detail="features", min_side=32, steps=2, precision="float32")
    results = {}
    for way in ("plain", "upsampled", "refined"):
        method = Method(f"{GOLDEN}/{way}", "none", settings, torch.device("cpu"), models)
        results[way] = method(image, hole, case).image
        known = (~hole).expand_as(image)
        assert torch.equal(results[way][known], image[known])
    assert not torch.equal(results["plain"], results["upsampled"])
    assert not torch.equal(results["plain"], results["refined"])
    assert len(models) == 1


def test_fills_of_another_tool_are_scored_as_ours_are(pairs, tmp_path) -> None:
    common = ["--out", tmp_path / "out", "--model", GOLDEN, "--device", "cpu", "--methods"]
    assert quality(pairs, *common, "plain").exit_code == 0
    theirs = tmp_path / "theirs"
    for case in find_cases(pairs):
        made = next((tmp_path / "out" / "cache" / case.kind).glob(f"{case.pair.output}-plain-*.png"))
        (theirs / case.kind).mkdir(parents=True, exist_ok=True)
        (theirs / case.kind / f"{case.pair.output}.png").write_bytes(made.read_bytes())
    result = quality(pairs, *common, f"photo,plain,theirs={theirs}", "--against", "theirs")
    assert result.exit_code == 0, result.output
    assert "`theirs` less the other" in result.output
    records = json.loads((tmp_path / "out" / "records.json").read_text())["records"]
    scores = {name: [r["scores"] for r in records if r["method"] == name] for name in ("photo", "plain", "theirs")}
    assert scores["plain"] == scores["theirs"]
    assert all(each["l1"] == 0 and each["texture 0"] == 0 for each in scores["photo"])
    victim = next((theirs / "thick").iterdir())
    content = victim.read_bytes()
    Image.new("RGB", (20, 30)).save(victim)
    assert "expected 96x96 pixels" in quality(pairs, *common, f"theirs={theirs}").output
    victim.unlink()
    failed = quality(pairs, *common, f"theirs={theirs}")
    assert failed.exit_code == 2
    assert f"has no thick/{victim.name}" in failed.output
    (theirs / victim.name).write_bytes(content)  # no folder for its kind: found beside
    assert quality(pairs, *common, f"theirs={theirs}").exit_code == 0


def test_telea_is_opencvs(pairs) -> None:
    cv2 = pytest.importorskip("cv2")
    case = find_cases(pairs)[0]
    image = read_picture(case.pair.image).rgb()
    hole = torch.from_numpy(np.asarray(read_picture(case.pair.mask)) > 0)[None, None]
    pixels = np.asarray(Image.open(case.pair.image))[..., ::-1].copy()
    expected = cv2.inpaint(pixels, hole[0, 0].byte().numpy(), 3, cv2.INPAINT_TELEA)[..., ::-1]
    filled = Telea()(image, hole, case).image
    assert np.array_equal((filled[0].permute(1, 2, 0) * 255).round().byte().numpy(), expected)
    assert Telea().identity(case) != Photo().identity(case)


def test_patchmatch_fills_what_is_larger_at_its_own_size(monkeypatch) -> None:
    """The package itself is in no extra: here is one of its name, which paints holes gray."""
    given = []

    def inpaint(pixels, marks, patch_size):
        given.append((pixels.shape, marks.shape, patch_size))
        return np.where(marks > 0, np.uint8(51), pixels)

    module = types.ModuleType("patchmatch")
    module.__spec__ = importlib.machinery.ModuleSpec("patchmatch", None)
    module.patch_match = types.SimpleNamespace(inpaint=inpaint)
    monkeypatch.setitem(sys.modules, "patchmatch", module)
    image = torch.rand(1, 3, 600, 2048, generator=torch.Generator().manual_seed(0))
    hole = torch.zeros(1, 1, 600, 2048, dtype=torch.bool)
    hole[..., 100:300, 200:500] = True
    filled = PatchMatch()(image, hole, None).image
    assert given == [((300, 1024, 3), (300, 1024, 1), 7)]
    assert torch.equal(filled[~hole.expand_as(filled)], image[~hole.expand_as(image)])
    assert torch.allclose(filled[..., 120:280, 220:480], torch.tensor(0.2), atol=1e-3)


def test_features_of_a_photo_are_computed_once(pairs, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(table, "MIN_PICTURES", 2)
    seen = []

    class Features:
        name = "mean"

        def __call__(self, image):
            seen.append(image)
            return image.mean(dim=(0, 2, 3)).numpy()

    settings = Settings(detail="features", min_side=32, steps=2, precision="float32")
    models = {}
    methods = [Method(f"{GOLDEN}/{way}", "none", settings, torch.device("cpu"), models) for way in ("plain", "refined")]
    cases = [case for case in find_cases(pairs) if case.kind == "thick"]
    for _ in range(2):  # the second time, all are there
        records = measure_all(Bench(tmp_path / "out", None, Features()), cases, methods, lambda _record: None)
        assert len(seen) == len(cases) * (len(methods) + 1)
    row = next(row for row in summarize(records) if row.method.endswith("plain"))
    photos = np.stack([read_picture(case.pair.image).rgb().mean(dim=(0, 2, 3)).numpy() for case in cases])
    fills = np.stack([read_picture(r["picture"]).rgb().mean(dim=(0, 2, 3)).numpy() for r in records[::2]])
    assert row.values["fid"].value == pytest.approx(frechet_distance(fills, photos))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--methods", "magic"], "magic"),
        (["--methods", "mine=nowhere"], "mine=nowhere: expected a folder"),
        (["--against", "magic"], "--against magic: expected one of the methods: plain"),
        (["--methods", "plain,plain"], "names one twice"),
        (["--methods", "refined@nowhere"], "nowhere"),
        (["--model", "nonsense"], "nonsense"),
        (["--preset", "nonsense"], "nonsense"),
    ],
)
def test_bad_input_is_one_line(pairs, tmp_path, arguments, words) -> None:
    result = quality(pairs, "--out", tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert words in result.output
    assert len(result.output.splitlines()) == 1


def test_bad_files_are_one_line(pairs, tmp_path) -> None:
    file, taken, preset = tmp_path / "file", tmp_path / "taken", tmp_path / "small.yaml"
    file.write_text("x")
    (taken / "report.html").mkdir(parents=True)
    preset.write_text(PRESET + "pixel_budget: 4096\n")
    empty = tmp_path / "black" / "a_mask.png"
    empty.parent.mkdir()
    Image.new("RGB", (64, 64)).save(empty.with_name("a.png"))
    Image.new("L", (64, 64)).save(empty)
    model = ["--model", GOLDEN, "--device", "cpu"]
    out = ["--out", tmp_path / "out"]
    for arguments, words in (
        ([tmp_path / "nowhere", *out], "nowhere: expected a folder"),
        ([pairs, "--out", file], "file: the folder cannot be made"),
        ([pairs, "--out", taken], "report.html: is a folder"),
        ([pairs, *out, *model, "--preset", preset], "pixel_budget of 4096"),
        ([pairs, *out, *model, "--inception", tmp_path / "no.pth"], "no.pth is not a file"),
        ([empty.parent, *out, *model], f"{empty}: the mask is black all over"),
    ):
        result = quality(*arguments)
        assert (result.exit_code, len(result.output.splitlines())) == (2, 1), result.output
        assert words in result.output
