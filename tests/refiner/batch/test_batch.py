"""`refiner batch`: folders, failures, kills and clusters."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import torch
from click.testing import CliRunner
from conftest import GOLDEN
from PIL import Image

from refiner.batch.work import Work
from refiner.batch.worker import Worker
from refiner.cli.app import app
from refiner.errors import InputError
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
    shares = pytest.importorskip("refiner.batch.cluster").shares
    assert shares([{"CPU": 8.0}, {"CPU": 8.0}], 3, 0) == (3, 4)
    assert shares([{"CPU": 4.0}, {"CPU": 16.0}], None, 0) == (2, 8)
    assert shares([{"CPU": 2.0}], 5, 0) == (2, 1)
    assert shares([{"CPU": 8.0, "GPU": 1.0}, {"CPU": 8.0, "GPU": 1.0}], None, 0.6) == (2, 8)
    assert shares([{"CPU": 8.0, "GPU": 2.0}], None, 0.5) == (4, 2)
    with pytest.raises(InputError, match="GPUs for 0 workers"):
        shares([{"CPU": 8.0}], None, 1)


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
    assert "was made with match_color auto, not mean" in other.output
    assert told(out) == told(undisturbed[0])
    assert batch(photos, out, *QUICK, "--memory", "3GB", "--resume", "--dry-run").exit_code == 0
    (out / "report.jsonl").unlink()
    lost = batch(photos, out, *QUICK, "--resume")
    assert "a.png: exists already; no report.jsonl tells of it" in lost.output


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
