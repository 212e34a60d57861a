"""`refiner batch`: folders, failures, kills and clusters."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from dataclasses import fields, replace
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from click.testing import CliRunner
from conftest import GOLDEN
from PIL import Image

from refiner import photo as photo_module
from refiner.batch.cluster import workers_and_cpus
from refiner.batch.origin import Origins, difference
from refiner.batch.work import Work
from refiner.batch.worker import Worker
from refiner.cli.app import app
from refiner.errors import InputError
from refiner.images.masks import MaskOptions
from refiner.images.pairs import Pair
from refiner.settings import Settings

QUICK = ["--model", str(GOLDEN), "--detail", "features", "--min-side", "32", "--steps", "3", "--device", "cpu"]
NAMES = ["a.png", "b.jpg", "c c.webp", "d.png", "e.png", "f.tif"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory):
    """Six photos with masks, one of which is damaged."""
    folder = tmp_path_factory.mktemp("photos")
    rng = np.random.default_rng(0)
    for name in NAMES:
        values = rng.integers(0, 256, (11, 15, 3), dtype=np.uint8)
        Image.fromarray(values).resize((150, 110), Image.Resampling.BICUBIC).save(folder / name)
        mask = np.zeros((110, 150), dtype=np.uint8)
        mask[30:70, 40:100] = 255
        Image.fromarray(mask).save(folder / f"{Path(name).stem}_mask.png")
    broken = folder / "d.png"
    broken.write_bytes(broken.read_bytes()[:500])
    return folder


def batch(*arguments):
    return CliRunner().invoke(app, ["batch", *(str(argument) for argument in arguments)])


def lines(out):
    return [json.loads(line) for line in (out / "report.jsonl").read_text().splitlines()]


def files(out):
    return {
        p.relative_to(out).as_posix(): p.read_bytes() for p in out.rglob("*") if p.is_file() and p.suffix != ".jsonl"
    }


def told(out):
    """The report without what differs from run to run."""
    varying = ("seconds", "peak_memory", "scales", "plan")
    return [{k: v for k, v in row.items() if k not in varying} for row in lines(out)]


@pytest.fixture(scope="module")
def undisturbed(photos, tmp_path_factory):
    out = tmp_path_factory.mktemp("undisturbed") / "out"
    result = batch(photos, out, *QUICK)
    assert result.exit_code == 1
    return out, result.output


def test_one_bad_file_does_not_stop_the_rest(photos, undisturbed) -> None:
    out, said = undisturbed
    assert set(files(out)) == {"a.png", "b.jpg", "c c.webp", "e.png", "f.tif"}
    rows = lines(out)
    assert [Path(row["image"]).name for row in rows] == NAMES
    assert [row["status"] for row in rows] == ["ok", "ok", "ok", "failed", "ok", "ok"]
    good, bad = rows[0], rows[3]
    assert good["seconds"] > 0
    assert good["peak_memory"] > 0
    assert good["settings"]["steps"] == 3
    assert [scale["size"] for scale in good["scales"]] == [[37, 27], [75, 55], [150, 110]]
    assert good["scales"][2]["loss_after"] <= good["scales"][2]["loss_before"]
    assert "d.png: is damaged or cut short" in bad["error"]
    assert f"failed: {photos / 'd.png'}" in said
    original, result = (np.asarray(Image.open(folder / "a.png")) for folder in (photos, out))
    hole = np.asarray(Image.open(photos / "a_mask.png")) > 0
    assert np.array_equal(result[~hole], original[~hole])
    assert not np.array_equal(result[hole], original[hole])
    assert any("JPEG changes known pixels" in note for note in rows[1]["notes"])


def test_a_report_is_not_written_over_unasked(photos, undisturbed) -> None:
    out, _ = undisturbed
    result = batch(photos, out, *QUICK)
    assert result.exit_code != 0
    assert "--resume" in result.output


def test_resume_does_what_is_missing_and_tries_failures_again(photos, undisturbed, tmp_path) -> None:
    out = tmp_path / "out"
    shutil.copytree(undisturbed[0], out)
    (out / "e.png").unlink()
    kept = (out / "a.png").stat().st_mtime_ns
    with (out / "report.jsonl").open("a") as file:
        file.write('{"image": "torn li')
    result = batch(photos, out, *QUICK, "--resume")
    assert result.exit_code == 1
    assert "4 of them before" in result.output
    assert (out / "a.png").stat().st_mtime_ns == kept
    assert files(out) == files(undisturbed[0])
    assert told(out) == told(undisturbed[0])


def test_resume_keeps_what_others_did(photos, undisturbed, tmp_path) -> None:
    out = tmp_path / "out"
    shutil.copytree(undisturbed[0], out)
    result = batch(photos, out, *QUICK, "--resume", "--glob", "b*")
    assert result.exit_code == 0
    assert told(out) == told(undisturbed[0])


def test_nothing_is_replaced_unasked_nor_lost_to_a_typo(photos, undisturbed, tmp_path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "a.png").write_bytes(b"mine")
    result = batch(photos, out, *QUICK)
    assert "a.png: exists already" in result.output
    assert files(out) == {"a.png": b"mine"}
    shutil.rmtree(out)
    shutil.copytree(undisturbed[0], out)
    result = batch(photos, out, "--model", "typo", "--overwrite")
    assert "unknown model" in result.output
    assert told(out) == told(undisturbed[0])
    fresh = tmp_path / "fresh"
    assert "unknown model" in batch(photos, fresh, "--model", "typo").output
    assert not (fresh / "report.jsonl").exists()  # so that the command can be corrected


def test_quality_goes_to_the_formats_that_have_it(photos, tmp_path) -> None:
    result = batch(photos, tmp_path / "out", *QUICK, "--quality", "40", "--glob", "[ab].*")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "out" / "b.jpg").stat().st_size < (photos / "b.jpg").stat().st_size


def test_cpus_are_shared_so_that_every_worker_finds_a_place() -> None:
    assert workers_and_cpus([{"CPU": 8.0}, {"CPU": 8.0}], 3, 0) == (3, 4)
    assert workers_and_cpus([{"CPU": 4.0}, {"CPU": 16.0}], None, 0) == (2, 8)
    assert workers_and_cpus([{"CPU": 2.0}], 5, 0) == (2, 1)
    assert workers_and_cpus([{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 1.0}], None, 0.6) == (2, 8)
    assert workers_and_cpus([{"CPU": 8.0, "GPU": 2.0}], None, 0.5) == (4, 2)
    with pytest.raises(InputError, match="GPUs for 0 workers"):
        workers_and_cpus([{"CPU": 8.0}], None, 1)


def test_dry_run_shows_and_makes_nothing(photos, tmp_path) -> None:
    result = batch(photos, tmp_path / "out", "--dry-run", "--format", "png", "--glob", "[ab]*")
    assert result.exit_code == 0
    assert f"{photos / 'b.jpg'} + {photos / 'b_mask.png'} -> {tmp_path / 'out' / 'b.png'}" in result.output
    assert "left out" in result.output
    assert not (tmp_path / "out").exists()


def test_kill_and_resume_end_with_the_same_files(photos, undisturbed, tmp_path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "-m", "refiner", "batch", str(photos), str(out), *QUICK]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:  # killed once the second is in the report
        if (out / "report.jsonl").is_file() and len((out / "report.jsonl").read_text().splitlines()) >= 2:
            break
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = len(files(out))
    result = batch(photos, out, *QUICK, "--resume")
    assert result.exit_code == 1
    assert 2 <= done <= 5
    assert files(out) == files(undisturbed[0])
    assert told(out) == told(undisturbed[0])
    assert not list(out.rglob("*.part"))


def test_results_of_other_settings_are_not_gone_on_from(photos, undisturbed, tmp_path) -> None:
    out = tmp_path / "out"
    shutil.copytree(undisturbed[0], out)
    other = batch(photos, out, *QUICK, "--match-color", "--resume")
    assert "was made with match_color auto, not on" in other.output
    assert told(out) == told(undisturbed[0])
    assert batch(photos, out, *QUICK, "--memory", "3GB", "--resume", "--dry-run").exit_code == 0
    (out / "report.jsonl").unlink()
    lost = batch(photos, out, *QUICK, "--resume")
    assert "a.png: exists already; no report.jsonl tells of it" in lost.output


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (["--dilate", "2"], "a.png: was made with dilate 0, not 2;"),
        (["--feather", "2"], "a.png: was made with feather 0, not 2;"),
        (["--threshold", "9"], "a.png: was made with threshold 0, not 9;"),
        (["--invert"], "a.png: was made with invert False, not True;"),
        (["--resize-mask"], "a.png: was made with resize False, not True;"),
        (["--mask-from-alpha"], "a.png: was made with from_alpha False, not True;"),
        (["--page", "1"], "a.png: was made with page none, not 1;"),
        (["--quality", "40"], "b.jpg: was made with quality none, not 40;"),
        (["--format", "png"], "b.jpg: was made with format .jpg, not .png;"),
        (["--model", "lama-small"], f"a.png: was made with model {GOLDEN}, not lama-small;"),
        (["--weights", "{other}"], "a.png: was made with weights none, not {other};"),
        (["--mask", "{other}"], "a.png: was made with mask {mask}, not {other};"),
    ],
)
def test_results_of_other_options_are_not_gone_on_from(photos, undisturbed, tmp_path, options, line) -> None:
    out, other = tmp_path / "out", tmp_path / "other.png"
    shutil.copytree(undisturbed[0], out)
    Image.new("L", (150, 110)).save(other)
    options = [option.format(other=other) for option in options]
    result = batch(photos, out, *QUICK, *options, "--resume")
    wanted = line.format(other=other, mask=photos / "a_mask.png")
    same = "go on with the same, or add --overwrite in place of --resume."
    assert result.output == f"Error: {out}{os.sep}{wanted} {same}\n"
    assert result.exit_code == 2
    assert files(out) == files(undisturbed[0])
    assert lines(out) == lines(undisturbed[0])


def test_a_quality_counts_only_where_the_format_has_one(photos, undisturbed) -> None:
    result = batch(photos, undisturbed[0], *QUICK, "--quality", "40", "--glob", "a.*", "--resume", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "0 to make, 1 done before" in result.output


def test_a_report_that_does_not_say_all_is_not_gone_on_from(photos, undisturbed, tmp_path) -> None:
    out = tmp_path / "out"
    shutil.copytree(undisturbed[0], out)
    for missing, line in (
        ("mask_options", "was made with threshold unknown, not 0;"),
        ("quality", "was made with quality unknown, not none;"),
        ("weights", "was made with weights unknown, not none;"),
        ("sha256", "was made with model of SHA-256 unknown, not"),
    ):
        rows = [{name: value for name, value in row.items() if name != missing} for row in lines(undisturbed[0])]
        (out / "report.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
        result = batch(photos, out, *QUICK, "--resume")
        assert result.exit_code == 2
        assert f"a.png: {line}" in result.output
        assert result.output.count("\n") == 1


WORK = Work(Path("out"), model="lama-small")
OTHER_WORK = {
    "model": "big-lama",
    "weights": Path("weights.pt"),
    "settings": Settings(seed=1),
    "mask_options": MaskOptions(dilate=1),
    "quality": 40,
    "suffix": ".webp",
    "page": 2,
}
OTHER_MASK = {"threshold": 9, "invert": True, "dilate": 2, "feather": 2, "resize": True, "from_alpha": True}


def test_everything_that_decides_a_result_is_compared() -> None:
    """A field that is added to `Work` or `MaskOptions` has to be named here."""
    assert {field.name for field in fields(Work)} == {"out", *OTHER_WORK}
    assert {field.name for field in fields(MaskOptions)} == set(OTHER_MASK)
    pair = Pair(Path("a.jpg"), Path("a_mask.png"), "a")
    before = json.loads(json.dumps(Origins(WORK).of(pair)))  # as read from a report
    assert difference(before, Origins(replace(WORK, out=Path("elsewhere"))).of(pair)) is None
    for name, value in OTHER_WORK.items():
        assert difference(before, Origins(replace(WORK, **{name: value})).of(pair)) is not None, name
    for name, value in OTHER_MASK.items():
        other = replace(WORK, mask_options=MaskOptions(**{name: value}))
        assert difference(before, Origins(other).of(pair)) == (name, str(getattr(MaskOptions(), name)), str(value))


@pytest.fixture
def few(photos, tmp_path):
    """Three of the photos and their masks, in a folder of this test's own, and a function that fills them."""
    folder = tmp_path / "few"
    folder.mkdir()
    for name in ("a.png", "b.jpg", "e.png"):
        shutil.copy(photos / name, folder / name)
        shutil.copy(photos / f"{Path(name).stem}_mask.png", folder)

    def fill(out, *options, source=folder, model=GOLDEN):
        return batch(source, out, "--model", model, "--no-refine", "--device", "cpu", *options)

    return folder, fill


