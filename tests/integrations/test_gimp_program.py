"""What GIMP's plug-in does with the `refiner` program, without a GIMP."""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
MODULE = ROOT / "integrations" / "gimp" / "refiner-remove-selection" / "refiner_program.py"
GOLDEN = ROOT / "tests" / "golden" / "lama-tiny"
pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="the program of these tests is a shell script")

spec = importlib.util.spec_from_file_location("refiner_program", MODULE)
assert spec is not None
assert spec.loader is not None
refiner_program = importlib.util.module_from_spec(spec)
sys.modules["refiner_program"] = refiner_program
spec.loader.exec_module(refiner_program)


@pytest.fixture
def program(tmp_path):
    """The refiner of this source tree, as a program."""
    path = tmp_path / "refiner"
    path.write_text(f'#!/bin/sh\nPYTHONPATH={shlex.quote(str(ROOT))} exec {sys.executable} -m refiner "$@"\n')
    path.chmod(0o755)
    return str(path)


def choices(program: str, **changes: Any):
    return refiner_program.Choices(
        program, **{"model": str(GOLDEN), "more": "--detail features --min-side 32 --steps 3", **changes}
    )


def test_a_result_is_written_and_progress_told(program, photo_files, tmp_path) -> None:
    result = tmp_path / "result.png"
    shares = []
    lines = refiner_program.run(refiner_program.command(choices(program), *photo_files, result), shares.append)
    assert shares == sorted(shares)
    assert shares[-1] == 1
    assert len(shares) == 7  # one prediction, then three at each of two scales
    assert lines[-1].startswith("Refined 2 of 3 scales")
    known = np.asarray(Image.open(photo_files[1])) == 0
    assert np.array_equal(np.asarray(Image.open(result))[known], np.asarray(Image.open(photo_files[0]))[known])


def test_the_programs_own_line_says_what_failed(program, photo_files, tmp_path) -> None:
    arguments = refiner_program.command(choices(program, model="other"), *photo_files, tmp_path / "result.png")
    with pytest.raises(refiner_program.Failure, match=r"^refiner failed: unknown model 'other': expected one of"):
        refiner_program.run(arguments, lambda _: None)


def test_an_older_refiner_says_that_it_does_not_know_an_option(program, photo_files, tmp_path) -> None:
    arguments = refiner_program.command(choices(program, more="--future"), *photo_files, tmp_path / "result.png")
    with pytest.raises(refiner_program.Failure, match=r"No such option.*--future"):
        refiner_program.run(arguments, lambda _: None)


def test_no_program_and_bad_options_are_told_before_anything_starts(program, photo_files, tmp_path) -> None:
    paths = (*photo_files, tmp_path / "result.png")
    with pytest.raises(refiner_program.Failure, match=r"/gone/refiner: no such program. Install refiner"):
        refiner_program.command(choices("/gone/refiner"), *paths)
    with pytest.raises(refiner_program.Failure, match="Further options: No closing quotation"):
        refiner_program.command(choices(program, more="--steps '3"), *paths)


