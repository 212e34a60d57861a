"""The command line as a user meets it."""

from __future__ import annotations

import io
import json
import os
import signal
import subprocess
import sys
import warnings
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import GOLDEN
from PIL import Image, ImageSequence
from scipy import ndimage

from lama.weights import NamedWeights
from refiner import cli
from refiner import photo as photo_module
from refiner.errors import RefinerWarning
from refiner.models.download import downloaded

QUICK = ["--model", str(GOLDEN), "--detail", "features", "--min-side", "32", "--steps", "3", "--device", "cpu"]


def pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


@pytest.fixture
def run(monkeypatch, capsys):
    """Run the command line in this process; gives exit code, stdout, stderr."""

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["refiner", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        out, err = capsys.readouterr()
        return int(ended.value.code or 0), out, err

    return call


def test_the_main_job(run, photo_files, tmp_path) -> None:
    photo, mask = photo_files
    code, out, err = run("inpaint", photo, mask, *QUICK)
    output = tmp_path / "photo_refined.png"
    assert (code, out) == (0, f"{output}\n")
    plan, *scales, closing = err.splitlines()
    assert plan.startswith("Plan: the whole picture, 150x110, at once")
    assert [line.partition(" in ")[0] for line in scales] == ["37x27 filled", "75x55 refined", "150x110 refined"]
    assert [line.endswith(" s, 3 predictions.") for line in scales] == [False, True, True]
    assert closing.startswith("Refined 2 of 3 scales")
    assert "75x55 loss" in closing
    hole = pixels(mask) > 0
    original, result = pixels(photo), pixels(output)
    assert np.array_equal(result[~hole], original[~hole])
    assert not np.array_equal(result, original)


def test_progress_in_lines_for_programs(run, photo_files) -> None:
    _, _, err = run("inpaint", *photo_files, *QUICK, "--progress", "lines")
    lines = [line for line in err.splitlines() if line.startswith("Progress: ")]
    assert lines[0] == "Progress: 10.0 %, scale 1/3, step 1/1"
    assert lines[1] == "Progress: 16.0 %, scale 2/3, step 1/3"  # a third of a fifth of what is left
    assert lines[-1] == "Progress: 100.0 %, scale 3/3, step 3/3"
    assert len(lines) == 7
    _, _, err = run("inpaint", *photo_files, *QUICK, "--progress", "lines", "--quiet", "--overwrite")
    assert not err


def test_predictions_by_scale_are_corrected(run, photo_files, tmp_path) -> None:
    report = tmp_path / "report.json"
    arguments = [*QUICK[:-3], "3,1", *QUICK[-2:], "--report", report]
    code, _, err = run("inpaint", *photo_files, *arguments)
    assert code == 0
    told = json.loads(report.read_text())
    assert told["settings"]["steps"] == [3, 1]
    assert [scale["predictions"] for scale in told["scales"]] == [0, 3, 1]
    assert "75x55 refined" in err
    assert " s, 3 predictions." in err
    assert " s, 1 prediction." in err
    last = told["scales"][2]
    assert last["loss_after"] == last["windows"][0]["corrected"] < last["loss_before"]
    assert f"150x110 loss {last['loss_before']:.4f} to {last['loss_after']:.4f}" in err


@pytest.mark.parametrize("steps", ["0", "12,", "12,x", "-3", "1e1", "8,0", "", "\N{SUPERSCRIPT TWO}"])
def test_steps_that_are_none(run, photo_files, steps) -> None:
    code, _, err = run("inpaint", *photo_files, "--steps", steps)
    assert code == 2
    (line,) = (line for line in err.splitlines() if "--steps" in line and "expected" in line)
    assert f"expected a whole number from 1, or several such as 12,8,4, got {steps!r}." in line


def test_all_that_can_be_written(run, photo_files, tmp_path) -> None:
    photo, mask = photo_files
    output, compare, report, scales = (tmp_path / n for n in ("out.png", "cmp.png", "report.json", "scales"))
    code, out, err = run(
        "inpaint", photo, mask, *QUICK, "-o", output, "--compare", compare, "--report", report,
        "--save-scales", scales, "--quiet",
    )  # fmt: skip
    assert (code, out, err) == (0, f"{output}\n", "")
    panels = pixels(compare)
    assert panels.shape == (110, 450, 3)
    assert np.array_equal(panels[:, 300:], pixels(output))
    hole = pixels(mask) > 0
    original = pixels(photo)
    for panel in (panels[:, :150], panels[:, 150:300]):
        assert np.array_equal(panel[~hole], original[~hole])
    assert sorted(p.name for p in scales.iterdir()) == [
        "scale1_37x27.png", "scale2_75x55.png", "scale3_150x110.png",
    ]  # fmt: skip
    assert np.array_equal(pixels(scales / "scale3_150x110.png"), pixels(output))
    told = json.loads(report.read_text())
    assert told["settings"]["steps"] == 3
    assert told["learning_rate"] == 0.002
    assert told["size"] == [150, 110]
    assert [scale["size"] for scale in told["scales"]] == [[37, 27], [75, 55], [150, 110]]
    assert [len(scale["losses"]) for scale in told["scales"]] == [0, 3, 3]
    assert [[window["size"] for window in scale["windows"]] for scale in told["scales"]] == [
        [],
        [[75, 55]],
        [[150, 110]],
    ]
    assert all(scale["seconds"] >= 0 for scale in told["scales"])


def test_no_refinement(run, photo_files, tmp_path) -> None:
    code, _, err = run("inpaint", *photo_files, "--model", GOLDEN, "--no-refine", "-o", tmp_path / "plain.png")
    assert code == 0
    assert err.splitlines()[-1].startswith("Not refined: the model's own result at 150x110")


def test_a_photo_too_small_for_two_scales_is_told_so(run, photo_files) -> None:
    code, _, err = run("inpaint", *photo_files, *QUICK, "--min-side", "100")
    assert code == 0
    assert "110 px is too small for more than one scale (about 142 px are needed)" in err


def test_the_reference_presets_shrinking_is_told(run, photo_files, tmp_path) -> None:
    preset = tmp_path / "small.yaml"
    preset.write_text("pixel_budget: 4000\nmin_side: 16\nsteps: 2\n")
    code, _, err = run("inpaint", *photo_files, "--model", GOLDEN, "--preset", preset, "-o", tmp_path / "o.png")
    assert code == 0
    assert f"shrunk from 150x110 to 73x54: preset {preset} has a pixel_budget of 4000" in err
    assert pixels(tmp_path / "o.png").shape == (54, 73, 3)


def test_an_empty_mask_copies_the_photo_through(run, photo_files, tmp_path) -> None:
    photo, mask = photo_files
    Image.new("L", (150, 110)).save(mask)
    code, out, err = run("inpaint", photo, mask, *QUICK, "-o", tmp_path / "same.png")
    assert (code, out) == (0, f"{tmp_path / 'same.png'}\n")
    assert err.splitlines()[-1].endswith(f"marks nothing to remove; {photo} was copied unchanged.")
    assert (tmp_path / "same.png").read_bytes() == photo.read_bytes()
    code, _, err = run("inpaint", photo, mask, *QUICK, "-o", tmp_path / "small.jpg", "--quality", "5")
    assert code == 0
    assert err.splitlines()[0].startswith("JPEG changes known pixels")
    assert err.splitlines()[-1].endswith("marks nothing to remove; no pixel was filled.")


def test_jpeg_output_says_what_it_costs(run, photo_files, tmp_path) -> None:
    code, _, err = run("inpaint", *photo_files, *QUICK, "-o", tmp_path / "out.jpg")
    assert code == 0
    assert "JPEG changes known pixels a little too; a .png keeps them exactly." in err
    assert (tmp_path / "out.jpg").read_bytes()[:2] == b"\xff\xd8"


def spoiled(name: str, tmp_path: Path, photo: Path, mask: Path) -> tuple[list[object], str]:
    """Arguments with one thing wrong, and what the error must name."""
    truncated = tmp_path / "cut.png"
    truncated.write_bytes(photo.read_bytes()[:2000])
    small, white, words = tmp_path / "small.png", tmp_path / "white.png", tmp_path / "words.pt"
    Image.new("L", (15, 11)).save(small)
    Image.new("L", (150, 110), 255).save(white)
    words.write_text("not weights")
    Image.new("F", (150, 110)).save(tmp_path / "float.tif")
    Image.new("RGBA", (150, 110)).save(tmp_path / "clear.png")
    wide, wide_mask = tmp_path / "wide.png", tmp_path / "wide_mask.png"
    Image.new("RGB", (6000, 20)).save(wide)
    Image.new("L", (6000, 20)).save(wide_mask)
    pages = tmp_path / "pages.tif"
    Image.new("L", (150, 110)).save(pages, save_all=True, append_images=[Image.new("L", (150, 110))] * 2)
    bad_key = tmp_path / "bad.yaml"
    bad_key.write_text("stepz: 3\n")
    (tmp_path / "shrinks.yaml").write_text("pixel_budget: 4000\n")
    (tmp_path / "new").mkdir()
    (tmp_path / "there.png").write_bytes(b"mine")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_bytes(b"mine")
    return {
        "missing image": ([tmp_path / "no.png", mask], "no.png"),
        "truncated image": ([truncated, mask], "cut.png"),
        "text as image": ([words, mask], "words.pt"),
        "missing mask": ([photo, tmp_path / "no.png"], "no.png"),
        "mask of another size": ([photo, small], "is 15x11"),
        "white mask": ([photo, white], "white.png"),
        "text as weights": ([photo, mask, "--weights", words, "--model", "lama-small"], "words.pt"),
        "unknown model": ([photo, mask, "--model", "nonsense"], "nonsense"),
        "unknown preset": ([photo, mask, "--preset", "nonsense"], "nonsense"),
        "unknown key": ([photo, mask, "--preset", bad_key], "stepz"),
        "unknown device": ([photo, mask, "--device", "tpu"], "tpu"),
        "bad steps": ([photo, mask, "--steps", "0"], "steps"),
        "steps in words": ([photo, mask, "--steps", "many"], "--steps"),
        "bad memory": ([photo, mask, "--memory", "much"], "memory"),
        "too little memory": ([photo, mask, *QUICK, "--memory", "100kB"], "--memory"),
        "bad precision": ([photo, mask, "--precision", "float8"], "--precision"),
        "bad rate": ([photo, mask, "--lr", "-1"], "lr"),
        "unknown option": ([photo, mask, "--fast"], "--fast"),
        "one argument": ([photo], "MASK"),
        "missing folder": ([photo, mask, "-o", tmp_path / "no" / "out.png"], "no"),
        "folder as output": ([photo, mask, "-o", tmp_path], "is a folder"),
        "output exists": ([photo, mask, "-o", tmp_path / "there.png"], "--overwrite"),
        "report exists": ([photo, mask, "--report", tmp_path / "there.png"], "--overwrite"),
        "output of no format": ([photo, mask, "-o", tmp_path / "out.xyz"], ".png"),
        "same file twice": (
            [photo, mask, "-o", tmp_path / "o.png", "--compare", tmp_path / "o.png"],
            "o.png",
        ),
        "scales on the output": (
            [photo, mask, "-o", tmp_path / "o.png", "--save-scales", tmp_path / "o.png"],
            "two outputs",
        ),
        "an output among the scales": (
            [photo, mask, "-o", tmp_path / "new" / "scale1.png", "--save-scales", tmp_path / "new"],
            "new",
        ),
        "feather where it shrinks": (
            [photo, mask, "--feather", "3", "--preset", tmp_path / "shrinks.yaml", "--model", GOLDEN],
            "leave out feather",
        ),
        "resized alpha": ([photo, "--mask-from-alpha", "--resize-mask"], "resize"),
        "a name too long": ([f"{'x' * 300}.png", mask], "File name too long"),
        "a model that cannot be made": ([photo, mask, "--model", "json:dumps"], "json:dumps: could not be made"),
        "scales folder in use": ([photo, mask, "--save-scales", tmp_path / "full"], "not empty"),
        "idle options": ([photo, mask, "--no-refine", "--steps", "3", "--save-scales", "s"], "--steps, --save-scales"),
        "empty name": (["", mask], "is a folder, expected the image file"),
        "folder as image": ([tmp_path, mask], "is a folder, expected the image file"),
        "numbers without a range": ([tmp_path / "float.tif", mask], "without a known range"),
        "quality of a PNG": ([photo, mask, "--quality", "90"], "--quality"),
        "mask twice": ([photo, mask, "--mask-from-alpha"], "--mask-from-alpha"),
        "no alpha to take": ([photo, "--mask-from-alpha"], "no transparency"),
        "bad threshold": ([photo, mask, "--threshold", "255"], "threshold"),
        "bad feather": ([photo, mask, "--feather", "-1"], "feather"),
        "alpha in a JPEG": ([tmp_path / "clear.png", mask, "-o", tmp_path / "out.jpg"], "transparency"),
        "several pages": ([pages, mask], "holds 3 frames or pages, expected a single picture; choose one by --page N"),
        "a page too many": ([pages, mask, "--page", "4"], "so --page 4 is none; expected 1 to 3"),
        "a page of one": ([photo, mask, "--page", "2"], "holds a single picture, so --page 2 is none of its pages"),
        "page zero": ([pages, mask, "--page", "0"], "--page"),
        "a mask of several pages": ([photo, pages], "save one of them as a file of its own"),
        "photo too wide to compare": ([wide, wide_mask, "--compare", tmp_path / "c.webp"], "16383"),
    }[name]


@pytest.mark.parametrize(
    "name",
    [
        "missing image", "truncated image", "text as image", "missing mask", "mask of another size", "white mask",
        "text as weights", "unknown model", "unknown preset", "unknown key", "unknown device", "bad steps",
        "steps in words", "bad memory", "too little memory", "bad precision",
        "bad rate", "unknown option", "one argument", "missing folder", "folder as output",
        "output exists", "report exists", "output of no format", "same file twice", "scales on the output",
        "an output among the scales", "feather where it shrinks", "resized alpha", "a name too long",
        "a model that cannot be made", "scales folder in use",
        "idle options", "empty name", "folder as image", "numbers without a range", "quality of a PNG", "mask twice",
        "no alpha to take", "bad threshold", "bad feather", "alpha in a JPEG", "photo too wide to compare",
        "several pages", "a page too many", "a page of one", "page zero", "a mask of several pages",
    ],
)  # fmt: skip
def test_bad_input_is_one_line_and_no_file(run, photo_files, tmp_path, name) -> None:
    arguments, named = spoiled(name, tmp_path, *photo_files)
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    code, out, err = run("inpaint", *arguments)
    assert code == 2
    assert out == ""
    assert err.startswith("Error: ")
    assert err.count("\n") == 1
    assert named in err
    assert before == {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}


def test_an_output_that_fails_late_leaves_no_folder(run, photo_files, tmp_path, monkeypatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    code, _, err = run("inpaint", *photo_files, *QUICK, "-q", "--save-scales", tmp_path / "scales")
    assert (code, err.count("\n")) == (2, 1)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mask.png", "photo.png"]


def test_overwrite(run, photo_files, tmp_path) -> None:
    target = tmp_path / "there.png"
    target.write_bytes(b"mine")
    assert run("inpaint", *photo_files, *QUICK, "-o", target, "--overwrite")[0] == 0
    assert pixels(target).shape == (110, 150, 3)


def test_weights_commands(run, tmp_path) -> None:
    code, out, _ = run("weights", "list")
    assert code == 0
    assert {line.split()[0] for line in out.splitlines()} >= {"lama-small", "big-lama"}
    target = tmp_path / "tiny.safetensors"
    assert run("weights", "convert", GOLDEN, target, "--train-size", "64", "--learning-rate", "0.03")[:2] == (
        0,
        f"{target}\n",
    )
    code, _, err = run("weights", "convert", GOLDEN, target)
    assert (code, "--overwrite" in err) == (2, True)
    code, _, err = run("weights", "convert", GOLDEN, tmp_path / "tiny.pt")
    assert (code, ".safetensors" in err) == (2, True)
    code, _, err = run("weights", "convert", tmp_path / "no.pt", tmp_path / "new.safetensors")
    assert (code, err.count("\n")) == (2, 1)
    assert not (tmp_path / "new.safetensors").exists()


def test_version_and_help(run) -> None:
    assert run("--version") == (0, "refiner 0.1.0\n", "")
    code, out, _ = run("inpaint", "--help")
    assert code == 0
    for option in (
        "--model",
        "--preset",
        "--device",
        "--steps",
        "--lr",
        "--no-refine",
        "--save-scales",
        "--report",
    ):
        assert option in out


@pytest.fixture
def warned(monkeypatch):
    """Refinement that has something to tell, as when numbers were not finite."""
    refine = photo_module.refine

    def told(*args, **options):
        line = "precision: bfloat16 gave NaN or infinity at 75x55; going on in float32."
        warnings.warn(line, RefinerWarning, stacklevel=2)
        return replace(refine(*args, **options), warnings=(line,))

    monkeypatch.setattr(photo_module, "refine", told)
    with warnings.catch_warnings():
        warnings.simplefilter("default", RefinerWarning)  # not an error, as it is in tests
        yield


def test_what_is_told_of_the_work_is_a_line(run, photo_files, warned) -> None:
    code, _, err = run("inpaint", *photo_files, *QUICK)
    assert code == 0
    assert "Warning: precision: bfloat16 gave NaN or infinity at 75x55; going on in float32." in err.splitlines()


def test_what_is_told_of_the_work_is_in_the_report_of_a_batch(run, photo_files, tmp_path, warned) -> None:
    code, _, _ = run("batch", tmp_path, tmp_path / "out", "--mask", photo_files[1], *QUICK)
    assert code == 0
    (row,) = map(json.loads, (tmp_path / "out" / "report.jsonl").read_text().splitlines())
    assert row["notes"] == ["precision: bfloat16 gave NaN or infinity at 75x55; going on in float32."]


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("quiet", [True, False])
def test_quiet_silences_warnings_and_the_bar_of_a_download(
    run, photo_files, tmp_path, monkeypatch, warned, quiet
) -> None:
    bars = []

    def fetch(_: str, target: str, *, progress: bool) -> None:
        bars.append(progress)
        Path(target).write_bytes((GOLDEN / "models" / "best.ckpt").read_bytes())

    def locate(weights) -> Path:
        with downloaded("http://localhost/weights", tmp_path / "cache"):
            return GOLDEN

    monkeypatch.setattr(torch.hub, "download_url_to_file", fetch)
    monkeypatch.setattr(NamedWeights, "locate", locate)
    monkeypatch.setattr(sys, "stderr", Terminal())
    arguments = ["--model", "big-lama", "--min-side", "32", "--steps", "1", "--device", "cpu"]
    code, out, _ = run("inpaint", *photo_files, *arguments, *(["--quiet"] if quiet else []))
    shown = sys.stderr.getvalue()
    assert code == 0
    assert out.strip().endswith("photo_refined.png")
    assert bars == [not quiet]
    assert (shown == "") == quiet, shown


@pytest.mark.skipif(sys.platform != "linux", reason="asks Linux for its pages")
@pytest.mark.parametrize(("wish", "large"), [(None, True), ("0", False)])
def test_large_pages_are_asked_for_unless_a_user_says_otherwise(monkeypatch, wish, large) -> None:
    code = """
import contextlib
from refiner import cli

with contextlib.suppress(SystemExit):
    cli.main()
import torch
held = torch.ones(1 << 26)
print(" hg" in open("/proc/self/smaps").read())
"""
    monkeypatch.delenv("THP_MEM_ALLOC_ENABLE", raising=False)
    if wish is not None:
        monkeypatch.setenv("THP_MEM_ALLOC_ENABLE", wish)
    done = subprocess.run([sys.executable, "-c", code, "--version"], check=True, capture_output=True, text=True)
    assert done.stdout.splitlines()[-1] == str(large)


@pytest.mark.parametrize("wish", [{}, {"GOMP_SPINCOUNT": "7"}, {"OMP_WAIT_POLICY": "active"}])
def test_waiting_threads_give_way_unless_a_user_says_otherwise(run, monkeypatch, wish) -> None:
    for name in ("GOMP_SPINCOUNT", "OMP_WAIT_POLICY"):
        monkeypatch.delenv(name, raising=False)
    for name, value in wish.items():
        monkeypatch.setenv(name, value)
    run("--version")
    assert os.environ.get("GOMP_SPINCOUNT") == ("20000" if not wish else wish.get("GOMP_SPINCOUNT"))


# The command line, which says when it begins to import PyTorch.
READY = """
import sys
from refiner import cli
sys.addaudithook(lambda event, args: event == "import" and args[0] == "torch" and print("ready", file=sys.stderr))
cli.main()
"""


@pytest.mark.skipif(os.name != "posix", reason="sends a POSIX signal")
@pytest.mark.parametrize("begun", ["ready", "Plan: "])
def test_ctrl_c_leaves_nothing_behind(photo_files, tmp_path, begun) -> None:
    """While PyTorch is being imported, and while refining."""
    process = subprocess.Popen(
        [
            sys.executable,
            "-c",
            READY,
            "inpaint",
            *photo_files,
            "--detail",
            "features",
            "--min-side",
            "16",
            "--steps",
            "100000",
        ],
        stderr=subprocess.PIPE,
        text=True,
        # Where the tests run as a shell's background job, Ctrl-C is ignored, and so it would be there.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),  # noqa: PLW1509
    )
    assert any(line.startswith(begun) for line in process.stderr), "ended before it began"
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert err.splitlines()[-1] == "Interrupted."
    assert "Traceback" not in err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["mask.png", "photo.png"]


def test_masks_are_changed_as_asked(run, photo_files, tmp_path) -> None:
    """Grown, feathered and inverted masks change what is filled, and nothing else."""
    photo, mask = photo_files
    original, hole = np.asarray(Image.open(photo)), np.asarray(Image.open(mask)) > 0
    inverted = tmp_path / "other_mask.png"
    Image.fromarray((~hole * 255).astype(np.uint8)).save(inverted)
    changed = {}
    cases = {"plain": [mask], "grown": [mask, "--dilate", "5"], "soft": [mask, "--feather", "8"]}
    cases["inverted"] = [inverted, "--invert"]
    for name, (file, *options) in cases.items():
        output = tmp_path / f"{name}.png"
        code, _, err = run("inpaint", photo, file, *QUICK, *options, "-o", output)
        assert code == 0, err
        changed[name] = np.asarray(Image.open(output)).astype(int)
    assert np.array_equal(changed["plain"], changed["inverted"])
    assert (changed["grown"] != original).any(axis=2).sum() > 1.1 * hole.sum()
    assert np.array_equal(changed["soft"][~hole], original[~hole])
    rim = hole & ~ndimage.binary_erosion(hole, iterations=2)
    plain, soft = (np.abs(changed[name] - original)[rim].mean() for name in ("plain", "soft"))
    assert soft < 0.5 * plain
    code, _, err = run("inpaint", photo, inverted, *QUICK, "-o", tmp_path / "warned.png")
    assert code == 0
    assert "Warning: " in err
    assert "add --invert" in err


def test_results_have_the_photos_format(run, photo_files, tmp_path) -> None:
    photo = tmp_path / "shot.jpg"
    Image.open(photo_files[0]).save(photo, quality=80)
    code, out, _ = run("inpaint", photo, photo_files[1], *QUICK)
    assert code == 0
    assert out.strip() == str(tmp_path / "shot_refined.jpg")
    with Image.open(photo) as before, Image.open(tmp_path / "shot_refined.jpg") as after:
        assert after.quantization == before.quantization


def pages_of(path: Path) -> list[np.ndarray]:
    with Image.open(path) as image:
        return [np.array(frame) for frame in ImageSequence.Iterator(image)]


def test_a_page_is_filled_and_the_others_are_kept(run, photo_files, tmp_path) -> None:
    photo, mask = photo_files
    scan, hole = tmp_path / "scan.tif", pixels(mask) > 0
    with Image.open(photo) as image:
        others = [Image.new("L", (31, 17), 99), image.rotate(180)]
        others[0].save(scan, save_all=True, append_images=[image, others[1]], compression="tiff_lzw")
    before = pages_of(scan)
    code, out, err = run("inpaint", scan, mask, "--page", "2", *QUICK, "--report", tmp_path / "report.json")
    assert (code, out) == (0, f"{tmp_path / 'scan_refined.tif'}\n")
    assert "frames or pages" not in err
    after = pages_of(tmp_path / "scan_refined.tif")
    assert np.array_equal(after[0], before[0])
    assert np.array_equal(after[2], before[2])
    assert np.array_equal(after[1][~hole], before[1][~hole])
    assert not np.array_equal(after[1], before[1])
    assert json.loads((tmp_path / "report.json").read_text())["page"] == 2

    code, _, err = run("inpaint", scan, mask, "--page", "2", *QUICK, "-o", tmp_path / "one.png")
    assert "holds 3 frames or pages, of which the result has number 2 alone; a .tif keeps the others." in err
    assert np.array_equal(pixels(tmp_path / "one.png"), after[1])
    code, out, err = run("inpaint", scan, mask, "--page", "2", *QUICK, "--dry-run", "-o", tmp_path / "x.tif")
    assert (code, out.startswith("Plan: ")) == (0, True)


def test_a_batch_takes_the_same_page_of_every_file(run, photo_files, tmp_path) -> None:
    photo, mask = photo_files
    folder, hole = tmp_path / "photos", pixels(mask) > 0
    folder.mkdir()
    with Image.open(photo) as image:
        image.save(folder / "moving.webp", save_all=True, append_images=[image.rotate(180)], lossless=True)
        image.save(folder / "scan.tif", save_all=True, append_images=[image.rotate(180)])
        image.save(folder / "single.png")
        turned = np.asarray(image.rotate(180))
    arguments = [folder, tmp_path / "out", "--mask", mask, *QUICK]
    code, _, err = run("batch", *arguments)
    assert (code, err.count("choose one by --page N, from 1 to 2.")) == (1, 4)  # as it fails, and at the end
    code, _, err = run("batch", *arguments, "--page", "2", "--overwrite")
    assert code == 1
    assert "single.png: holds a single picture, so --page 2 is none of its pages" in err
    rows = [json.loads(line) for line in (tmp_path / "out" / "report.jsonl").read_text().splitlines()]
    assert [row["page"] for row in rows if row["status"] == "ok"] == [2, 2]
    assert "result has number 2 alone" in rows[0]["notes"][0]
    for name in ("moving.webp", "scan.tif"):
        assert np.array_equal(pages_of(tmp_path / "out" / name)[-1][~hole], turned[~hole])
    assert len(pages_of(tmp_path / "out" / "moving.webp")) == 1
    assert np.array_equal(pages_of(tmp_path / "out" / "scan.tif")[0], pixels(photo))


def test_several_devices_share_the_network(run, photo_files, tmp_path) -> None:
    code, _, err = run("inpaint", *photo_files, *QUICK[:-1], "cpu,cpu", "-o", tmp_path / "two.png")
    assert code == 0, err
    assert "on cpu,cpu" in err
    run("inpaint", *photo_files, *QUICK, "-o", tmp_path / "one.png")
    assert (tmp_path / "two.png").read_bytes() == (tmp_path / "one.png").read_bytes()
    code, _, err = run("inpaint", *photo_files, *QUICK[:-1], "cpu,tpu", "-o", tmp_path / "no.png")
    assert code == 2
    assert "tpu" in err


def test_settings_with_a_flag_are_options_of_every_command_that_refines() -> None:
    from typing import get_type_hints

    from refiner.cli.app import app
    from refiner.settings import Settings

    flagged = [name for name, hint in get_type_hints(Settings, include_extras=True).items() if "Flag(" in str(hint)]
    assert {"steps", "memory", "match_color"} <= set(flagged)
    alone = next(option for option in app.commands["inpaint"].params if option.name == "match_color")
    assert alone.type.choices == ("auto", "on", "off")
    assert alone.flag_value == "on"
    for command in ("inpaint", "batch"):
        options = {parameter.name for parameter in app.commands[command].params}
        assert set(flagged) <= options