def test_photos_and_masks_that_were_edited_since_are_done_again(few, photos, tmp_path) -> None:
    folder, fill = few
    out = tmp_path / "out"
    assert fill(out).exit_code == 0
    kept = (out / "e.png").stat().st_mtime_ns
    with Image.open(folder / "a_mask.png") as mask:
        mask.transpose(Image.Transpose.ROTATE_180).save(folder / "a_mask.png")
    with Image.open(folder / "b.jpg") as photo:
        photo.transpose(Image.Transpose.ROTATE_180).save(folder / "b.jpg")
    os.utime(folder / "e.png", (0, 0))  # another time alone is no edit
    assert "2 to make, 1 done before" in fill(out, "--resume", "--dry-run").output
    again = fill(out, "--resume")
    assert "3 done, 1 of them before" in again.output
    assert (out / "e.png").stat().st_mtime_ns == kept
    fill(tmp_path / "anew")
    assert files(out) == files(tmp_path / "anew")
    assert told(out) == told(tmp_path / "anew")


def test_photos_count_by_what_is_in_them_and_not_by_where_they_lie(few, tmp_path) -> None:
    folder, fill = few
    out = tmp_path / "out"
    assert fill(out).exit_code == 0
    moved = folder.rename(tmp_path / "moved")
    assert "0 to make, 3 done before" in fill(out, "--resume", "--dry-run", source=moved).output
    shutil.copy(moved / "e.png", moved / "a.png")
    other = fill(out, "--resume", source=moved)
    assert f"a.png: was made with image {folder / 'a.png'}, not {moved / 'a.png'};" in other.output
    assert other.exit_code == 2


