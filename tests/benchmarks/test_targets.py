"""What a GPU is to reach: the script runs on a CPU, at a small size, and says what it measured."""

from __future__ import annotations

import json

from click.testing import CliRunner
from conftest import GOLDEN

from benchmarks.targets import Target, main


def test_all_targets_are_measured_and_judged(tmp_path) -> None:
    path = tmp_path / "targets.json"
    done = CliRunner().invoke(
        main,
        ["--device", "cpu", "--share", "0.1", "--steps", "2", "--model", str(GOLDEN), "--photo-model", str(GOLDEN),
         "--json", str(path)],
        catch_exceptions=False,
    )  # fmt: skip
    assert done.exit_code == 0, done.output
    found = {row["what"]: row for row in json.loads(path.read_text())["targets"]}
    assert list(found) == [
        "104x104, 2 predictions: seconds",
        "104x104, 2 predictions: memory",
        "104x104, default preset",
        "384x216, whole",
        "384x216, one window",
        "otter, 384x216, by features",
        "otter, 384x216, by copies",
        "operations an update",
        "waits an update",
        "first plan with a model",
        "later plans",
        "second call, to the first prediction",
    ]
    for row in found.values():
        assert row["measured"] is not None, row
        assert row["verdict"] == ("met" if row["measured"] <= row["most"] else "missed")
        assert f"| {row['what']} |" in done.output
    assert "2 refined scales" in found["384x216, whole"]["note"]
    assert "the whole picture" in found["384x216, whole"]["note"]
    assert "window" in found["384x216, one window"]["note"].partition(";")[2]
    assert found["waits an update"]["measured"] == 0
    assert found["first plan with a model"]["measured"] > found["later plans"]["measured"]
    assert "means nothing" in done.output


def test_verdicts() -> None:
    assert Target("x", 1, 1, "s").verdict == "met"
    assert Target("x", 1, 1.1, "s").verdict == "missed"
    assert Target("x", 1, None, "s", "no clone").cells() == ["x", "1 s", "", "not measured", "no clone"]