def test_gimps_own_python_settings_do_not_reach_the_program(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("PYTHONHOME", "/gimp")
    told = tmp_path / "told"
    refiner_program.run(["/bin/sh", "-c", f'echo "home:$PYTHONHOME" > {told}'], lambda _: None)
    assert told.read_text() == "home:\n"


def test_left_overs_go_after_a_day(tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(refiner_program.tempfile, "gettempdir", lambda: str(tmp_path))
    monkeypatch.setattr(refiner_program.tempfile, "tempdir", str(tmp_path))
    old, fresh, other = (tmp_path / name for name in ("refiner-gimp-old", "refiner-gimp-new", "other"))
    for path in (old, fresh, other):
        path.mkdir()
    for path in (old, other):
        os.utime(path, (time.time() - 2 * 24 * 3600,) * 2)
    with refiner_program.folder() as folder:
        assert folder.parent == tmp_path
        assert sorted(tmp_path.iterdir()) == sorted([fresh, other, folder])
    assert not folder.exists()


def test_where_gimp_ends_the_plug_in_the_program_ends_too(program, photo_files, tmp_path) -> None:
    result = tmp_path / "result.png"
    arguments = refiner_program.command(
        choices(program, more="--detail features --min-side 32 --steps 100000"), *photo_files, result
    )
    code = (
        f"import sys; sys.path.insert(0, {str(MODULE.parent)!r}); import refiner_program\n"
        f"refiner_program.run({arguments!r}, lambda share: print(share, flush=True))"
    )
    plug_in = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert plug_in.stdout is not None
    with plug_in.stdout:
        assert plug_in.stdout.readline().strip() == "0.1"
        (child,) = psutil.Process(plug_in.pid).children()
        plug_in.send_signal(signal.SIGKILL)  # as GIMP's Cancel button does
        plug_in.wait(10)
    child.wait(30)
    assert not result.exists()


@pytest.mark.parametrize(
    "more", ["-o x.png", "-ox.png", "--output=x.png", "--steps 3 --dry-run", "-q", "--guide a.png", "--avoid a.png"]
)
def test_options_that_are_for_the_command_line_alone_are_refused(program, photo_files, tmp_path, more) -> None:
    with pytest.raises(refiner_program.Failure, match=r"^Further options: .* is for the command line alone"):
        refiner_program.command(choices(program, more=more), *photo_files, tmp_path / "result.png")


@pytest.mark.parametrize("field", ["model", "preset"])
def test_what_is_left_empty_is_the_programs_own(program, photo_files, tmp_path, field) -> None:
    arguments = refiner_program.command(choices(program, **{field: " "}), *photo_files, tmp_path / "result.png")
    assert f"--{field}" not in arguments
    refiner_program.run(arguments, lambda _: None, tmp_path / "result.png")


def test_files_that_are_gone_are_told_by_what_they_were(program, tmp_path) -> None:
    photo, mask = tmp_path / "photo.png", tmp_path / "mask.png"
    Image.new("RGB", (60, 40)).save(photo)
    Image.new("L", (60, 40), 255).save(mask)
    with pytest.raises(refiner_program.Failure, match=r"^refiner failed: the selection: is white all over") as told:
        refiner_program.run(refiner_program.command(choices(program), photo, mask, tmp_path / "r.png"), lambda _: None)
    assert str(tmp_path) not in str(told.value)


def test_a_program_that_says_nothing_is_told_with_its_code(tmp_path) -> None:
    silent = tmp_path / "silent"
    silent.write_text("#!/bin/sh\nexit 3\n")
    silent.chmod(0o755)
    with pytest.raises(refiner_program.Failure, match=r"silent: ended with code 3 and said nothing"):
        refiner_program.run([str(silent)], lambda _: None)


def test_a_program_that_makes_nothing_is_told(tmp_path) -> None:
    with pytest.raises(refiner_program.Failure, match=r"/bin/true: ended without a result"):
        refiner_program.run(["/bin/true"], lambda _: None, tmp_path / "result.png")


def test_variants_have_a_seed_each_and_follow_the_guide(program, photo_files, tmp_path) -> None:
    several = choices(program, more="--detail exemplar --min-side 32", seed=4, variants=2)
    assert list(several.seeds) == [4, 5]
    guide = tmp_path / "guide.png"
    Image.new("RGB", (75, 55), (255, 0, 0)).save(guide)
    made = []
    for number, (seed, follow) in enumerate([(4, None), (5, None), (4, guide)]):
        result = tmp_path / f"{number}.png"
        arguments = refiner_program.command(several, *photo_files, result, seed=seed, guide=follow)
        refiner_program.run(arguments, lambda _: None, result)
        made.append(np.asarray(Image.open(result)))
    assert not np.array_equal(made[0], made[1])
    assert not np.array_equal(made[0], made[2])


def test_each_option_of_the_dialog_has_a_key_of_its_own() -> None:
    source = MODULE.with_name("refiner-remove-selection.py").read_text(encoding="utf-8")
    labels = re.findall(r'"(?:_?[A-Z][\w ]*)"(?=, )', source)
    keys = [label[label.index("_") + 1].lower() for label in labels if "_" in label]
    assert len(keys) == 9
    assert len({*keys, *"hrcols"}) == len(keys) + len("hrcols")  # GIMP's own buttons: Help, Reset, Cancel, OK, ...


def test_what_to_avoid_goes_with_each_variant(program, photo_files, tmp_path) -> None:
    avoid = tmp_path / "avoid.png"
    arguments = refiner_program.command(choices(program), *photo_files, tmp_path / "result.png", avoid=avoid)
    assert arguments[arguments.index("--avoid") + 1] == str(avoid)
    with pytest.raises(refiner_program.Failure, match=r"^refiner failed: .*what to avoid"):
        refiner_program.run(arguments, lambda _: None)