def test_results_of_weights_that_were_replaced_are_not_gone_on_from(few, tmp_path) -> None:
    _, fill = few
    for name, options in (("model", {"model": tmp_path / "net"}), ("weights", {"model": "lama-small"})):
        weights, out = shutil.copytree(GOLDEN, tmp_path / "net"), tmp_path / name
        given = [] if name == "model" else ["--weights", weights]
        assert fill(out, *given, **options).exit_code == 0
        assert "0 to make, 3 done before" in fill(out, *given, "--resume", "--dry-run", **options).output
        with (weights / "config.yaml").open("a") as config:
            config.write("# trained on\n")
        result = fill(out, *given, "--resume", **options)
        assert result.exit_code == 2
        assert f"a.png: was made with {name} of SHA-256 " in result.output
        shutil.rmtree(weights)


def test_a_model_counts_by_name_where_a_folder_is_called_the_same(few, tmp_path, monkeypatch) -> None:
    _, fill = few
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lama-small").mkdir()
    result = fill(tmp_path / "out", "--glob", "a.*", model="lama-small")
    assert result.exit_code == 0, result.output
    assert lines(tmp_path / "out")[0]["model"] == "lama-small"


def test_what_the_engine_warns_of_is_noted_and_the_filters_of_warnings_stay(photos, tmp_path, monkeypatch) -> None:
    refine, seen = photo_module.refine, []

    def told_of(*args, **options):
        seen.append(warnings.filters)
        return replace(refine(*args, **options), warnings=("precision: going on in float32.",))

    monkeypatch.setattr(photo_module, "refine", told_of)
    work = Work(tmp_path, model=str(GOLDEN), settings=Settings(refine=False))
    row = Worker(work, (torch.device("cpu"),))(Pair(photos / "a.png", photos / "a_mask.png", "a"))
    assert row["notes"] == ["precision: going on in float32."]
    assert seen[0] is warnings.filters


def test_dry_run_knows_what_is_there(photos, undisturbed) -> None:
    out, _ = undisturbed
    assert "exists already" in batch(photos, out, *QUICK, "--dry-run").output
    result = batch(photos, out, *QUICK, "--dry-run", "--resume")
    assert result.exit_code == 0
    assert "1 to make, 5 done before" in result.output
    assert "a.png" not in result.output


def test_results_below_the_photos_are_not_taken_for_photos(photos, tmp_path) -> None:
    source = tmp_path / "photos"
    source.mkdir()
    for name in ("a.png", "a_mask.png"):
        shutil.copy(photos / name, source / name)
    common = [source, source / "out", *QUICK, "--recursive", "--mask", source / "a_mask.png"]
    assert batch(*common).exit_code == 0
    again = batch(*common, "--resume")
    assert again.exit_code == 0, again.output
    assert "1 of them before" in again.output
    assert list(files(source / "out")) == ["a.png"]


def test_a_worker_among_several_takes_its_share_of_the_memory(photos, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr("refiner.engine.plan.free_bytes", lambda _device: 10_000_000_000)
    work = Work(tmp_path, model=str(GOLDEN), settings=Settings(min_side=32, steps=2))
    pair = Pair(photos / "a.png", photos / "a_mask.png", "a")
    plans = {share: Worker(work, (torch.device("cpu"),), share=share)(pair)["plan"] for share in (1, 0.5)}
    assert plans[1].endswith("of 8.0 GB")
    assert plans[0.5].endswith("of 4.0 GB")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--resume", "--overwrite"], "give one of them"),
        (["--glob", ""], "--glob"),
        (["--workers", "2"], "without --ray"),
        (["--no-refine", "--steps", "3"], "--no-refine"),
        (["--format", "xyz"], "x.xyz"),
        (["--format", "png", "--quality", "90"], "--quality"),
        (["--mask", "no.png"], "no such mask file"),
        (["--masks", "no"], "expected a folder"),
        (["--mask", "x.png", "--masks", "y"], "give one of them"),
        (["--model", "nonsense"], "unknown model"),
        (["--steps", "0"], "steps"),
    ],
)
def test_bad_options_are_one_line_before_any_work(photos, tmp_path, arguments, words) -> None:
    result = batch(photos, tmp_path / "out", *arguments)
    assert result.exit_code == 2
    assert result.output.startswith("Error: ")
    assert words in result.output
    assert result.output.count("\n") == 1
    assert not list(tmp_path.rglob("*.png"))


def kill_one_worker(batch: psutil.Process, out: Path) -> bool:
    """Once the first photo is done, kill a process of this batch that is at work on another."""
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline and batch.is_running() and batch.status() != psutil.STATUS_ZOMBIE:
        if (out / "report.jsonl").is_file() and (out / "report.jsonl").read_text().strip():
            workers = [child for child in batch.children(recursive=True) if is_worker(child)]
            if workers:
                workers[0].kill()
                return True
        time.sleep(0.02)
    return False


def is_worker(process: psutil.Process) -> bool:
    try:
        return any(part.startswith("ray::_Actor") for part in process.cmdline())
    except psutil.Error:  # it has ended
        return False


@pytest.mark.skipif(sys.platform == "win32", reason="Ray's processes are named otherwise there")
def test_a_cluster_gives_the_same_files_though_a_worker_dies(photos, undisturbed, tmp_path) -> None:
    pytest.importorskip("ray")
    out = tmp_path / "out"
    command = [sys.executable, "-m", "refiner", "batch", str(photos), str(out), *QUICK, "--ray", "--workers", "2"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True) as process:
        killed = kill_one_worker(psutil.Process(process.pid), out)
        _, err = process.communicate(timeout=300)
    assert process.returncode == 1, err
    assert killed
    assert "Traceback" not in err
    assert set(files(out)) == set(files(undisturbed[0]))
    for name in files(out):  # workers have fewer threads, whose sums round otherwise
        ours, alone = (np.asarray(Image.open(folder / name)).astype(int) for folder in (out, undisturbed[0]))
        assert np.abs(ours - alone).max() <= 4, name
    assert told(out) == told(undisturbed[0])
    assert len({row["output"] for row in lines(out)}) == len(lines(out)) == 6
